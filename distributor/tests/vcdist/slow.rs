//! Long and slow lines: what a push makes of them beside what ssh makes of them with the same bytes.

use std::fs::{self, File};
use std::process::{Child, Command, Stdio};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use crate::rig::{Line, Peculiar, Pushed, Rig, image, noise};

/// Bits in a second.
const RATE: f64 = 10e6;

#[test]
fn a_push_makes_of_a_long_slow_line_what_ssh_makes_of_it() {
    // Round trip in milliseconds, whether one packet of a hundred is lost, and bytes that take some seconds.
    let lines =
        [(20, None, 7_000_000), (150, None, 9_000_000), (20, Some(100), 5_000_000), (150, Some(100), 9_000_000)];
    scope(|scope| {
        for (milliseconds, one_lost_of, size) in lines {
            scope.spawn(move || {
                let line = Line { round_trip: Duration::from_millis(milliseconds), rate: RATE, one_lost_of };
                let (ssh, push) = measure(line, size);
                let part = ssh.as_secs_f64() / push.as_secs_f64();
                println!("{line:?}: {size} bytes by ssh in {ssh:?}, by push in {push:?}: {:.0} %", part * 100.0);
                assert!(part > 0.85, "{line:?}: ssh takes {ssh:?}, a push {push:?}");
            });
        }
    });
}

/// Where packets get lost, TCP takes it for a line that is full, and goes slower than the line does.
#[test]
fn several_connections_make_more_of_a_line_that_loses_packets() {
    let line = Line { round_trip: Duration::from_millis(150), rate: RATE, one_lost_of: Some(100) };
    let over = |connections: &'static [&'static str]| {
        let rig = on(line);
        rig.network().heed_losses();
        layer(&rig, 4_000_000);
        let began = Instant::now();
        let mut command = rig.command(&[&rig.address()], &["manager"]);
        let pushed: Pushed = command.arg("-v").args(connections).output().expect("vcdist starts").into();
        assert_eq!(pushed.node()["result"], "pushed");
        (began.elapsed(), pushed.stderr().matches("another connection to").count())
    };
    let ((one, further), (several, others)) = scope(|scope| {
        let one = scope.spawn(|| over(&["--connections", "1"]));
        let several = over(&[]);
        (one.join().expect("one"), several)
    });
    println!("{line:?}: over one connection {one:?}, over 1 + {others} {several:?}");
    assert!(further == 0 && others > 0, "{further} and {others} more");
    assert!(several * 3 < one * 2, "over one connection {one:?}, over several {several:?}");
}

#[test]
fn a_connection_of_several_that_breaks_holds_a_push_up_and_no_more() {
    let rig = on(Line { round_trip: Duration::from_millis(20), rate: RATE, one_lost_of: None });
    for (job, size) in [("join", 7_000_000), ("helper", 7_100_000)] {
        layer(&rig, size);
        let mut command = rig.command(&[&rig.address()], &["manager", "-v"]);
        let mut push = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("vcdist starts");
        // Of what was left when the connections came, about half has gone over all of them.
        let before = rig.network().carried();
        while rig.network().carried() - before < size as u64 * 6 / 10 {
            assert!(push.try_wait().expect("a child").is_none(), "it ends before its bytes have passed");
            sleep(Duration::from_millis(5));
        }
        assert!(rig.kill_helpers(job) > 0, "no {job} to kill");
        let pushed: Pushed = push.wait_with_output().expect("it ends").into();
        assert_eq!(pushed.node()["result"], "pushed");
        let said = pushed.stderr();
        assert!(said.contains("another connection to") && said.contains("going on in"), "{said}");
        rig.assert_names_are_whole();
        assert_eq!(rig.missing(), 0);
        let deadline = Instant::now() + Duration::from_secs(20);
        while rig.helper_runs() {
            assert!(Instant::now() < deadline, "a process of the push is left");
            sleep(Duration::from_millis(20));
        }
    }
}

/// A node behind this line, with the helper, and an image of which only one layer will change.
fn on(line: Line) -> Rig {
    let rig = Rig::with(&Peculiar { network: true, line: Some(line), ..Default::default() });
    image(&rig.store(), "manager", b"base", b"own");
    rig.place_helper();
    rig.push(&["manager"]).report(0);
    rig
}

/// Changes the layer to so many bytes, and gives them.
fn layer(rig: &Rig, size: usize) -> Vec<u8> {
    let bytes = noise(1, size);
    image(&rig.store(), "manager", b"base", &bytes);
    bytes
}

/// How long so many bytes flow by ssh, and as a layer of a push.
fn measure(line: Line, size: usize) -> (Duration, Duration) {
    let rig = on(line);
    let raw = rig.path().join("raw");
    fs::write(&raw, layer(&rig, size)).expect("a file");

    let mut command = Command::new("ssh");
    command.arg("-F").arg(rig.path().join("ssh_config")).arg(format!("root@{}", rig.address())).arg("cat >/dev/null");
    let mut ssh = command.stdin(File::open(&raw).expect("a file")).spawn().expect("ssh starts");
    let by_ssh = flow(&rig, &mut ssh, size);
    assert!(ssh.wait().expect("it ends").success());

    let mut command = rig.command(&[&rig.address()], &["manager"]);
    let mut push = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("vcdist starts");
    let by_push = flow(&rig, &mut push, size);
    let pushed: Pushed = push.wait_with_output().expect("it ends").into();
    assert_eq!(pushed.node()["result"], "pushed");
    (by_ssh, by_push)
}

/// How long it is from the first tenth of so many bytes on the link to the last: what comes before and after is no matter of
/// the line's.
fn flow(rig: &Rig, child: &mut Child, size: usize) -> Duration {
    let before = rig.network().carried();
    let mut pass = |tenths: u64| {
        while rig.network().carried() - before < size as u64 * tenths / 10 {
            assert!(child.try_wait().expect("a child").is_none(), "it ends before its bytes have passed");
            sleep(Duration::from_millis(2));
        }
        Instant::now()
    };
    let first = pass(1);
    pass(9) - first
}
