//! The resource usage of a program and its descendants according to `/proc`, for machines without control groups.
//!
//! Memory counts once wherever it is held: privately, in files of the sandbox's own tmpfs, in memory files
//! (memfd_create(2)), in memory that processes share, and in System V segments.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::{fs, io};

use nix::sys::statvfs::statvfs;
use nix::unistd::Pid;

/// The descendants of a process.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ProcessTree {
    /// The number of processes and threads.
    pub(super) tasks: u64,
    /// The descendants, without the process itself.
    pub(super) pids: Vec<Pid>,
}

/// A process in the listing.
struct Process {
    parent: i32,
    threads: u64,
}

/// The identity of memory that several processes may share: device and inode, as in `/proc/PID/maps`.
type Name = (u32, u32, u64);

/// Memory with an identity of its own in the kernel.
#[derive(Debug, Default)]
struct Shared {
    /// Its size in bytes, if a process has it open.
    held: Option<u64>,
    /// The mapped ranges: start and end, in bytes.
    mapped: Vec<(u64, u64)>,
}

impl ProcessTree {
    /// Returns the present descendants of `root`.
    pub(super) fn of(root: Pid) -> io::Result<Self> {
        let mut children: BTreeMap<i32, Vec<(i32, u64)>> = BTreeMap::new();
        for entry in fs::read_dir("/proc")? {
            let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
            // A process that has ended since the listing uses nothing.
            let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
            let Some(process) = parse_stat(&stat) else { continue };
            children.entry(process.parent).or_default().push((pid, process.threads));
        }
        let mut tree = Self::default();
        let mut queue = vec![root.as_raw()];
        while let Some(pid) = queue.pop() {
            for (child, threads) in children.remove(&pid).unwrap_or_default() {
                tree.tasks += threads;
                tree.pids.push(Pid::from_raw(child));
                queue.push(child);
            }
        }
        Ok(tree)
    }

    /// Returns the number of bytes that they have in memory or swapped out. The value is exact if it exceeds `limit`;
    /// otherwise, it may be too high. `init` is the first of the processes if they are in a sandbox.
    ///
    /// # Errors
    /// Returns an error if the machine does not report it.
    pub(super) fn memory(&self, limit: u64, init: Option<Pid>) -> io::Result<u64> {
        let mut private = 0;
        let mut shared: BTreeMap<Name, Shared> = BTreeMap::new();
        for pid in &self.pids {
            private += gone_is_nothing(own(*pid))?;
            for found in [mapped(*pid, init.is_some(), &mut shared), held(*pid, &mut shared)] {
                match found {
                    // Without a sandbox, there may be a process that its own user may not inspect.
                    Err(error) if error.kind() == io::ErrorKind::PermissionDenied && init.is_none() => {}
                    found => gone_is_nothing(found)?,
                }
            }
        }
        let mut common: u64 = shared.into_values().map(Shared::bytes).sum();
        if let Some(init) = init {
            common += gone_is_nothing(files(init))? + segments()?;
        }
        if private + common <= limit {
            return Ok(private + common);
        }
        // Forked processes share pages until one writes to them, which takes long to measure.
        let exactly = |pid: &Pid| gone_is_nothing(proportional(*pid));
        Ok(common + self.pids.iter().map(exactly).sum::<io::Result<u64>>()?)
    }
}

impl Shared {
    /// Returns its size. If no process has it open, only the mapped ranges are known, and all of them may be filled.
    fn bytes(mut self) -> u64 {
        if let Some(held) = self.held {
            return held;
        }
        self.mapped.sort_unstable();
        let (mut bytes, mut end) = (0, 0);
        for (from, to) in self.mapped {
            let from = from.max(end);
            bytes += to.saturating_sub(from);
            end = end.max(to);
        }
        bytes
    }
}

/// Returns the number of processes and threads on the machine, as far as they are visible.
pub(super) fn tasks() -> io::Result<u64> {
    let count = |entry: io::Result<fs::DirEntry>| {
        let stat = fs::read_to_string(entry.ok()?.path().join("stat")).ok()?;
        Some(parse_stat(&stat)?.threads)
    };
    Ok(fs::read_dir("/proc")?.filter_map(count).sum())
}

/// Returns the total size of the files that these processes have open and that have no name, each once.
pub(super) fn unnamed(pids: &[Pid]) -> u64 {
    let mut files = BTreeMap::new();
    for pid in pids {
        let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { continue };
        for entry in entries.filter_map(Result::ok) {
            let meta = fs::metadata(entry.path()).ok().filter(|meta| meta.is_file() && meta.nlink() == 0);
            files.extend(meta.map(|meta| ((meta.dev(), meta.ino()), meta.blocks() * 512)));
        }
    }
    files.into_values().sum()
}

/// Parses the parent and the number of threads from `/proc/PID/stat` (proc_pid_stat(5)). The name before them may
/// contain any characters.
fn parse_stat(stat: &str) -> Option<Process> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    // Fields are numbered from 1; the first here is the third.
    Some(Process { parent: fields.get(1)?.parse().ok()?, threads: fields.get(17)?.parse().ok()? })
}

/// Returns the private memory of a process, including what it may share with its parent and children after a fork.
fn own(pid: Pid) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let fields = [field(&status, "RssAnon:"), field(&status, "VmSwap:"), field(&status, "VmPTE:")];
    match fields {
        // It has ended, but its parent has not waited for it.
        _ if field(&status, "VmSize:").is_none() => Ok(0),
        [None, ..] => Err(io::Error::other("the kernel does not report the private memory of processes")),
        fields => Ok(fields.into_iter().flatten().sum()),
    }
}

/// Returns the private memory of a process, with each shared page divided among the processes that share it.
fn proportional(pid: Pid) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let tables = field(&status, "VmPTE:").unwrap_or_default();
    let told = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok();
    let told = told.as_deref().and_then(|told| Some((field(told, "Pss_Anon:")?, field(told, "SwapPss:")?)));
    // Kernels before 5.4 do not report it.
    told.map_or_else(|| own(pid), |(anonymous, swapped)| Ok(anonymous + swapped + tables))
}

/// Parses a field in kB, and converts it to bytes.
fn field(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// Records the mapped memory that a process may share (proc_pid_maps(5)). In a sandbox, System V segments are counted
/// elsewhere.
fn mapped(pid: Pid, confined: bool, shared: &mut BTreeMap<Name, Shared>) -> io::Result<()> {
    for line in fs::read_to_string(format!("/proc/{pid}/maps"))?.lines() {
        if let Some((name, part)) = parse_mapping(line, confined) {
            shared.entry(name).or_default().mapped.push(part);
        }
    }
    Ok(())
}

fn parse_mapping(line: &str, confined: bool) -> Option<(Name, (u64, u64))> {
    let mut fields = line.split_whitespace();
    let (range, rights, offset, device, inode) =
        (fields.next()?, fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let path = fields.next()?;
    let counts = match path {
        "/dev/zero" => rights.ends_with('s'),
        "/anon_hugepage" => true,
        path if path.starts_with("/SYSV") => !confined,
        path => path.starts_with("/memfd:"),
    };
    // If the file can still be opened by this name, it is a regular file.
    if !counts || fields.next_back() != Some("(deleted)") {
        return None;
    }
    let number = |text: &str| u64::from_str_radix(text, 16).ok();
    let (from, to) = range.split_once('-')?;
    let (major, minor) = device.split_once(':')?;
    let (start, size) = (number(offset)?, number(to)?.checked_sub(number(from)?)?);
    let name = (u32::from_str_radix(major, 16).ok()?, u32::from_str_radix(minor, 16).ok()?, inode.parse().ok()?);
    Some((name, (start, start.saturating_add(size))))
}

/// Records the memory files that a process has open.
fn held(pid: Pid, shared: &mut BTreeMap<Name, Shared>) -> io::Result<()> {
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let path = entry?.path();
        if !fs::read_link(&path).is_ok_and(|link| link.as_os_str().as_encoded_bytes().starts_with(b"/memfd:")) {
            continue;
        }
        if let Ok(meta) = fs::metadata(&path) {
            let name = (rustix::fs::major(meta.dev()), rustix::fs::minor(meta.dev()), meta.ino());
            shared.entry(name).or_default().held = Some(meta.blocks() * 512);
        }
    }
    Ok(())
}

/// Returns the size of the files in the sandbox's tmpfs, plus a small amount for each. Before the tmpfs is mounted,
/// there are none.
fn files(init: Pid) -> io::Result<u64> {
    let root = format!("/proc/{init}/root");
    let (theirs, ours) = (fs::metadata(format!("{root}/"))?, fs::metadata("/")?);
    if theirs.dev() == ours.dev() {
        return Ok(0);
    }
    let full = statvfs(root.as_str())?;
    let blocks = full.blocks().saturating_sub(full.blocks_free()) * full.fragment_size();
    Ok(blocks + full.files().saturating_sub(full.files_free()) * super::mounts::INODE)
}

/// Returns the size of the System V segments in this process's namespace, which is the sandbox's (proc_sysvipc(5)).
fn segments() -> io::Result<u64> {
    let table = match fs::read_to_string("/proc/sysvipc/shm") {
        // The kernel does not support them.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        table => table?,
    };
    // The last two columns: bytes in memory, and swapped out.
    let bytes =
        |line: &str| line.split_whitespace().rev().take(2).filter_map(|one| one.parse::<u64>().ok()).sum::<u64>();
    Ok(table.lines().skip(1).map(bytes).sum())
}

/// Treats a process that ended during the measurement as using nothing.
fn gone_is_nothing<T: Default>(found: io::Result<T>) -> io::Result<T> {
    match found {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(T::default()),
        Err(error) if error.raw_os_error() == Some(nix::libc::ESRCH) => Ok(T::default()),
        found => found,
    }
}

#[cfg(test)]
mod tests {
    use nix::unistd::Pid;

    use super::{ProcessTree, Shared, parse_mapping, parse_stat};

    #[test]
    fn a_name_that_looks_like_fields_changes_nothing() {
        let stat = "7 (a) R 1 (b)) S 5 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 3 0 100 0 0";
        let process = parse_stat(stat).unwrap();
        assert_eq!((process.parent, process.threads), (5, 3));
    }

    #[test]
    fn this_process_has_children_that_use_something() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let tree = ProcessTree::of(Pid::this()).unwrap();
        let memory = tree.memory(0, None).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(tree.tasks >= 1 && memory > 10_000, "{tree:?} {memory}");
        assert!(tree.pids.contains(&Pid::from_raw(child.id().cast_signed())), "{tree:?}");
    }

    #[test]
    fn memory_that_may_be_shared_is_told_from_files() {
        let line =
            |rights: &str, path: &str| format!("7f0000001000-7f0000003000 {rights} 00001000 00:01 1029   {path}");
        let counts = |rights, path, confined| parse_mapping(&line(rights, path), confined);
        let found = Some(((0, 1, 1029), (0x1000, 0x3000)));
        assert_eq!(counts("rw-s", "/dev/zero (deleted)", true), found);
        assert_eq!(counts("rw-s", "/memfd:a name (deleted)", true), found);
        assert_eq!(counts("r--p", "/memfd: (deleted)", true), found);
        assert_eq!(counts("rw-s", "/SYSV00000000 (deleted)", false), found);
        for (rights, path) in [
            ("rw-s", "/SYSV00000000 (deleted)"),
            ("rw-p", "/dev/zero (deleted)"),
            ("rw-s", "/tmp/file (deleted)"),
            ("rw-s", "/memfd:a"),
            ("rw-p", ""),
            ("rw-p", "[heap]"),
        ] {
            assert_eq!(counts(rights, path, true), None, "{path}");
        }
    }

    #[test]
    fn what_several_have_mapped_counts_once() {
        let mapped = vec![(0, 10), (20, 30), (5, 12), (20, 30)];
        assert_eq!(Shared { held: None, mapped: mapped.clone() }.bytes(), 22);
        assert_eq!(Shared { held: Some(4), mapped }.bytes(), 4);
    }
}
