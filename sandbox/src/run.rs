//! The outer end of a sandbox: starts its supervisor, hands it what to run, and says how it ended.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use super::explain::explain;
use super::remote::Outcome;
use super::spec::{self, Exceeded, Obstacle, Report, Spec};
use super::step::Ready;
use super::{Sandbox, Step, enter, init, scope, supervisor};
use crate::process::{self, Ended, Failure};

/// How long a supervisor that must have ended by itself is waited for.
const GRACE: Duration = Duration::from_secs(60);

/// How the attempt begins that comes last.
pub(super) const RUNNING: &str = "run ";

/// This very program, also after its file was replaced.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// The processes of a sandbox, each of which is this program again.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum Stage {
    /// Outside: makes the namespaces, watches the limits.
    Supervisor,
    /// The first process within.
    Init,
    /// Builds the file system, becomes the program.
    Enter,
}

impl Sandbox {
    /// Runs the program of a step to its end; gives what it wrote to standard output, where the step keeps that.
    ///
    /// # Errors
    /// When it cannot be run, goes over a limit, or ends with anything but 0.
    pub fn run(&self, step: Step) -> Result<process::Output, Failure> {
        let limits = self.limits;
        let Ready { mut spec, program, _folder, elsewhere } = step.ready(&self.environment, limits);
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
            Report::Failed(Obstacle { attempt, why, .. }) => {
                Err(Failure::Other(format!("making the sandbox of {program}: cannot {attempt}: {why}")))
            }
            Report::Ended { exceeded: Some(exceeded), .. } => {
                Err(Failure::Limit { program, limit: limits.describe(exceeded), option: exceeded.option(), stderr })
            }
            Report::Ended { status: 0, .. } => Ok(output),
            Report::Ended { status, .. } if wrote_too_large(status) => {
                let (limit, option) = (limits.describe(Exceeded::Disk), Exceeded::Disk.option());
                Err(Failure::Limit { program, limit, option, stderr })
            }
            Report::Tried(_) => Err(Failure::Other(format!("{program} was not run, only its sandbox made"))),
            Report::Ended { status, .. } => {
                let status = ExitStatus::from_raw(status);
                Err(Failure::Exit { program, status, stderr, undeclared })
            }
        }
    }
}

/// Whether the kernel ended the program, or one that its shell started, since a file became too large.
fn wrote_too_large(status: i32) -> bool {
    let status = ExitStatus::from_raw(status);
    let signal = nix::sys::signal::Signal::SIGXFSZ as i32;
    status.signal() == Some(signal) || status.code() == Some(128 + signal)
}

/// Runs `spec`; besides the report there is what the program wrote.
pub(super) fn run(spec: &Spec, name: &str) -> Result<(Report, Ended), Failure> {
    let start = |source| Failure::Start { program: name.to_owned(), source };
    let (ours, theirs) = UnixStream::pair().map_err(start)?;
    let mut command = scope::command(&spec.limits)
        .map_or_else(|| self_as(Stage::Supervisor), |command| as_stage(command, Stage::Supervisor));
    // In a process group of its own: Ctrl-C ends this program, and the supervisor then cleans up.
    command.stdin(OwnedFd::from(theirs)).process_group(0);
    ours.set_write_timeout(Some(GRACE)).map_err(start)?;
    let limit = spec.limits.time + GRACE;
    let ended = process::run_to_end(&mut command, name, limit, spec.output, || spec::send(&ours, spec))?;
    // It holds the other end too: only without it is a supervisor that died seen to be gone.
    drop(command);
    ours.set_read_timeout(Some(GRACE)).map_err(start)?;
    match spec::receive(&ours) {
        Ok(Some(report)) => Ok((report, ended)),
        Ok(None) => {
            let why = format!("the sandbox of {name} ended without a word ({}): {}", ended.status, ended.stderr);
            Err(Failure::Other(why))
        }
        Err(source) => Err(Failure::Read { program: name.to_owned(), source }),
    }
}

/// Does the work of one process of a sandbox, which the process with the other end of standard input asked for.
pub fn stage(stage: Stage) -> vcterminal::Exit {
    let asked = std::io::stdin().as_fd().try_clone_to_owned().map(UnixStream::from);
    let done = asked.map_err(Obstacle::on("use standard input")).and_then(|socket| {
        let done = match stage {
            Stage::Supervisor => supervisor::supervise(&socket).map(Some),
            Stage::Init => init::init(&socket).map(Some),
            Stage::Enter => enter::enter(&socket).map(Some),
        };
        let report = done.unwrap_or_else(|obstacle| Some(Report::Failed(obstacle)));
        report.map_or(Ok(()), |report| spec::send(&socket, &report)).map_err(Obstacle::on("answer"))
    });
    match done {
        Ok(()) => vcterminal::Exit::Done,
        Err(obstacle) => {
            vcterminal::say(format_args!(
                "a process of vcbuild's sandbox cannot {}: {}",
                obstacle.attempt, obstacle.why
            ));
            vcterminal::Exit::Failed
        }
    }
}

/// A command that runs this program as a process of a sandbox; what it is to do comes over standard input.
pub(super) fn self_as(stage: Stage) -> Command {
    let mut command = Command::new(THIS_PROGRAM);
    command.arg0("vcbuild").env_clear();
    as_stage(command, stage)
}

/// A command that is this program, or ends with it, as a process of a sandbox.
fn as_stage(mut command: Command, stage: Stage) -> Command {
    let name = match stage {
        Stage::Supervisor => "supervisor",
        Stage::Init => "init",
        Stage::Enter => "enter",
    };
    command.args(["sandbox", "--stage", name]);
    command
}

impl Exceeded {
    /// The option that raises the limit.
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
    /// What was too much, with the limit.
    fn describe(&self, exceeded: Exceeded) -> String {
        match exceeded {
            Exceeded::Time => format!("it took longer than {} s", self.time.as_secs()),
            Exceeded::Memory => {
                format!("it used more memory than {}", vcterminal::bytes(self.memory.unwrap_or_default()))
            }
            Exceeded::Processes => {
                format!("it had more than {} processes and threads", self.processes.unwrap_or_default())
            }
            Exceeded::Disk => {
                format!("it wrote more to disk than {}", vcterminal::bytes(self.disk.unwrap_or_default()))
            }
        }
    }
}
