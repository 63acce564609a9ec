//! The nodes' cgroups. Each node has one in every hierarchy and sees it as the root, so that everything that runs on it
//! (pods, and containers that are started manually) stays below it and is removed with it.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::thread;
use std::time::Instant;

use camino::{Utf8Path, Utf8PathBuf};

use crate::error::{Error, file};
use crate::process::{TICK, patience};

/// The cgroup of a node's daemons on cgroup v2, where only leaves may contain processes.
const LEAF: &str = "init";

/// The cgroup hierarchies of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cgroups {
    /// Version 1: a hierarchy for each controller or group of controllers.
    V1 {
        /// Those with controllers, and systemd's own.
        hierarchies: Vec<Hierarchy>,
        /// The mount point of version 2 without controllers, if it is mounted too.
        unified: Option<Utf8PathBuf>,
    },
    /// Version 2, with its mount point.
    V2(Utf8PathBuf),
}

/// One hierarchy of version 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    mount: Utf8PathBuf,
    /// The mount options: its controllers, or `none,name=…`.
    options: String,
}

impl Cgroups {
    pub(crate) fn detect() -> Result<Self, Error> {
        let path = "/proc/self/mountinfo";
        let text = fs::read_to_string(path).map_err(file("reading", path))?;
        parse(&text).ok_or_else(|| Error::Command {
            what: "finding the machine's cgroups".to_owned(),
            detail: "neither version 1 nor version 2 is mounted".to_owned(),
        })
    }

    fn mounts(&self) -> Vec<&Utf8Path> {
        match self {
            Self::V1 { hierarchies, .. } => hierarchies.iter().map(|h| h.mount.as_path()).collect(),
            Self::V2(mount) => vec![mount],
        }
    }

    /// Creates the cgroup `LAB/NODE` in every hierarchy.
    pub(crate) fn create(&self, cgroup: &str) -> Result<(), Error> {
        for mount in self.mounts() {
            let mut path = mount.to_owned();
            for part in cgroup.split('/') {
                match self {
                    Self::V2(_) => delegate(&path)?,
                    Self::V1 { .. } => {}
                }
                let parent = path.clone();
                path.push(part);
                match fs::create_dir(&path) {
                    Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                        return Err(file("creating", &path)(error));
                    }
                    _ => inherit_cpuset(&parent, &path)?,
                }
            }
            if matches!(self, Self::V2(_)) {
                let leaf = path.join(LEAF);
                fs::create_dir_all(&leaf).map_err(file("creating", leaf))?;
            }
        }
        Ok(())
    }

    /// Returns shell commands that move the shell to the top of a node's cgroup, which will become the root of a
    /// namespace.
    pub(crate) fn top_script(&self, cgroup: &str) -> String {
        let mounts = self.mounts();
        mounts.iter().map(|mount| format!("echo $$ > {mount}/{cgroup}/cgroup.procs\n")).collect()
    }

    /// Returns shell commands that move the shell to the cgroup of a node's daemons.
    pub(crate) fn join_script(&self, cgroup: &str) -> String {
        match self {
            Self::V1 { .. } => self.top_script(cgroup),
            Self::V2(_) => self.top_script(&format!("{cgroup}/{LEAF}")),
        }
    }

    /// Returns shell commands that, in new cgroup and mount namespaces, mount the hierarchies again, so that their root
    /// is the node's cgroup.
    pub(crate) fn mount_script(&self) -> String {
        match self {
            Self::V1 { hierarchies, unified } => {
                let again =
                    |h: &Hierarchy| format!("umount {0}\nmount -t cgroup -o {1} cgroup {0}\n", h.mount, h.options);
                let hide = unified.as_ref().map(|mount| format!("umount {mount}\n"));
                hierarchies.iter().map(again).chain(hide).collect()
            }
            Self::V2(mount) => format!(
                "umount {mount}\nmount -t cgroup2 cgroup2 {mount}\n\
                 for c in $(cat {mount}/cgroup.controllers); do echo +$c > {mount}/cgroup.subtree_control; done\n"
            ),
        }
    }

    /// Returns the PIDs of the processes in a lab's cgroups.
    pub(crate) fn processes(&self, cgroup: &str) -> BTreeSet<i32> {
        let mut pids = BTreeSet::new();
        for folder in self.mounts().iter().flat_map(|mount| folders(&mount.join(cgroup))) {
            // A cgroup that is removed meanwhile has no processes.
            let procs = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
            pids.extend(procs.lines().filter_map(|line| line.parse::<i32>().ok()));
        }
        pids
    }

    /// Removes a lab's cgroups, whose processes have ended or are about to.
    pub(crate) fn remove(&self, cgroup: &str) -> Result<(), Error> {
        let deadline = Instant::now() + patience(20);
        for top in self.mounts().iter().map(|mount| mount.join(cgroup)) {
            for folder in folders(&top) {
                while let Err(error) = fs::remove_dir(&folder) {
                    if error.kind() == ErrorKind::NotFound {
                        break;
                    }
                    if Instant::now() > deadline {
                        return Err(file("removing", folder)(error));
                    }
                    thread::sleep(TICK);
                }
            }
        }
        Ok(())
    }

    /// Returns the existing folders of a lab's cgroups.
    pub(crate) fn existing(&self, cgroup: &str) -> Vec<Utf8PathBuf> {
        self.mounts().iter().map(|mount| mount.join(cgroup)).filter(|path| path.exists()).collect()
    }
}

/// Returns a cgroup and all its descendants, children first.
fn folders(top: &Utf8Path) -> Vec<Utf8PathBuf> {
    let Ok(entries) = top.read_dir_utf8() else { return Vec::new() };
    let children = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let mut found: Vec<Utf8PathBuf> = children.flat_map(|child| folders(child.path())).collect();
    found.push(top.to_owned());
    found
}

/// Enables all controllers of a version 2 cgroup for its children.
fn delegate(folder: &Utf8Path) -> Result<(), Error> {
    let read = |name: &str| fs::read_to_string(folder.join(name)).map_err(file("reading", folder.join(name)));
    let (has, gives) = (read("cgroup.controllers")?, read("cgroup.subtree_control")?);
    let gives: BTreeSet<&str> = gives.split_whitespace().collect();
    let control = folder.join("cgroup.subtree_control");
    for controller in has.split_whitespace().filter(|controller| !gives.contains(controller)) {
        fs::write(&control, format!("+{controller}")).map_err(file("enabling controllers in", &control))?;
    }
    Ok(())
}

/// Copies the CPUs and memory nodes of a version 1 cpuset, which are initially empty: an empty cpuset accepts no
/// process.
fn inherit_cpuset(parent: &Utf8Path, child: &Utf8Path) -> Result<(), Error> {
    for name in ["cpuset.cpus", "cpuset.mems"] {
        let (from, to) = (parent.join(name), child.join(name));
        // Version 2 has these files too and initializes them itself; at its root they do not exist.
        if !from.exists() || parent.join("cgroup.controllers").exists() {
            continue;
        }
        let value = fs::read_to_string(&from).map_err(file("reading", from))?;
        fs::write(&to, value).map_err(file("writing", to))?;
    }
    Ok(())
}

/// Parses the hierarchies in `/proc/self/mountinfo`. If one has several mounts, the first is used.
fn parse(mountinfo: &str) -> Option<Cgroups> {
    let (mut hierarchies, mut unified): (Vec<Hierarchy>, Option<Utf8PathBuf>) = (Vec::new(), None);
    for line in mountinfo.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let Some(mount) = left.split(' ').nth(4).map(Utf8PathBuf::from) else { continue };
        let mut right = right.split(' ');
        match (right.next(), right.nth(1)) {
            (Some("cgroup"), Some(options)) => {
                let parts =
                    options.split(',').filter(|part| !matches!(*part, "rw" | "ro" | "xattr" | "clone_children"));
                let parts: Vec<&str> = parts.filter(|part| !part.starts_with("release_agent=")).collect();
                let named = parts.iter().any(|part| part.starts_with("name="));
                let options = if named { format!("none,{}", parts.join(",")) } else { parts.join(",") };
                if hierarchies.iter().all(|known| known.options != options) {
                    hierarchies.push(Hierarchy { mount, options });
                }
            }
            (Some("cgroup2"), _) => unified = unified.or(Some(mount)),
            _ => {}
        }
    }
    match (hierarchies.is_empty(), unified) {
        (false, unified) => Some(Cgroups::V1 { hierarchies, unified }),
        (true, Some(mount)) => Some(Cgroups::V2(mount)),
        (true, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_1_with_a_bare_version_2_beside_it() {
        let text = "\
30 24 0:25 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
31 30 0:26 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
32 30 0:27 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,release_agent=/lib/x,name=systemd
33 30 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
34 30 0:26 / /mnt/again rw - cgroup cgroup rw,cpu,cpuacct
";
        let cgroups = parse(text).unwrap();
        assert_eq!(
            cgroups.mount_script(),
            "umount /sys/fs/cgroup/cpu,cpuacct\nmount -t cgroup -o cpu,cpuacct cgroup /sys/fs/cgroup/cpu,cpuacct\n\
             umount /sys/fs/cgroup/systemd\nmount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd\n\
             umount /sys/fs/cgroup/unified\n"
        );
        assert_eq!(
            cgroups.join_script("vclab-lab/worker1"),
            "echo $$ > /sys/fs/cgroup/cpu,cpuacct/vclab-lab/worker1/cgroup.procs\n\
             echo $$ > /sys/fs/cgroup/systemd/vclab-lab/worker1/cgroup.procs\n"
        );
    }

    #[test]
    fn version_2_keeps_processes_in_a_leaf() {
        let cgroups = parse("30 24 0:25 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate\n").unwrap();
        assert_eq!(cgroups, Cgroups::V2("/sys/fs/cgroup".into()));
        assert_eq!(cgroups.top_script("a/b"), "echo $$ > /sys/fs/cgroup/a/b/cgroup.procs\n");
        assert_eq!(cgroups.join_script("a/b"), "echo $$ > /sys/fs/cgroup/a/b/init/cgroup.procs\n");
    }

    #[test]
    fn a_machine_without_cgroups_is_said_so() {
        assert_eq!(parse("30 24 0:25 / /proc rw - proc proc rw\n"), None);
    }
}
