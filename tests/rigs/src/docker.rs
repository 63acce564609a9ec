//! A Docker daemon of a test's own. It needs root.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use camino::Utf8Path;

use crate::Daemon;

/// How long it may take to answer, and to end its own containerd and unmount what it mounted.
const WITHIN: Duration = Duration::from_secs(120);

/// A daemon with its files in one folder; it ends when dropped.
#[derive(Debug)]
pub struct Docker {
    socket: String,
    _daemon: Daemon,
}

impl Docker {
    /// Starts one; its log is `dockerd.log` in `folder`.
    ///
    /// # Errors
    /// When it cannot be started, or does not answer.
    pub fn start(folder: &Utf8Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let path = |name: &str| folder.join(name).into_string();
        let socket = format!("unix://{}", path("docker.sock"));
        let log = File::create(path("dockerd.log"))?;
        let mut command = Command::new("dockerd");
        command.args(["--iptables=false", "--bridge=none", "--host", &socket, "--pidfile", &path("docker.pid")]);
        command.args(["--data-root", &path("data"), "--exec-root", &path("exec")]);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        let daemon = Daemon::from(command.spawn()?).ending_within(WITHIN);
        let docker = Self { socket, _daemon: daemon };
        let deadline = Instant::now() + WITHIN;
        let mut version = docker.command();
        version.arg("version").stdout(Stdio::null()).stderr(Stdio::null());
        while !version.status()?.success() {
            if Instant::now() > deadline {
                let log = fs::read_to_string(path("dockerd.log")).unwrap_or_default();
                return Err(io::Error::other(format!("dockerd does not answer:\n{log}")));
            }
            sleep(Duration::from_millis(100));
        }
        Ok(docker)
    }

    /// The address of its API, as `docker --host` takes it.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.socket
    }

    /// `docker`, with this daemon.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new("docker");
        command.args(["--host", &self.socket]);
        command
    }
}
