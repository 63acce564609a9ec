//! The processes of a sandbox: this program executed again, each for one stage.

use std::os::unix::process::CommandExt;
use std::process::Command;

/// The beginning of the last attempt before the program's start.
pub(super) const RUNNING: &str = "run ";

/// This program, even if its file was replaced.
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

/// Returns a command that runs this program as a process of a sandbox; its task is sent over standard input.
pub(super) fn self_as(stage: Stage) -> Command {
    let mut command = Command::new(THIS_PROGRAM);
    command.arg0("vcbuild").env_clear();
    as_stage(command, stage)
}

/// Completes a command that is this program, or ends with it, to run as a process of a sandbox.
pub(super) fn as_stage(mut command: Command, stage: Stage) -> Command {
    let name = match stage {
        Stage::Supervisor => "supervisor",
        Stage::Init => "init",
        Stage::Enter => "enter",
    };
    command.args(["sandbox", "--stage", name]);
    command
}
