//! How much of the disk a program takes: of the folders that it may write to, and of files that it has open and that have no
//! name any more. To look at all of them takes long. So they are looked at only when their disks have filled by as much as
//! the program may still take, whoever filled them.

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

/// Looking may take this part of the time.
const SHARE: u32 = 20;

/// A program's part of the disk.
#[derive(Debug)]
pub(super) struct Disk {
    limit: u64,
    folders: Vec<Utf8PathBuf>,
    /// One folder of each file system among them.
    systems: Vec<Utf8PathBuf>,
    /// How full they were at the last look, and how much the program may have taken since.
    full: u64,
    left: u64,
    not_before: Instant,
}

impl Disk {
    /// Begins to watch; none where nothing limits it, or nothing may be written.
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

    /// Whether the program has taken more than it may. `pids` are its processes.
    ///
    /// # Errors
    /// When that cannot be known.
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

    /// What the files in the folders take, each once.
    fn named(&self) -> io::Result<u64> {
        let (mut taken, mut linked) = (0_u64, BTreeSet::new());
        for folder in &self.folders {
            for entry in WalkDir::new(folder) {
                let meta = match entry.and_then(|entry| entry.metadata()).map_err(io::Error::from) {
                    // Programs come and go with their files meanwhile; without a sandbox they may close a folder to their user.
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

/// The used bytes of these file systems, by all users.
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

    /// A folder that a program may write to up to so many MiB.
    fn watched(limit: usize) -> (tempfile::TempDir, Utf8PathBuf, Disk) {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::try_from(folder.path().to_owned()).unwrap();
        let mut spec = Spec::empty(false);
        spec.limits = Limits { disk: Some((limit * MIB) as u64), ..Limits::default() };
        spec.mounts = vec![Mount { host: path.clone(), inside: "/x".into(), writable: true }];
        let mut disk = Disk::watch(&spec).unwrap();
        // Looked at each time, however full the disk is.
        disk.left = 0;
        disk.full = 0;
        (folder, path, disk)
    }

    fn exceeded(disk: &mut Disk) -> bool {
        (disk.full, disk.left, disk.not_before) = (0, 0, std::time::Instant::now());
        disk.is_exceeded(|| Ok(vec![Pid::this()])).unwrap()
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
        assert!(!exceeded(&mut disk));
        fill(&File::create(path.join("d")).unwrap(), 3);
        assert!(exceeded(&mut disk));
    }

    #[test]
    fn a_file_without_a_name_counts_as_long_as_it_is_open() {
        let (_folder, path, mut disk) = watched(4);
        let file = File::create(path.join("a")).unwrap();
        fs::remove_file(path.join("a")).unwrap();
        fill(&file, 5);
        assert!(exceeded(&mut disk));
        drop(file);
        // Other tests of this process may have such files open too, and small ones.
        assert!(!exceeded(&mut disk));
    }
}
