//! What a process and its descendants use, as `/proc` tells it: for machines that give us no control group.

use std::collections::BTreeMap;
use std::{fs, io};

use nix::unistd::Pid;

/// Memory and tasks of a process tree.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    /// Bytes that are in memory for it alone.
    pub(super) memory: u64,
    /// Processes and threads.
    pub(super) tasks: u64,
    /// The descendants, without the process itself.
    pub(super) pids: Vec<Pid>,
}

/// One process in a listing.
struct Process {
    parent: i32,
    threads: u64,
}

impl Usage {
    /// What `root` and its descendants use now.
    pub(super) fn of(root: Pid) -> io::Result<Self> {
        let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
        let mut threads = BTreeMap::new();
        for entry in fs::read_dir("/proc")? {
            let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
            // What ended since it was listed uses nothing.
            let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
            let Some(process) = parse_stat(&stat) else { continue };
            children.entry(process.parent).or_default().push(pid);
            threads.insert(pid, process.threads);
        }
        let mut usage = Self::default();
        let mut queue = vec![root.as_raw()];
        while let Some(pid) = queue.pop() {
            usage.tasks += threads.get(&pid).copied().unwrap_or_default();
            usage.memory += memory(pid);
            let below = children.remove(&pid).unwrap_or_default();
            usage.pids.extend(below.iter().copied().map(Pid::from_raw));
            queue.extend(below);
        }
        Ok(usage)
    }
}

/// How many processes and threads there are on the machine, as far as it shows them.
pub(super) fn tasks() -> io::Result<u64> {
    let count = |entry: io::Result<fs::DirEntry>| {
        let stat = fs::read_to_string(entry.ok()?.path().join("stat")).ok()?;
        Some(parse_stat(&stat)?.threads)
    };
    Ok(fs::read_dir("/proc")?.filter_map(count).sum())
}

/// The parent and the number of threads, from `/proc/PID/stat` (proc_pid_stat(5)). The name before them may hold anything.
fn parse_stat(stat: &str) -> Option<Process> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    // Fields are numbered from 1; the first here is the third.
    Some(Process { parent: fields.get(1)?.parse().ok()?, threads: fields.get(17)?.parse().ok()? })
}

/// What is in memory for a process alone: without files that others may have mapped too.
fn memory(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let field = |name: &str| {
        let value = status.lines().find_map(|line| line.strip_prefix(name))?;
        value.trim().strip_suffix(" kB")?.parse::<u64>().ok()
    };
    field("RssAnon:").unwrap_or_default() * 1024
}

#[cfg(test)]
mod tests {
    use nix::unistd::Pid;

    use super::{Usage, parse_stat};

    #[test]
    fn a_name_that_looks_like_fields_changes_nothing() {
        let stat = "7 (a) R 1 (b)) S 5 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 3 0 100 0 0";
        let process = parse_stat(stat).unwrap();
        assert_eq!((process.parent, process.threads), (5, 3));
    }

    #[test]
    fn this_process_uses_something_and_its_children_are_found() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let usage = Usage::of(Pid::this()).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(usage.tasks >= 2 && usage.memory > 100_000, "{usage:?}");
        assert!(usage.pids.contains(&Pid::from_raw(child.id().cast_signed())), "{usage:?}");
    }
}
