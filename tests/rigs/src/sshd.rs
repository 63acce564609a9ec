//! An sshd on the loopback address with keys of its own, and the parts that others are made of. It needs root.

use std::fs;
use std::net::TcpStream;
use std::process::{Command, Stdio};

use camino::{Utf8Path, Utf8PathBuf};

use crate::files::write_program;
use crate::{Daemon, Run, port, wait};

/// The program: it must be run by its whole path.
pub const PROGRAM: &str = "/usr/sbin/sshd";

/// A running sshd that lets root in; it ends when dropped.
#[derive(Debug)]
pub struct Sshd {
    /// Where it listens.
    pub port: u16,
    _daemon: Daemon,
    folder: tempfile::TempDir,
}

impl Sshd {
    /// One like any other.
    #[must_use]
    pub fn start() -> Self {
        Self::with(None)
    }

    /// One whose login script prints something before every command.
    #[must_use]
    pub fn noisy() -> Self {
        Self::with(Some("echo 'Welcome!'; printf 'no newline'\nexec"))
    }

    /// One whose programs are told that this is another machine, as `setarch` names it.
    #[must_use]
    pub fn of_machine(machine: &str) -> Self {
        Self::with(Some(&format!("exec setarch {machine}")))
    }

    fn with(login: Option<&str>) -> Self {
        let folder = tempfile::Builder::new().prefix("vcbuild-sshd-").tempdir().unwrap();
        let port = port::free();
        let path = Utf8Path::from_path(folder.path()).unwrap();
        write_keys(path);
        write_server_config(path, port, &["127.0.0.1"], login, "");
        let mut command = Command::new(PROGRAM);
        command.arg("-D").arg("-e").arg("-f").arg(path.join("sshd_config"));
        let daemon = Daemon::start(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()));
        let sshd = Self { port, _daemon: daemon, folder };
        write_client_config(sshd.path(), "");
        sshd.know_host(true);
        wait::until("sshd comes up", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        sshd
    }

    /// Writes into the user's known hosts this host's key, or another's.
    pub fn know_host(&self, right: bool) {
        let key = if right { "host_key.pub" } else { "user_key.pub" };
        know_host(self.path(), &format!("[127.0.0.1]:{}", self.port), key);
    }

    /// The client's configuration.
    #[must_use]
    pub fn client_config(&self) -> Utf8PathBuf {
        self.path().join("ssh_config")
    }

    fn path(&self) -> &Utf8Path {
        Utf8Path::from_path(self.folder.path()).unwrap()
    }
}

/// `ssh-keygen -q ARGUMENTS`, which must succeed.
#[track_caller]
pub fn keygen(arguments: &[&str]) {
    Run::of(Command::new("ssh-keygen").arg("-q").args(arguments)).succeeded();
}

/// Makes the keys `host_key` and `user_key`, the latter of which may log in.
pub fn write_keys(folder: &Utf8Path) {
    for key in ["host_key", "user_key"] {
        keygen(&["-t", "ed25519", "-N", "", "-f", folder.join(key).as_str()]);
    }
    fs::copy(folder.join("user_key.pub"), folder.join("authorized_keys")).unwrap();
}

/// Writes `sshd_config`. What a login script ends with runs the client's command in a shell: `exec`, or a program that is
/// given one. `more` are further lines.
pub fn write_server_config(folder: &Utf8Path, port: u16, addresses: &[&str], login: Option<&str>, more: &str) {
    // What Debian's sshd wants to be there.
    fs::create_dir_all("/run/sshd").unwrap();
    let addresses: String = addresses.iter().map(|address| format!("ListenAddress {address}\n")).collect();
    let mut config = format!(
        "Port {port}\n{addresses}HostKey {folder}/host_key\nAuthorizedKeysFile {folder}/authorized_keys\n\
         PidFile none\nUsePAM no\nStrictModes no\nPermitRootLogin prohibit-password\n{more}"
    );
    if let Some(login) = login {
        let script = format!("#!/bin/sh\n{login} /bin/sh -c \"$SSH_ORIGINAL_COMMAND\"\n");
        write_program(folder.join("login"), script);
        config += &format!("ForceCommand {folder}/login\n");
    }
    fs::write(folder.join("sshd_config"), config).unwrap();
}

/// Writes `ssh_config`, by which a client has the key `user_key` and the file `known_hosts` alone; `more` are further lines.
pub fn write_client_config(folder: &Utf8Path, more: &str) {
    let config = format!(
        "IdentityFile {folder}/user_key\nIdentitiesOnly yes\nUserKnownHostsFile {folder}/known_hosts\n\
         GlobalKnownHostsFile none\n{more}"
    );
    fs::write(folder.join("ssh_config"), config).unwrap();
}

/// Writes into `known_hosts` that these hosts have the public key in the file `key`.
pub fn know_host(folder: &Utf8Path, hosts: &str, key: &str) {
    let key = fs::read_to_string(folder.join(key)).unwrap();
    fs::write(folder.join("known_hosts"), format!("{hosts} {key}")).unwrap();
}
