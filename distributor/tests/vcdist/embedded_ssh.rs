//! The embedded SSH, beside the system's: every kind of key, agents, passphrases, every form of a known host key, a jump
//! host, and what it refuses.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use camino::Utf8PathBuf;
use rigs::sshd::keygen;
use rigs::{Daemon, wait};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use vcdist::nodes::{Address, Reach};
use vcdist::transport::{self, Client, HostKeys, Keyring, SshOptions};

use crate::rig::{NodeOptions, PushOutput, Rig, image};

const BOTH: [&str; 2] = ["system", "embedded"];

/// A node that has the image already: every further push is a login and a question.
fn rig() -> Rig {
    let rig = Rig::up();
    image(&rig.store(), "manager", b"base", b"own");
    rig.push(&["manager", "--ssh", "embedded"]).report(0);
    rig
}

/// A push over this SSH with these options of its configuration, which come before the rig's.
fn push(rig: &Rig, ssh: &str, options: &[&str]) -> PushOutput {
    let options = options.iter().flat_map(|option| ["--ssh-option", *option]);
    rig.push(&["manager", "--ssh", ssh].into_iter().chain(options).collect::<Vec<_>>())
}

fn gets_in(rig: &Rig, ssh: &str, options: &[&str]) {
    let pushed = push(rig, ssh, options);
    assert_eq!(pushed.code(), 0, "{ssh} {options:?}: {}", pushed.stderr());
}

/// What is said where nobody gets in.
fn is_refused(rig: &Rig, ssh: &str, options: &[&str]) -> String {
    let pushed = push(rig, ssh, options);
    assert_eq!(pushed.code(), 1, "{ssh} {options:?}: {}", pushed.stderr());
    pushed.stderr()
}

/// A new key in the rig's folder.
fn key(rig: &Rig, name: &str, arguments: &[&str]) -> Utf8PathBuf {
    let path = rig.path().join(name);
    keygen(&[&["-N", "", "-f", path.as_str()], arguments].concat());
    path
}

fn public(path: &Utf8PathBuf) -> String {
    fs::read_to_string(format!("{path}.pub")).expect("a public key").trim().to_owned()
}

/// Lets in whoever has this key, and nobody else.
fn let_in(rig: &Rig, path: &Utf8PathBuf) {
    fs::write(rig.path().join("authorized_keys"), public(path)).expect("a key");
}

/// An agent with these keys, and its socket.
fn agent(rig: &Rig, keys: &[&Utf8PathBuf]) -> (Daemon, String) {
    let socket = rig.path().join("agent.sock");
    let mut command = Command::new("ssh-agent");
    command.args(["-D", "-a", socket.as_str()]).stdout(Stdio::null()).stderr(Stdio::null());
    let agent = Daemon::start(&mut command);
    wait::until("the agent's socket", || socket.exists());
    for key in keys {
        let mut add = Command::new("ssh-add");
        add.args(["-q", key.as_str()]).env("SSH_AUTH_SOCK", &socket).stderr(Stdio::null());
        assert!(add.status().expect("ssh-add runs").success(), "{key}");
    }
    (agent, format!("IdentityAgent={socket}"))
}

#[test]
fn every_kind_of_key_gets_in() {
    let rig = rig();
    let kinds: [&[&str]; 9] = [
        &["-t", "ed25519"],
        &["-t", "ecdsa", "-b", "256"],
        &["-t", "ecdsa", "-b", "384"],
        &["-t", "ecdsa", "-b", "521"],
        &["-t", "rsa", "-b", "2048"],
        &["-t", "rsa", "-b", "2048", "-m", "PEM"],
        &["-t", "rsa", "-b", "2048", "-m", "PKCS8"],
        &["-t", "ecdsa", "-b", "256", "-m", "PEM"],
        &["-t", "ecdsa", "-b", "256", "-m", "PKCS8"],
    ];
    for (number, kind) in kinds.iter().enumerate() {
        let path = key(&rig, &format!("key{number}"), kind);
        let_in(&rig, &path);
        gets_in(&rig, "embedded", &[&format!("IdentityFile={path}")]);
    }
    let path = key(&rig, "open", &["-t", "ed25519"]);
    let_in(&rig, &path);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("its mode");
    for ssh in BOTH {
        let said = is_refused(&rig, ssh, &[&format!("IdentityFile={path}")]);
        assert!(
            said.contains("root@127.0.0.1 does not let us in: root@127.0.0.1: Permission denied (publickey"),
            "{said}"
        );
    }
}

#[test]
fn every_identity_of_an_agent_is_tried() {
    let rig = rig();
    let keys = ["ed25519", "ecdsa", "rsa"].map(|kind| key(&rig, &format!("in_agent_{kind}"), &["-t", kind]));
    let (_agent, socket) = agent(&rig, &keys.each_ref());
    let none = "IdentityFile=none";
    for path in &keys {
        let_in(&rig, path);
        gets_in(&rig, "embedded", &[&socket, "IdentitiesOnly=no", none]);
        is_refused(&rig, "embedded", &[&socket, "IdentitiesOnly=yes", none]);
        // The agent has the private half alone, and the file says which.
        let named = rig.path().join("named");
        fs::write(format!("{named}.pub"), public(path)).expect("a public key");
        fs::rename(path, path.with_extension("away")).expect("it moves");
        fs::copy(format!("{path}.pub"), &named).expect("a key");
        gets_in(&rig, "system", &[&socket, "IdentitiesOnly=yes", &format!("IdentityFile={named}")]);
        gets_in(&rig, "embedded", &[&socket, "IdentitiesOnly=yes", &format!("IdentityFile={named}")]);
    }

    // A server that takes fewer attempts than there are keys.
    rig.configure_sshd("MaxAuthTries 2\n");
    for ssh in BOTH {
        let said = is_refused(&rig, ssh, &[&socket, "IdentitiesOnly=no", none]);
        assert!(said.contains("does not let us in") && said.contains("Too many authentication failures"), "{said}");
    }
}

#[test]
fn certificates_let_in_and_vouch_for_hosts() {
    let rig = rig();
    let path = rig.path();
    let authority = key(&rig, "authority", &["-t", "ed25519"]);
    for kind in ["ed25519", "rsa"] {
        let user = key(&rig, &format!("user_{kind}"), &["-t", kind]);
        keygen(&["-s", authority.as_str(), "-I", "user", "-n", "root", &format!("{user}.pub")]);
    }
    let address = "127.0.0.1";
    keygen(&["-s", authority.as_str(), "-I", "host", "-h", "-n", address, &format!("{path}/host_key.pub")]);
    fs::write(path.join("authorized_keys"), "").expect("no key by itself");
    rig.configure_sshd(&format!("TrustedUserCAKeys {authority}.pub\nHostCertificate {path}/host_key-cert.pub\n"));
    let know = |line: String| fs::write(path.join("known_hosts"), line + "\n").expect("known_hosts");
    for ssh in BOTH {
        know(format!("@cert-authority * {}", public(&authority)));
        for kind in ["ed25519", "rsa"] {
            gets_in(&rig, ssh, &[&format!("IdentityFile={path}/user_{kind}")]);
        }
        let stranger = fs::read_to_string(path.join("user_key.pub")).expect("another key");
        know(format!("@cert-authority * {stranger}"));
        let said = is_refused(&rig, ssh, &[]);
        assert!(said.contains("the host key of 127.0.0.1 is not known"), "{ssh}: {said}");
        know(format!("@cert-authority * {}\n@revoked * {}", public(&authority), public(&authority)));
        let said = is_refused(&rig, ssh, &[]);
        assert!(said.contains("the host key of 127.0.0.1 has changed"), "{ssh}: {said}");
    }
}

#[test]
fn host_keys_are_known_in_every_form() {
    let rig = rig();
    let known_hosts = rig.path().join("known_hosts");
    let host = fs::read_to_string(rig.path().join("host_key.pub")).expect("a key").trim().to_owned();
    let other = public(&key(&rig, "other", &["-t", "ecdsa"]));
    let name = format!("[127.0.0.1]:{}", rig.port());
    let know = |lines: String| fs::write(&known_hosts, lines + "\n").expect("known_hosts");
    for ssh in BOTH {
        know(format!("{name} {host}"));
        keygen(&["-H", "-f", known_hosts.as_str()]);
        assert!(fs::read_to_string(&known_hosts).expect("known_hosts").starts_with("|1|"));
        gets_in(&rig, ssh, &[]);
        for line in [
            format!("127.0.0.1 {host}"),
            format!("[127.0.*]:* {host}"),
            format!("# one\n\nnonsense\n{name} {other}\n{name} {host}"),
        ] {
            know(line);
            gets_in(&rig, ssh, &[]);
        }
        for line in [format!("{name},!{name} {host}"), format!("[127.0.0.1]:1 {host}"), String::new()] {
            know(line);
            let said = is_refused(&rig, ssh, &[]);
            assert!(said.contains("pushing to 127.0.0.1: the host key of 127.0.0.1 is not known: "), "{ssh}: {said}");
            assert!(said.contains("ssh-keyscan") && said.contains("--host-keys scan"), "{ssh}: {said}");
        }
        for line in [format!("{name} {other}"), format!("@revoked * {host}\n{name} {host}")] {
            know(line.clone());
            for how in ["strict", "scan"] {
                let changed = rig.push(&["manager", "--ssh", ssh, "--host-keys", how]);
                let said = changed.stderr();
                assert_eq!(changed.code(), 1, "{ssh} {how} {line}");
                assert!(
                    said.contains("pushing to 127.0.0.1: the host key of 127.0.0.1 has changed: "),
                    "{ssh}: {said}"
                );
                assert!(said.contains("forget the old key with `ssh-keygen -R"), "{ssh}: {said}");
            }
        }
        know(String::new());
        let learned = rig.push(&["manager", "--ssh", ssh, "--host-keys", "scan", "--ssh-option", "HashKnownHosts=yes"]);
        assert_eq!(learned.code(), 0, "{}", learned.stderr());
        assert!(fs::read_to_string(&known_hosts).expect("known_hosts").contains("|1|"), "{ssh}");
        BOTH.iter().for_each(|other| gets_in(&rig, other, &[]));
    }
}

/// Runs a push on a terminal of its own, with these lines typed there.
fn typing(rig: &Rig, lines: &[&str], arguments: &[&str]) -> String {
    let mut push = rig.command(&["127.0.0.1", "localhost"], &[&["manager", "--ssh", "embedded"], arguments].concat());
    push.arg("--output=text");
    let words: Vec<_> = push.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
    let words: Vec<_> =
        words.iter().filter(|word| *word != "--output" && *word != "json").map(String::as_str).collect();
    let line = shlex::try_join([&[env!("CARGO_BIN_EXE_vcdist")], &words[..]].concat()).expect("words");
    let mut terminal = Command::new("script");
    terminal.args(["--quiet", "--return", "--command", &line, "/dev/null"]).stdin(Stdio::piped());
    let mut terminal = terminal.stdout(Stdio::piped()).spawn().expect("script runs");
    let (mut typed, mut screen) = (terminal.stdin.take().expect("a pipe"), terminal.stdout.take().expect("a pipe"));
    let (mut shown, mut chunk, mut lines) = (String::new(), [0; 4096], lines.iter());
    while let Ok(count @ 1..) = screen.read(&mut chunk) {
        let before = shown.matches("Enter passphrase").count();
        shown += &String::from_utf8_lossy(&chunk[..count]);
        for _ in before..shown.matches("Enter passphrase").count() {
            // Only then is what is typed not shown.
            std::thread::sleep(Duration::from_millis(200));
            let line = lines.next().expect("no more questions than answers");
            typed.write_all(format!("{line}\n").as_bytes()).expect("it is typed");
        }
    }
    terminal.wait().expect("it ends");
    shown
}

#[test]
fn a_passphrase_is_asked_for_once_on_a_terminal_and_nowhere_else() {
    let rig = rig();
    let known = fs::read_to_string(rig.path().join("known_hosts")).expect("known_hosts");
    let known = known.replacen('[', &format!("[localhost]:{},[", rig.port()), 1);
    fs::write(rig.path().join("known_hosts"), known).expect("known_hosts");
    let kinds: [&[&str]; 3] = [&["-t", "ed25519"], &["-t", "rsa", "-b", "2048"], &["-t", "ecdsa", "-m", "PKCS8"]];
    for (number, kind) in kinds.iter().enumerate() {
        let path = rig.path().join(format!("locked{number}"));
        keygen(&[&["-N", "open sesame", "-f", path.as_str()], *kind].concat());
        let_in(&rig, &path);
        let option = format!("IdentityFile={path}");
        let shown = typing(&rig, &["wrong", "open sesame"], &["--ssh-option", &option]);
        assert_eq!(shown.matches("up to date").count(), 2, "{shown}");
        assert_eq!(shown.matches("Enter passphrase for key").count(), 2, "a wrong one and a right one: {shown}");
        assert!(!shown.contains("sesame"), "{shown}");
    }
    let path = rig.path().join("locked0");
    let_in(&rig, &path);
    let option = format!("IdentityFile={path}");
    let wrong = typing(&rig, &["a", "b", "c", "d", "e", "f"], &["--ssh-option", &option]);
    assert!(wrong.contains(&format!("3 wrong passphrases for the key {path}")), "{wrong}");

    let detached = rig.command(&["127.0.0.1"], &["manager", "--ssh", "embedded", "--ssh-option", &option]);
    let mut session = Command::new("setsid");
    session.arg("--wait").arg(detached.get_program()).args(detached.get_args()).stdin(Stdio::null());
    let refused: PushOutput = session.output().expect("setsid runs").into();
    let said = refused.stderr();
    assert_eq!(refused.code(), 1, "{said}");
    assert!(
        said.contains(&format!("the key {path} has a passphrase, and there is no terminal to ask for it")),
        "{said}"
    );
    assert!(said.contains(&format!("`ssh-add {path}`")), "{said}");
}

#[test]
fn a_jump_host_is_gone_through() {
    let rig = Rig::with(&NodeOptions { network: true, ..Default::default() });
    image(&rig.store(), "manager", b"base", b"own");
    let (path, port) = (rig.path(), rig.port());
    // The node listens on its own loopback interface, where only something on the node gets.
    let config = fs::read_to_string(path.join("ssh_config")).expect("a configuration");
    let jump = format!(
        "Host inside\n  HostName 127.0.0.1\n  ProxyJump bastion\nHost bastion\n  HostName {}\nHost *\n",
        rig.address()
    );
    fs::write(path.join("ssh_config"), jump + &config).expect("a configuration");
    for ssh in BOTH {
        let pushed: PushOutput =
            rig.command(&["inside"], &["manager", "--ssh", ssh]).output().expect("vcdist runs").into();
        assert_eq!(pushed.code(), 0, "{ssh}: {}", pushed.stderr());
    }
    let known = fs::read_to_string(path.join("known_hosts")).expect("known_hosts");
    fs::write(path.join("known_hosts"), known.replace(&format!("[{}]:{port},", rig.address()), ""))
        .expect("known_hosts");
    for ssh in BOTH {
        let stranger: PushOutput =
            rig.command(&["inside"], &["manager", "--ssh", ssh]).output().expect("vcdist runs").into();
        assert_eq!(stranger.code(), 1, "the jump host must be known too");
        assert!(stranger.stderr().contains("is not known"), "{ssh}: {}", stranger.stderr());
    }
}

#[test]
fn what_it_cannot_do_is_refused_and_its_absence_made_good() {
    let rig = rig();
    let said = is_refused(&rig, "embedded", &["ProxyCommand=nc %h %p"]);
    assert!(said.contains("--ssh-option: the embedded SSH does not do proxycommand"), "{said}");
    assert!(said.contains("help: use the system's ssh (--ssh system)"), "{said}");

    // No ssh on the PATH: whatever this program starts itself must be found otherwise.
    let empty = PathBuf::from(rig.path().join("no-programs"));
    fs::create_dir_all(&empty).expect("a folder");
    let run = |ssh: &str| -> PushOutput {
        let mut command = rig.command(&["127.0.0.1"], &["manager", "--ssh", ssh]);
        command.env("PATH", &empty).output().expect("vcdist runs").into()
    };
    assert_eq!(run("auto").node()["result"], "up-to-date");
    let missing = run("system").stderr();
    assert!(missing.contains("starting ssh") && missing.contains("--ssh embedded"), "{missing}");
}

#[test]
fn what_is_wrong_with_a_command_is_said_alike() {
    let rig = rig();
    rig.configure_sshd("ForceCommand echo out of order >&2; exit 7\n");
    let said = BOTH.map(|ssh| is_refused(&rig, ssh, &[]));
    assert!(said[0].contains("the command on 127.0.0.1 ended with 7: out of order"), "{}", said[0]);
    assert_eq!(said[0], said[1]);
}

/// Bytes that this process ever had in memory at once.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("/proc");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

/// Whether this process has this one test to run. If not, one is started that has, and must pass: the memory of a process is
/// that of all its tests.
fn is_alone(test: &str) -> bool {
    const ALONE: &str = "VCDIST_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    let status = command.args(["--exact", test, "--nocapture"]).env(ALONE, "1").status().expect("it starts");
    assert!(status.success(), "{test} fails in a process of its own");
    false
}

#[test]
fn bytes_flow_about_as_fast_as_through_the_systems_ssh() {
    const SIZE: usize = 192 << 20;
    if !is_alone("embedded::bytes_flow_about_as_fast_as_through_the_systems_ssh") {
        return;
    }
    let rig = Rig::up();
    let options = |client| SshOptions {
        client,
        user: Some("root".into()),
        options: Vec::new(),
        config: Some(rig.path().join("ssh_config")),
        host_keys: HostKeys::Strict,
        connect_timeout: Duration::from_secs(10),
        stall_timeout: Duration::from_secs(60),
        keyring: Keyring::default(),
    };
    let reach = Reach::Ssh(Address::of("127.0.0.1".into()));
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    let flow = |client| {
        let transport = transport::to(&reach, &options(client));
        let begun = Instant::now();
        runtime.block_on(async {
            let mut running = transport.run(&format!("head -c {SIZE} | wc -c")).await.expect("it starts");
            let piece = vec![7; 256 << 10];
            for _ in 0..SIZE / piece.len() {
                running.stream.write_all(&piece).await.expect("it flows");
            }
            running.stream.flush().await.expect("it flows");
            let mut counted = String::new();
            running.stream.read_to_string(&mut counted).await.expect("a count");
            assert_eq!(counted.trim(), SIZE.to_string());
            drop(running.stream);
            running.ending.await.expect("it ends well");
        });
        begun.elapsed()
    };
    // The best of a few, in turns: other tests run at the same time, more of them now than then.
    let (mut system, mut embedded, mut grown) = (Duration::MAX, Duration::MAX, 0);
    for _ in 0..3 {
        system = system.min(flow(Client::System));
        let before = peak();
        embedded = embedded.min(flow(Client::Embedded));
        grown += peak() - before;
    }
    let rate = |time: Duration| SIZE as f64 / time.as_secs_f64() / 1e6;
    println!("system {:.0} MB/s, embedded {:.0} MB/s, {grown} bytes of memory", rate(system), rate(embedded));
    assert!(embedded < system * 3, "{embedded:?} against {system:?}");
    assert!(grown < 48 << 20, "{grown} bytes for a stream");
}
