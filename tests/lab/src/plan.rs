//! The plan of a lab as plain data: its nodes, their addresses, names and folders. Everything is derived from the
//! lab's name and its subnet's number, so several labs can exist at once.

use std::net::Ipv4Addr;

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use crate::binaries::{Containerd, Kubernetes};
use crate::error::Error;
use crate::process::Process;

/// The name of the control-plane node.
pub const CONTROL_PLANE: &str = "control-plane";

/// The range of Service addresses. It exists only in the lab's own namespaces.
pub const SERVICE_RANGE: &str = "10.96.0.0/16";
/// The range of pod addresses. It exists only in the lab's own namespaces.
pub const POD_RANGE: &str = "10.244.0.0/16";
/// The first address of the service range, at which pods reach the API server.
pub(crate) const API_SERVICE_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
/// The Service address of the cluster's DNS.
pub const DNS_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);

/// Labs use the subnets 198.18.0.0/24 to 198.18.LAST_SLOT.0/24, from the range that RFC 2544 reserves for benchmarks of
/// network devices: no real network uses it.
pub(crate) const LAST_SLOT: u8 = 99;
/// The maximum number of workers of a lab.
pub const MOST_WORKERS: u8 = 32;

/// The options of a lab.
#[derive(Debug, Clone)]
pub struct Options {
    /// Its name: lower-case letters, digits and dashes, at most 24. Labs with different names do not affect each other.
    pub name: String,
    /// The number of workers, in addition to the control-plane node: 1 to [`MOST_WORKERS`].
    pub workers: u8,
    /// Its version of Kubernetes.
    pub kubernetes: Kubernetes,
    /// The containerd version of its nodes.
    pub containerd: Containerd,
    /// The folder of its files; `/var/lib/vclab/NAME` by default. If it is on an overlay, as in a container, the
    /// nodes keep containerd's layers in memory.
    pub dir: Option<Utf8PathBuf>,
    /// The size in bytes of a separate in-memory disk for each worker's containerd, to test full disks.
    pub worker_disk: Option<u64>,
    /// Whether the workers' kubelets consider their disks full: they remove all images that they may remove, and no pod
    /// is scheduled there.
    pub collect_images: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            name: "lab".to_owned(),
            workers: 2,
            kubernetes: Kubernetes::default(),
            containerd: Containerd::default(),
            dir: None,
            worker_disk: None,
            collect_images: false,
        }
    }
}

impl Options {
    /// Checks the values that are used in names of namespaces and cgroups and in mount options.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let bad = |what, value: &str, why| Err(Error::BadOption { what, value: value.to_owned(), why });
        check_name(&self.name)?;
        if self.workers == 0 || self.workers > MOST_WORKERS {
            return bad("the number of workers", &self.workers.to_string(), "a lab has 1 to 32 workers");
        }
        let dir = self.folder();
        let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@".contains(c);
        if !dir.is_absolute() || !dir.as_str().chars().all(plain) {
            return bad("the folder", dir.as_str(), "it must be absolute, of letters, digits and any of /._-+@");
        }
        if self.worker_disk.is_some_and(|size| size < 1 << 20) {
            return bad("the workers' disk", "under 1 MiB", "containerd needs 1 MiB to start at all");
        }
        Ok(())
    }

    /// Returns the folder of the lab's files.
    pub(crate) fn folder(&self) -> Utf8PathBuf {
        self.dir.clone().unwrap_or_else(|| Utf8Path::new("/var/lib/vclab").join(&self.name))
    }
}

/// Rejects a lab's name that cannot be part of the names of namespaces and cgroups.
pub(crate) fn check_name(name: &str) -> Result<(), Error> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let letter_first = name.starts_with(|c: char| c.is_ascii_lowercase());
    // Two dashes end the lab's part in the name of a namespace.
    let apart = !name.ends_with('-') && !name.contains("--");
    if letter_first && name.len() <= 24 && name.chars().all(plain) && apart {
        return Ok(());
    }
    let why = "it must be at most 24 lower-case letters, digits and single dashes between them, a letter first";
    Err(Error::BadOption { what: "the name", value: name.to_owned(), why })
}

/// A node of a lab: a separate machine in terms of network, processes, mounts, host name and cgroups.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Node {
    /// Its name in Kubernetes and in `ssh_config`, and its host name: `control-plane`, `worker1`, ….
    pub name: String,
    /// Its address, at which SSH listens on port 22.
    pub address: Ipv4Addr,
    /// Whether it is the control-plane node.
    pub control_plane: bool,
    /// The subnet of its pods.
    pub pod_subnet: String,
    /// Its network namespace, as `ip netns` lists it.
    pub netns: String,
    /// Its cgroup, relative to the mount point of each hierarchy.
    pub cgroup: String,
    /// Its files on this machine, which it sees as `/etc` (changes only), `/var/lib`, `/var/log`, `/root`, `/tmp`.
    pub dir: Utf8PathBuf,
    /// Its first process, once it runs. All its other processes end with this one.
    pub init: Option<Process>,
}

impl Node {
    /// Returns the node's root folder on this machine, while the node runs.
    #[must_use]
    pub fn root(&self) -> Option<Utf8PathBuf> {
        self.init.map(|init| Utf8PathBuf::from(format!("/proc/{}/root", init.pid)))
    }

    /// Returns the path of the node's containerd socket on this machine. On the node itself it is at containerd's
    /// default path.
    #[must_use]
    pub fn containerd_socket(&self) -> Option<Utf8PathBuf> {
        self.root().map(|root| root.join("run/containerd/containerd.sock"))
    }

    /// Returns the path of the log of one of its components, such as `kubelet`.
    #[must_use]
    pub fn log(&self, component: &str) -> Utf8PathBuf {
        self.dir.join("log").join(format!("{component}.log"))
    }

    /// Returns the path of a file in its `/etc`, before and while it runs.
    pub(crate) fn etc(&self, path: &str) -> Utf8PathBuf {
        self.dir.join("etc").join(path)
    }
}

/// Everything that is determined about a lab before it is created.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) name: String,
    /// The number of its subnet.
    pub(crate) slot: u8,
    pub(crate) dir: Utf8PathBuf,
    #[serde(default)]
    pub(crate) kubernetes: Kubernetes,
    pub(crate) containerd: Containerd,
    pub(crate) worker_disk: Option<u64>,
    pub(crate) collect_images: bool,
    /// The control-plane node is the first.
    pub(crate) nodes: Vec<Node>,
}

impl Plan {
    pub(crate) fn new(options: &Options, slot: u8) -> Self {
        let dir = options.folder();
        let node = |index: u8| {
            let name = if index == 0 { CONTROL_PLANE.to_owned() } else { format!("worker{index}") };
            Node {
                address: Ipv4Addr::new(198, 18, slot, if index == 0 { 1 } else { 10 + index }),
                control_plane: index == 0,
                pod_subnet: format!("10.244.{index}.0/24"),
                netns: format!("{}{name}", netns_prefix(&options.name)),
                cgroup: format!("{}/{name}", cgroup(&options.name)),
                dir: dir.join("nodes").join(&name),
                init: None,
                name,
            }
        };
        Self {
            name: options.name.clone(),
            slot,
            kubernetes: options.kubernetes,
            containerd: options.containerd,
            worker_disk: options.worker_disk,
            collect_images: options.collect_images,
            nodes: (0..=options.workers).map(node).collect(),
            dir,
        }
    }

    pub(crate) fn control_plane(&self) -> &Node {
        &self.nodes[0]
    }

    /// Returns the operator's own address in the lab: this machine's end of the only link into it.
    pub(crate) fn operator_address(&self) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, self.slot, 254)
    }

    pub(crate) fn api_url(&self) -> String {
        format!("https://{}:6443", self.control_plane().address)
    }
}

/// Returns the prefix of the names of a lab's network namespaces; the node's name follows.
pub(crate) fn netns_prefix(lab: &str) -> String {
    format!("vclab-{lab}--")
}

/// Returns the cgroup that contains those of a lab's nodes.
pub(crate) fn cgroup(lab: &str) -> String {
    format!("vclab-{lab}")
}

/// Returns the name of this machine's end of the link into a lab.
pub(crate) fn operator_link(slot: u8) -> String {
    format!("vclab{slot}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_have_distinct_addresses_and_names_up_to_the_last_worker() {
        let plan = Plan::new(&Options { workers: MOST_WORKERS, ..Options::default() }, 7);
        let addresses: std::collections::BTreeSet<_> = plan.nodes.iter().map(|node| node.address).collect();
        assert_eq!(addresses.len(), 33);
        assert!(!addresses.contains(&plan.operator_address()));
        assert_eq!(plan.control_plane().name, "control-plane");
        assert_eq!(plan.nodes[2].name, "worker2");
        assert_eq!(plan.nodes[2].address.to_string(), "198.18.7.12");
        assert_eq!(plan.nodes[2].netns, "vclab-lab--worker2");
        assert_eq!(plan.api_url(), "https://198.18.7.1:6443");
        assert!(operator_link(LAST_SLOT).len() <= 15, "the kernel's limit");
    }

    #[test]
    fn one_labs_namespaces_are_never_taken_for_anothers() {
        for (one, other) in [("a", "a-b"), ("a", "aa"), ("a-b", "a")] {
            let plan = Plan::new(&Options { name: other.to_owned(), ..Options::default() }, 0);
            assert!(!plan.nodes[1].netns.starts_with(&netns_prefix(one)), "{one} {other}");
        }
        for name in ["a-", "a--b", "-a", "1a"] {
            check_name(name).unwrap_err();
        }
    }

    #[test]
    fn values_that_would_break_names_or_mount_options_are_refused() {
        let with = |change: fn(&mut Options)| {
            let mut options = Options::default();
            change(&mut options);
            options.check().map_err(|error| error.to_string())
        };
        assert_eq!(with(|_| ()), Ok(()));
        assert!(with(|o| o.name = "Lab".into()).is_err());
        assert!(with(|o| o.name = "../x".into()).is_err());
        assert!(with(|o| o.name = String::new()).is_err());
        assert!(with(|o| o.workers = 0).is_err());
        assert!(with(|o| o.workers = 33).is_err());
        assert!(with(|o| o.dir = Some("relative".into())).is_err());
        assert!(with(|o| o.dir = Some("/a,b:c".into())).is_err());
        assert!(with(|o| o.worker_disk = Some(1)).is_err());
    }
}
