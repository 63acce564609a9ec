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
        [(20, None, 7_000_000), (150, None, 9_000_000), (20, Some(100), 5_000_000), (150, Some(100), 6_000_000)];
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

/// How long so many bytes flow by ssh, and as a layer of a push.
fn measure(line: Line, size: usize) -> (Duration, Duration) {
    let rig = Rig::with(&Peculiar { network: true, line: Some(line), ..Default::default() });
    image(&rig.store(), "manager", b"base", b"own");
    rig.place_helper();
    rig.push(&["manager"]).report(0);
    let bytes = noise(1, size);
    let raw = rig.path().join("raw");
    fs::write(&raw, &bytes).expect("a file");
    image(&rig.store(), "manager", b"base", &bytes);

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
