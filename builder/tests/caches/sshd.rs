//! An sshd on the loopback address with keys of its own, which lets root in. It needs root.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What is peculiar about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Login {
    Plain,
    /// Its login script prints something before every command.
    Noisy,
    /// Programs that it runs are told that it is another machine.
    Machine(&'static str),
}

/// A running sshd; it ends when dropped.
pub(crate) struct Sshd {
    folder: tempfile::TempDir,
    process: Child,
    pub(crate) port: u16,
}

impl Sshd {
    pub(crate) fn start(login: Login) -> Self {
        let folder = tempfile::Builder::new().prefix("vcbuild-sshd-").tempdir().unwrap();
        let path = folder.path().display().to_string();
        fs::create_dir_all("/run/sshd").unwrap();
        for key in ["host_key", "user_key"] {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(folder.path().join(key))
                .status();
            assert!(made.unwrap().success());
        }
        fs::copy(folder.path().join("user_key.pub"), folder.path().join("authorized_keys")).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {path}/host_key\nAuthorizedKeysFile {path}/authorized_keys\n\
             PidFile none\nUsePAM no\nStrictModes no\nPermitRootLogin prohibit-password\n"
        );
        let script = match login {
            Login::Plain => None,
            Login::Noisy => Some("echo 'Welcome!'; printf 'no newline'\nexec".to_owned()),
            Login::Machine(machine) => Some(format!("exec setarch {machine}")),
        };
        if let Some(script) = script {
            let script = format!("#!/bin/sh\n{script} /bin/sh -c \"$SSH_ORIGINAL_COMMAND\"\n");
            fs::write(folder.path().join("login"), script).unwrap();
            fs::set_permissions(folder.path().join("login"), fs::Permissions::from_mode(0o755)).unwrap();
            config += &format!("ForceCommand {path}/login\n");
        }
        fs::write(folder.path().join("sshd_config"), config).unwrap();
        let mut command = Command::new("/usr/sbin/sshd");
        command.arg("-D").arg("-e").arg("-f").arg(folder.path().join("sshd_config"));
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let sshd = Self { folder, process, port };
        sshd.know_host(true);
        let deadline = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "sshd does not come up");
            std::thread::sleep(Duration::from_millis(20));
        }
        sshd
    }

    /// Writes into the user's known hosts this host's key, or another's.
    pub(crate) fn know_host(&self, right: bool) {
        let (path, port) = (self.folder.path().display(), self.port);
        let key =
            fs::read_to_string(self.folder.path().join(if right { "host_key.pub" } else { "user_key.pub" })).unwrap();
        fs::write(self.folder.path().join("known_hosts"), format!("[127.0.0.1]:{port} {key}")).unwrap();
        let client = format!(
            "IdentityFile {path}/user_key\nIdentitiesOnly yes\nUserKnownHostsFile {path}/known_hosts\nGlobalKnownHostsFile none\n"
        );
        fs::write(self.client_config(), client).unwrap();
    }

    pub(crate) fn client_config(&self) -> PathBuf {
        self.folder.path().join("ssh_config")
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}
