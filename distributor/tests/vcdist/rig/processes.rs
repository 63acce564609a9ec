//! Processes of this machine, found by what the kernel says of them.

use std::fs;
use std::process::Command;

use camino::Utf8Path;

/// The children of a process, as of now.
pub(super) fn children(parent: u32) -> Vec<u32> {
    let is_child = |id: &u32| {
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        status.lines().any(|line| line.strip_prefix("PPid:").is_some_and(|id| id.trim() == parent.to_string()))
    };
    all().filter(is_child).collect()
}

/// The processes whose program is below `folder`.
pub(super) fn of_programs_in(folder: &Utf8Path) -> Vec<u32> {
    all().filter(|id| fs::read_link(format!("/proc/{id}/exe")).is_ok_and(|exe| exe.starts_with(folder))).collect()
}

/// Whether a process was started with this argument.
pub(super) fn has_argument(id: u32, argument: &str) -> bool {
    let line = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0).any(|one| one == argument.as_bytes())
}

/// The most memory that a process has had at once so far, in bytes; nothing when it has ended.
pub(super) fn peak_memory(id: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    peak.trim().trim_end_matches(" kB").parse::<u64>().ok().map(|kib| kib << 10)
}

/// Sends a process a signal. It may have ended by itself.
pub(super) fn signal(id: u32, name: &str) {
    let _ = Command::new("kill").args(["-s", name, &id.to_string()]).output().expect("kill runs");
}

fn all() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}
