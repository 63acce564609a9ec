//! The project's tasks, as `cargo xtask TASK`.

mod bench;
#[cfg(test)]
mod circles;
mod command;
mod demo;
mod dependencies;
mod dist;
mod error;
mod fuzz;
mod lab;
#[cfg(test)]
mod map;
mod matrix;
#[cfg(test)]
mod named;
mod packages;
mod push_bench;
mod reference;
mod release;
mod test;

use clap::{Parser, Subcommand};
use vcterminal::Exit;

/// The project's tasks.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Run the main job on a lab: build, push, deploy, verify, and again with one changed line
    Demo(demo::Arguments),
    /// Run every check: format, lints, documentation, unit, property and end-to-end tests
    Test(test::Arguments),
    /// Measure the store and the layers against comparable programs
    Bench(bench::Arguments),
    /// Fuzz the parsers of untrusted input for a limited time
    Fuzz(fuzz::Arguments),
    /// Build vcbuild and vcdist as static binaries, which run on any Linux of this architecture, with manual pages and completions
    Dist(dist::Arguments),
    /// Write the reference pages about the two command lines
    Reference(reference::Arguments),
    /// Prepare a release on this machine: version, changelog, commit and tag
    Release(release::Arguments),
    /// A real Kubernetes cluster in network namespaces on this machine
    #[command(subcommand)]
    Lab(lab::Command),
}

fn main() -> Exit {
    vcterminal::start(task)
}

fn task(arguments: Arguments) -> Exit {
    let done = match arguments.task {
        Task::Demo(arguments) => demo::run(&arguments),
        Task::Test(arguments) => test::run(&arguments),
        Task::Bench(arguments) => bench::run(&arguments),
        Task::Fuzz(arguments) => fuzz::run(&arguments),
        Task::Dist(arguments) => dist::run(&arguments).map(|_| Exit::Done),
        Task::Reference(arguments) => reference::run(&arguments),
        Task::Release(arguments) => release::run(&arguments),
        Task::Lab(command) => lab::run(command).map_err(Into::into),
    };
    done.unwrap_or_else(|error| {
        vcterminal::report(&error);
        let usage = matches!(error, error::Error::Lab(::lab::Error::BadOption { .. }));
        if usage { Exit::Usage } else { Exit::Failed }
    })
}
