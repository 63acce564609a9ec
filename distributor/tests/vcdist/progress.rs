//! A push under way: what is seen of it, how fast it goes, and how it is stopped.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rigs::{process, wait};
use serde_json::Value;

use crate::rig::{NodeOptions, Rig, image, noise};

const MB: usize = 1_000_000;

/// A push that takes so long that there is time to do something to it, with its output for reading.
fn slow(rig: &Rig, arguments: &[&str]) -> Child {
    let limit = ["manager", "--limit-rate", "2M", "--retries", "0"];
    let mut command = rig.command(&["127.0.0.1"], &[&limit, arguments].concat());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    // A job of its own, as a shell makes one.
    command.process_group(0).spawn().expect("vcdist starts")
}

fn is_sending(rig: &Rig) -> bool {
    rig.ctr(&["content", "active"]).lines().any(|line| line.contains("MB") || line.contains("MiB"))
}

#[test]
fn ctrl_c_gives_the_lease_back_and_keeps_what_came() {
    let rig = Rig::up();
    image(&rig.store(), "manager", b"base", &noise(3, 24 * MB));
    let push = slow(&rig, &[]);
    wait::until("sending", || is_sending(&rig));
    // To all of the job, as a terminal does: ssh must not die of it before its work is put in order.
    process::signal_group(push.id(), "INT");
    let begun = Instant::now();
    let output = push.wait_with_output().expect("it ends");
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    assert_eq!(output.status.code(), Some(1));
    // At once, and not when the helper notices that it is left.
    rig.assert_leases_are_given_back();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("stopping: leases are given back"), "{said}");
    assert!(said.contains("pushing to 127.0.0.1: stopped before all was done"), "{said}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("a report");
    assert!(report["bytes_sent"].as_u64().is_some_and(|sent| sent > 0), "{report}");
    assert_eq!(rig.ctr(&["images", "ls", "-q"]), "", "no name without its image");
    wait::until("the helper's end", || !rig.helper_runs());

    let again = rig.push(&["manager"]).node();
    let (total, sent) = (again["bytes"]["total"].as_u64(), again["bytes"]["sent"].as_u64());
    assert!(again["result"] == "pushed" && sent < total.map(|total| total - MB as u64), "{again}");
}

#[test]
fn ctrl_c_twice_ends_at_once_and_through_ctr_what_came_whole_is_kept() {
    // A base that comes before the rest, and one that is itself under way.
    for (base, comes) in [(noise(1, 10), true), (noise(1, 24 * MB), false)] {
        let rig = Rig::up();
        image(&rig.store(), "manager", &base, &noise(3, 24 * MB));
        let push = slow(&rig, &["--helper", "never"]);
        wait::until("sending", || is_sending(&rig));
        process::signal_group(push.id(), "INT");
        process::signal_group(push.id(), "INT");
        let code = push.wait_with_output().expect("it ends").status.code();
        // The second may come when the first has ended it already.
        assert!(matches!(code, Some(1 | 130)), "{code:?}");
        wait::until("the script's end", || !rig.script_runs());
        assert_eq!(rig.ctr(&["images", "ls", "-q"]), "", "no name without its image");
        let base = rig.store().image("manager").expect("an image").platforms[0].layers[0].digest.to_string();
        let listed = rig.ctr(&["content", "ls"]);
        let came = listed.lines().any(|line| line.starts_with(&base));
        let roots: Vec<&str> = listed.lines().filter(|line| line.contains("containerd.io/gc.root=")).collect();
        assert_eq!(came, comes, "{listed}");
        assert_eq!(roots.len(), usize::from(comes), "a root without a blob that it keeps: {listed}");
        // By its time, after which it is let go.
        let keeps = |root: &&str| root.contains("gc.root=vcdist-") && root.contains(&format!("={base}"));
        assert!(roots.iter().all(keeps), "{listed}");
    }
}

#[test]
fn blobs_leave_no_faster_than_allowed() {
    let rig = Rig::up();
    image(&rig.store(), "manager", b"base", b"own");
    rig.push(&["manager"]).report(0);
    for limit in ["--limit-rate", "--limit-rate-per-node"] {
        image(&rig.store(), "manager", b"base", &noise(limit.len() as u64, 6 * MB));
        let begun = Instant::now();
        rig.push(&["manager", limit, "2M"]).report(0);
        let took = begun.elapsed();
        assert!(took > Duration::from_millis(2500), "{limit}: 6 MB at 2 MB/s in {took:?}");
    }
}

#[test]
fn a_disk_that_fills_up_meanwhile_is_said_and_leaves_no_name() {
    let rig = Rig::with(&NodeOptions { disk: Some(40_000_000), ..Default::default() });
    image(&rig.store(), "manager", b"base", &noise(3, 14 * MB));
    let push = slow(&rig, &[]);
    wait::until("sending", || is_sending(&rig));
    // The file system refuses the rest: what was written fills it.
    let _ = fs::write(rig.path().join("root/filler"), vec![7; 40_000_000]);
    let output = push.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("no space left on device") && said.contains("help: the node's disk is full"), "{said}");
    fs::remove_file(rig.path().join("root/filler")).expect("it was written");
    assert_eq!(rig.ctr(&["images", "ls", "-q"]), "", "no name without its image");
    rig.assert_leases_are_given_back();
    assert_eq!(rig.push(&["manager"]).node()["result"], "pushed");
}

#[test]
fn a_terminal_shows_bars_and_anything_else_lines() {
    let rig = Rig::up();
    image(&rig.store(), "manager", b"base", &noise(3, 4 * MB));
    let config = rig.path().join("ssh_config");
    let ssh = ["--ssh-config", config.as_str(), "--ssh-user", "root", "--host", "127.0.0.1"];
    let program = rig.vcdist("push", &[&["manager", "--limit-rate", "4M"], &ssh[..]].concat());
    let words: Vec<_> = program.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
    let line = format!("{} {}", program.get_program().to_string_lossy(), words.join(" "));
    // A terminal of our own.
    let mut terminal = Command::new("script");
    terminal.args(["--quiet", "--return", "--command", &line, "/dev/null"]).stdin(Stdio::null());
    let shown = terminal
        .env("TERM", "xterm")
        .env_remove("CI")
        .env("XDG_CACHE_HOME", rig.path().join("cache"))
        .output()
        .expect("script runs");
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("all nodes") && shown.contains("/s"), "{shown}");
    assert!(shown.contains("MiB/"), "{shown}");

    image(&rig.store(), "manager", b"base", &noise(5, MB));
    let mut plain = rig.vcdist("push", &[&["manager"], &ssh[..]].concat());
    let output = plain.output().expect("vcdist runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 3, "{said}");
    assert!(lines[0].starts_with("127.0.0.1: sending 3 blobs, 1.00 MB of 1.00 MB"), "{said}");
    assert!(lines[1].ends_with("is complete (1 layers unpacked)") && lines[2] == "127.0.0.1: done", "{said}");
}
