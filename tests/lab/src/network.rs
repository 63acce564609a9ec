//! The lab's network: one bridge in the control-plane node's namespace, a link from each worker to it, one from this
//! machine, and no route out of the lab.
//!
//! This machine's own forwarding and routes are unchanged. Inside the lab, every default route leads to the
//! control-plane node, whose own is `unreachable`: a Service or pod address that is not rewritten is rejected at once,
//! and can never leave through this machine's default route.

use std::fmt::Write;
use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Duration;

use camino::Utf8Path;

use crate::error::Error;
use crate::plan::{Plan, SERVICE_RANGE, netns_prefix, operator_link};
use crate::process::run;

const LIMIT: Duration = Duration::from_secs(30);

/// Loads the kernel modules that nodes need, if they are missing. Returns whether kube-proxy's rules apply to packets
/// between two pods on one bridge.
pub(crate) fn load_modules() -> bool {
    // Kernels with built-in modules, and machines without modprobe, need no loading, so only the result is checked.
    let _ = run(Command::new("modprobe").args(["--quiet", "--all", "overlay", "br_netfilter"]), b"", LIMIT);
    Utf8Path::new("/proc/sys/net/bridge/bridge-nf-call-iptables").exists()
}

/// Creates the lab's namespaces and links.
pub(crate) fn create(plan: &Plan) -> Result<(), Error> {
    ip(&["-batch", "-"], &machine_batch(plan), "making the lab's network namespaces")?;
    let control_plane = &plan.control_plane().netns;
    ip(&["-n", control_plane, "-batch", "-"], &bridge_batch(plan), "making the lab's bridge")?;
    for index in 1..plan.nodes.len() {
        let netns = &plan.nodes[index].netns;
        ip(&["-n", netns, "-batch", "-"], &worker_batch(plan, index), "making a worker's network")?;
    }
    Ok(())
}

/// Removes what [`create`] made for the lab with this name. Links are removed with their namespaces.
pub(crate) fn remove(lab: &str) -> Result<(), Error> {
    for netns in namespaces(lab)? {
        ip(&["netns", "delete", &netns], "", "removing a network namespace")?;
    }
    Ok(())
}

/// Removes this machine's end of a lab's link. It would disappear together with the other end, but that is in a
/// namespace that ends shortly after its last process; the explicit removal ensures that nothing is left on return.
pub(crate) fn remove_link(slot: u8) -> Result<(), Error> {
    let link = operator_link(slot);
    let removed = run(Command::new("ip").args(["link", "delete", &link]), b"", LIMIT)?;
    if removed.status.success() || removed.stderr.contains("Cannot find device") {
        return Ok(());
    }
    removed.success(format!("removing the link {link}")).map(drop)
}

/// Returns the existing network namespaces of the lab.
pub(crate) fn namespaces(lab: &str) -> Result<Vec<String>, Error> {
    let prefix = netns_prefix(lab);
    let listed = ip(&["netns", "list"], "", "listing network namespaces")?;
    let names = listed.lines().filter_map(|line| line.split_whitespace().next());
    Ok(names.filter(|name| name.starts_with(&prefix)).map(str::to_owned).collect())
}

/// Returns the PIDs of the processes in this network namespace.
pub(crate) fn processes(netns: &str) -> Result<Vec<i32>, Error> {
    let listed = ip(&["netns", "pids", netns], "", "listing the processes of a network namespace")?;
    Ok(listed.split_whitespace().filter_map(|pid| pid.parse().ok()).collect())
}

/// Whether this machine has a route that overlaps the subnet with this number. Ignores default routes, and wide routes
/// that replace them (the two halves of a VPN).
pub(crate) fn is_routed(slot: u8) -> Result<bool, Error> {
    let routes = ip(&["-o", "-4", "route", "show", "table", "all"], "", "listing this machine's routes")?;
    Ok(routes.lines().any(|route| overlaps(route, slot)))
}

/// Whether a line of `ip route` covers addresses in 198.18.SLOT.0/24.
fn overlaps(route: &str, slot: u8) -> bool {
    let types = ["unicast", "local", "broadcast", "multicast", "throw", "unreachable", "prohibit", "blackhole", "nat"];
    let Some(destination) = route.split_whitespace().find(|word| !types.contains(word)) else { return false };
    let (address, length) = destination.split_once('/').unwrap_or((destination, "32"));
    let (Ok(address), Ok(length)) = (address.parse::<Ipv4Addr>(), length.parse::<u32>()) else { return false };
    let mask = u32::MAX.checked_shl(32 - length.min(24)).unwrap_or(0);
    length >= 8 && u32::from(address) & mask == u32::from(Ipv4Addr::new(198, 18, slot, 0)) & mask
}

fn machine_batch(plan: &Plan) -> String {
    let mut batch = String::new();
    for node in &plan.nodes {
        line(&mut batch, format_args!("netns add {}", node.netns));
    }
    let (link, netns) = (operator_link(plan.slot), &plan.control_plane().netns);
    line(&mut batch, format_args!("link add {link} type veth peer name operator netns {netns}"));
    line(&mut batch, format_args!("addr add {}/24 dev {link}", plan.operator_address()));
    line(&mut batch, format_args!("link set {link} up"));
    batch
}

fn bridge_batch(plan: &Plan) -> String {
    let mut batch = String::from("link set lo up\nlink add nodes type bridge\n");
    line(&mut batch, format_args!("addr add {}/24 dev nodes", plan.control_plane().address));
    batch += "link set nodes up\nlink set operator master nodes up\nroute add unreachable default\n";
    // kube-proxy rewrites Service addresses in outgoing packets; only a route must exist.
    line(&mut batch, format_args!("route add {SERVICE_RANGE} dev nodes"));
    for worker in &plan.nodes[1..] {
        let name = &worker.name;
        line(&mut batch, format_args!("link add {name} type veth peer name eth0 netns {}", worker.netns));
        line(&mut batch, format_args!("link set {name} master nodes up"));
        line(&mut batch, format_args!("route add {} via {}", worker.pod_subnet, worker.address));
    }
    batch
}

fn worker_batch(plan: &Plan, index: usize) -> String {
    let worker = &plan.nodes[index];
    let mut batch = String::from("link set lo up\n");
    line(&mut batch, format_args!("addr add {}/24 dev eth0", worker.address));
    batch += "link set eth0 up\n";
    line(&mut batch, format_args!("route add default via {}", plan.control_plane().address));
    for other in plan.nodes.iter().filter(|other| other.name != worker.name) {
        line(&mut batch, format_args!("route add {} via {}", other.pod_subnet, other.address));
    }
    batch
}

fn line(batch: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(batch, "{arguments}");
}

fn ip(arguments: &[&str], input: &str, what: &str) -> Result<String, Error> {
    run(Command::new("ip").args(arguments), input.as_bytes(), LIMIT)?.success(what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Options;

    #[test]
    fn the_only_default_routes_end_at_an_unreachable_one() {
        let plan = Plan::new(&Options::default(), 3);
        assert!(!machine_batch(&plan).contains("route"), "this machine's routes are its own");
        let defaults = |batch: &str| -> Vec<String> {
            batch.lines().filter(|line| line.contains("default")).map(str::to_owned).collect()
        };
        assert_eq!(defaults(&bridge_batch(&plan)), ["route add unreachable default"]);
        assert_eq!(defaults(&worker_batch(&plan, 1)), ["route add default via 198.18.3.1"]);
    }

    #[test]
    fn a_subnet_that_is_routed_elsewhere_is_seen() {
        assert!(overlaps("198.18.0.0/15 dev tun0 scope link", 3));
        assert!(overlaps("local 198.18.3.254 dev vclab3 table local proto kernel", 3));
        assert!(overlaps("unreachable 198.18.3.128/25 metric 9", 3));
        assert!(!overlaps("128.0.0.0/1 dev tun0", 3));
        assert!(!overlaps("198.18.4.0/24 dev vclab4", 3));
        assert!(!overlaps("default via 10.0.0.1 dev eth0", 3));
        assert!(!overlaps("10.0.0.0/24 dev eth0 proto kernel", 3));
    }
}
