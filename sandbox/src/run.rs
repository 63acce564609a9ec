//! The outer end of a sandbox: it starts the supervisor, sends it the specification, and returns the report.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::time::Duration;

use super::scope;
use super::spec::{self, Report, Spec};
use super::stage::{Stage, as_stage, self_as};
use crate::process::{self, Ended, Failure};

/// The time limit for a supervisor that should have ended by itself.
const GRACE: Duration = Duration::from_secs(60);

/// Runs `spec`. Returns the report and the output of the program.
pub(super) fn run(spec: &Spec, name: &str) -> Result<(Report, Ended), Failure> {
    let start = |source| Failure::Start { program: name.to_owned(), source };
    let (ours, theirs) = UnixStream::pair().map_err(start)?;
    let mut command = scope::command(&spec.limits)
        .map_or_else(|| self_as(Stage::Supervisor), |command| as_stage(command, Stage::Supervisor));
    // A process group of its own: Ctrl-C ends only this program, and the supervisor then cleans up.
    command.stdin(OwnedFd::from(theirs)).process_group(0);
    ours.set_write_timeout(Some(GRACE)).map_err(start)?;
    let limit = spec.limits.time + GRACE;
    let ended = process::run_to_end(&mut command, name, limit, spec.output, || spec::send(&ours, spec))?;
    // The command also holds the other end, which must be closed to detect the end of a supervisor that died.
    drop(command);
    ours.set_read_timeout(Some(GRACE)).map_err(start)?;
    match spec::receive(&ours) {
        Ok(Some(report)) => Ok((report, ended)),
        Ok(None) => {
            let why = format!("the sandbox of {name} ended without a report ({}): {}", ended.status, ended.stderr);
            Err(Failure::Other(why))
        }
        Err(source) => Err(Failure::Read { program: name.to_owned(), source }),
    }
}
