//! A control group of the program's own, if one can be created: the kernel then counts memory and processes, and
//! enforces their limits (cgroups(7); Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst of the kernel).

use std::fs::{self, File};
use std::io::{self, Write};
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use nix::unistd::Pid;

use super::mounts::parse_mountinfo;
use super::spec::{ExceededLimit, Limits};

/// The prefix of the names of vcbuild's groups; the PID of the process that created the group follows.
const PREFIX: &str = "vcbuild-";

/// A group that divides its resources may contain no processes itself, so those of a scope are moved to a subgroup with
/// this name.
const LEAF: &str = "vcbuild-supervisor";

/// The files of one controller, which differ between the two versions of control groups.
#[derive(Debug, Clone, Copy)]
struct Controller {
    /// The file to which the limit is written.
    limit: &'static str,
    /// Further settings, which some kernels lack.
    more: &'static [(&'static str, Option<&'static str>)],
    /// The file that counts how often the limit was reached, and the word before the count.
    events: (&'static str, &'static str),
}

const MEMORY_V1: Controller = Controller {
    limit: "memory.limit_in_bytes",
    // Memory and swap together: otherwise, the excess would only be swapped out.
    more: &[("memory.memsw.limit_in_bytes", None)],
    events: ("memory.oom_control", "oom_kill "),
};
const MEMORY_V2: Controller = Controller {
    limit: "memory.max",
    more: &[("memory.swap.max", Some("0")), ("memory.oom.group", Some("1"))],
    events: ("memory.events", "oom_kill "),
};
/// The same files in both versions.
const PROCESSES: Controller = Controller { limit: "pids.max", more: &[], events: ("pids.events", "max ") };

/// The control groups of one program: one, or with version 1 one for each controller.
#[derive(Debug, Default)]
pub(super) struct Group {
    folders: Vec<Utf8PathBuf>,
    memory: Option<(Utf8PathBuf, Controller)>,
    processes: Option<(Utf8PathBuf, Controller)>,
    /// The move of this process that was necessary to create the group.
    moved: Option<OwnGroupMove>,
}

impl Group {
    /// Creates groups for the limits as far as the machine permits. A limit that no group can enforce is left out.
    pub(super) fn make(limits: &Limits) -> Self {
        let mut group = Self::default();
        if limits.memory.is_none() && limits.processes.is_none() {
            return group;
        }
        let cgroup_mounts = CgroupMounts::find().unwrap_or_default();
        let wanted = [("memory", limits.memory.is_some()), ("pids", limits.processes.is_some())];
        let wanted: Vec<&str> = wanted.into_iter().filter_map(|(name, is)| is.then_some(name)).collect();
        // A group that is delegated to this process and contains no other can be divided.
        let own = cgroup_mounts.unified.first();
        group.moved = own.and_then(|own| {
            let can = wanted.iter().all(|name| has(own, "cgroup.controllers", name));
            OwnGroupMove::within(own, &wanted).ok().filter(|_| can)
        });
        // Tries the nearest enclosing group with all controllers, then one with the memory controller, because memory
        // cannot be counted as well without it.
        let has_all = |place: &&Utf8PathBuf| wanted.iter().all(|name| has(place, "cgroup.subtree_control", name));
        let has_memory = |place: &&Utf8PathBuf| has(place, "cgroup.subtree_control", "memory");
        let candidates =
            cgroup_mounts.unified.iter().filter(has_all).chain(cgroup_mounts.unified.iter().filter(has_memory));
        for place in candidates {
            sweep(place);
            group.limit(place, limits.memory, MEMORY_V2, limits.processes);
            if !group.folders.is_empty() {
                break;
            }
        }
        if let Some(place) = cgroup_mounts.memory.filter(|_| group.memory.is_none() && limits.memory.is_some()) {
            sweep(&place);
            group.limit(&place, limits.memory, MEMORY_V1, None);
        }
        if let Some(place) = cgroup_mounts.processes.filter(|_| group.processes.is_none() && limits.processes.is_some())
        {
            sweep(&place);
            group.limit(&place, None, MEMORY_V1, limits.processes);
        }
        group
    }

    /// Adds a process, and with it its future children.
    pub(super) fn add(&self, pid: Pid) -> io::Result<()> {
        self.folders.iter().try_for_each(|folder| write(&folder.join("cgroup.procs"), &pid.to_string()))
    }

    /// Whether the kernel enforces the memory limit.
    pub(super) fn limits_memory(&self) -> bool {
        self.memory.is_some()
    }

    /// Whether the kernel enforces the limit on processes.
    pub(super) fn limits_processes(&self) -> bool {
        self.processes.is_some()
    }

    /// Returns the limit that the program has reached, if any.
    pub(super) fn exceeded(&self) -> Option<ExceededLimit> {
        let met = |meter: &Option<(Utf8PathBuf, Controller)>| {
            meter.as_ref().is_some_and(|(folder, controller)| controller.count(folder) > 0)
        };
        match (met(&self.memory), met(&self.processes)) {
            (true, _) => Some(ExceededLimit::Memory),
            (false, true) => Some(ExceededLimit::Processes),
            (false, false) => None,
        }
    }

    /// Kills all processes in the groups. The kernel supports this in version 2 since 5.14; otherwise, does nothing.
    pub(super) fn kill(&self) {
        for folder in &self.folders {
            let _ = write(&folder.join("cgroup.kill"), "1");
        }
    }

    /// Removes the groups. All processes in them must have ended.
    pub(super) fn remove(&mut self, deadline: Instant) -> io::Result<()> {
        let removed = self.remove_folders(deadline);
        self.moved = None;
        removed
    }

    fn remove_folders(&mut self, deadline: Instant) -> io::Result<()> {
        for folder in self.folders.drain(..) {
            loop {
                match fs::remove_dir(&folder) {
                    // The kernel releases ended processes with a short delay.
                    Err(error) if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < deadline => {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => break,
                }
            }
        }
        Ok(())
    }

    /// Creates a group in `place` with as many of these limits as can be set there.
    fn limit(&mut self, place: &Utf8Path, memory: Option<u64>, kind: Controller, processes: Option<u64>) {
        let folder = place.join(format!("{PREFIX}{}", std::process::id()));
        if fs::create_dir(&folder).is_err() {
            return;
        }
        let memory = memory.filter(|limit| kind.set(&folder, *limit).is_ok());
        let processes = processes.filter(|limit| PROCESSES.set(&folder, *limit).is_ok());
        // A group is useless if it limits nothing or if no process can be added to it.
        let useful = memory.is_some() || processes.is_some();
        if !useful || File::options().write(true).open(folder.join("cgroup.procs")).is_err() {
            let _ = fs::remove_dir(&folder);
            return;
        }
        self.memory = memory.map(|_| (folder.clone(), kind)).or(self.memory.take());
        self.processes = processes.map(|_| (folder.clone(), PROCESSES)).or(self.processes.take());
        self.folders.push(folder);
    }
}

impl Controller {
    fn set(&self, folder: &Utf8Path, limit: u64) -> io::Result<()> {
        let limit = limit.to_string();
        write(&folder.join(self.limit), &limit)?;
        for (file, value) in self.more {
            // Kernels without swap accounting lack the file.
            let _ = write(&folder.join(file), value.unwrap_or(&limit));
        }
        Ok(())
    }

    fn count(&self, folder: &Utf8Path) -> u64 {
        let text = fs::read_to_string(folder.join(self.events.0)).unwrap_or_default();
        let count = text.lines().find_map(|line| line.strip_prefix(self.events.1)?.trim().parse().ok());
        count.unwrap_or_default()
    }
}

/// Folders in which groups may be created.
#[derive(Debug, Default, PartialEq, Eq)]
struct CgroupMounts {
    /// Version 2: this process's own group and all enclosing groups, from the inside out. The own group may contain
    /// subgroups only if it is the root or was divided.
    unified: Vec<Utf8PathBuf>,
    /// Version 1: the memory controller.
    memory: Option<Utf8PathBuf>,
    /// Version 1: the pids controller.
    processes: Option<Utf8PathBuf>,
}

impl CgroupMounts {
    fn find() -> io::Result<Self> {
        let (ours, mounts) = ("/proc/self/cgroup", "/proc/self/mountinfo");
        Ok(Self::parse(&fs::read_to_string(ours)?, &fs::read_to_string(mounts)?))
    }

    /// Parses `/proc/self/cgroup` and `/proc/self/mountinfo`.
    fn parse(ours: &str, mounts: &str) -> Self {
        let mounts: Vec<_> = parse_mountinfo(mounts).collect();
        // Each line is ID:CONTROLLERS:PATH, without controllers for version 2.
        let group = |wanted: &str| {
            let fields = ours.lines().map(|line| line.splitn(3, ':').collect::<Vec<_>>());
            let mut paths = fields.filter_map(|fields| match fields[..] {
                [_, controllers, path] if controllers.split(',').any(|one| one == wanted) => Some(path),
                _ => None,
            });
            paths.next()
        };
        let folder = |kind: &str, controller: &str| {
            let held = |options: &str| controller.is_empty() || options.split(',').any(|one| one == controller);
            let mount = mounts.iter().find(|mount| mount.kind == kind && held(&mount.options))?;
            // In a container, the mount may show only the container's part of the hierarchy.
            let below = Utf8Path::new(group(controller)?);
            let below = below.strip_prefix(&mount.root).or_else(|_| below.strip_prefix("/")).ok()?;
            let place = mount.path.components().chain(below.components()).collect::<Utf8PathBuf>();
            Some((mount.path.clone(), place))
        };
        let around = |(top, own): (Utf8PathBuf, Utf8PathBuf)| {
            own.ancestors().take_while(|folder| folder.starts_with(&top)).map(Utf8Path::to_owned).collect()
        };
        let place = |controller| folder("cgroup", controller).map(|(_, place)| place);
        let unified = folder("cgroup2", "").map(around).unwrap_or_default();
        Self { unified, memory: place("memory"), processes: place("pids") }
    }
}

/// Removes the groups of supervisors that were killed. A group that is in use cannot be removed.
fn sweep(place: &Utf8Path) {
    let Ok(entries) = place.read_dir_utf8() else { return };
    for entry in entries.filter_map(Result::ok) {
        let maker = entry.file_name().strip_prefix(PREFIX).and_then(|pid| pid.parse::<u32>().ok());
        if maker.is_some_and(|pid| !Utf8PathBuf::from(format!("/proc/{pid}")).exists()) {
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// Returns the version 2 group of this process.
pub(super) fn own() -> Option<Utf8PathBuf> {
    CgroupMounts::find().ok()?.unified.into_iter().next()
}

/// Whether a kernel file contains this word.
pub(super) fn has(folder: &Utf8Path, file: &str, word: &str) -> bool {
    fs::read_to_string(folder.join(file)).is_ok_and(|text| text.split_whitespace().any(|one| one == word))
}

/// Writes to a kernel file, which is never created.
pub(super) fn write(path: &Utf8Path, text: &str) -> io::Result<()> {
    File::options().write(true).open(path)?.write_all(text.as_bytes())
}

/// The move of this process into a subgroup of its own group.
#[derive(Debug)]
pub(super) struct OwnGroupMove {
    own: Utf8PathBuf,
    leaf: Utf8PathBuf,
    controllers: String,
}

impl OwnGroupMove {
    /// Moves this process into a subgroup of its group `own`, so that `own` can divide these controllers among its
    /// subgroups.
    ///
    /// # Errors
    /// Returns an error if the group contains other processes, or if the kernel does not permit the change.
    pub(super) fn within(own: &Utf8Path, controllers: &[&str]) -> io::Result<Self> {
        let me = std::process::id().to_string();
        if fs::read_to_string(own.join("cgroup.procs"))?.split_whitespace().any(|pid| pid != me) {
            return Err(io::Error::other("others are in the group"));
        }
        let list = |sign: &str| controllers.iter().map(|name| format!("{sign}{name}")).collect::<Vec<_>>().join(" ");
        let moved = Self { own: own.to_owned(), leaf: own.join(LEAF), controllers: list("-") };
        fs::create_dir(&moved.leaf)?;
        // From here on, dropping the value undoes the changes.
        write(&moved.leaf.join("cgroup.procs"), &me)?;
        write(&own.join("cgroup.subtree_control"), &list("+"))?;
        Ok(moved)
    }
}

impl Drop for OwnGroupMove {
    fn drop(&mut self) {
        // A scope that remains is removed with its last process.
        let _ = write(&self.own.join("cgroup.subtree_control"), &self.controllers);
        let _ = write(&self.own.join("cgroup.procs"), &std::process::id().to_string());
        let _ = fs::remove_dir(&self.leaf);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    use camino::{Utf8Path, Utf8PathBuf};
    use nix::unistd::Pid;

    use super::{CgroupMounts, Group, OwnGroupMove, has, write};

    #[test]
    fn version_1_has_a_place_for_each_controller() {
        let ours = "9:name=systemd:/\n8:pids:/\n4:memory:/service/a\n0::/\n";
        let mounts = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
                      39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids\n";
        let cgroup_mounts = CgroupMounts::parse(ours, mounts);
        assert_eq!(cgroup_mounts.memory.unwrap(), "/sys/fs/cgroup/memory/service/a");
        assert_eq!(cgroup_mounts.processes.unwrap(), "/sys/fs/cgroup/pids");
        assert!(cgroup_mounts.unified.is_empty());
    }

    #[test]
    fn version_2_has_our_group_and_those_around_it() {
        let mounts = "31 23 0:28 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        let cgroup_mounts = CgroupMounts::parse("0::/user.slice/app.slice/shell.scope\n", mounts);
        assert_eq!(
            cgroup_mounts.unified,
            [
                "/sys/fs/cgroup/user.slice/app.slice/shell.scope",
                "/sys/fs/cgroup/user.slice/app.slice",
                "/sys/fs/cgroup/user.slice",
                "/sys/fs/cgroup"
            ]
        );
        // A container sees its own part as the root.
        let part = "31 23 0:28 /docker/abc /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw\n";
        assert_eq!(CgroupMounts::parse("0::/docker/abc/x\n", part).unified[0], "/sys/fs/cgroup/x");
    }

    /// Returns the root of the machine's version 2 groups, if this process may create groups there.
    fn unified() -> Option<Utf8PathBuf> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mut mounts = super::parse_mountinfo(&mounts);
        let top = mounts.find(|mount| mount.kind == "cgroup2" && mount.root == "/")?.path;
        let probe = top.join(format!("vcbuild-test-probe-{}", std::process::id()));
        fs::create_dir(&probe).and_then(|()| fs::remove_dir(&probe)).ok().map(|()| top)
    }

    fn group(top: &Utf8Path, name: &str) -> Utf8PathBuf {
        let folder = top.join(format!("vcbuild-test-{name}-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        folder
    }

    #[test]
    fn all_in_a_group_end_at_once_and_it_goes() {
        let Some(top) = unified() else { return };
        let folder = group(&top, "kill");
        let mut group = Group { folders: vec![folder.clone()], ..Group::default() };
        let mut shell =
            Command::new("sh").args(["-c", "read go; sleep 600 & sleep 600"]).stdin(Stdio::piped()).spawn().unwrap();
        group.add(Pid::from_raw(shell.id().cast_signed())).unwrap();
        drop(shell.stdin.take());
        group.kill();
        shell.wait().unwrap();
        group.remove(Instant::now() + Duration::from_secs(30)).unwrap();
        assert!(!folder.exists());
    }

    #[test]
    fn a_group_of_our_own_is_divided_and_is_as_before_afterwards() {
        /// Set in the child process of this test, which is alone in its group.
        const WITHIN: &str = "VCBUILD_TEST_GROUP";
        if let Ok(own) = std::env::var(WITHIN) {
            let own = Utf8Path::new(&own);
            let mut line = String::new();
            std::io::stdin().read_line(&mut line).unwrap();
            let controllers = fs::read_to_string(own.join("cgroup.controllers")).unwrap();
            let controllers: Vec<&str> = controllers.split_whitespace().collect();
            let moved = OwnGroupMove::within(own, &controllers).unwrap();
            assert!(controllers.iter().all(|name| has(own, "cgroup.subtree_control", name)));
            let below = group(own, "below");
            assert!(controllers.iter().all(|name| has(&below, "cgroup.controllers", name)));
            fs::remove_dir(&below).unwrap();
            drop(moved);
            assert_eq!(fs::read_to_string(own.join("cgroup.subtree_control")).unwrap().trim(), "");
            assert_eq!(fs::read_to_string(own.join("cgroup.procs")).unwrap().trim(), std::process::id().to_string());
            return;
        }
        let Some(top) = unified() else { return };
        let own = group(&top, "own");
        let name = "cgroup::tests::a_group_of_our_own_is_divided_and_is_as_before_afterwards";
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", name, "--nocapture"]).env(WITHIN, &own).stdin(Stdio::piped());
        let mut child = child.spawn().unwrap();
        write(&own.join("cgroup.procs"), &child.id().to_string()).unwrap();
        // With another process in the group, nothing is changed.
        assert!(OwnGroupMove::within(&own, &[]).is_err());
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success());
        let deadline = Instant::now() + Duration::from_secs(30);
        while fs::remove_dir(&own).is_err() {
            assert!(Instant::now() < deadline, "{own} stays");
        }
    }
}
