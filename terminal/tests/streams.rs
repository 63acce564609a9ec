//! How commands end whose reader went away, whose disk is full, or that have a defect: this program is both the commands and the
//! test, which runs them as a shell would.

use std::fs::OpenOptions;
use std::process::{Command, ExitCode, Output, Stdio, Termination};

use clap::Parser;
use vcterminal::{Exit, Table, Text, print, say, start, tell};

/// A command.
#[derive(Debug, Parser)]
#[command(name = "streams", version = "1.2.3")]
struct Cli {
    /// Be this command.
    #[arg(long, value_parser = number)]
    number: Option<u8>,

    #[arg(long)]
    be: Option<String>,

    /// Created when the command has done all that it had to do.
    #[arg(long)]
    done: Option<std::path::PathBuf>,
}

fn number(text: &str) -> Result<u8, String> {
    text.parse().map_err(|_| format!("{text} is not a number"))
}

fn main() -> ExitCode {
    if std::env::var_os("STREAMS_COMMAND").is_some() {
        return start(command).report();
    }
    for (name, test) in TESTS {
        test();
        say(format_args!("test {name} ... ok"));
    }
    ExitCode::SUCCESS
}

fn command(cli: Cli) -> Exit {
    vcterminal::log_to_stderr(0);
    match cli.be.as_deref() {
        Some("show") => {
            let mut table = Table::new(["name"]);
            (0..20_000).for_each(|_| table.row(["w1"]));
            if print(&Text::from(&table)).is_err() {
                say("error: printing");
                return Exit::Failed;
            }
            return Exit::Difference;
        }
        Some("change") => {
            for step in 0..20_000 {
                tell(format_args!("applied {step}"));
                say(format_args!("applied {step}"));
            }
        }
        Some("log") => tracing::warn!(node = "w1\u{202e}", "it said: {}", "\u{1b}]52;c;eA==\u{7}\nerror: forged"),
        Some("panic") => {
            let text = "of \u{1b}[2J\nerror: forged";
            panic!("a defect {text}");
        }
        _ => {}
    }
    if let Some(path) = cli.done {
        std::fs::write(path, "").expect("the folder is the test's");
    }
    Exit::Done
}

type Test = (&'static str, fn());

const TESTS: [Test; 6] = [
    ("a_reader_that_went_away_changes_nothing", a_reader_that_went_away_changes_nothing),
    ("a_full_disk_is_an_error", a_full_disk_is_an_error),
    ("a_defect_is_told_in_words", a_defect_is_told_in_words),
    ("a_line_of_the_log_is_one_line", a_line_of_the_log_is_one_line),
    ("arguments_are_repeated_escaped", arguments_are_repeated_escaped),
    ("help_is_asked_for", help_is_asked_for),
];

fn this(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("a test has a path"));
    command.args(arguments).env("STREAMS_COMMAND", "1").env_remove("RUST_BACKTRACE").env_remove("RUST_LOG");
    command
}

fn run(arguments: &[&str]) -> Output {
    this(arguments).output().expect("it runs")
}

/// A pipe that nobody reads.
fn unread() -> Stdio {
    let (read, write) = std::io::pipe().expect("a pipe");
    drop(read);
    write.into()
}

fn full() -> Stdio {
    OpenOptions::new().write(true).open("/dev/full").expect("Linux has it").into()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn a_reader_that_went_away_changes_nothing() {
    let shown = this(&["--be", "show"]).stdout(unread()).output().expect("it runs");
    assert_eq!((shown.status.code(), stderr(&shown).as_str()), (Some(3), ""));
    // Both streams, as of `2>&1 | head -1`.
    let folder = tempfile::tempdir().expect("a folder");
    let done = folder.path().join("done");
    let mut changed = this(&["--be", "change", "--done", done.to_str().expect("text")]);
    let status = changed.stdout(unread()).stderr(unread()).status().expect("it runs");
    assert_eq!(status.code(), Some(0));
    assert!(done.exists(), "it went on to its end");
}

fn a_full_disk_is_an_error() {
    let shown = this(&["--be", "show"]).stdout(full()).output().expect("it runs");
    assert_eq!((shown.status.code(), stderr(&shown).as_str()), (Some(1), "error: printing\n"));
    let folder = tempfile::tempdir().expect("a folder");
    let done = folder.path().join("done");
    let changed = this(&["--be", "change", "--done", done.to_str().expect("text")]).stdout(full()).output();
    let changed = changed.expect("it runs");
    assert!(done.exists(), "what was to be done is done");
    assert_eq!(changed.status.code(), Some(1));
    let said = stderr(&changed);
    assert!(
        said.ends_with("error: writing to standard output\n  because: No space left on device (os error 28)\n"),
        "{said}"
    );
    for asked in ["--help", "--version"] {
        let help = this(&[asked]).stdout(full()).output().expect("it runs");
        assert_eq!(help.status.code(), Some(1), "{}", stderr(&help));
        assert_eq!(this(&[asked]).stdout(unread()).status().expect("it runs").code(), Some(0));
    }
    // Nobody can be told of it.
    assert_eq!(this(&["--be", "log"]).stderr(full()).status().expect("it runs").code(), Some(0));
}

fn a_defect_is_told_in_words() {
    let output = run(&["--be", "panic"]);
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 2, "{said}");
    let begin = "error: streams 1.2.3 has a defect: a defect of \\u{1b}[2J\\nerror: forged (";
    assert!(lines[0].starts_with(begin) && lines[0].contains("streams.rs:"), "{said}");
    assert!(lines[1].starts_with("  help: please report it"), "{said}");
    let more = this(&["--be", "panic"]).env("RUST_BACKTRACE", "1").output().expect("it runs");
    assert!(stderr(&more).lines().count() > 4, "{}", stderr(&more));
    assert_eq!(this(&["--be", "panic"]).stderr(unread()).status().expect("it runs").code(), Some(1));
}

fn a_line_of_the_log_is_one_line() {
    let said = stderr(&run(&["--be", "log"]));
    assert!(
        said.starts_with(" WARN it said: \\") && said.ends_with("\\nerror: forged node=\"w1\\u{202e}\"\n"),
        "{said}"
    );
    assert!(!said.contains(['\u{1b}', '\u{7}', '\u{202e}']) && said.lines().count() == 1, "{said:?}");
}

fn arguments_are_repeated_escaped() {
    for arguments in [["--no\u{1b}[2J\nerror: forged\u{202e}", "x"], ["--number", "\u{1b}[2J\u{202e}"]] {
        let output = run(&arguments);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.starts_with("error: ") && said.contains("\\u{202e}"), "{said}");
        assert!(!said.contains(['\u{1b}', '\u{202e}']) && !said.contains("\nerror: "), "{said:?}");
    }
}

fn help_is_asked_for() {
    let help = run(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&help.stdout).contains("Usage: streams"));
    assert_eq!(run(&["--version"]).stdout, b"streams 1.2.3\n");
}
