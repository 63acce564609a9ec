//! Pushes that are cut, each way at ten points between their first byte and their last: no name stands for an image that is
//! not whole, nothing stays behind, and the next push sends what is missing and nothing else.

use std::process::{Child, Stdio};
use std::thread::{scope, sleep};
use std::time::Duration;

use rigs::wait;

use crate::rig::{NodeOptions, PushOutput, Rig, image, noise};

const MB: usize = 1_000_000;

/// Points at which each push is cut.
const POINTS: u64 = 10;

/// So fast that there is time to hit a point.
const RATE: [&str; 2] = ["--limit-rate", "16M"];

/// How long a helper may be there that nobody speaks to: the silence that is allowed, and giving the lease back.
const HELPER_ENDS_WITHIN: Duration = Duration::from_secs(20);

/// What a push may take beside its blobs.
const TALK: u64 = 64 << 10;

/// When so much has passed, the two ends know each other and are about to agree on keys.
const LOGIN: u64 = 1500;

/// No retries: the push ends with what happens to it.
const ONCE: [&str; 2] = ["--retries", "0"];

/// A node whose link is counted, with its helper in place, and a base.
fn rig() -> Rig {
    let rig = Rig::with(&NodeOptions { network: true, ..Default::default() });
    three(&rig, 0);
    rig.push(&[]).report(0);
    rig
}

/// New images on the base that is there: one is unpacked while the next is sent.
fn three(rig: &Rig, version: u64) {
    for (name, number, size) in [("manager", 1, 4 * MB), ("syncer", 2, 2 * MB), ("vn-agent", 3, MB)] {
        image(&rig.store(), name, b"base", &noise(3 * version + number, size));
    }
}

/// A push under way.
struct Push<'a> {
    child: Child,
    rig: &'a mut Rig,
    /// What the link had carried before it.
    before: u64,
    /// How much is to be sent.
    missing: u64,
}

impl<'a> Push<'a> {
    /// Begins to push new images, and waits until that part of their bytes has passed.
    fn until(rig: &'a mut Rig, point: u64, arguments: &[&str]) -> Self {
        three(rig, point + 1);
        let (before, missing) = (rig.network().carried(), rig.missing());
        let mut command = rig.command(&[&rig.address()], &[&RATE, arguments].concat());
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("vcdist starts");
        let mut push = Self { child, rig, before, missing };
        let at = LOGIN + push.missing * point / (POINTS - 1);
        while push.carried() <= at && push.child.try_wait().expect("a child").is_none() {
            sleep(Duration::from_millis(1));
        }
        push
    }

    fn carried(&self) -> u64 {
        self.rig.network().carried() - self.before
    }
}

/// Pushes until `point`, has `cut` happen, and lets the push end. Then nothing bad may be left, and the next push must bring
/// the rest and no more. The push, and the bytes that were kept of how many.
fn survive(rig: &mut Rig, point: u64, arguments: &[&str], cut: impl Fn(&mut Push<'_>)) -> (PushOutput, [u64; 2]) {
    let mut push = Push::until(rig, point, arguments);
    let missing = push.missing;
    cut(&mut push);
    let pushed: PushOutput = push.child.wait_with_output().expect("it ends").into();
    let rig = push.rig;
    wait::until_within(HELPER_ENDS_WITHIN, || !rig.helper_runs(), || format!("point {point}: the helper ends"));
    let leases = rig.leases();
    assert!(leases.iter().all(|lease| lease.contains("containerd.io/gc.expire=")), "point {point}: {leases:?}");
    rig.network().set(true);
    rig.wait();
    rig.assert_names_are_whole();

    let (left, before) = (rig.missing(), rig.network().carried());
    let next = rig.push(&[]);
    let (again, said) = (next.node(), next.stderr());
    let carried = rig.network().carried() - before;
    assert_eq!(
        again["bytes"]["sent"], left,
        "point {point}: what is missing is sent, and nothing else: {again} {said}"
    );
    assert!(carried < left + left * 3 / 100 + TALK, "point {point}: {left} bytes take {carried}");
    rig.assert_names_are_whole();
    assert_eq!(rig.missing(), 0);
    (pushed, [missing - left, missing])
}

/// Each point once, on several nodes at the same time: most of it is waiting. Of what was sent before the cuts, much must have
/// been kept. The nodes in the end.
fn at_every_point(nodes: u64, what: impl Fn(&mut Rig, u64) -> [u64; 2] + Sync) -> Vec<Rig> {
    let on_node = |node: u64| {
        let mut rig = rig();
        let points = (0..POINTS).filter(|point| point % nodes == node);
        let kept = points.map(|point| what(&mut rig, point)).fold([0, 0], sum);
        (rig, kept)
    };
    let (rigs, kept): (Vec<_>, Vec<_>) = scope(|scope| {
        let nodes: Vec<_> = (0..nodes).map(|node| scope.spawn(move || on_node(node))).collect();
        nodes.into_iter().map(|node| node.join().expect("a node's points")).unzip()
    });
    let [kept, all] = kept.into_iter().fold([0, 0], sum);
    assert!(kept * 4 > all, "of {all} bytes {kept} were kept");
    rigs
}

/// Cuts a push at every point by `cut`. The nodes in the end.
fn cut_by(cut: impl Fn(&mut Push<'_>) + Sync) -> Vec<Rig> {
    at_every_point(2, |rig, point| survive(rig, point, &ONCE, &cut).1)
}

/// Cuts a push at some points by `cut`. It must get through all the same.
fn gets_through(rig: &mut Rig, cut: impl Fn(&mut Push<'_>)) {
    for point in [2, 5, 8] {
        let (pushed, [kept, all]) = survive(rig, point, &[], &cut);
        assert_eq!((pushed.code(), kept), (0, all), "point {point}: {}", pushed.stderr());
    }
}

fn sum([a, b]: [u64; 2], [c, d]: [u64; 2]) -> [u64; 2] {
    [a + c, b + d]
}

#[test]
fn sshd_is_killed() {
    let mut rigs = cut_by(|push| push.rig.kill_sshd());
    gets_through(&mut rigs[0], |push| push.rig.kill_sshd());
    rigs.iter().for_each(Rig::assert_leases_are_given_back);
}

#[test]
fn the_helper_is_killed() {
    // Nobody gives its leases back: they expire.
    let mut rigs = cut_by(|push| push.rig.signal_helpers("KILL"));
    gets_through(&mut rigs[0], |push| push.rig.signal_helpers("KILL"));
}

#[test]
fn containerd_is_killed() {
    let mut rigs = cut_by(|push| push.rig.kill_containerd());
    gets_through(&mut rigs[0], |push| push.rig.kill_containerd());
    rigs.iter().for_each(Rig::assert_leases_are_given_back);
}

#[test]
fn vcdist_is_killed() {
    // It may have ended by itself at the last point.
    let rigs = cut_by(|push| drop(push.child.kill()));
    rigs.iter().for_each(Rig::assert_leases_are_given_back);
}

#[test]
fn the_link_is_down_for_five_seconds() {
    let rigs = at_every_point(5, |rig, point| {
        let (pushed, kept) = survive(rig, point, &[], |push| {
            push.rig.network().set(false);
            sleep(Duration::from_secs(5));
            push.rig.network().set(true);
        });
        assert_eq!(pushed.node()["bytes"]["sent"], kept[1], "point {point}: nothing is sent twice");
        kept
    });
    rigs.iter().for_each(Rig::assert_leases_are_given_back);
}

#[test]
fn the_link_is_down_for_good() {
    let arguments = [&["--stall-timeout", "4s"], &ONCE[..]].concat();
    let rigs = at_every_point(5, |rig, point| {
        let (pushed, kept) = survive(rig, point, &arguments, |push| push.rig.network().set(false));
        assert_eq!(pushed.code(), 1, "point {point}");
        assert!(pushed.stderr().contains("lost: ") || pushed.stderr().contains("reached: "), "{}", pushed.stderr());
        kept
    });
    rigs.iter().for_each(Rig::assert_leases_are_given_back);
}
