//! `cargo xtask bench`: the speed of the store's writes and reads, compared with other programs.

use ::lab::packages::Package;
use vcterminal::Exit;

use crate::command::{cargo, run as run_command};
use crate::error::Error;
use crate::push_bench;

/// The programs for comparison.
const PEERS: &[Package] = &[
    Package { name: "skopeo", provides: "skopeo", reason: "copies images" },
    Package { name: "zstd", provides: "zstd", reason: "compresses" },
];

/// Measure the store.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Measure only what has this in its name, as "layers" or "blob::read"
    filter: Option<String>,

    /// Measure pushes to a lab instead, beside the way of the role that vcdist replaces
    #[arg(long, conflicts_with = "filter")]
    push: bool,
}

/// Runs the task.
pub(crate) fn run(arguments: &Arguments) -> Result<Exit, Error> {
    if arguments.push {
        return push_bench::run();
    }
    ::lab::packages::ensure(PEERS)?;
    let mut command = cargo();
    command.args(["bench", "--quiet", "--package", "vcstore", "--bench", "store", "--"]);
    run_command(command.args(&arguments.filter))?;
    Ok(Exit::Done)
}
