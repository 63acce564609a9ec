//! How a node is reached: by hand, from an inventory, here; whose host keys count; whatever shell answers; again when the
//! connection broke.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use super::SSH;
use crate::rig::{LinkFault, Login, NodeOptions, PushOutput, Rig, image, noise};

const MB: usize = 1_000_000;

fn pushed(command: &mut Command) -> PushOutput {
    command.args(["--output", "json"]).output().expect("vcdist runs").into()
}

/// The fingerprint of the rig's host key.
fn fingerprint(rig: &Rig) -> String {
    let output = Command::new("ssh-keygen").arg("-lf").arg(rig.path().join("host_key.pub")).output().expect("a key");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.split_whitespace().nth(1).expect("SHA256:…").to_owned()
}

#[test]
fn this_machine_needs_no_ssh() {
    let rig = Rig::over(SSH);
    image(&rig.store(), "manager", b"base", b"own");
    fs::write(rig.path().join("authorized_keys"), "").expect("nobody gets in");
    let push = || pushed(&mut rig.vcdist("push", &["manager", "--host", "localhost"])).node();
    assert_eq!(push()["result"], "pushed");
    assert_eq!(push()["result"], "up-to-date");
    assert!(rig.helpers().len() == 1 && !rig.helper_runs());
}

#[test]
fn hosts_of_an_inventory_are_reached_as_it_says() {
    let rig = Rig::over(SSH);
    image(&rig.store(), "manager", b"base", b"own");
    let (path, port) = (rig.path(), rig.port());
    let inventory = format!(
        "[workers]\nworker[1:2] ansible_host=127.0.0.1\n[workers:vars]\nansible_port={port}\nansible_user=root\n\
         ansible_ssh_private_key_file={path}/user_key\nansible_become_pass=secret\n\
         ansible_ssh_common_args='-o UserKnownHostsFile={path}/known_hosts -o StrictHostKeyChecking=no'\n"
    );
    fs::write(path.join("hosts"), inventory).expect("an inventory");
    let hosts = path.join("hosts");
    let arguments = ["manager", "--inventory", hosts.as_str(), "--group", "workers"];
    let first = pushed(&mut rig.vcdist("push", &arguments));
    let report = first.report(0);
    let names: Vec<_> = report["nodes"].as_array().expect("nodes").iter().map(|node| &node["name"]).collect();
    assert_eq!(names, ["worker1", "worker2"]);
    let said = first.stderr();
    assert!(said.contains("ansible_become_pass is not honoured: sudo must not ask for a password"), "{said}");
    assert!(!said.contains("secret"), "{said}");

    let one = pushed(rig.vcdist("push", &arguments).args(["--exclude", "worker1"])).report(0);
    assert_eq!(one["nodes"].as_array().map(Vec::len), Some(1));
    assert_eq!(one["nodes"][0]["result"], "up-to-date");

    rig.know_host(None);
    let strict = pushed(&mut rig.vcdist("push", &arguments));
    assert!(strict.stderr().contains("the host key of 127.0.0.1 is not known"), "{}", strict.stderr());
}

#[test]
fn a_host_key_is_learned_on_first_use_and_its_change_is_refused() {
    let rig = Rig::over(SSH);
    image(&rig.store(), "manager", b"base", b"own");
    rig.know_host(None);
    let scan = || rig.push(&["manager", "--host-keys", "scan"]);
    let first = scan();
    assert_eq!(first.node()["result"], "pushed");
    let said = first.stderr();
    assert!(said.contains(&format!("learned the host key of 127.0.0.1: ssh-ed25519 {}", fingerprint(&rig))), "{said}");
    let again = scan();
    assert_eq!((again.node()["result"].as_str(), again.stderr().as_str()), (Some("up-to-date"), ""));
    assert_eq!(rig.push(&["manager"]).node()["result"], "up-to-date", "it is known now");

    let other = fs::read_to_string(rig.path().join("user_key.pub")).expect("another key");
    rig.know_host(Some(other.trim()));
    let changed = scan();
    assert_eq!(changed.code(), 1);
    assert!(changed.stderr().contains("the host key of 127.0.0.1 has changed"), "{}", changed.stderr());
    let known = fs::read_to_string(rig.path().join("known_hosts")).expect("known_hosts");
    assert!(known.contains(other.split_whitespace().nth(1).expect("a key")), "it is kept: {known}");

    let insecure = rig.push(&["manager", "--host-keys", "insecure"]);
    assert_eq!(insecure.node()["result"], "up-to-date");
    assert!(insecure.stderr().contains("the host key of 127.0.0.1 is not checked"), "{}", insecure.stderr());
    assert_eq!(fs::read_to_string(rig.path().join("known_hosts")).expect("known_hosts"), known);

    let both = rig.push(&["manager", "--ssh-option", "StrictHostKeyChecking=no"]);
    assert!(both.code() == 2 && both.stderr().contains("--host-keys"), "{}", both.stderr());
}

#[test]
fn any_login_shell_will_do() {
    let greetings = [("/bin/csh", ".cshrc"), ("/usr/bin/fish", ".config/fish/config.fish"), ("/bin/bash", ".bashrc")];
    for (shell, greeting) in greetings {
        let rig = Rig::with(&NodeOptions { ssh: SSH, login: Login::Sudo, shell: Some(shell), ..Default::default() });
        let greeting = rig.path().join("home").join(greeting);
        fs::create_dir_all(greeting.parent().expect("a folder")).expect("a folder");
        fs::write(&greeting, "echo Welcome to this machine\n").expect("a greeting");
        image(&rig.store(), "manager", b"base", &noise(1, MB));
        assert_eq!(rig.push(&["manager"]).node()["result"], "pushed", "{shell}");
        assert_eq!(rig.push(&["manager"]).node()["result"], "up-to-date", "{shell}");
    }
}

#[test]
fn a_user_without_a_shell_or_sudo_is_said() {
    let said = |peculiar: &NodeOptions| {
        let rig = Rig::with(peculiar);
        image(&rig.store(), "manager", b"base", b"own");
        let refused = rig.push(&["manager"]);
        assert_eq!(refused.code(), 1);
        refused.stderr()
    };
    let nologin =
        said(&NodeOptions { ssh: SSH, login: Login::Sudo, shell: Some("/usr/sbin/nologin"), ..Default::default() });
    assert!(nologin.contains("This account is currently not available."), "{nologin}");
    assert!(nologin.contains("help: the login user needs a shell that runs commands"), "{nologin}");
    let nosudo = said(&NodeOptions { ssh: SSH, login: Login::NoSudo, ..Default::default() });
    assert!(nosudo.contains("the login user is not root, and the node has no sudo"), "{nosudo}");
}

#[test]
fn a_connection_that_breaks_is_taken_up_again_where_it_stopped() {
    let rig = Rig::over(SSH);
    image(&rig.store(), "manager", b"base", &noise(3, 64 * MB));
    image(&rig.store(), "syncer", b"base", b"small");
    rig.push(&["syncer"]).report(0);
    let port = format!("Port={}", rig.link(LinkFault::BreaksOnce(40_000_000)));
    let alias = format!("HostKeyAlias=[127.0.0.1]:{}", rig.port());
    let node = rig.push(&["manager", "--ssh-option", &port, "--ssh-option", &alias]).node();
    assert_eq!(node["result"], "pushed");
    let (total, sent) = (node["bytes"]["total"].as_u64().expect("bytes"), node["bytes"]["sent"].as_u64());
    let most = total + 32_000_000;
    assert!(
        sent.is_some_and(|sent| sent > total - MB as u64 && sent < most),
        "what had arrived is not sent twice: {node}"
    );
    assert_eq!(rig.ctr(&["leases", "ls", "-q"]), "");
}

#[test]
fn a_connection_that_is_silent_for_too_long_is_given_up() {
    let rig = Rig::over(SSH);
    image(&rig.store(), "manager", b"base", &noise(3, 16 * MB));
    let port = format!("Port={}", rig.link(LinkFault::Hangs(4_000_000)));
    let alias = format!("HostKeyAlias=[127.0.0.1]:{}", rig.port());
    let begun = Instant::now();
    let options = ["--ssh-option", &port, "--ssh-option", &alias, "--stall-timeout", "4s", "--retries", "0"];
    let silent = rig.push(&[&["manager"], &options[..]].concat());
    assert_eq!(silent.code(), 1);
    assert!(silent.stderr().contains("the connection to 127.0.0.1 was lost: Timeout, server"), "{}", silent.stderr());
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
}
