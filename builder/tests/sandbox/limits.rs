//! Programs that take too much are stopped, and what they took is said with the way to raise it.

use std::time::{Duration, Instant};

use crate::run::{GROUPS, Run, User, left_groups, sandbox};

/// Every way to run a script: as each user, confined and not.
fn everywhere(options: &[&str], script: &str, check: impl Fn(&Run)) {
    let _groups = GROUPS.read();
    for user in User::all() {
        for mode in ["required", "off"] {
            let begun = Instant::now();
            let words = ["--sandbox", mode, "--system", "--", "bash", "-c", script];
            let run = Run::of(sandbox(user, options).args(words));
            check(&run);
            assert!(begun.elapsed() < Duration::from_secs(30), "{user:?} {mode}: {run:?}");
        }
    }
    assert_eq!(left_groups(), [""; 0]);
}

#[test]
fn sleeping_too_long() {
    everywhere(&["--timeout", "1"], "echo begun >&2; sleep 600 & sleep 600", |run| {
        run.failed(&[
            "bash was stopped: it took longer than 1 s",
            "begun",
            "raise the limit with --timeout",
            "vcbuild.toml",
        ]);
    });
}

#[test]
fn eating_memory() {
    everywhere(&["--max-memory", "64M"], "head -c 400M /dev/zero | tail -c 300M | wc -c; sleep 600", |run| {
        run.failed(&["bash was stopped: it used more memory than 67.1 MB", "--max-memory"]);
    });
}

#[test]
fn filling_memory_with_files() {
    let fill = "head -c 200M /dev/zero > /tmp/full";
    for user in User::all() {
        let options = ["--sandbox", "required", "--max-memory", "64M", "--system", "--", "bash", "-c", fill];
        let run = Run::of(&mut sandbox(user, &options));
        assert_eq!(run.code, Some(1), "{run:?}");
        assert!(run.stderr.contains("more memory than") || run.stderr.contains("No space left on device"), "{run:?}");
    }
}

#[test]
fn forking_without_end() {
    // One after the other, so that the machine survives a test that fails; and on and on when it is refused.
    everywhere(&["--max-processes", "64"], "while :; do sleep 60 & done 2>/dev/null", |run| {
        run.failed(&["bash was stopped: it had more than 64 processes and threads", "--max-processes"]);
    });
}

#[test]
fn what_stays_within_its_limits_is_left_alone() {
    let options = ["--timeout", "1m", "--max-memory", "512M", "--max-processes", "64"];
    everywhere(
        &options,
        "head -c 100M /dev/zero | tail -c 50M | wc -c; for i in $(seq 20); do sleep 0.2 & done; wait",
        |run| {
            assert_eq!((run.code, run.stdout.as_str()), (Some(0), "52428800\n"), "{run:?}");
        },
    );
}
