//! A node as a machine: separate namespaces for network, processes, mounts, host name, IPC and cgroups, held by its
//! first process, and functions that run programs in them.
//!
//! The node sees this machine's programs, but has its own `/run`, `/tmp`, `/root`, `/home`, `/var/lib` and `/var/log`,
//! and its own changes to `/etc`. So each node has its containerd, its kubelet and its users' caches at their usual
//! paths, and everything that is started or mounted on it ends with its first process.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::process::{Child, Command};
use std::thread;
use std::time::Instant;

use camino::Utf8Path;

use crate::binaries::Binaries;
use crate::cgroups::Cgroups;
use crate::error::{Error, file};
use crate::plan::{Node, Plan};
use crate::process::{Process, TICK, patience, start, tail};

/// The folders of a node with their mount points on it, except the changes to `/etc`, which are an overlay.
const OWN_FOLDERS: [(&str, &str); 6] = [
    ("lib", "/var/lib"),
    ("log", "/var/log"),
    ("root", "/root"),
    ("home", "/home"),
    ("tmp", "/tmp"),
    ("programs", "/usr/local/bin"),
];

/// The search path of the nodes' daemons: the lab's own programs take precedence over this machine's.
const PATH: &str = "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Creates a node's folders, with links to the lab's programs. Its configuration is written to them afterwards.
pub(crate) fn create_folders(node: &Node, binaries: &Binaries) -> Result<(), Error> {
    let folder = |name: &str, mode: u32| {
        let path = node.dir.join(name);
        let made = fs::DirBuilder::new().recursive(true).mode(mode).create(&path);
        // The mode in mkdir is reduced by the caller's umask.
        let made = made.and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(mode)));
        made.map_err(file("creating", path))
    };
    folder("", 0o755)?;
    for name in ["etc", "etc-work", "lib/containerd", "lib/kubelet", "log", "home", "programs"] {
        folder(name, 0o755)?;
    }
    folder("root", 0o700)?;
    folder("tmp", 0o1777)?;
    for (program, module) in binaries.programs() {
        let link = node.dir.join("programs").join(program);
        symlink(format!("/run/vclab/{module}/{program}"), &link).map_err(file("linking", link))?;
    }
    Ok(())
}

/// Starts a node: its namespaces, mounts and first process. Returns once it is ready for daemons.
pub(crate) fn boot(plan: &Plan, node: &mut Node, binaries: &Binaries, cgroups: &Cgroups) -> Result<Child, Error> {
    cgroups.create(&node.cgroup)?;
    let script = |name: &str, text: String| {
        let path = node.dir.join(name);
        fs::write(&path, text).map_err(file("writing", &path)).map(|()| path)
    };
    let inside = script("inside.sh", inside_script(plan, node, is_overlay(&node.dir)?, binaries, cgroups))?;
    // The cgroup of the process that creates the cgroup namespace becomes its root; the process then moves to the
    // daemons' cgroup.
    let around = script("around.sh", around_script(node, cgroups, &inside))?;
    let top = format!("set -e\n{}exec setsid unshare --cgroup -- sh {around}", cgroups.top_script(&node.cgroup));
    let log = node.log("boot");
    let mut shell = Command::new("sh");
    let mut child = start(clean(&mut shell).args(["-c", &top]).current_dir("/"), &log)?;

    let waited = patience(20);
    let deadline = Instant::now() + waited;
    loop {
        let pid = i32::try_from(child.id()).unwrap_or(i32::MAX);
        if let Some(init) = only_child(pid).filter(|init| is_ready(init.pid)) {
            node.init = Some(init);
            return Ok(child);
        }
        let ended = child.try_wait().map_err(file("waiting for", &log))?;
        if ended.is_some() {
            let (component, node) = ("the first process".to_owned(), node.name.clone());
            return Err(Error::Ended { component, node, tail: tail(&log) });
        }
        if Instant::now() > deadline {
            let _ = child.kill().and_then(|()| child.wait());
            let (what, seconds) = (format!("the start of node {}", node.name), waited.as_secs());
            let (detail, component) = ("not ready".to_owned(), "boot".to_owned());
            return Err(Error::Timeout { what, seconds, detail, component, tail: tail(&log) });
        }
        thread::sleep(TICK);
    }
}

/// Returns a command that runs in a node's namespaces and cgroup, as root in `/`, with a clean environment.
pub(crate) fn enter<S: AsRef<str>>(node: &Node, cgroups: &Cgroups, detached: bool, program: &[S]) -> Command {
    let init = node.init.map_or(0, |init| init.pid);
    let session = if detached { "setsid " } else { "" };
    let mut command = Command::new("sh");
    clean(&mut command).args(["-c"]).arg(format!(
        "set -e\n{}exec {session}nsenter --target {init} --mount --net --uts --ipc --pid --cgroup --root --wd -- \"$@\"",
        cgroups.join_script(&node.cgroup)
    ));
    command.arg("sh").args(program.iter().map(AsRef::as_ref));
    command
}

fn clean(command: &mut Command) -> &mut Command {
    command.env_clear().env("PATH", PATH).env("HOME", "/root").env("LANG", "C.UTF-8")
}

/// Enters the remaining namespaces from the node's cgroup namespace, then runs the inside script.
fn around_script(node: &Node, cgroups: &Cgroups, inside: &Utf8Path) -> String {
    format!(
        "set -e\n{}exec nsenter --net=/run/netns/{} unshare --mount --uts --ipc --pid --fork --kill-child sh {inside}\n",
        cgroups.join_script(&node.cgroup),
        node.netns
    )
}

/// Whether a folder is on an overlay, such as a container's root. An overlay cannot contain the changes to `/etc` or
/// containerd's layers: such a node keeps both in memory.
fn is_overlay(folder: &Utf8Path) -> Result<bool, Error> {
    const OVERLAYFS_SUPER_MAGIC: u32 = 0x794c_7630;
    let found = rustix::fs::statfs(folder.as_std_path()).map_err(|error| file("examining", folder)(error.into()))?;
    Ok(u32::try_from(found.f_type).is_ok_and(|kind| kind == OVERLAYFS_SUPER_MAGIC))
}

/// The script of a node's first process: mounts, host name, kernel settings; then it executes `pause`, which reaps
/// orphans.
fn inside_script(plan: &Plan, node: &Node, on_overlay: bool, binaries: &Binaries, cgroups: &Cgroups) -> String {
    let mut script = String::from("set -e\nmount --make-rprivate /\nmount -t proc proc /proc\n");
    script += &cgroups.mount_script();
    // The node's folder may be below one that is about to be covered, so it is also mounted at /mnt meanwhile.
    script += &format!("mount --bind {} /mnt\ncd /mnt\nmkdir run\nmount -t tmpfs -o mode=755 tmpfs run\n", node.dir);
    script += "mkdir -p run/vclab run/sshd run/containerd run/lock run/netns\n";
    for (module, folder) in binaries.folders() {
        script += &format!("mkdir run/vclab/{module}\nmount --bind -o ro {folder} run/vclab/{module}\n");
    }
    if on_overlay {
        script += "mkdir memory\nmount -t tmpfs tmpfs memory\ncp -a etc etc-work lib memory\n";
        script += "mount --bind memory/lib lib\n";
    }
    let changes = if on_overlay { "/mnt/memory" } else { "/mnt" };
    let _ = writeln!(
        script,
        "mount -t overlay -o lowerdir=/etc,upperdir={changes}/etc,workdir={changes}/etc-work overlay /etc"
    );
    if let (Some(size), false) = (plan.worker_disk, node.control_plane) {
        script += &format!("mount -t tmpfs -o size={size},mode=711 tmpfs lib/containerd\n");
    }
    for (folder, place) in OWN_FOLDERS {
        let _ = writeln!(script, "mount --rbind /mnt/{folder} {place}");
    }
    script += "mount -n --move /mnt/run /run\ncd /\numount -R /mnt\n";
    // A separate peer group: mount propagation that pods request is limited to the node.
    script += &format!("mount --make-rshared /\nhostname {}\n", node.name);
    script += "cd /proc/sys/net\necho 1 > ipv4/ip_forward\n";
    // Without an ICMP rate limit, a connection without a route fails at once instead of retrying.
    script += "echo 0 > ipv4/icmp_ratelimit\n";
    // Applies kube-proxy's rules to packets between two pods of a node: otherwise, the answers would not be rewritten.
    script += "[ ! -e bridge ] || echo 1 > bridge/bridge-nf-call-iptables\n";
    script += "for conf in ipv6/conf/*; do [ ! -e $conf/accept_ra ] || echo 0 > $conf/accept_ra; done\n";
    script += "cd /\ntouch /run/vclab/ready\nexec /run/vclab/pause/pause\n";
    script
}

/// Returns the only child of a process, if it has exactly one.
/// Returns the process that another one waits for.
pub(crate) fn only_child(pid: i32) -> Option<Process> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    let mut children = children.split_whitespace().map(str::parse);
    match (children.next(), children.next()) {
        (Some(Ok(child)), None) => Process::of(child),
        _ => None,
    }
}

fn is_ready(init: i32) -> bool {
    Utf8Path::new(&format!("/proc/{init}/root/run/vclab/ready")).exists()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Options;

    #[test]
    fn a_command_keeps_its_words_apart() {
        let mut node = Plan::new(&Options::default(), 0).nodes[1].clone();
        node.init = Process::of(1);
        let command = enter(&node, &Cgroups::V2("/cg".into()), false, &["echo", "two words", "$HOME"]);
        let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
        assert_eq!(words[2..], ["sh", "echo", "two words", "$HOME"]);
        assert!(
            words[1].starts_with("set -e\necho $$ > /cg/vclab-lab/worker1/init/cgroup.procs\nexec nsenter --target 1 ")
        );
    }
}
