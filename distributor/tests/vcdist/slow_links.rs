//! Long and slow lines: what a push makes of them beside what ssh makes of them with the same bytes.

use std::fs::{self, File};
use std::process::{Child, Command, Stdio};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use rigs::wait;

use crate::rig::{NodeOptions, PushOutput, Rig, SlowLink, image, noise};

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
                let line = SlowLink { round_trip: Duration::from_millis(milliseconds), rate: RATE, one_lost_of };
                let rig = on(line);
                let enough = |ssh: Duration, push: Duration| push.mul_f64(0.85) < ssh;
                let (ssh, push) = in_turns(|turn| measure(&rig, size + turn), enough);
                println!("{line:?}: {size} bytes by ssh in {ssh:?}, by push in {push:?}");
                assert!(enough(ssh, push), "{line:?}: ssh takes {ssh:?}, a push {push:?}");
            });
        }
    });
}

/// Where packets get lost, TCP takes it for a line that is full, and goes slower than the line does.
#[test]
fn several_connections_make_more_of_a_line_that_loses_packets() {
    let line = SlowLink { round_trip: Duration::from_millis(150), rate: RATE, one_lost_of: Some(100) };
    let over = |turn: usize, connections: &'static [&'static str]| {
        let rig = on(line);
        rig.network().heed_losses();
        layer(&rig, 4_000_000 + turn);
        let began = Instant::now();
        let mut command = rig.command(&[&rig.address()], &["manager"]);
        let pushed: PushOutput = command.arg("-v").args(connections).output().expect("vcdist starts").into();
        assert_eq!(pushed.node()["result"], "pushed");
        let further = pushed.stderr().matches("another connection to").count();
        assert_eq!(further > 0, connections.is_empty(), "{further} more");
        began.elapsed()
    };
    let both = |turn| {
        scope(|scope| {
            let one = scope.spawn(move || over(turn, &["--connections", "1"]));
            let several = over(turn, &[]);
            (one.join().expect("one"), several)
        })
    };
    let enough = |one: Duration, several: Duration| several * 4 < one * 3;
    let (one, several) = in_turns(both, enough);
    println!("{line:?}: over one connection {one:?}, over several {several:?}");
    assert!(enough(one, several), "over one connection {one:?}, over several {several:?}");
}

#[test]
fn a_connection_of_several_that_breaks_holds_a_push_up_and_no_more() {
    let rig = on(SlowLink { round_trip: Duration::from_millis(20), rate: RATE, one_lost_of: None });
    // Twenty seconds of the line: on a busy machine, it takes half as long until a further connection is there.
    for (job, size) in [("join", 25_000_000), ("helper", 25_000_001)] {
        layer(&rig, size);
        let mut command = rig.command(&[&rig.address()], &["manager", "-v"]);
        let mut push = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("vcdist starts");
        let mut until = |is_so: &dyn Fn() -> bool| {
            while !is_so() {
                assert!(push.try_wait().expect("a child").is_none(), "the push ends before it came to that");
                sleep(Duration::from_millis(5));
            }
        };
        until(&|| !rig.helpers_for("join").is_empty());
        let before = rig.network().carried();
        until(&|| rig.network().carried() - before > 2_000_000);
        rig.kill_helpers(job);
        let pushed: PushOutput = push.wait_with_output().expect("it ends").into();
        let node = pushed.node();
        assert_eq!(node["result"], "pushed");
        assert!(pushed.stderr().contains("another connection to"), "{}", pushed.stderr());
        // What was under way is sent again: of two blobs at most, over three connections.
        let again = node["bytes"]["sent"].as_u64().expect("bytes") - size as u64;
        assert!((1..12 << 20).contains(&again), "after {job} was killed {again} bytes were sent again");
        rig.assert_names_are_whole();
        assert_eq!(rig.missing(), 0);
        wait::until("the end of every process of the push", || !rig.helper_runs());
    }
}

/// How often two ways are measured at most.
const TURNS: usize = 6;

/// Measures both in turns until that is `enough`: the best of each counts. What else the machine has to do falls on one more than
/// on the other now and then.
fn in_turns(
    mut measure: impl FnMut(usize) -> (Duration, Duration),
    enough: impl Fn(Duration, Duration) -> bool,
) -> (Duration, Duration) {
    let mut best = (Duration::MAX, Duration::MAX);
    for turn in 0..TURNS {
        let (this, that) = measure(turn);
        best = (best.0.min(this), best.1.min(that));
        if enough(best.0, best.1) {
            break;
        }
    }
    best
}

/// A node behind this line, with the helper, and an image of which only one layer will change.
fn on(line: SlowLink) -> Rig {
    let rig = Rig::with(&NodeOptions { network: true, line: Some(line), ..Default::default() });
    image(&rig.store(), "manager", b"base", b"own");
    rig.place_helper();
    rig.push(&["manager"]).report(0);
    rig
}

/// Changes the layer to so many bytes, and gives them. Another size, another layer.
fn layer(rig: &Rig, size: usize) -> Vec<u8> {
    let bytes = noise(size as u64, size);
    image(&rig.store(), "manager", b"base", &bytes);
    bytes
}

/// How long so many bytes flow by ssh, and as a layer of a push.
fn measure(rig: &Rig, size: usize) -> (Duration, Duration) {
    let raw = rig.path().join("raw");
    fs::write(&raw, layer(rig, size)).expect("a file");

    let mut command = Command::new("ssh");
    command.arg("-F").arg(rig.path().join("ssh_config")).arg(format!("root@{}", rig.address())).arg("cat >/dev/null");
    let mut ssh = command.stdin(File::open(&raw).expect("a file")).spawn().expect("ssh starts");
    let by_ssh = flow(rig, &mut ssh, size);
    assert!(ssh.wait().expect("it ends").success());

    let mut command = rig.command(&[&rig.address()], &["manager"]);
    let mut push = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("vcdist starts");
    let by_push = flow(rig, &mut push, size);
    let pushed: PushOutput = push.wait_with_output().expect("it ends").into();
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
