//! The ports of their nodes that pods need, and who holds them.

use std::collections::BTreeSet;

use serde_json::Value;
use vcmanifests::Object;

use super::Finding;

/// The state LISTEN in `/proc/net/tcp`.
const LISTEN: &str = "0A";

/// A port of the node that a pod uses.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NodePort {
    pub(super) number: u16,
    /// `daemonset/vn-agent`.
    pub(super) of: String,
}

/// A socket that listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Listener {
    pub(super) port: u16,
    pub(super) inode: u64,
}

/// The process that holds a socket.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) process: String,
    pub(super) pid: String,
    /// The lines of its `/proc/PID/cgroup`, which name the pod.
    pub(super) cgroup: Vec<String>,
}

/// The ports that the objects need on every node on which they run.
pub(super) fn needed(objects: &[Object]) -> BTreeSet<NodePort> {
    let mut ports = BTreeSet::new();
    for object in objects {
        let value = serde_json::to_value(object).unwrap_or_default();
        let spec = &value["spec"]["template"]["spec"];
        let is_on_host = spec["hostNetwork"] == true;
        let containers = spec["containers"].as_array().into_iter().flatten();
        for port in containers.flat_map(|container| container["ports"].as_array().into_iter().flatten()) {
            let number = match &port["hostPort"] {
                Value::Null if is_on_host => &port["containerPort"],
                number => number,
            };
            let is_tcp = port["protocol"].as_str().is_none_or(|protocol| protocol == "TCP");
            if let Some(number) = number.as_u64().and_then(|number| u16::try_from(number).ok()).filter(|_| is_tcp) {
                ports.insert(NodePort { number, of: crate::rollout::title(object) });
            }
        }
    }
    ports
}

/// The sockets that listen, from the lines of `/proc/net/tcp` and `/proc/net/tcp6`.
pub(super) fn listeners(lines: &[String]) -> Vec<Listener> {
    let read = |line: &String| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
        let port = u16::from_str_radix(local.rsplit_once(':')?.1, 16).ok()?;
        (*state == LISTEN).then_some(Listener { port, inode: inode.parse().ok()? })
    };
    lines.iter().filter_map(read).collect()
}

impl Owner {
    /// Whether it is a process of one of these pods. Drivers of cgroups write a pod's UID with dashes or underscores.
    pub(super) fn is_of(&self, pods: &BTreeSet<String>) -> bool {
        let names = |uid: &String| {
            let other = uid.replace('-', "_");
            self.cgroup.iter().any(|line| line.contains(uid.as_str()) || line.contains(&other))
        };
        pods.iter().any(names)
    }
}

/// The finding about a port that somebody else holds.
pub(super) fn taken(node: &str, port: &NodePort, owner: Option<&Owner>) -> Finding {
    let by = match owner {
        Some(Owner { process, pid, .. }) => format!("by {process} (process {pid})"),
        None => "by a process that could not be found".to_owned(),
    };
    Finding::error(
        node,
        format!("TCP port {} is taken {by}", port.number),
        format!("the pod of {} cannot start on this node", port.of),
        "end that process or move it to another port; --vn-agent-metrics-port PORT moves vn-agent's metrics",
    )
}

#[cfg(test)]
mod tests {
    use vcmanifests::Object;

    use super::{Listener, NodePort, Owner, listeners, needed};

    #[test]
    fn sockets_that_listen_are_read_from_proc() {
        let lines = [
            "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode",
            "   0: 0100007F:2936 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0",
            "   1: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 20 4 30 10 -1",
            "   0: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 4713 1 0 100",
            "   9: damaged",
        ]
        .map(str::to_owned);
        let expected = [Listener { port: 10550, inode: 4711 }, Listener { port: 8080, inode: 4713 }];
        assert_eq!(listeners(&lines), expected);
    }

    #[test]
    fn ports_come_from_the_pods_on_the_nodes_network() {
        let object = |host_network: bool| {
            let value = serde_json::json!({ "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": { "name": "d", "namespace": "n" },
                "spec": { "selector": {}, "template": { "spec": { "hostNetwork": host_network, "containers": [{ "name": "c", "ports": [
                    { "containerPort": 10550, "hostPort": 10550 }, { "containerPort": 80 }, { "containerPort": 53, "protocol": "UDP" }] }] } } } });
            Object::from_value(&value).unwrap().unwrap()
        };
        let numbers =
            |host| needed(&[object(host)]).into_iter().map(|NodePort { number, .. }| number).collect::<Vec<_>>();
        assert_eq!((numbers(false), numbers(true)), (vec![10550], vec![80, 10550]));
    }

    #[test]
    fn a_process_of_a_pod_is_known_by_its_cgroup() {
        let pods = ["0a1b-2c".to_owned()].into();
        let owner = |line: &str| Owner { cgroup: vec![line.to_owned()], ..Owner::default() }.is_of(&pods);
        assert!(owner("0::/kubepods/burstable/pod0a1b-2c/4f"));
        assert!(owner("0::/kubepods.slice/kubepods-pod0a1b_2c.slice/cri-containerd-4f.scope"));
        assert!(!owner("0::/system.slice/node_exporter.service"));
    }
}
