//! A relay's cache: a store of images, and a folder of partially received blobs. Only the login user can access it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::time::{Duration, SystemTime};

use camino::{Utf8Path, Utf8PathBuf};
use miette::Diagnostic;
use thiserror::Error;
use vcremote::folder::{self, Unfit};
use vcstore::{Digest, Keep, Store};

/// How long a partially received blob is kept.
const PARTIAL_FOR: Duration = Duration::from_secs(7 * 24 * 3600);

/// The chunk size for copying a complete blob into the store, in bytes.
const CHUNK: usize = 1 << 20;

/// The blobs on a relay.
#[derive(Debug, Clone)]
pub(super) struct Cache {
    pub(super) store: Store,
    /// The folder of partially received blobs.
    pub(super) partial: Utf8PathBuf,
    /// The folder whose files record when each image was last pushed.
    pub(super) used: Utf8PathBuf,
}

/// Why the cache cannot be used.
#[derive(Debug, Error, Diagnostic)]
pub(super) enum Error {
    #[error("the relay's cache {path} is not used: {source}")]
    #[diagnostic(help(
        "name another folder with --relay-cache, or make this one and those above it the login user's or root's, and writable \
         for nobody else (chmod go-w)"
    ))]
    Unfit { path: Utf8PathBuf, source: Unfit },
    #[error("the relay's login user has no home for a cache")]
    #[diagnostic(help("name a folder on the relay with --relay-cache"))]
    NoHome,
    #[error("using the relay's cache {path}: {source}")]
    #[diagnostic(help("name a folder that the login user may write to with --relay-cache"))]
    Io { path: Utf8PathBuf, source: io::Error },
    #[error(transparent)]
    #[diagnostic(transparent)]
    Store(#[from] vcstore::Error),
    #[error("the relay's disk has {free} bytes free and {needed} have to be sent")]
    #[diagnostic(help("free some, or name a folder on another disk with --relay-cache"))]
    Full { free: u64, needed: u64 },
}

impl Cache {
    /// Opens the cache in this folder, or else in the login user's default folder.
    pub(super) fn open(folder: Option<Utf8PathBuf>) -> Result<Self, Error> {
        let path = folder.or_else(default_folder).ok_or(Error::NoHome)?;
        // The contents become images on every node, so no other user may be able to write to the folder or replace
        // it.
        let path = folder::enter(&path).map_err(|source| Error::Unfit { path, source })?;
        let failed = |source| Error::Io { path: path.clone(), source };
        let (partial, used) = (path.join("partial"), path.join("used"));
        for folder in [&partial, &used] {
            DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        }
        let cache = Self { store: Store::open(&path.join("store"))?, partial, used };
        cache.forget_old_parts().map_err(failed)?;
        Ok(cache)
    }

    /// Returns the offset at which to continue a blob that the cache lacks, or `None` if it has the blob.
    pub(super) fn lacks(&self, digest: &Digest) -> Option<u64> {
        if self.store.contains(digest) {
            return None;
        }
        Some(fs::metadata(self.part(digest)).map_or(0, |data| data.len()))
    }

    /// Checks that this many more bytes fit on the disk.
    pub(super) fn check_room(&self, needed: u64) -> Result<(), Error> {
        let failed = |error: rustix::io::Errno| Error::Io { path: self.partial.clone(), source: error.into() };
        let disk = rustix::fs::statvfs(self.partial.as_str()).map_err(failed)?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        if free < needed { Err(Error::Full { free, needed }) } else { Ok(()) }
    }

    /// Starts to write a blob at `offset`. Other senders of the same blob wait meanwhile.
    pub(super) fn part_from(&self, digest: Digest, size: u64, offset: u64) -> io::Result<PartialBlobFile> {
        let path = self.part(&digest);
        let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&path)?;
        file.lock()?;
        if self.store.contains(&digest) {
            return Ok(PartialBlobFile { file, path, digest, size, whole: true });
        }
        let length = file.metadata()?.len();
        if offset > length {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{length} bytes are there, not {offset}")));
        }
        file.set_len(offset)?;
        file.seek(io::SeekFrom::End(0))?;
        Ok(PartialBlobFile { file, path, digest, size, whole: false })
    }

    /// Moves a complete blob into the store, which verifies its content; a blob with the wrong content is removed.
    /// Returns whether the store already had it.
    pub(super) fn take(&self, mut part: PartialBlobFile) -> io::Result<bool> {
        if !part.whole {
            let length = part.file.metadata()?.len();
            if length < part.size {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("{length} of {} bytes", part.size)));
            }
            part.file.rewind()?;
            let mut writer = self.store.writer().map_err(io::Error::other)?;
            let mut chunk = vec![0; CHUNK];
            loop {
                let count = part.file.read(&mut chunk)?;
                if count == 0 {
                    break;
                }
                writer.write_all(&chunk[..count])?;
            }
            let taken = writer.commit_expecting(&part.digest);
            remove(&part.path)?;
            taken.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        }
        Ok(part.whole)
    }

    /// Removes content to which no name refers.
    pub(super) fn clear(&self) -> Result<(), Error> {
        let keep = Keep { used_within: Duration::ZERO, max_size: None, caches: true };
        Ok(self.store.gc(&keep, false).map(|_| ())?)
    }

    fn part(&self, digest: &Digest) -> Utf8PathBuf {
        self.partial.join(digest.hex())
    }

    fn forget_old_parts(&self) -> io::Result<()> {
        let now = SystemTime::now();
        for entry in fs::read_dir(&self.partial)? {
            let entry = entry?;
            let age = entry.metadata()?.modified().ok().and_then(|time| now.duration_since(time).ok());
            if age.is_some_and(|age| age > PARTIAL_FOR) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

/// A blob that is being received.
#[derive(Debug)]
pub(super) struct PartialBlobFile {
    file: File,
    path: Utf8PathBuf,
    digest: Digest,
    size: u64,
    /// Whether the store already has the blob, because another push sent it meanwhile.
    whole: bool,
}

impl PartialBlobFile {
    /// Appends bytes. Returns an error if the blob would become longer than its size.
    pub(super) fn add(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.whole {
            return Ok(());
        }
        if self.file.metadata()?.len() + bytes.len() as u64 > self.size {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("more than {} bytes", self.size)));
        }
        self.file.write_all(bytes)
    }

    /// Removes the bytes that arrived, because the sender found that its own copy is damaged.
    pub(super) fn abandon(self) -> io::Result<()> {
        if self.whole { Ok(()) } else { remove(&self.path) }
    }
}

/// Removes a file, if it exists: another sender of the same blob may already have removed it.
fn remove(path: &Utf8Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn default_folder() -> Option<Utf8PathBuf> {
    let folder = |name| std::env::var(name).ok().filter(|value| !value.is_empty()).map(Utf8PathBuf::from);
    let cache = folder("XDG_CACHE_HOME").or_else(|| Some(folder("HOME")?.join(".cache")))?;
    Some(cache.join("vcdist-relay"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn folder() -> (tempfile::TempDir, Utf8PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = Utf8PathBuf::try_from(folder.path().join("cache")).expect("UTF-8");
        (folder, path)
    }

    #[test]
    fn a_blob_comes_in_parts_and_is_checked() {
        let (_folder, path) = folder();
        let cache = Cache::open(Some(path)).expect("a cache");
        let (digest, size) = (Digest::of(b"some bytes"), 10);
        assert_eq!(cache.lacks(&digest), Some(0));
        let mut part = cache.part_from(digest, size, 0).expect("a part");
        part.add(b"some ").expect("bytes");
        drop(part);
        assert_eq!(cache.lacks(&digest), Some(5));
        let mut part = cache.part_from(digest, size, 5).expect("the rest");
        part.add(b"bytes").expect("bytes");
        assert!(part.add(b"!").is_err(), "it is whole");
        assert!(!cache.take(part).expect("sound"));
        assert_eq!(cache.lacks(&digest), None);
        assert!(cache.take(cache.part_from(digest, size, 0).expect("there")).expect("there"));
    }

    #[test]
    fn nothing_stays_of_a_blob_that_is_another() {
        let (_folder, path) = folder();
        let cache = Cache::open(Some(path)).expect("a cache");
        let digest = Digest::of(b"some bytes");
        let mut part = cache.part_from(digest, 10, 0).expect("a part");
        part.add(b"same bytes").expect("bytes");
        let refused = cache.take(part).expect_err("another content");
        assert_eq!(refused.kind(), io::ErrorKind::InvalidData);
        assert_eq!(cache.lacks(&digest), Some(0));
        let short = cache.part_from(digest, 10, 0).expect("a part");
        assert_eq!(cache.take(short).expect_err("nothing came").kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn what_no_name_stands_for_goes() {
        let (_folder, path) = folder();
        let cache = Cache::open(Some(path.clone())).expect("a cache");
        let digest = Digest::of(b"x");
        let mut part = cache.part_from(digest, 1, 0).expect("a part");
        part.add(b"x").expect("bytes");
        cache.take(part).expect("sound");
        drop(cache);
        let cache = Cache::open(Some(path)).expect("a cache");
        cache.clear().expect("cleared");
        assert_eq!(cache.lacks(&digest), Some(0));
    }

    #[test]
    fn a_folder_that_others_may_write_to_is_refused() {
        let (_folder, path) = folder();
        fs::create_dir(&path).expect("a folder");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).expect("its mode");
        let refused = |path: &Utf8Path| Cache::open(Some(path.to_owned())).expect_err("refused").to_string();
        let why = format!("{path} is writable by other users");
        assert_eq!(refused(&path), format!("the relay's cache {path} is not used: {why}"));
        let below = path.join("cache");
        assert_eq!(refused(&below), format!("the relay's cache {below} is not used: {why}"));
        assert!(!below.exists(), "nothing is made where others may write");
        // The checks apply to a symbolic link's target.
        let link = path.with_file_name("link");
        std::os::unix::fs::symlink(&path, &link).expect("a link");
        assert_eq!(refused(&link), format!("the relay's cache {link} is not used: {why}"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its mode");
        let cache = Cache::open(Some(link)).expect("the login user's own");
        assert_eq!(cache.partial, path.join("partial"));
    }
}
