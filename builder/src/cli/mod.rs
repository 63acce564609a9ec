//! The command line: one file a subcommand.

use clap::{Parser, Subcommand};
use vcterminal::Exit;

/// Build VirtualCluster's container images reproducibly, without a daemon.
#[derive(Debug, Parser)]
#[command(name = "vcbuild", version, propagate_version = true, max_term_width = 100)]
struct Cli {
    /// Say more: -v what is done, -vv how, -vvv everything.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {}

/// Runs the command line of this process and returns how it ended.
#[must_use]
pub fn run() -> Exit {
    let cli = Cli::parse();
    vcterminal::log_to_stderr(cli.verbose);
    match cli.command {}
}
