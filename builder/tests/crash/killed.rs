//! Builds killed without warning, at any point.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rigs::Run;
use rustix::process::{Pid, Signal, kill_process_group};

use crate::bench::Bench;
use crate::stamped_build::{Build, is_sound, warm};

/// Stores that builds are killed on, beside each other: much of it is waiting for the moment to kill.
const STORES: u64 = 2;
const ROUNDS: u32 = 5;
const KILLS: u32 = 20;

/// Of so many builds one links its programs again; the others make layers, images and archives of those that there are.
const LINKS: u32 = 5;

#[test]
fn two_hundred_killed_builds_leave_a_sound_store_and_the_next_build_is_right() {
    thread::scope(|scope| {
        let stores: Vec<_> = (0..STORES).map(|number| scope.spawn(move || builds_are_killed(number))).collect();
        stores.into_iter().for_each(|store| store.join().unwrap());
    });
}

fn builds_are_killed(store: u64) {
    let (bench, undisturbed) = (warm(), warm());
    // Always the same shares of a build's time; where in the build they fall differs with the machine and its load.
    let mut random = rand::rngs::StdRng::seed_from_u64(store);
    let mut epoch = 0;
    for round in 1..=ROUNDS {
        let mut build = |links: bool| {
            epoch += 1;
            Build { stamp: if links { epoch } else { 0 }, epoch }
        };
        let [linking, assembling] = [true, false].map(|links| time(&bench, build(links)));
        for kill in 0..KILLS {
            let links = kill % LINKS == 0;
            let whole = if links { linking } else { assembling };
            // With all its compilers, as when the machine fails; or alone, as the kernel does when memory is short.
            kill_after(&bench, build(links), whole.mul_f64(random.gen_range(0.0..1.0)), kill % 2 == 0);
        }
        build(round % 2 == 0).is_as_undisturbed(&bench, &undisturbed, "out");
        assert_eq!(names(&bench, "out"), ["one-amd64.tar", "two-amd64.tar"], "nothing that was cut off stays");
        bench.json(&["gc", "--older-than", "0s"]);
        assert_eq!(names(&bench, "store/tmp"), ["locks"]);
        assert_eq!(names(&bench, "store/tmp/locks"), ["index.lock"]);
    }
    is_sound(&bench, "after all");
}

fn names(bench: &Bench, folder: &str) -> Vec<String> {
    let names =
        fs::read_dir(bench.path(folder)).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

/// How long a whole build takes.
fn time(bench: &Bench, build: Build) -> Duration {
    let begun = Instant::now();
    Run::of(&mut build.command(bench, "out")).json();
    begun.elapsed()
}

fn kill_after(bench: &Bench, build: Build, after: Duration, all: bool) {
    let mut command = build.command(bench, "out");
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    thread::sleep(after);
    let group = Pid::from_child(&child);
    let when = format!("{build:?} killed after {after:?}");
    if all {
        // It may have ended before.
        let _ = kill_process_group(group, Signal::KILL);
        child.wait().unwrap();
        is_sound(bench, &when);
    } else {
        child.kill().unwrap();
        child.wait().unwrap();
        is_sound(bench, &format!("{when} alone"));
        // Compilers without their build do no harm, but take the time of what follows.
        let _ = kill_process_group(group, Signal::KILL);
    }
}
