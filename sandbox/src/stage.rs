//! The processes of a sandbox: this program again, each with a part of the work.

use std::os::unix::process::CommandExt;
use std::process::Command;

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

/// A command that runs this program as a process of a sandbox; what it is to do comes over standard input.
pub(super) fn self_as(stage: Stage) -> Command {
    let mut command = Command::new(THIS_PROGRAM);
    command.arg0("vcbuild").env_clear();
    as_stage(command, stage)
}

/// A command that is this program, or ends with it, as a process of a sandbox.
pub(super) fn as_stage(mut command: Command, stage: Stage) -> Command {
    let name = match stage {
        Stage::Supervisor => "supervisor",
        Stage::Init => "init",
        Stage::Enter => "enter",
    };
    command.args(["sandbox", "--stage", name]);
    command
}
