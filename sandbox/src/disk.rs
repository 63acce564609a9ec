//! Measures how much of the disk a program uses: the files in the folders that it may write to, and files that it
//! has open without a name. Measuring takes long, so it is done only when the usage of the disks, by anybody, has grown
//! by as much as the program may still use.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::time::Instant;

use camino::Utf8PathBuf;
use nix::sys::statvfs::statvfs;
use nix::unistd::Pid;
use walkdir::WalkDir;

use super::spec::Spec;
use super::usage;

/// The minimum ratio of the pause between measurements to the duration of a measurement.
const SHARE: u32 = 20;

/// The disk usage of a program.
#[derive(Debug)]
pub(super) struct Disk {
    limit: u64,
    folders: Vec<Utf8PathBuf>,
    /// One folder for each of their file systems.
    systems: Vec<Utf8PathBuf>,
    /// The usage of these file systems at the last measurement, and how much the program may use in addition.
    full: u64,
    left: u64,
    not_before: Instant,
}

impl Disk {
    /// Starts the measurement. Returns `None` if there is no limit or no writable folder.
    pub(super) fn watch(spec: &Spec) -> Option<Self> {
        let limit = spec.limits.disk?;
        let folders: Vec<_> = spec.mounts.iter().filter(|one| one.writable).map(|one| one.host.clone()).collect();
        let mut known = BTreeSet::new();
        let is_new = |folder: &&Utf8PathBuf| folder.metadata().is_ok_and(|meta| known.insert(meta.dev()));
        let systems: Vec<_> = folders.iter().filter(is_new).cloned().collect();
        if systems.is_empty() {
            return None;
        }
        let full = full(&systems).unwrap_or_default();
        Some(Self { limit, folders, systems, full, left: limit, not_before: Instant::now() })
    }

    /// Whether the program has exceeded its limit. `pids` returns its processes.
    ///
    /// # Errors
    /// Returns an error if the usage cannot be measured.
    pub(super) fn is_exceeded(&mut self, pids: impl FnOnce() -> io::Result<Vec<Pid>>) -> io::Result<bool> {
        let begun = Instant::now();
        let now = full(&self.systems)?;
        if begun < self.not_before || now.saturating_sub(self.full) <= self.left {
            return Ok(false);
        }
        let taken = self.named()?.saturating_add(usage::unnamed(&pids()?));
        (self.full, self.left) = (now, self.limit.saturating_sub(taken));
        self.not_before = Instant::now() + begun.elapsed() * SHARE;
        Ok(taken > self.limit)
    }

    /// Returns the disk usage of the files in the folders; a hard-linked file counts once.
    fn named(&self) -> io::Result<u64> {
        let (mut taken, mut linked) = (0_u64, BTreeSet::new());
        for folder in &self.folders {
            for entry in WalkDir::new(folder) {
                let meta = match entry.and_then(|entry| entry.metadata()).map_err(io::Error::from) {
                    // Programs create and remove files meanwhile; without a sandbox, they may make a folder
                    // inaccessible to their user.
                    Err(error)
                        if matches!(
                            error.kind(),
                            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::PermissionDenied
                        ) =>
                    {
                        continue;
                    }
                    meta => meta?,
                };
                if meta.is_dir() || meta.nlink() < 2 || linked.insert((meta.dev(), meta.ino())) {
                    taken = taken.saturating_add(meta.blocks() * 512);
                }
            }
        }
        Ok(taken)
    }
}

/// Returns the used bytes of these file systems, by all users.
fn full(systems: &[Utf8PathBuf]) -> io::Result<u64> {
    let one = |folder: &Utf8PathBuf| {
        let stat = statvfs(folder.as_std_path())?;
        Ok(stat.blocks().saturating_sub(stat.blocks_free()) * stat.fragment_size())
    };
    systems.iter().map(one).sum()
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::Write;
    use std::os::unix::fs::symlink;

    use camino::Utf8PathBuf;
    use nix::unistd::Pid;

    use super::super::spec::{Limits, Mount, Spec};
    use super::Disk;

    const MIB: usize = 1 << 20;

    /// Returns a folder to which a program may write up to `limit` MiB.
    fn watched(limit: usize) -> (tempfile::TempDir, Utf8PathBuf, Disk) {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::try_from(folder.path().to_owned()).unwrap();
        let mut spec = Spec::empty(false);
        spec.limits = Limits { disk: Some((limit * MIB) as u64), ..Limits::default() };
        spec.mounts = vec![Mount { host: path.clone(), inside: "/x".into(), writable: true }];
        let mut disk = Disk::watch(&spec).unwrap();
        // Forces a measurement at each call, regardless of the disk's usage.
        disk.left = 0;
        disk.full = 0;
        (folder, path, disk)
    }

    fn exceeded(disk: &mut Disk, pids: &[Pid]) -> bool {
        (disk.full, disk.left, disk.not_before) = (0, 0, std::time::Instant::now());
        disk.is_exceeded(|| Ok(pids.to_vec())).unwrap()
    }

    fn fill(mut file: &File, size: usize) {
        file.write_all(&vec![1; size * MIB]).unwrap();
        file.sync_all().unwrap();
    }

    #[test]
    fn files_count_together_each_once_and_holes_do_not() {
        let (_folder, path, mut disk) = watched(8);
        fs::create_dir(path.join("deep")).unwrap();
        for name in ["a", "deep/b"] {
            fill(&File::create(path.join(name)).unwrap(), 3);
        }
        fs::hard_link(path.join("a"), path.join("c")).unwrap();
        symlink("/", path.join("link")).unwrap();
        File::create(path.join("holes")).unwrap().set_len(1 << 40).unwrap();
        // Not this process: the other test, in another thread of it, has a large file open without a name.
        assert!(!exceeded(&mut disk, &[]));
        fill(&File::create(path.join("d")).unwrap(), 3);
        assert!(exceeded(&mut disk, &[]));
    }

    #[test]
    fn a_file_without_a_name_counts_as_long_as_it_is_open() {
        let (_folder, path, mut disk) = watched(4);
        let file = File::create(path.join("a")).unwrap();
        fs::remove_file(path.join("a")).unwrap();
        fill(&file, 5);
        assert!(exceeded(&mut disk, &[Pid::this()]));
        drop(file);
        // Other tests in this process may also have such files open, but only small ones.
        assert!(!exceeded(&mut disk, &[Pid::this()]));
    }
}
