//! SSH access to the nodes: the operator's key, each node's host key, and the `ssh_config` for a user's `ssh -F`.

use std::fmt::Write;
use std::fs;
use std::process::Command;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};

use crate::error::{Error, file};
use crate::pki::write_private;
use crate::plan::{Node, Plan};
use crate::process::run;

/// A login on every worker in addition to root: an ordinary user who may use sudo without a password.
pub const ORDINARY_USER: &str = "operator";
const ORDINARY_ID: u32 = 10_001;

/// Writes the operator's keys and configuration to the lab's folder, and those of each node's sshd to its `/etc`.
pub(crate) fn write(plan: &Plan) -> Result<(), Error> {
    let key = plan.dir.join("ssh_key");
    let public = generate(&key, &format!("operator of {}", plan.name))?;
    let mut known_hosts = String::new();
    for node in &plan.nodes {
        let folder = node.etc("ssh");
        fs::create_dir_all(&folder).map_err(file("creating", &folder))?;
        let host_key = generate(&folder.join("ssh_host_ed25519_key"), &node.name)?;
        let _ = write!(known_hosts, "{},{} {host_key}", node.name, node.address);
        let put = |name: &str, text: &str| {
            let path = folder.join(name);
            fs::write(&path, text).map_err(file("writing", path))
        };
        put("authorized_keys", &public)?;
        put("sshd_config", SSHD_CONFIG)?;
        write_users(node)?;
    }
    let put = |name: &str, text: String| {
        let path = plan.dir.join(name);
        fs::write(&path, text).map_err(file("writing", path))
    };
    put("known_hosts", known_hosts)?;
    put("ssh_config", ssh_config(plan))
}

const SSHD_CONFIG: &str = "\
Port 22
HostKey /etc/ssh/ssh_host_ed25519_key
AuthorizedKeysFile /etc/ssh/authorized_keys
AuthenticationMethods publickey
PermitRootLogin prohibit-password
StrictModes no
UsePAM no
UseDNS no
MaxStartups 100
MaxSessions 100
PidFile /run/sshd.pid
Subsystem sftp internal-sftp
";

/// Generates an Ed25519 key pair. Returns the line with the public key.
fn generate(path: &Utf8Path, comment: &str) -> Result<String, Error> {
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", path.as_str()]);
    run(&mut command, b"", Duration::from_secs(30))?.success(format!("making the SSH key {path}"))?;
    let public = Utf8PathBuf::from(format!("{path}.pub"));
    fs::read_to_string(&public).map_err(file("reading", public))
}

/// Adds the ordinary user to a node, and ensures that root can log in with a key: sshd rejects locked accounts.
fn write_users(node: &Node) -> Result<(), Error> {
    let of_machine = |name: &str| {
        let path = Utf8Path::new("/etc").join(name);
        fs::read_to_string(&path).map_err(file("reading", path))
    };
    let put = |name: &str, text: String| {
        let path = node.etc(name);
        fs::write(&path, text).map_err(file("writing", path))
    };
    let (user, id) = (ORDINARY_USER, ORDINARY_ID);
    put("passwd", format!("{}{user}:x:{id}:{id}::/home/{user}:/bin/bash\n", of_machine("passwd")?))?;
    put("group", format!("{}{user}:x:{id}:\n", of_machine("group")?))?;
    let shadow = unlock_root(&of_machine("shadow")?);
    write_private(&node.etc("shadow"), &format!("{shadow}{user}:*:20000:0:99999:7:::\n"))?;
    let sudoers = node.etc("sudoers.d");
    fs::create_dir_all(&sudoers).map_err(file("creating", sudoers))?;
    write_private(&node.etc("sudoers.d/operator"), &format!("{user} ALL=(ALL) NOPASSWD: ALL\n"))?;
    let home = node.dir.join("home").join(user);
    let made = fs::create_dir_all(&home).and_then(|()| std::os::unix::fs::chown(&home, Some(id), Some(id)));
    made.map_err(file("creating", home))
}

/// Replaces a locked root password (`!…`) with one that matches nothing (`*`).
fn unlock_root(shadow: &str) -> String {
    let unlock = |line: &str| match line.strip_prefix("root:!") {
        Some(rest) => format!("root:*{}\n", rest.find(':').map_or("", |colon| &rest[colon..])),
        None => format!("{line}\n"),
    };
    shadow.lines().map(unlock).collect()
}

fn ssh_config(plan: &Plan) -> String {
    let mut text =
        format!("# How to reach the nodes of the lab {}: ssh -F {}/ssh_config worker1\n", plan.name, plan.dir);
    for Node { name, address, .. } in &plan.nodes {
        let _ = write!(text, "Host {name} {address}\n    HostName {address}\n");
    }
    let dir = &plan.dir;
    let _ = write!(
        text,
        "Host *\n    User root\n    IdentityFile {dir}/ssh_key\n    IdentitiesOnly yes\n    BatchMode yes\n    \
         UserKnownHostsFile {dir}/known_hosts\n    GlobalKnownHostsFile /dev/null\n    StrictHostKeyChecking yes\n"
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Options;

    #[test]
    fn a_locked_root_is_unlocked_and_others_stay_locked() {
        assert_eq!(unlock_root("root:!abc:1:2:::\nmail:!:1::\n"), "root:*:1:2:::\nmail:!:1::\n");
        assert_eq!(unlock_root("root:*:1:2:::\n"), "root:*:1:2:::\n");
        assert_eq!(unlock_root("root:!"), "root:*\n");
    }

    #[test]
    fn hosts_are_known_by_name_and_address_and_strangers_are_refused() {
        let plan = Plan::new(&Options { workers: 1, dir: Some("/d".into()), ..Options::default() }, 0);
        assert_eq!(
            ssh_config(&plan),
            "# How to reach the nodes of the lab lab: ssh -F /d/ssh_config worker1\n\
             Host control-plane 198.18.0.1\n    HostName 198.18.0.1\n\
             Host worker1 198.18.0.11\n    HostName 198.18.0.11\n\
             Host *\n    User root\n    IdentityFile /d/ssh_key\n    IdentitiesOnly yes\n    BatchMode yes\n    \
             UserKnownHostsFile /d/known_hosts\n    GlobalKnownHostsFile /dev/null\n    StrictHostKeyChecking yes\n"
        );
    }
}
