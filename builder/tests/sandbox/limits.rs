//! Programs that take too much are stopped, and what they took is said with the way to raise it.

use std::time::{Duration, Instant};

use rigs::Run;

use crate::run::{GROUPS, User, left_groups, sandbox, shared_folder};

/// Every way to run a script: as each user, confined and not.
fn everywhere(options: &[&str], script: &str, check: impl Fn(&Run)) {
    let _groups = GROUPS.read();
    for user in User::all() {
        for mode in ["required", "off"] {
            let begun = Instant::now();
            let arguments = ["--sandbox", mode, "--system", "--", "bash", "-c", script];
            let run = Run::of(sandbox(user, options).args(arguments));
            check(&run);
            assert!(begun.elapsed() < Duration::from_secs(30), "{user:?} {mode}: {run:?}");
        }
    }
    assert_eq!(left_groups(), [""; 0]);
}

#[test]
fn sleeping_too_long() {
    everywhere(&["--timeout", "1"], "echo begun >&2; sleep 600 & sleep 600", |run| {
        run.refused(
            1,
            &[
                "bash was stopped: it took longer than 1 s",
                "begun",
                "raise the limit with --timeout",
                "the user's settings",
            ],
        );
    });
}

#[test]
fn eating_memory() {
    everywhere(&["--max-memory", "64M"], "head -c 400M /dev/zero | tail -c 300M | wc -c; sleep 20", |run| {
        run.refused(1, &["bash was stopped: it used more memory than 67.1 MB", "--max-memory"]);
    });
}

/// Runs a script of Perl, whose `$page` is 1 MiB of text, as each user.
fn perl(options: &[&str], mode: &str, script: &str, check: impl Fn(&Run)) {
    let _groups = GROUPS.read();
    let numbers = match std::env::consts::ARCH {
        "x86_64" => "my ($read, $mmap, $munmap, $madvise, $memfd) = (0, 9, 11, 28, 319);",
        "aarch64" => "my ($read, $mmap, $munmap, $madvise, $memfd) = (63, 222, 215, 233, 279);",
        other => panic!("the system calls of {other}"),
    };
    let page = "my $page = 'x' x (1 << 20); open(my $zero, '<', '/dev/zero') or die;";
    let memfd = "sub memfd { my $name = 'x'; open(my $f, '+>&=', syscall($memfd, $name, 0)) or die; syswrite($f, $page) for 1..$_[0]; $f }";
    let share = "sub share { my $at = syscall($mmap, 0, $_[0] << 20, 3, 0x21, -1, 0); \
                 syscall($read, fileno($zero), $at, $_[0] << 20) > 0 or die $!; $at }";
    let script = format!("{numbers} {page} {memfd} {share} {script}");
    for user in User::all() {
        let begun = Instant::now();
        let arguments = ["--sandbox", mode, "--system", "--timeout", "1m", "--", "perl", "-e", &script];
        let run = Run::of(sandbox(user, options).args(arguments));
        check(&run);
        assert!(begun.elapsed() < Duration::from_secs(50), "{user:?} {script}: {run:?}");
    }
    assert_eq!(left_groups(), [""; 0]);
}

#[test]
fn memory_counts_wherever_it_is_held() {
    let kinds = [
        "my $f = memfd(200); sleep 600",
        "my $at = share(200); sleep 600",
        "my $at = share(200); syscall($madvise, $at, 200 << 20, 4) == 0 or die $!; sleep 600",
        "my @files = map { memfd(20) } 1..10; sleep 600",
        "for (1..6) { next if fork; my $own = 'x' x (40 << 20); substr($own, 0, 1) = 'y'; sleep 600 } sleep 600",
    ];
    for script in kinds {
        for mode in ["required", "off"] {
            perl(&["--max-memory", "64M"], mode, script, |run| {
                run.refused(1, &["perl was stopped: it used more memory than 67.1 MB", "--max-memory"]);
            });
        }
    }
    let segments =
        "my $id = shmget(0, 200 << 20, 0600) // die; shmwrite($id, $page, $_ << 20, 1 << 20) for 0..199; sleep 600";
    perl(&["--max-memory", "64M"], "required", segments, |run| {
        run.refused(1, &["perl was stopped: it used more memory than 67.1 MB"]);
    });
}

#[test]
fn files_in_memory_count_together_wherever_they_are() {
    let write = "for folder in /tmp /home /dev/shm; do head -c 30M /dev/zero > $folder/full || exit 1; done; echo all";
    let many = "cd /tmp; i=0; while [ $i -lt 200000 ]; do : > $i || exit 1; i=$((i+1)); done; echo all";
    for script in [write, many] {
        for user in User::all() {
            let options = ["--sandbox", "required", "--max-memory", "64M", "--system", "--", "bash", "-c", script];
            let run = Run::of(&mut sandbox(user, &options));
            assert_eq!(run.code, Some(1), "{script}: {run:?}");
            assert!(run.stderr.contains("more memory than") || run.stderr.contains("No space left on"), "{run:?}");
        }
    }
}

#[test]
fn what_processes_have_in_common_counts_once() {
    let script = "my ($own, $at, $f) = ('x' x (60 << 20), share(60), memfd(60)); for (1..5) { next if fork; sleep 2; exit } \
                  1 while wait != -1; print 'done'";
    for mode in ["required", "off"] {
        perl(&["--max-memory", "400M"], mode, script, |run| {
            assert_eq!((run.code, run.stdout.as_str()), (Some(0), "done\n"), "{run:?}");
        });
    }
}

#[test]
fn filling_the_disk() {
    let _groups = GROUPS.read();
    let script = |user, mode, script: &str, check: &dyn Fn(&Run)| {
        let folder = shared_folder();
        let path = folder.path().to_str().unwrap();
        let begun = Instant::now();
        let options = ["--sandbox", mode, "--system", "--max-disk", "64M", "--timeout", "1m", "--write", path];
        let run = Run::of(sandbox(user, &options).args(["--", "bash", "-c", &format!("cd {path}; {script}")]));
        check(&run);
        assert!(begun.elapsed() < Duration::from_secs(50), "{user:?} {mode} {script}: {run:?}");
    };
    for user in User::all() {
        for mode in ["required", "off"] {
            script(user, mode, "head -c 100M /dev/zero > large; exit $?", &|run| {
                run.refused(
                    1,
                    &["bash was stopped: it wrote more than 67.1 MB to disk", "raise the limit with --max-disk"],
                );
            });
            script(user, mode, "truncate -s 4T holes", &|run| run.refused(1, &["--max-disk"]));
            for many in [
                "mkdir a b; for i in 1 2 3 4; do head -c 20M /dev/urandom | tee a/$i > b/$i; done; sleep 600",
                "for i in 1 2 3 4 5 6; do { head -c 20M /dev/urandom >&3; sleep 600; } 3> $i & rm -f $i; done; rm -f ?; sleep 600",
            ] {
                script(user, mode, many, &|run| run.refused(1, &["it wrote more than 67.1 MB to disk"]));
            }
            script(user, mode, "for i in 1 2 3 4 5; do head -c 10M /dev/urandom > $i; done; echo kept", &|run| {
                assert_eq!((run.code, run.stdout.as_str()), (Some(0), "kept\n"), "{run:?}");
            });
        }
    }
}

#[test]
fn forking_without_end() {
    // One after the other, so that the machine survives a test that fails; and on and on when it is refused.
    everywhere(&["--max-processes", "64"], "while :; do sleep 60 & done 2>/dev/null", |run| {
        run.refused(1, &["bash was stopped: it had more than 64 processes and threads", "--max-processes"]);
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
