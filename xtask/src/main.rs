//! The project's tasks, as `cargo xtask TASK`.

mod lab;

use clap::{Parser, Subcommand};
use vcterminal::Exit;

/// The project's tasks.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// A real Kubernetes cluster in network namespaces on this machine
    #[command(subcommand)]
    Lab(lab::Command),
}

fn main() -> Exit {
    let done = match Arguments::parse().task {
        Task::Lab(command) => lab::run(command),
    };
    done.unwrap_or_else(|error| {
        vcterminal::report(&error);
        Exit::Failed
    })
}
