//! Runs the program of a step, here or on the build host, and reports why it failed.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use super::explain::explain;
use super::remote::Outcome;
use super::run::run;
use super::spec::{self, ExceededLimit, Report, SetupError};
use super::stage::RUNNING;
use super::step::PreparedStep;
use super::{Sandbox, Step};
use crate::process::{self, Ended, Failure};

impl Sandbox {
    /// Runs the program of a step to its end. Returns its standard output if the step keeps it.
    ///
    /// # Errors
    /// Returns an error if the program cannot be run, exceeds a limit, or ends with an exit status other than 0.
    pub fn run(&self, step: Step) -> Result<process::Output, Failure> {
        let limits = self.limits;
        let PreparedStep { mut spec, program, _folder, elsewhere } = step.ready(&self.environment, limits);
        spec.layers = self.layers();
        let Outcome { report, output, stderr, undeclared } = match (&self.host, elsewhere) {
            (Some(host), Some((session, caches))) => {
                host.run(session, spec, &program, &caches).map_err(Failure::Other)?
            }
            _ => {
                let (report, Ended { output, stderr, .. }) = run(&spec, &program)?;
                let undeclared = if spec.confined { explain(&stderr, &spec) } else { Vec::new() };
                Outcome { report, output, stderr, undeclared }
            }
        };
        match report {
            Report::Failed(obstacle) if obstacle.attempt.starts_with(RUNNING) => {
                let program = obstacle.attempt[RUNNING.len()..].to_owned();
                Err(Failure::Start { program, source: obstacle.error() })
            }
            Report::Failed(SetupError { attempt, why, .. }) => {
                Err(Failure::Other(format!("creating the sandbox of {program}: cannot {attempt}: {why}")))
            }
            Report::Ended { exceeded: Some(exceeded), .. } => {
                Err(Failure::Limit { program, limit: limits.describe(exceeded), option: exceeded.option(), stderr })
            }
            Report::Ended { status: 0, .. } => Ok(output),
            Report::Ended { status, .. } if wrote_too_large(status) => {
                let (limit, option) = (limits.describe(ExceededLimit::Disk), ExceededLimit::Disk.option());
                Err(Failure::Limit { program, limit, option, stderr })
            }
            Report::Tried(_) => Err(Failure::Other(format!("{program} was not run: only its sandbox was created"))),
            Report::Ended { status, .. } => {
                let status = ExitStatus::from_raw(status);
                Err(Failure::Exit { program, status, stderr, undeclared })
            }
        }
    }
}

/// Whether the kernel ended the program, or one that its shell started, because a file became too large.
fn wrote_too_large(status: i32) -> bool {
    let status = ExitStatus::from_raw(status);
    let signal = nix::sys::signal::Signal::SIGXFSZ as i32;
    status.signal() == Some(signal) || status.code() == Some(128 + signal)
}

impl ExceededLimit {
    /// Returns the option that raises the limit.
    fn option(self) -> &'static str {
        match self {
            Self::Time => "timeout",
            Self::Memory => "max-memory",
            Self::Processes => "max-processes",
            Self::Disk => "max-disk",
        }
    }
}

impl spec::Limits {
    /// Describes what exceeded the limit, with the limit.
    fn describe(&self, exceeded: ExceededLimit) -> String {
        match exceeded {
            ExceededLimit::Time => format!("it took longer than {} s", self.time.as_secs()),
            ExceededLimit::Memory => {
                format!("it used more memory than {}", vcterminal::bytes(self.memory.unwrap_or_default()))
            }
            ExceededLimit::Processes => {
                format!("it had more than {} processes and threads", self.processes.unwrap_or_default())
            }
            ExceededLimit::Disk => {
                format!("it wrote more than {} to disk", vcterminal::bytes(self.disk.unwrap_or_default()))
            }
        }
    }
}
