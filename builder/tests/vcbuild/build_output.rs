//! What a build tells while it runs: to a terminal, to a file, and when something fails.

use std::process::Command;

use rigs::Run;

use crate::bench::{Actions, Bench};

/// Runs `vcbuild` on a terminal of its own (`script(1)`), and returns what the terminal was sent.
fn on_terminal(bench: &Bench, arguments: &str, environment: &[(&str, &str)]) -> String {
    let line = format!("{} {arguments}", env!("CARGO_BIN_EXE_vcbuild"));
    let mut script = bench.around(Command::new("script"), &["--quiet", "--return", "--command", &line, "/dev/null"]);
    script.env_remove("CI").env_remove("NO_COLOR").env("TERM", "xterm").envs(environment.iter().copied());
    let run = Run::of(&mut script);
    assert_eq!(run.code, Some(0), "{run:?}");
    run.stdout
}

#[test]
fn a_terminal_sees_what_is_running_and_others_see_plain_lines() {
    let bench = Bench::with_hello();
    let build = "images --source-dir hello";
    let change =
        |what: &str| bench.write("hello/pkg/version/more.go", &format!("package version\n\nvar More = \"{what}\"\n"));
    let live = on_terminal(&bench, build, &[]);
    assert!(live.contains("\u{1b}[") && live.contains("⠋"), "{live:?}");
    let lines = |text: &str| text.lines().filter(|line| line.contains("compile  one linux/amd64  ")).count();
    assert!(lines(&live) >= 1, "{live:?}");
    assert!(live.contains("COMPONENT "), "{live:?}");

    change("no colour");
    let plain = on_terminal(&bench, build, &[("NO_COLOR", "1")]);
    assert!(plain.contains("⠋") && !plain.contains("\u{1b}[36m") && !plain.contains("\u{1b}[2m"), "{plain:?}");
    change("ci");
    for environment in [("CI", "true"), ("TERM", "dumb")] {
        let told = on_terminal(&bench, build, &[environment]);
        assert!(!told.contains('\u{1b}') && !told.contains('⠋'), "{told:?}");
        change("dumb");
    }
    change("file");
    let told = bench.run(&["images", "--source-dir", "hello"]);
    assert!(!told.stderr.contains('\u{1b}') && told.ran("compile") == 2, "{told:?}");
    let summary = told.stdout.lines().last().unwrap().to_owned();
    assert!(summary.contains(" actions: ") && summary.contains(" reused, ") && summary.ends_with('s'), "{summary}");
}

#[test]
fn what_a_compiler_said_is_kept_whole() {
    let bench = Bench::with_hello();
    bench.edit("hello/cmd/one/main.go", "func main() {", "func main() { undefinedThing();");
    let run = bench.run(&["images", "--source-dir", "hello", "--components", "one"]);
    run.failed(
        1,
        &[
            "error: compiling one for linux/amd64",
            "undefinedThing",
            "help: correct the source",
            "the whole output is in ",
        ],
    );
    let path = run.stderr.split("the whole output is in ").nth(1).unwrap().lines().next().unwrap();
    let kept = std::fs::read_to_string(path).unwrap();
    assert!(kept.contains("undefined: undefinedThing"), "{kept}");
    assert_eq!(run.stderr.matches("undefined: undefinedThing").count(), 1, "told once: {}", run.stderr);
}
