//! `cargo xtask test`: every check of the project, each one a step with its time.

use std::process::Command;
use std::time::Instant;

use clap::ValueEnum;
use vcterminal::{Exit, Table, duration};

use crate::command::{cargo, root, run as run_command};
use crate::error::Error;
use crate::{dist, packages};

/// Run every check.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Run only these steps
    #[arg(value_enum)]
    steps: Vec<Step>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Step {
    /// The code is formatted
    Format,
    /// No lint speaks, in Rust or Go
    Lint,
    /// The documentation builds, without a dead link
    Doc,
    /// Unit, property and integration tests, in Rust and Go
    Unit,
    /// The whole path on a real cluster
    EndToEnd,
}

impl Step {
    fn run(self) -> Result<(), Error> {
        match self {
            Self::Format => run_command(cargo().args(["fmt", "--all", "--check"])),
            Self::Lint => {
                run_command(cargo().args(["clippy", "--workspace", "--all-targets", "--quiet", "--", "-Dwarnings"]))?;
                run_command(go().args(["vet", "./..."]))
            }
            Self::Doc => run_command(
                cargo().args(["doc", "--workspace", "--no-deps", "--quiet"]).env("RUSTDOCFLAGS", "-Dwarnings"),
            ),
            Self::Unit => {
                run_command(go().args(["test", "./..."]))?;
                run_command(cargo().args([
                    "test",
                    "--workspace",
                    "--exclude",
                    "end-to-end",
                    "--no-fail-fast",
                    "--quiet",
                ]))
            }
            Self::EndToEnd => {
                let binaries = dist::build()?;
                run_command(
                    cargo()
                        .args(["test", "--package", "end-to-end", "--no-fail-fast", "--", "--test-threads=1"])
                        .env("VCBUILD", binaries.vcbuild)
                        .env("VCDIST", binaries.vcdist),
                )
            }
        }
    }
}

/// The task.
pub(crate) fn run(arguments: &Arguments) -> Result<Exit, Error> {
    ::lab::packages::ensure(packages::BUILD)?;
    ::lab::packages::ensure(packages::TEST)?;
    let steps = if arguments.steps.is_empty() { Step::value_variants() } else { &arguments.steps };
    let mut table = Table::new(["step", "result", "time"]);
    let mut exit = Exit::Done;
    for step in steps {
        let name = step.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        eprintln!("\n── {name}");
        let begun = Instant::now();
        // One failed step never hides what the next would find.
        let result = step.run();
        table.row([name, if result.is_ok() { "passed" } else { "FAILED" }.to_owned(), duration(begun.elapsed())]);
        if let Err(error) = result {
            vcterminal::report(&error);
            exit = Exit::Failed;
        }
    }
    println!("\n{table}");
    Ok(exit)
}

fn go() -> Command {
    let mut command = Command::new("go");
    command.current_dir(root().join("fixtures/virtualcluster"));
    command
}
