//! Nothing stays behind, however a run ends.

use std::io::Read;
use std::process::Stdio;

use rigs::{Run, wait};

use crate::run::{GROUPS, User, left_groups, runs, sandbox, shared_folder};

/// An argument of `sleep` that no other process has.
fn mark(number: usize) -> String {
    format!("{}.{}{number}", 7200, std::process::id())
}

#[test]
fn a_daemon_ends_with_the_program() {
    let _groups = GROUPS.read();
    for (number, (user, mode)) in ways().enumerate() {
        let mark = mark(number);
        let script = format!("(setsid setsid sleep {mark} >/dev/null 2>&1 &) ; sleep 0.1; echo done");
        let run = Run::of(sandbox(user, &["--sandbox", mode, "--system", "--"]).args(["bash", "-c", &script]));
        assert_eq!(run.printed(), "done\n");
        assert!(!runs(&mark), "{user:?} {mode}");
    }
    assert_eq!(left_groups(), [""; 0]);
}

#[test]
fn killing_vcbuild_ends_everything() {
    let _groups = GROUPS.read();
    for (number, (user, mode)) in ways().enumerate() {
        let (mark, folder) = (mark(100 + number), shared_folder());
        let place = format!("{}:/build", folder.path().display());
        let script = format!("(setsid sleep {mark} &); sleep {mark}");
        let options = ["--sandbox", mode, "--max-memory", "1G", "--write", &place, "--system", "--"];
        let mut child = sandbox(user, &options).args(["bash", "-c", &script]).spawn().unwrap();
        wait::until("its start", || runs(&mark));
        // As kill -9 has it: the process that the user started, which cannot do anything about it.
        child.kill().unwrap();
        child.wait().unwrap();
        wait::until("its end", || !runs(&mark));
        wait::until("the end of its control group", || left_groups().is_empty());
    }
}

#[test]
fn killing_the_supervisor_ends_a_sandbox_and_its_group_goes_with_the_next() {
    let _groups = GROUPS.write();
    let mark = mark(200);
    // Within a script: vcbuild's own arguments do not have it.
    let script = format!("sleep {mark}; true");
    let options = ["--max-memory", "1G", "--system", "--", "bash", "-c", &script];
    let mut child = sandbox(User::Same, &options).stderr(Stdio::piped()).spawn().unwrap();
    wait::until("its start", || runs(&mark));
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id())).unwrap();
    let supervisor = children.split_whitespace().next().unwrap().to_owned();
    assert!(std::process::Command::new("kill").args(["-9", &supervisor]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(1));
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert!(stderr.contains("the sandbox of bash ended without a report (signal: 9 (SIGKILL))"), "{stderr}");
    wait::until("its end", || !runs(&mark));
    Run::of(&mut sandbox(User::Same, &["--max-memory", "1G", "--system", "--", "true"])).printed();
    wait::until("the end of its control group", || left_groups().is_empty());
}

#[test]
fn killing_the_first_process_ends_a_sandbox_and_is_no_success() {
    let _groups = GROUPS.read();
    for (number, user) in User::all().into_iter().enumerate() {
        // As the kernel does when memory runs out, which may take any process.
        let mark = mark(300 + number);
        let script = format!("(setsid sleep {mark} &) ; sleep {mark}; true");
        let options = ["--sandbox", "required", "--system", "--", "bash", "-c", &script];
        let mut child = sandbox(user, &options).stderr(Stdio::piped()).spawn().unwrap();
        wait::until("its start", || runs(&mark));
        let first = |of: &str| {
            let children = std::fs::read_to_string(format!("/proc/{of}/task/{of}/children")).unwrap();
            children.split_whitespace().next().unwrap().to_owned()
        };
        let init = first(&first(&child.id().to_string()));
        assert!(std::process::Command::new("kill").args(["-9", &init]).status().unwrap().success());
        assert_eq!(child.wait().unwrap().code(), Some(1));
        let mut stderr = String::new();
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        assert!(stderr.contains("bash ended with signal: 9 (SIGKILL)"), "{stderr}");
        wait::until("its end", || !runs(&mark));
    }
}

fn ways() -> impl Iterator<Item = (User, &'static str)> {
    User::all().into_iter().flat_map(|user| ["required", "off"].map(|mode| (user, mode)))
}
