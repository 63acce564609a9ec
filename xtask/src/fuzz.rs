//! `cargo xtask fuzz`: gives the archive reader what a fuzzer makes of its corpus, led by what that reaches in the code.
//!
//! The compiler's coverage is had from stable Rust by its flags; `cargo fuzz run archive` runs the same target with nightly's
//! sanitizers.

use vcterminal::Exit;

use crate::command::{cargo, root, run as run_command};
use crate::error::Error;

/// What libFuzzer is led by: counters at each edge, and the operands of comparisons.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Cdebug-assertions -Ccodegen-units=1";

/// Fuzz the archive reader.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// For how many seconds
    #[arg(long, default_value_t = 30)]
    seconds: u32,
}

/// The task.
pub(crate) fn run(arguments: &Arguments) -> Result<Exit, Error> {
    let fuzz = root().join("fuzz");
    let found = fuzz.join("target/found/");
    std::fs::create_dir_all(&found).map_err(Error::io("making", &found))?;
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let mut command = cargo();
    // With a target, the flags are for what runs and not for what compiles.
    command.current_dir(&fuzz).args(["run", "--release", "--quiet", "--target", &target, "--"]);
    // What is found goes to the first folder, and is read from all.
    command.args([found.as_str(), "corpus/archive", "-max_len=65536", "-timeout=10", "-rss_limit_mb=512"]);
    command.args([format!("-artifact_prefix={fuzz}/target/"), format!("-max_total_time={}", arguments.seconds)]);
    run_command(command.env("RUSTFLAGS", FLAGS))?;
    Ok(Exit::Done)
}
