//! A long, slow line to a node: every packet takes its time through this process, and some are lost on the way.

use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};

/// What the queue in front of the line holds, in bytes: as much as a long line has under way.
const QUEUE: f64 = 250_000.0;

/// How long a line is, how fast, and how good.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SlowLink {
    /// How long a packet takes there and its answer back.
    pub(crate) round_trip: Duration,
    /// How many bits it carries in a second, each way.
    pub(crate) rate: f64,
    /// Of so many packets to the node the last is lost.
    pub(crate) one_lost_of: Option<usize>,
}

/// The two ends of a line: interfaces whose packets socat hands to this process.
pub(super) struct LinkEnds {
    near: Child,
    far: Child,
    /// Bytes that arrived at either end.
    arrived: Arc<AtomicU64>,
    /// The sockets' names.
    folder: tempfile::TempDir,
}

impl SlowLink {
    /// Lays it between the interface `name` here, with the first address, and `eth0` where `enter` leads, with the second.
    pub(super) fn lay(self, name: &str, enter: Command, addresses: [&str; 2]) -> LinkEnds {
        let folder = tempfile::tempdir().expect("a folder");
        let path = Utf8Path::from_path(folder.path()).expect("UTF-8");
        let bind = |name: &str| UnixDatagram::bind(path.join(name)).expect("a socket");
        let (near, far) = (bind("near-line"), bind("far-line"));
        let arrived = Arc::new(AtomicU64::new(0));
        let again = |socket: &UnixDatagram| socket.try_clone().expect("a socket");
        self.carry([again(&near), again(&far)], path.join("far"), true, &arrived);
        self.carry([far, near], path.join("near"), false, &arrived);
        let socat = |mut command: Command, end: &str, interface: &str, address: &str| {
            let tun = format!("TUN:{address}/30,tun-name={interface},tun-type=tun,iff-no-pi,iff-up");
            let socket = format!("UNIX-SENDTO:{path}/{end}-line,bind={path}/{end}");
            let log = std::fs::File::create(path.join(format!("{end}.log"))).expect("a log");
            command.args(["socat", &tun, &socket]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
            command.spawn().expect("socat starts")
        };
        let near = socat(Command::new("env"), "near", name, addresses[0]);
        let far = socat(enter, "far", "eth0", addresses[1]);
        LinkEnds { near, far, arrived, folder }
    }

    /// Carries what comes in at one end to the socket of the other, until an empty packet comes.
    fn carry(self, [from, to]: [UnixDatagram; 2], name: Utf8PathBuf, loses: bool, arrived: &Arc<AtomicU64>) {
        let arrived = Arc::clone(arrived);
        let (packets, under_way) = mpsc::channel::<(Instant, Vec<u8>)>();
        spawn(move || {
            let mut free = Instant::now();
            let mut packet = [0; 2048];
            for count in 1.. {
                let Ok(length @ 1..) = from.recv(&mut packet) else { return };
                let now = Instant::now();
                free = free.max(now);
                let queued = (free - now).as_secs_f64() * self.rate / 8.0;
                let lost = loses && self.one_lost_of.is_some_and(|many| count % many == 0);
                if lost || queued > QUEUE {
                    continue;
                }
                free += Duration::from_secs_f64(length as f64 * 8.0 / self.rate);
                if packets.send((free + self.round_trip / 2, packet[..length].to_vec())).is_err() {
                    return;
                }
            }
        });
        spawn(move || {
            for (due, packet) in under_way {
                sleep(due.saturating_duration_since(Instant::now()));
                // An end that is gone takes nothing.
                if to.send_to(&packet, &name).is_ok() {
                    arrived.fetch_add(packet.len() as u64, Ordering::Relaxed);
                }
            }
        });
    }
}

impl LinkEnds {
    /// Bytes that arrived at either end so far.
    pub(super) fn arrived(&self) -> u64 {
        self.arrived.load(Ordering::Relaxed)
    }
}

impl Drop for LinkEnds {
    fn drop(&mut self) {
        for end in [&mut self.near, &mut self.far] {
            let _ = end.kill();
            let _ = end.wait();
        }
        for end in ["near-line", "far-line"] {
            // No packet is empty: one that is ends the threads.
            let _ = UnixDatagram::unbound().and_then(|socket| socket.send_to(&[], self.folder.path().join(end)));
        }
    }
}
