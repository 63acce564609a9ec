//! A network namespace with one link to it, which can be counted at and cut. It has no route out.

use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::Duration;

use super::slow_link::{LinkEnds, SlowLink};

/// Namespaces made by this process.
static MADE: AtomicU32 = AtomicU32::new(0);

/// A namespace and this end of its link.
pub(crate) struct Network {
    name: String,
    subnet: String,
    /// The namespace of this end of the link, where that is not the machine's own.
    from: Option<String>,
    /// What stands in for the wire where the link is long.
    line: Option<LinkEnds>,
}

impl Network {
    /// Makes it, with a link from here: a long one where a line is given.
    pub(super) fn up(line: Option<SlowLink>) -> Self {
        Self::from(None, line)
    }

    /// Makes another, with a link from this one alone.
    pub(super) fn behind(&self) -> Self {
        Self::from(Some(self.name.clone()), None)
    }

    fn from(from: Option<String>, line: Option<SlowLink>) -> Self {
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let process = std::process::id();
        // Benchmarking addresses (RFC 2544), the half that labs leave alone.
        let subnet = format!("198.19.{}.{}", (process + number / 64) % 256, number % 64 * 4);
        let mut this = Self { name: format!("vcr{process:x}-{number}"), subnet, from, line: None };
        let (here, there) = (this.end(1), this.end(2));
        ip(&["netns", "add", &this.name]);
        ip(&["-n", &this.name, "link", "set", "lo", "up"]);
        // While the link is gone, nothing for the node may leave this machine another way.
        ip(&["route", "add", "unreachable", &format!("{}/30", this.subnet), "metric", "4096"]);
        if let Some(line) = line {
            this.line = Some(line.lay(&this.name, this.enter(), [&here, &there]));
            return this;
        }
        let Self { name, from, .. } = &this;
        let near: Vec<&str> = from.iter().flat_map(|from| ["-n", from.as_str()]).collect();
        let near = |arguments: &[&str]| ip(&[&near[..], arguments].concat());
        near(&["link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name]);
        near(&["addr", "add", &format!("{here}/30"), "dev", name]);
        near(&["link", "set", name, "up"]);
        ip(&["-n", name, "addr", "add", &format!("{there}/30"), "dev", "eth0"]);
        ip(&["-n", name, "link", "set", "eth0", "up"]);
        this
    }

    /// Whether its link is from another namespace.
    pub(super) fn is_behind(&self) -> bool {
        self.from.is_some()
    }

    /// The node's address.
    pub(crate) fn address(&self) -> String {
        self.end(2)
    }

    /// What runs a command inside, its arguments still to come.
    pub(super) fn enter(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.name));
        command
    }

    /// Bytes that the link carried in both directions so far, frames included.
    pub(crate) fn carried(&self) -> u64 {
        if let Some(line) = &self.line {
            return line.arrived();
        }
        let count = |direction: &str| -> u64 {
            let path = format!("/sys/class/net/{}/statistics/{direction}_bytes", self.name);
            fs::read_to_string(path).expect("a count").trim().parse().expect("a number")
        };
        count("tx") + count("rx")
    }

    /// Cuts the link, or mends it.
    pub(crate) fn set(&self, up: bool) {
        let state = if up { "up" } else { "down" };
        ip(&["-n", &self.name, "link", "set", "eth0", state]);
        // This end notices a little later.
        let noticed = || fs::read_to_string(format!("/sys/class/net/{}/operstate", self.name)).expect("a state");
        while noticed().trim().replace("lowerlayer", "") != state {
            sleep(Duration::from_millis(5));
        }
    }

    /// Has TCP from here answer losses as most machines have it, by going slower, whatever this one does elsewhere.
    pub(crate) fn heed_losses(&self) {
        let (net, here) = (format!("{}/30", self.subnet), self.end(1));
        ip(&["route", "replace", &net, "dev", &self.name, "scope", "link", "src", &here, "congctl", "cubic"]);
    }

    fn end(&self, number: u32) -> String {
        let (net, last) = self.subnet.rsplit_once('.').expect("an address");
        format!("{net}.{}", last.parse::<u32>().expect("a number") + number)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let route = format!("{}/30", self.subnet);
        let _ = Command::new("ip").args(["route", "delete", "unreachable", &route, "metric", "4096"]).status();
        if self.from.is_none() {
            let _ = Command::new("ip").args(["link", "delete", &self.name]).status();
        }
        // The ends of its links go with it.
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).status();
    }
}

fn ip(arguments: &[&str]) {
    run(Command::new("ip").args(arguments));
}

fn run(command: &mut Command) {
    let output = command.output().expect("it starts");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
