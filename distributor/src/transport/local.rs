//! This machine as a node: commands run here, without SSH.

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::process::Command;

use super::{Error, RunningCommand, Transport, child};

/// A transport to this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct Local;

/// The name of this machine in messages.
const NAME: &str = "this machine";

impl Transport for Local {
    fn destination(&self) -> &str {
        NAME
    }

    fn run<'a>(&'a self, line: &'a str) -> BoxFuture<'a, Result<RunningCommand, Error>> {
        async move {
            let mut command = Command::new("sh");
            command.args(["-c", line]);
            child::start(
                command,
                NAME.to_owned(),
                |_| true,
                |status, message| {
                    if status.success() {
                        return Ok(());
                    }
                    let last = message.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no reason given");
                    // What a signal ended is told as shells tell it.
                    let status = status.code().unwrap_or_else(|| 128 + signal(status));
                    Err(Error::Command { host: NAME.to_owned(), status, message: last.trim().to_owned() })
                },
            )
        }
        .boxed()
    }

    fn apart(&self) -> Option<Box<dyn Transport>> {
        None
    }
}

fn signal(status: std::process::ExitStatus) -> i32 {
    std::os::unix::process::ExitStatusExt::signal(&status).unwrap_or(0)
}
