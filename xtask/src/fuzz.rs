//! `cargo xtask fuzz`: coverage-guided fuzzing of the parsers of untrusted input.
//!
//! Compiler flags enable coverage on stable Rust; `cargo fuzz run TARGET` runs the same target with nightly's
//! sanitizers.

use vcterminal::Exit;

use crate::command::{cargo, root, run as run_command};
use crate::error::Error;

/// The instrumentation for libFuzzer: counters at each edge, and the operands of comparisons.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Cdebug-assertions -Ccodegen-units=1";

/// Fuzz the parsers of untrusted input.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// What to fuzz: a folder of fuzz/corpus [default: all of them, in sequence]
    targets: Vec<String>,
    /// How many seconds to fuzz each
    #[arg(long, default_value_t = 30)]
    seconds: u32,
}

/// Runs the task.
pub(crate) fn run(arguments: &Arguments) -> Result<Exit, Error> {
    let fuzz = root().join("fuzz");
    let corpus = fuzz.join("corpus");
    let mut targets = Vec::new();
    for entry in corpus.read_dir_utf8().map_err(Error::io("reading", &corpus))? {
        targets.push(entry.map_err(Error::io("reading", &corpus))?.file_name().to_owned());
    }
    targets.sort();
    if let Some(unknown) = arguments.targets.iter().find(|target| !targets.contains(target)) {
        return Err(Error::NoTarget { target: unknown.clone(), known: targets });
    }
    if !arguments.targets.is_empty() {
        targets.clone_from(&arguments.targets);
    }
    for target in targets {
        vcterminal::tell(format_args!("{target}, {} s", arguments.seconds));
        let found = fuzz.join("target/found").join(&target);
        std::fs::create_dir_all(&found).map_err(Error::io("making", &found))?;
        let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        let mut command = cargo();
        // With a target triple, the flags do not apply to build scripts and macros.
        command.current_dir(&fuzz).args(["run", "--release", "--quiet", "--target", &triple, "--bin", &target, "--"]);
        // New inputs are written to the first folder, and read from all.
        let seeds = corpus.join(&target);
        command.args([found.as_str(), seeds.as_str(), "-max_len=65536", "-timeout=10", "-rss_limit_mb=1024"]);
        command.args([format!("-artifact_prefix={fuzz}/target/"), format!("-max_total_time={}", arguments.seconds)]);
        run_command(command.env("RUSTFLAGS", FLAGS))?;
    }
    Ok(Exit::Done)
}
