//! What a confined program sees and reaches.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use rigs::Run;

use crate::run::{User, is_root, sandbox, script, shared_folder};

#[test]
fn it_sees_the_same_everywhere_and_nothing_of_the_machine() {
    for user in User::all() {
        let seen = script(
            user,
            &[],
            "hostname; id; pwd; umask; env | grep -v -e ^_= -e ^SHLVL= | sort; ls / /dev /etc /home /tmp",
        );
        assert_eq!(
            seen.printed(),
            "vcbuild\nuid=1000(builder) gid=1000(builder) groups=1000(builder)\n/\n0022\n\
             HOME=/home\nLC_ALL=C\nLOGNAME=builder\nPATH=/usr/bin:/bin:/usr/sbin:/sbin\nPWD=/\n\
             SOURCE_DATE_EPOCH=0\nTMPDIR=/tmp\nTZ=UTC\nUSER=builder\n\
             /:\nbin\ndev\netc\nhome\nlib\nlib64\nproc\nsbin\ntmp\nusr\n\n\
             /dev:\nfd\nfull\nnull\nrandom\nshm\nstderr\nstdin\nstdout\nurandom\nzero\n\n\
             /etc:\nalternatives\ngroup\nhosts\npasswd\n\n/home:\n\n/tmp:\n"
        );
    }
}

#[test]
fn a_file_that_was_not_declared_is_not_there_and_is_named() {
    for user in User::all() {
        let run = script(user, &[], "cat /etc/hostname");
        run.refused(
            1,
            &[
                "cat: /etc/hostname: No such file",
                "its standard error names /etc/hostname: declare it as an input",
                "--sandbox off",
            ],
        );
    }
}

#[test]
fn it_reaches_no_network_and_the_host_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    for user in User::all() {
        let run = script(user, &[], &format!("exec 3<>/dev/tcp/127.0.0.1/{port}"));
        run.refused(1, &["Network is unreachable", "its standard error names the network"]);
        let name = script(
            user,
            &[],
            "perl -MSocket -e 'die q(Could not resolve host: example.org) unless inet_aton(q(example.org))'",
        );
        name.refused(1, &["its standard error names the host example.org"]);
        let interfaces =
            script(user, &[], "ls /sys/class/net 2>/dev/null; cat /proc/net/dev | tail -n +3 | cut -d: -f1");
        assert_eq!(interfaces.printed().trim(), "lo");
    }
    assert!(listener.accept().is_err(), "somebody came through");
}

#[test]
fn it_writes_to_its_outputs_alone() {
    for user in User::all() {
        let (input, output) = (shared_folder(), shared_folder());
        let file = input.path().join("file");
        fs::write(&file, "input").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
        let read = format!("{}:/input", input.path().display());
        let write = format!("{}:/build", output.path().display());
        let options = ["--read", &read, "--write", &write, "--dir", "/build"];
        for place in
            ["/new", "/etc/new", "/dev/new", "/usr/new", "/input/new", "/input/file", "/proc/sys/kernel/core_pattern"]
        {
            let run = script(user, &options, &format!("echo x >> {place}"));
            run.refused(1, &[&format!("{place}: Read-only file system")]);
        }
        let made =
            script(user, &options, "cat /input/file > out; mkdir d; echo y > /tmp/y; echo z > /dev/shm/z; cat out");
        assert_eq!(made.printed().trim_end(), "input");
        assert_eq!(fs::read_to_string(output.path().join("out")).unwrap(), "input");
        assert_eq!(fs::read_to_string(input.path().join("file")).unwrap(), "input");
        assert_eq!(fs::read_dir(input.path()).unwrap().count(), 1);
    }
}

#[test]
fn a_read_only_folder_is_so_with_everything_mounted_in_it() {
    if !is_root() {
        return;
    }
    let folder = shared_folder();
    let below = folder.path().join("below");
    fs::create_dir(&below).unwrap();
    // In a mount namespace of its own, which takes the mount with it.
    let vcbuild = env!("CARGO_BIN_EXE_vcbuild");
    let (below, top) = (below.display(), folder.path().display());
    let run = Run::of(Command::new("unshare").args(["--mount", "sh", "-c"]).arg(format!(
        "mount -t tmpfs none {below} && touch {below}/here && \
         {vcbuild} sandbox --system --read {top}:/in -- sh -c 'ls /in/below; touch /in/below/new'"
    )));
    run.refused(1, &["cannot touch '/in/below/new': Read-only file system"]);
}

#[test]
fn making_it_changes_nothing_of_the_machine_whatever_is_declared() {
    for user in User::all() {
        let (build, machine) = (shared_folder(), shared_folder());
        // While mounts are made, the machine's own files are below this path.
        let there = format!("/.host{}", machine.path().display());
        std::os::unix::fs::symlink(&there, build.path().join("link")).unwrap();
        let write = format!("{}:/build", build.path().display());
        let refused = |inside: &str, why: &str| {
            let read = format!("/etc/hostname:{inside}");
            let run = script(user, &["--write", &write, "--read", &read], "true");
            run.refused(1, &[&format!("cannot mount /etc/hostname at {inside}: "), why]);
            assert_eq!(fs::read_dir(machine.path()).unwrap().count(), 0, "{inside}");
        };
        refused(&format!("{there}/new"), "the path is reserved for the machine's own files");
        refused(&format!(".{there}/new"), "the path is reserved for the machine's own files");
        refused("/build/link/new", "/build/link is a symbolic link in the sandbox, which could point elsewhere");
        refused("/build/link", "/build/link is a symbolic link in the sandbox");
        let run =
            script(user, &["--write", &write, "--read", "/etc/hostname:/build/a/b"], "cat /build/a/b; rm /build/a/b");
        run.refused(1, &["cannot remove '/build/a/b'"]);
        assert_eq!(run.stdout, "");
    }
}

#[test]
fn it_sees_and_reaches_no_other_process() {
    let mut other = Command::new("sleep").arg("4242.42").spawn().unwrap();
    for user in User::all() {
        let seen = script(user, &[], "cat /proc/[0-9]*/cmdline | tr '\\0' ' '; ls -d /proc/[0-9]* | wc -l").printed();
        assert!(!seen.contains("4242.42"), "{seen}");
        script(user, &[], &format!("kill {}", other.id())).refused(1, &["No such process"]);
        // Init is ours, and no way out either.
        script(user, &[], "ls /proc/1/root/").refused(1, &["Permission denied"]);
        script(user, &[], "kill -9 1; sleep 0.1; test -d /proc/1").printed();
    }
    other.kill().unwrap();
    other.wait().unwrap();
}

#[test]
fn it_has_no_rights_and_gets_none() {
    for user in User::all() {
        let status =
            script(user, &[], "grep -E '^(CapInh|CapPrm|CapEff|CapAmb|NoNewPrivs)' /proc/self/status").printed();
        let fields: Vec<_> = status.lines().map(|line| line.split_whitespace().nth(1).unwrap()).collect();
        let none = "0000000000000000";
        assert_eq!(fields, [none, none, none, none, "1"]);
        script(user, &[], "unshare --user true").refused(1, &["unshare failed"]);
        script(user, &[], "mount -t tmpfs none /tmp").refused(1, &["mount: "]);
    }
}

#[test]
fn what_vcbuild_was_started_with_is_no_way_out() {
    let vcbuild = env!("CARGO_BIN_EXE_vcbuild");
    let script = format!("exec 9</etc; {vcbuild} sandbox --system -- sh -c 'ls /proc/self/fd; ls /proc/self/fd/9/'");
    let run = Run::of(Command::new("bash").args(["-c", &script]));
    run.refused(1, &["cannot access '/proc/self/fd/9/'"]);
}

#[test]
fn a_program_that_is_not_there_is_said_so() {
    let run = Run::of(sandbox(User::Same, &["--", "/no/such/program"]).stdin(std::process::Stdio::null()));
    run.refused(1, &["because: /no/such/program cannot be run", "No such file or directory"]);
}

#[test]
fn where_namespaces_are_forbidden_it_says_so_or_fails_as_asked() {
    // A user namespace in which there may be no other is such a machine.
    let vcbuild = env!("CARGO_BIN_EXE_vcbuild");
    let on = |mode: &str| {
        let script = format!(
            "echo 0 > /proc/sys/user/max_user_namespaces; {vcbuild} sandbox --sandbox {mode} --system -- sh -c 'echo ran; pwd'"
        );
        Run::of(Command::new("unshare").args(["--user", "--map-root-user", "sh", "-c", &script]).current_dir("/"))
    };
    let required = on("required");
    required.refused(
        1,
        &[
            "creating a sandbox: cannot make user, pid, network, ipc and uts namespaces",
            "No space left on device",
            "sysctl user.max_user_namespaces=",
        ],
    );
    assert_eq!(required.stdout, "");
    let auto = on("auto");
    assert!(auto.stderr.contains("running programs without a sandbox: cannot make user"), "{auto:?}");
    assert!(auto.printed().starts_with("ran\n"));
    let off = on("off");
    assert_eq!(off.stderr, "");
    assert!(off.printed().starts_with("ran\n"));
}
