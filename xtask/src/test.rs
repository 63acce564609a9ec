//! `cargo xtask test`: every check of the project, each as a step with its duration.
//!
//! Two lanes run concurrently. The tests have priority; steps that only compile use the remaining CPU time.

use std::thread::scope;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use vcterminal::{Exit, Table, Text, duration, say};

use crate::command::{cargo, root, run as run_command, run_beside};
use crate::error::Error;
use crate::{dependencies, dist, matrix, packages};

/// Run every check.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    /// Run only these steps
    #[arg(value_enum)]
    steps: Vec<Step>,
    #[command(subcommand)]
    other: Option<Other>,
}

#[derive(Debug, clap::Subcommand)]
enum Other {
    /// Run the end-to-end tests that need a cluster on each version of Kubernetes, and print a table
    Matrix(matrix::Arguments),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Step {
    /// The code is formatted
    Format,
    /// Unit, property and integration tests, in Rust and Go
    Unit,
    /// The two commands build as they are released; the end-to-end tests run these
    Dist,
    /// No lint speaks, in Rust or Go
    Lint,
    /// The documentation builds, without a dead link
    Doc,
    /// Licences, sources and bans of all dependencies, as deny.toml has them
    Dependencies,
    /// The whole path on a real cluster
    EndToEnd,
}

/// The steps with priority.
const FIRST: &[Step] = &[Step::Format, Step::Unit];
/// The steps that run concurrently with them. The first compiles into a folder that no other step uses: cargo makes
/// the others wait for each other.
const BESIDE: &[Step] = &[Step::Dist, Step::Lint, Step::Doc, Step::Dependencies];
/// The steps that run after both.
const LAST: &[Step] = &[Step::EndToEnd];

/// A step with its result and duration.
struct Done {
    step: Step,
    result: Result<(), Error>,
    elapsed: Duration,
}

impl Step {
    fn run(self) -> Result<(), Error> {
        match self {
            Self::Format => run_command(cargo().args(["fmt", "--all", "--check"])),
            Self::Unit => {
                // Compiles everything for tests in one command: with another selection of packages, cargo would select
                // other features of their dependencies.
                run_command(cargo().args(["test", "--workspace", "--no-run", "--quiet"]))?;
                run_command(go().args(["test", "./..."]))?;
                let all = ["test", "--workspace", "--exclude", "end-to-end", "--no-fail-fast", "--quiet"];
                run_command(cargo().args(all))
            }
            Self::Dist => run_beside(&dist::build_command()),
            Self::Lint => {
                run_beside(cargo().args(["clippy", "--workspace", "--all-targets", "--quiet", "--", "-Dwarnings"]))?;
                run_beside(go().args(["vet", "./..."]))
            }
            Self::Doc => run_beside(
                cargo().args(["doc", "--workspace", "--no-deps", "--quiet"]).env("RUSTDOCFLAGS", "-Dwarnings"),
            ),
            Self::Dependencies => dependencies::check(),
            Self::EndToEnd => {
                let binaries = dist::build()?;
                run_command(
                    cargo()
                        // Two clusters at once, because a cluster spends most of its startup time waiting.
                        .args(["test", "--workspace", "--test", "end-to-end", "--", "--test-threads=2"])
                        .env("VCBUILD", binaries.vcbuild)
                        .env("VCDIST", binaries.vcdist),
                )
            }
        }
    }

    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// Runs the task.
pub(crate) fn run(arguments: &Arguments) -> Result<Exit, Error> {
    if let Some(Other::Matrix(arguments)) = &arguments.other {
        return matrix::run(arguments);
    }
    ::lab::packages::ensure(packages::BUILD)?;
    ::lab::packages::ensure(packages::TEST)?;
    // Tests of single crates use a lab's sshd too, and some of them run before the first lab.
    ::lab::packages::ensure(&::lab::packages::for_lab(::lab::Containerd::default()))?;
    let steps = if arguments.steps.is_empty() { Step::value_variants() } else { &arguments.steps };
    let begun = Instant::now();
    let lane = |of: &[Step]| of.iter().filter(|step| steps.contains(step)).map(|step| done(*step)).collect::<Vec<_>>();
    let (first, beside) = scope(|scope| {
        let beside = scope.spawn(|| lane(BESIDE));
        let first = lane(FIRST);
        (first, beside.join())
    });
    let beside = beside.map_err(|_| Error::Unexpected { step: "the second lane", why: "it panicked".to_owned() })?;
    let last = lane(LAST);

    let mut table = Table::new(["step", "result", "time"]);
    let mut exit = Exit::Done;
    for Done { step, result, elapsed } in first.into_iter().chain(beside).chain(last) {
        if result.is_err() {
            exit = Exit::Failed;
        }
        let result = if result.is_ok() { "passed" } else { "FAILED" };
        table.row([step.name(), result.to_owned(), duration(elapsed)]);
    }
    table.row(["in all".to_owned(), String::new(), duration(begun.elapsed())]);
    vcterminal::tell("");
    vcterminal::tell_text(&Text::from(&table));
    Ok(exit)
}

/// Runs a step to its end. A failed step does not prevent the next one.
fn done(step: Step) -> Done {
    say("");
    say(format_args!("── {} begins", step.name()));
    let begun = Instant::now();
    let result = step.run();
    let elapsed = begun.elapsed();
    match &result {
        Ok(()) => {
            say("");
            say(format_args!("── {} passed ({})", step.name(), duration(elapsed)));
        }
        Err(error) => {
            say("");
            say(format_args!("── {} FAILED ({})", step.name(), duration(elapsed)));
            vcterminal::report(error);
        }
    }
    Done { step, result, elapsed }
}

fn go() -> std::process::Command {
    let mut command = std::process::Command::new("go");
    command.current_dir(root().join("fixtures/virtualcluster"));
    command
}
