//! A control group of the program's own, where one can be made: the kernel then counts memory and processes, and enforces
//! their limits (cgroups(7); Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst of the kernel).

use std::fs::{self, File};
use std::io::{self, Write};
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use nix::unistd::Pid;

use super::mounts::parse_mountinfo;
use super::spec::{Exceeded, Limits};

/// What the names of our groups begin with; the number of the process that made it follows.
const PREFIX: &str = "vcbuild-";

/// The files of one controller, which differ between the two versions of control groups.
#[derive(Debug, Clone, Copy)]
struct Controller {
    /// Where the limit is written to.
    limit: &'static str,
    /// Settings that come with it where the kernel has them.
    more: &'static [(&'static str, Option<&'static str>)],
    /// Where it tells that the limit was met, and the word before the count.
    events: (&'static str, &'static str),
}

const MEMORY_V1: Controller = Controller {
    limit: "memory.limit_in_bytes",
    // Memory and swap together: without it, what is over the limit only moves.
    more: &[("memory.memsw.limit_in_bytes", None)],
    events: ("memory.oom_control", "oom_kill "),
};
const MEMORY_V2: Controller = Controller {
    limit: "memory.max",
    more: &[("memory.swap.max", Some("0")), ("memory.oom.group", Some("1"))],
    events: ("memory.events", "oom_kill "),
};
/// The same in both versions.
const PROCESSES: Controller = Controller { limit: "pids.max", more: &[], events: ("pids.events", "max ") };

/// The control groups of one program: one, or with version 1 one a controller.
#[derive(Debug, Default)]
pub(super) struct Group {
    folders: Vec<Utf8PathBuf>,
    memory: Option<(Utf8PathBuf, Controller)>,
    processes: Option<(Utf8PathBuf, Controller)>,
}

impl Group {
    /// Makes what the machine lets us make, for the limits there are. What cannot be had is not limited by it.
    pub(super) fn make(limits: &Limits) -> Self {
        let mut group = Self::default();
        if limits.memory.is_none() && limits.processes.is_none() {
            return group;
        }
        let places = Places::find().unwrap_or_default();
        if let Some(place) = places.unified.iter().find(|place| has(place, "cgroup.subtree_control", "memory")) {
            sweep(place);
            group.limit(place, limits.memory, MEMORY_V2, limits.processes);
        }
        if let Some(place) = places.memory.filter(|_| group.memory.is_none() && limits.memory.is_some()) {
            sweep(&place);
            group.limit(&place, limits.memory, MEMORY_V1, None);
        }
        if let Some(place) = places.processes.filter(|_| group.processes.is_none() && limits.processes.is_some()) {
            sweep(&place);
            group.limit(&place, None, MEMORY_V1, limits.processes);
        }
        group
    }

    /// Puts a process into it, with the children it will have.
    pub(super) fn add(&self, pid: Pid) -> io::Result<()> {
        self.folders.iter().try_for_each(|folder| write(&folder.join("cgroup.procs"), &pid.to_string()))
    }

    /// Whether the kernel keeps the program to its memory.
    pub(super) fn limits_memory(&self) -> bool {
        self.memory.is_some()
    }

    /// Whether the kernel keeps the program to its number of processes.
    pub(super) fn limits_processes(&self) -> bool {
        self.processes.is_some()
    }

    /// The limit that the program was kept to.
    pub(super) fn exceeded(&self) -> Option<Exceeded> {
        let met = |meter: &Option<(Utf8PathBuf, Controller)>| {
            meter.as_ref().is_some_and(|(folder, controller)| controller.count(folder) > 0)
        };
        match (met(&self.memory), met(&self.processes)) {
            (true, _) => Some(Exceeded::Memory),
            (false, true) => Some(Exceeded::Processes),
            (false, false) => None,
        }
    }

    /// Ends everything in it, at once where the kernel can (version 2, since 5.14).
    pub(super) fn kill(&self) {
        for folder in &self.folders {
            let _ = write(&folder.join("cgroup.kill"), "1");
        }
    }

    /// Removes it, when everything in it has ended.
    pub(super) fn remove(&mut self, deadline: Instant) -> io::Result<()> {
        for folder in self.folders.drain(..) {
            loop {
                match fs::remove_dir(&folder) {
                    // The kernel lets go of what has ended a moment later.
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

    /// Makes a group in `place` with these limits; as many of them as can be set there.
    fn limit(&mut self, place: &Utf8Path, memory: Option<u64>, kind: Controller, processes: Option<u64>) {
        let folder = place.join(format!("{PREFIX}{}", std::process::id()));
        if fs::create_dir(&folder).is_err() {
            return;
        }
        let memory = memory.filter(|limit| kind.set(&folder, *limit).is_ok());
        let processes = processes.filter(|limit| PROCESSES.set(&folder, *limit).is_ok());
        // A group that limits nothing, or that nobody may be put into, is none.
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

/// Folders in which groups may be made.
#[derive(Debug, Default, PartialEq, Eq)]
struct Places {
    /// Version 2: this process's own group, which may have groups in it only where it is the root, and the one around it.
    unified: Vec<Utf8PathBuf>,
    /// Version 1, memory.
    memory: Option<Utf8PathBuf>,
    /// Version 1, pids.
    processes: Option<Utf8PathBuf>,
}

impl Places {
    fn find() -> io::Result<Self> {
        let (ours, mounts) = ("/proc/self/cgroup", "/proc/self/mountinfo");
        Ok(Self::parse(&fs::read_to_string(ours)?, &fs::read_to_string(mounts)?))
    }

    /// From `/proc/self/cgroup` and `/proc/self/mountinfo`.
    fn parse(ours: &str, mounts: &str) -> Self {
        let mounts: Vec<_> = parse_mountinfo(mounts).collect();
        // A line is ID:CONTROLLERS:PATH, with no controllers for version 2.
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
            // Within a container the mount may show only the part of the tree that is ours.
            let below = Utf8Path::new(group(controller)?);
            let below = below.strip_prefix(&mount.root).or_else(|_| below.strip_prefix("/")).ok()?;
            Some(mount.path.components().chain(below.components()).collect::<Utf8PathBuf>())
        };
        let unified = folder("cgroup2", "").into_iter();
        let unified = unified.flat_map(|own| [Some(own.clone()), own.parent().map(Utf8Path::to_owned)]).flatten();
        Self { unified: unified.collect(), memory: folder("cgroup", "memory"), processes: folder("cgroup", "pids") }
    }
}

/// Removes groups that a supervisor which was killed itself has left. One that is in use cannot be removed.
fn sweep(place: &Utf8Path) {
    let Ok(entries) = place.read_dir_utf8() else { return };
    for entry in entries.filter_map(Result::ok) {
        let maker = entry.file_name().strip_prefix(PREFIX).and_then(|pid| pid.parse::<u32>().ok());
        if maker.is_some_and(|pid| !Utf8PathBuf::from(format!("/proc/{pid}")).exists()) {
            let _ = fs::remove_dir(entry.path());
        }
    }
}

fn has(folder: &Utf8Path, file: &str, word: &str) -> bool {
    fs::read_to_string(folder.join(file)).is_ok_and(|text| text.split_whitespace().any(|one| one == word))
}

/// Writes to a file of the kernel, which is never made.
fn write(path: &Utf8Path, text: &str) -> io::Result<()> {
    File::options().write(true).open(path)?.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::Places;

    #[test]
    fn version_1_has_a_place_for_each_controller() {
        let ours = "9:name=systemd:/\n8:pids:/\n4:memory:/service/a\n0::/\n";
        let mounts = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
                      39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids\n";
        let places = Places::parse(ours, mounts);
        assert_eq!(places.memory.unwrap(), "/sys/fs/cgroup/memory/service/a");
        assert_eq!(places.processes.unwrap(), "/sys/fs/cgroup/pids");
        assert!(places.unified.is_empty());
    }

    #[test]
    fn version_2_has_our_group_and_the_one_around_it() {
        let mounts = "31 23 0:28 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        let places = Places::parse("0::/user.slice/app.slice/shell.scope\n", mounts);
        assert_eq!(
            places.unified,
            ["/sys/fs/cgroup/user.slice/app.slice/shell.scope", "/sys/fs/cgroup/user.slice/app.slice"]
        );
        // A container sees its own part as the root.
        let part = "31 23 0:28 /docker/abc /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw\n";
        assert_eq!(Places::parse("0::/docker/abc/x\n", part).unified[0], "/sys/fs/cgroup/x");
    }
}
