//! A child process as a running command: its stdin and stdout are the stream, and its stderr explains a failure.

use std::collections::VecDeque;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::{Error, RunningCommand};

/// The time limit for a command to end once its stream is closed.
pub(super) const END_WITHIN: Duration = Duration::from_secs(15);

/// How much of a stderr is kept, in bytes: its end, which contains the reason.
const STDERR_KEPT: usize = 16 << 10;

/// The maximum length of a line of stderr, in bytes; longer lines are split.
const LINE: u64 = 4096;

/// Starts `command`. `listen` receives each line of its stderr and returns whether to keep it; `ended` turns the exit
/// status and the kept output into a result. `host` is named in the error if the command does not end.
pub(super) fn start(
    mut command: Command,
    host: String,
    listen: impl FnMut(&str) -> bool + Send + 'static,
    ended: impl FnOnce(ExitStatus, &str) -> Result<(), Error> + Send + 'static,
) -> Result<RunningCommand, Error> {
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    let failed = |source| Error::Start { program: program.clone(), source };
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    // A Ctrl-C at the terminal must reach only this program, which ends the child after an orderly stop.
    command.process_group(0);
    let mut child = command.spawn().map_err(failed)?;
    let missing = || failed(std::io::Error::other("its pipes are missing"));
    let stdin = child.stdin.take().ok_or_else(missing)?;
    let stdout = child.stdout.take().ok_or_else(missing)?;
    let stderr = Stderr::follow(child.stderr.take().ok_or_else(missing)?, listen);
    let ending = async move {
        let status = wait(&mut child, &program, host).await?;
        ended(status, &stderr.text().await)
    };
    Ok(RunningCommand { stream: Box::new(tokio::io::join(stdout, stdin)), ending: ending.boxed() })
}

async fn wait(child: &mut Child, program: &str, host: String) -> Result<ExitStatus, Error> {
    match timeout(END_WITHIN, child.wait()).await {
        Ok(status) => status.map_err(|source| Error::Start { program: program.to_owned(), source }),
        Err(_) => {
            // Kills the child and waits for it; it may already be gone.
            let _ = child.kill().await;
            Err(Error::Hangs { host, seconds: END_WITHIN.as_secs() })
        }
    }
}

/// Reads a stderr to its end and keeps the last part of it.
pub(super) struct Stderr {
    kept: Arc<Mutex<VecDeque<u8>>>,
    reader: tokio::task::JoinHandle<()>,
}

impl Stderr {
    pub(super) fn follow(
        stream: impl AsyncRead + Send + Unpin + 'static,
        mut listen: impl FnMut(&str) -> bool + Send + 'static,
    ) -> Self {
        let kept = Arc::new(Mutex::new(VecDeque::new()));
        let keep = Arc::clone(&kept);
        let reader = tokio::spawn(async move {
            let mut stream = BufReader::new(stream);
            let mut line = Vec::new();
            while let Ok(1..) = (&mut stream).take(LINE).read_until(b'\n', &mut line).await {
                let text = String::from_utf8_lossy(&line);
                tracing::debug!("{}", text.trim_end());
                if listen(text.trim_end()) {
                    let mut kept = keep.lock().unwrap_or_else(PoisonError::into_inner);
                    kept.extend(&line);
                    let excess = kept.len().saturating_sub(STDERR_KEPT);
                    kept.drain(..excess);
                }
                line.clear();
            }
        });
        Self { kept, reader }
    }

    /// Returns the kept output. Waits only a short time, because a grandchild (the master of a shared connection) may
    /// keep the stream open.
    pub(super) async fn text(self) -> String {
        let _ = timeout(Duration::from_secs(1), self.reader).await;
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(kept.make_contiguous()).into_owned()
    }
}
