//! The system's `ssh`: whatever its user has set up (configuration, agent, jump hosts, certificates) works here too.
//! It never asks anything and never checks less of a host key than its user's configuration does.

use std::collections::VecDeque;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use camino::Utf8PathBuf;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::diagnosis::{Peer, diagnose};
use super::{Error, Running, Transport};

/// How long a command may take to end once its stream is closed.
const END_WITHIN: Duration = Duration::from_secs(15);

/// How much of ssh's and the command's stderr is kept: its end, which says why.
const STDERR_KEPT: usize = 16 << 10;

/// What the user says about SSH, the same for every node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SshOptions {
    /// Login user, where the host does not name one.
    pub user: Option<String>,
    /// `KEYWORD=VALUE` as ssh takes after `-o`.
    pub options: Vec<String>,
    /// Configuration file in place of the user's.
    pub config: Option<Utf8PathBuf>,
}

/// The system's `ssh` to one host.
#[derive(Debug, Clone)]
pub struct Ssh {
    arguments: Vec<String>,
    peer: Peer,
}

impl Ssh {
    /// To `host`, which may be `USER@HOST`.
    #[must_use]
    pub fn new(host: &str, options: &SshOptions) -> Self {
        let (user, host) = match host.rsplit_once('@') {
            Some((user, host)) => (Some(user.to_owned()), host),
            None => (options.user.clone(), host),
        };
        let destination = user.as_ref().map_or_else(|| host.to_owned(), |user| format!("{user}@{host}"));
        let port = options.options.iter().find_map(|option| {
            let (key, value) = option.split_once(['=', ' '])?;
            key.trim().eq_ignore_ascii_case("port").then(|| value.trim().parse().ok()).flatten()
        });
        Self { arguments: arguments(&destination, options), peer: Peer { destination, host: host.to_owned(), port } }
    }
}

impl Transport for Ssh {
    fn destination(&self) -> &str {
        &self.peer.destination
    }

    fn run<'a>(&'a self, command: &'a str) -> BoxFuture<'a, Result<Running, Error>> {
        async move {
            tracing::debug!(arguments = ?self.arguments, "starting ssh");
            let start = |source| Error::Start { program: "ssh".into(), source };
            let mut child = Command::new("ssh")
                .args(&self.arguments)
                .arg(command)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .kill_on_drop(true)
                .spawn()
                .map_err(start)?;
            let missing = || start(std::io::Error::other("its pipes are missing"));
            let stdin = child.stdin.take().ok_or_else(missing)?;
            let stdout = child.stdout.take().ok_or_else(missing)?;
            let stderr = child.stderr.take().ok_or_else(missing)?;
            let ending = end(child, Stderr::follow(stderr), self.peer.clone()).boxed();
            Ok(Running { stream: Box::new(tokio::io::join(stdout, stdin)), ending })
        }
        .boxed()
    }
}

/// ssh takes the first value it is given for a keyword: first what must hold, then what the user says, then defaults.
fn arguments(destination: &str, options: &SshOptions) -> Vec<String> {
    let mut arguments = Vec::new();
    if let Some(config) = &options.config {
        arguments.extend(["-F".to_owned(), config.to_string()]);
    }
    let must = [
        "BatchMode=yes",
        "RequestTTY=no",
        "RemoteCommand=none",
        "ClearAllForwardings=yes",
        "ForwardAgent=no",
        "ForwardX11=no",
        "PermitLocalCommand=no",
        "EscapeChar=none",
        "LogLevel=INFO",
    ];
    let defaults = ["ConnectTimeout=10", "ServerAliveInterval=15", "ServerAliveCountMax=4"];
    let said = options.options.iter().map(String::as_str);
    for option in must.into_iter().chain(said).chain(defaults) {
        arguments.extend(["-o".to_owned(), option.to_owned()]);
    }
    arguments.extend(["--".to_owned(), destination.to_owned()]);
    arguments
}

/// Waits for ssh to end and says how.
async fn end(mut child: Child, stderr: Stderr, peer: Peer) -> Result<(), Error> {
    let status = match timeout(END_WITHIN, child.wait()).await {
        Ok(status) => status.map_err(|source| Error::Start { program: "ssh".into(), source })?,
        Err(_) => {
            // Killed and waited for; that it is gone already is no concern here.
            let _ = child.kill().await;
            return Err(Error::Hangs { host: peer.host, seconds: END_WITHIN.as_secs() });
        }
    };
    let said = stderr.text().await;
    if status.success() { Ok(()) } else { Err(diagnose(&peer, status.code(), &said)) }
}

/// Follows a stderr to its end, keeping the last of it.
struct Stderr {
    kept: Arc<Mutex<VecDeque<u8>>>,
    reader: tokio::task::JoinHandle<()>,
}

impl Stderr {
    fn follow(mut stream: impl AsyncRead + Send + Unpin + 'static) -> Self {
        let kept = Arc::new(Mutex::new(VecDeque::new()));
        let keep = Arc::clone(&kept);
        let reader = tokio::spawn(async move {
            let mut chunk = vec![0; 4096];
            while let Ok(count @ 1..) = stream.read(&mut chunk).await {
                tracing::debug!("{}", String::from_utf8_lossy(&chunk[..count]).trim_end());
                let mut kept = keep.lock().unwrap_or_else(PoisonError::into_inner);
                kept.extend(&chunk[..count]);
                let excess = kept.len().saturating_sub(STDERR_KEPT);
                kept.drain(..excess);
            }
        });
        Self { kept, reader }
    }

    /// What was said. A grandchild (a shared connection's master) may hold the stream open: not waited for.
    async fn text(self) -> String {
        let _ = timeout(Duration::from_secs(1), self.reader).await;
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(kept.make_contiguous()).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::{Ssh, SshOptions, Transport};

    #[test]
    fn the_users_words_come_before_our_defaults_and_after_what_must_hold() {
        let options = SshOptions {
            user: Some("ops".into()),
            options: vec!["ConnectTimeout=3".into(), "port = 2222".into()],
            config: Some("/etc/ssh/other".into()),
        };
        let ssh = Ssh::new("10.0.0.5", &options);
        assert_eq!(ssh.destination(), "ops@10.0.0.5");
        let line = ssh.arguments.join(" ");
        assert!(line.starts_with("-F /etc/ssh/other -o BatchMode=yes "), "{line}");
        assert!(line.find("ConnectTimeout=3") < line.find("ConnectTimeout=10"), "{line}");
        assert!(line.ends_with(" -- ops@10.0.0.5"), "{line}");
        assert!(!line.contains("StrictHostKeyChecking"), "host key checking is the user's: {line}");
        assert_eq!(Ssh::new("root@10.0.0.5", &options).destination(), "root@10.0.0.5");
    }
}
