//! `cargo xtask test matrix`: the end-to-end tests that need a cluster, on each version of Kubernetes that a lab runs, and a
//! table of the results.

use std::fs;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread::scope;
use std::time::{Duration, Instant};

use ::lab::{Containerd, Kubernetes};
use camino::{Utf8Path, Utf8PathBuf};
use clap::ValueEnum;
use serde_json::Value;
use vcterminal::{Exit, Table, Text, duration, say, tell, tell_text};

use crate::command::{capture, cargo, root, target_dir};
use crate::dist::{self, Binaries};
use crate::error::Error;
use crate::packages;

/// Run the end-to-end tests that need a cluster on each version of Kubernetes.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Run them on this version only; can be repeated
    #[arg(long, value_enum, value_name = "VERSION")]
    kubernetes: Vec<Kubernetes>,
    /// How many labs run at once: each node takes some of the user's inotify instances
    #[arg(long, value_name = "NUMBER", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=8))]
    jobs: u8,
    /// Run only the tests whose name contains one of these
    #[arg(value_name = "TEST")]
    tests: Vec<String>,
}

/// The end-to-end tests without a cluster, or whose result is what a page shows for the default version.
const ELSEWHERE: &[&str] = &["archives::", "documents::", "nix::"];

/// What became of one test on one version.
struct Outcome {
    version: Kubernetes,
    test: String,
    passed: bool,
    elapsed: Duration,
}

/// Runs the task.
pub(crate) fn run(arguments: &Arguments) -> Result<Exit, Error> {
    ::lab::packages::ensure(packages::BUILD)?;
    ::lab::packages::ensure(packages::TEST)?;
    let binaries = binaries()?;
    let program = test_program()?;
    let tests = chosen(&capture(Command::new(&program).args(["--list", "--format", "terse"]))?, &arguments.tests);
    if tests.is_empty() {
        return Err(Error::Unexpected { step: "selecting tests", why: "no test has a name like that".to_owned() });
    }
    let versions =
        if arguments.kubernetes.is_empty() { Kubernetes::value_variants() } else { &arguments.kubernetes[..] };
    let mut outcomes = Vec::new();
    for version in versions {
        ::lab::Binaries::ensure(*version, Containerd::default())?;
        let logs = target_dir().join("matrix").join(version.version());
        fs::create_dir_all(&logs).map_err(Error::io("making", &logs))?;
        let runner = Runner { program: &program, binaries: &binaries, logs: &logs, jobs: arguments.jobs };
        outcomes.extend(on(*version, &tests, &runner)?);
    }
    tell("");
    tell_text(&Text::from(&table(versions, &tests, &outcomes)));
    Ok(if outcomes.iter().all(|outcome| outcome.passed) { Exit::Done } else { Exit::Failed })
}

/// Returns the two commands that `VCBUILD` and `VCDIST` name, or else builds them as they are released.
fn binaries() -> Result<Binaries, Error> {
    let named = |name: &str| std::env::var(name).ok().filter(|path| !path.is_empty()).map(Utf8PathBuf::from);
    match (named("VCBUILD"), named("VCDIST")) {
        (Some(vcbuild), Some(vcdist)) => Ok(Binaries { vcbuild, vcdist }),
        _ => dist::build(),
    }
}

/// Compiles the end-to-end tests. Returns the path of their program.
fn test_program() -> Result<Utf8PathBuf, Error> {
    // The whole workspace: with another selection of packages, cargo would select other features of their dependencies.
    let messages = ["test", "--workspace", "--no-run", "--quiet", "--message-format=json-render-diagnostics"];
    let printed = capture(cargo().args(messages))?;
    let missing = || Error::Unexpected { step: "compiling the end-to-end tests", why: "cargo names none".to_owned() };
    executable(&printed).ok_or_else(missing)
}

/// Returns the program of the end-to-end tests among cargo's messages, which are one JSON document on each line.
fn executable(messages: &str) -> Option<Utf8PathBuf> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut tests =
        messages.filter(|message| message["target"]["name"] == "end-to-end" && message["target"]["kind"][0] == "test");
    tests.find_map(|message| message["executable"].as_str().map(Utf8PathBuf::from))
}

/// Returns the tests of a list as libtest prints it that need a cluster and contain one of the words.
fn chosen(list: &str, words: &[String]) -> Vec<String> {
    let tests = list.lines().filter_map(|line| line.strip_suffix(": test"));
    let on_a_cluster = tests.filter(|test| !ELSEWHERE.iter().any(|module| test.starts_with(module)));
    let wanted = on_a_cluster.filter(|test| words.is_empty() || words.iter().any(|word| test.contains(word)));
    wanted.map(str::to_owned).collect()
}

/// What running a test takes.
struct Runner<'a> {
    program: &'a Utf8Path,
    binaries: &'a Binaries,
    logs: &'a Utf8Path,
    jobs: u8,
}

/// Runs the tests on one version, several at once.
fn on(version: Kubernetes, tests: &[String], runner: &Runner<'_>) -> Result<Vec<Outcome>, Error> {
    let waiting = Mutex::new(tests.iter());
    let next = || waiting.lock().ok().and_then(|mut tests| tests.next());
    let lane = || -> Result<Vec<Outcome>, Error> {
        let mut outcomes = Vec::new();
        while let Some(test) = next() {
            outcomes.push(one(version, test, runner)?);
        }
        Ok(outcomes)
    };
    let panicked = |_| Err(Error::Unexpected { step: "running tests", why: "a thread panicked".to_owned() });
    let lanes: Vec<_> = scope(|scope| {
        let lanes: Vec<_> = (0..runner.jobs).map(|_| scope.spawn(lane)).collect();
        lanes.into_iter().map(|lane| lane.join().unwrap_or_else(panicked)).collect()
    });
    let outcomes: Result<Vec<_>, Error> = lanes.into_iter().collect();
    Ok(outcomes?.into_iter().flatten().collect())
}

/// Runs a test in a process of its own; its output goes to a file.
fn one(version: Kubernetes, test: &str, runner: &Runner<'_>) -> Result<Outcome, Error> {
    let path = runner.logs.join(format!("{}.log", test.replace("::", "-")));
    let log = fs::File::create(&path).map_err(Error::io("creating", &path))?;
    let errors = log.try_clone().map_err(Error::io("creating", &path))?;
    let begun = Instant::now();
    let status = Command::new(runner.program)
        .args(["--exact", test, "--nocapture"])
        .current_dir(root().join("tests/end-to-end"))
        .env("VCLAB_KUBERNETES", version.to_possible_value().map_or_else(String::new, |value| value.get_name().into()))
        .env("VCBUILD", &runner.binaries.vcbuild)
        .env("VCDIST", &runner.binaries.vcdist)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .status()
        .map_err(|source| Error::Start { program: runner.program.to_string(), source })?;
    let outcome = Outcome { version, test: test.to_owned(), passed: status.success(), elapsed: begun.elapsed() };
    say(format_args!("── {} on {}: {}", outcome.test, version.version(), result(&outcome)));
    if !outcome.passed {
        say(format_args!("   {path} has what it printed"));
    }
    Ok(outcome)
}

fn result(outcome: &Outcome) -> String {
    format!("{} ({})", if outcome.passed { "passed" } else { "FAILED" }, duration(outcome.elapsed))
}

/// A row for each test, a column for each version.
fn table(versions: &[Kubernetes], tests: &[String], outcomes: &[Outcome]) -> Table {
    let mut table = Table::new(
        ["test"].into_iter().chain(versions.iter().map(|version| version.version().trim_start_matches('v'))),
    );
    for test in tests {
        let of = |version: &Kubernetes| {
            let outcome = outcomes.iter().find(|outcome| outcome.version == *version && outcome.test == *test);
            outcome.map_or_else(|| "not run".to_owned(), result)
        };
        table.row([test.clone()].into_iter().chain(versions.iter().map(of)));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_of_a_cluster_are_chosen_by_words() {
        let list = "archives::a: test\nlife_cycle::an_installation_goes: test\nmain_job::on_2: test\n\n3 tests, 0 benchmarks\n";
        assert_eq!(chosen(list, &[]), ["life_cycle::an_installation_goes", "main_job::on_2"]);
        assert_eq!(chosen(list, &["main".to_owned()]), ["main_job::on_2"]);
        assert_eq!(chosen(list, &["archives".to_owned()]), [""; 0]);
    }

    #[test]
    fn the_program_of_the_end_to_end_tests_is_found_among_cargos_messages() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"end-to-end","kind":["test"]},"executable":"/t/end-to-end-1"}
{"reason":"build-finished","success":true}"#;
        assert_eq!(executable(messages).unwrap(), "/t/end-to-end-1");
        assert_eq!(executable("{}"), None);
    }

    #[test]
    fn the_table_has_a_row_for_each_test_and_a_column_for_each_version() {
        let outcome = |version, test: &str, passed| Outcome {
            version,
            test: test.to_owned(),
            passed,
            elapsed: Duration::from_secs(75),
        };
        let outcomes = [
            outcome(Kubernetes::V1_37, "main_job", true),
            outcome(Kubernetes::V1_24, "main_job", false),
            outcome(Kubernetes::V1_24, "run", true),
        ];
        let tests = ["main_job".to_owned(), "run".to_owned()];
        let printed = table(&[Kubernetes::V1_24, Kubernetes::V1_37], &tests, &outcomes).to_string();
        let cells: Vec<Vec<&str>> = printed
            .lines()
            .map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect())
            .collect();
        assert_eq!(cells[0], ["TEST", "1.24.17", "1.37.2"], "{printed}");
        assert_eq!(cells[1][0], "main_job", "{printed}");
        assert!(cells[1][1].starts_with("FAILED (") && cells[1][2].starts_with("passed ("), "{printed}");
        assert!(cells[2][1].starts_with("passed (") && cells[2][2] == "not run", "{printed}");
    }
}
