//! A process's use of a store: its temporary files, and what garbage collection must not remove.
//!
//! Nix calls this temporary roots. A process that opens a store creates a file `tmp/<session>.uses`, holds a lock on it
//! for its lifetime, and records in it every blob, action and cache that it relies on *before* it checks whether they
//! exist. It writes the file under a shared lock on the store's `lock`; garbage collection holds that lock exclusively
//! while it reads all these files and moves unreferenced data aside. So both run concurrently: a build waits only for
//! this short phase of a collection, and nothing that it wrote or found is removed before it ends. A file without a
//! lock belongs to a process that has ended, in whatever way.

use std::collections::{BTreeSet, HashSet};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::sync::{Mutex, MutexGuard, PoisonError};

use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::{ActionKey, Digest, Error};

/// The suffix of a session's file.
const USES: &str = ".uses";

/// The suffix of a session's folder for temporary files.
const FOLDER: &str = ".d";

/// The maximum size of a session's file in bytes: a hundred bytes for each of millions of blobs.
const USES_LIMIT: u64 = 1 << 30;

/// The folder of locks on actions and on the index, which all processes share.
const LOCKS: &str = "locks";

/// An item that a process relies on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Use {
    Blob(Digest),
    Action(ActionKey),
    /// A compiler cache, by the name of its folder.
    Cache(String),
}

impl Use {
    fn line(&self) -> String {
        match self {
            Self::Blob(digest) => format!("{digest}\n"),
            Self::Action(key) => format!("action {key}\n"),
            Self::Cache(name) => format!("cache {name}\n"),
        }
    }

    fn parse(line: &str) -> Option<Self> {
        match line.split_once(' ') {
            None => line.parse().ok().map(Self::Blob),
            Some(("action", key)) => key.parse().ok().map(Self::Action),
            Some(("cache", name)) => Some(Self::Cache(name.to_owned())),
            Some(_) => None,
        }
    }
}

/// This process's use of a store, for the lifetime of the value.
#[derive(Debug)]
pub(crate) struct Session {
    /// The folder for temporary files.
    folder: Utf8PathBuf,
    /// `None` for a read-only store, in which the use cannot be recorded.
    noted: Option<Noted>,
    /// The temporary folder of a reader, removed on drop.
    _scratch: Option<tempfile::TempDir>,
}

/// A recorded use, which garbage collection respects.
#[derive(Debug)]
struct Noted {
    path: Utf8PathBuf,
    uses: Mutex<Uses>,
}

#[derive(Debug)]
pub(crate) struct Uses {
    /// The session's file, exclusively locked, which shows other processes that the session is alive.
    file: File,
    /// The store's `lock`, opened for this session: a file lock belongs to the open file, not to the process.
    gate: File,
    known: HashSet<Use>,
}

/// The right to rename a file to its path in the store: garbage collection waits until it is dropped.
pub(crate) struct Entered<'a>(MutexGuard<'a, Uses>);

impl Session {
    /// Starts to use the store at `store`. Removes leftovers of ended processes from `tmp`.
    pub(crate) fn begin(store: &Utf8Path) -> Result<Self, Error> {
        let tmp = store.join("tmp");
        let locks = tmp.join(LOCKS);
        fs::create_dir_all(&locks).map_err(Error::io("making", &locks))?;
        for stale in stale(&tmp)? {
            stale.remove();
        }
        let gate = open_gate(store)?;
        gate.lock_shared().map_err(Error::io("locking", store.join("lock")))?;
        let begun = Self::create(&tmp, &gate);
        gate.unlock().map_err(Error::io("unlocking", store.join("lock")))?;
        let (folder, uses_path, file) = begun?;
        let uses = Mutex::new(Uses { file, gate, known: HashSet::new() });
        Ok(Self { folder, noted: Some(Noted { path: uses_path, uses }), _scratch: None })
    }

    /// Starts to read a store that is not writable: records nothing in it, and puts temporary files elsewhere.
    pub(crate) fn of_reader() -> Result<Self, Error> {
        let scratch =
            tempfile::tempdir().map_err(Error::io("creating a folder in", "the folder for temporary files"))?;
        let folder = Utf8PathBuf::try_from(scratch.path().to_owned())
            .map_err(|_| Error::io("using", "the folder for temporary files")(io::ErrorKind::InvalidData.into()))?;
        Ok(Self { folder, noted: None, _scratch: Some(scratch) })
    }

    /// Returns whether the store is writable.
    pub(crate) fn is_noted(&self) -> bool {
        self.noted.is_some()
    }

    /// Creates the session's file. Locks it before it has its name, so that no process sees it unlocked.
    fn create(tmp: &Utf8Path, _entered: &File) -> Result<(Utf8PathBuf, Utf8PathBuf, File), Error> {
        let file = tempfile::Builder::new()
            .prefix(&format!("{}-", std::process::id()))
            .tempfile_in(tmp)
            .map_err(Error::io("creating a file in", tmp))?;
        file.as_file().try_lock().map_err(|error| Error::io("locking a new file in", tmp)(error.into()))?;
        let name = file.path().file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let (folder, uses_path) = (tmp.join(format!("{name}{FOLDER}")), tmp.join(format!("{name}{USES}")));
        let file = file.persist(&uses_path).map_err(|error| Error::io("writing", &uses_path)(error.error))?;
        fs::create_dir(&folder).map_err(Error::io("making", &folder))?;
        // Other users must not read or run unfinished files.
        fs::set_permissions(&folder, Permissions::from_mode(0o700)).map_err(Error::io("writing", &folder))?;
        Ok((folder, uses_path, file))
    }

    /// Returns the folder for this session's temporary files.
    pub(crate) fn folder(&self) -> &Utf8Path {
        &self.folder
    }

    /// Keeps garbage collection from removing these until the session ends. Only afterwards may the caller rely on
    /// their existence.
    pub(crate) fn hold(&self, uses: impl IntoIterator<Item = Use>) -> io::Result<()> {
        let Some(noted) = &self.noted else { return Ok(()) };
        let mut mine = noted.uses.lock().unwrap_or_else(PoisonError::into_inner);
        let new: Vec<Use> = uses.into_iter().filter(|one| !mine.known.contains(one)).collect();
        if new.is_empty() {
            return Ok(());
        }
        let lines: String = new.iter().map(Use::line).collect();
        mine.gate.lock_shared()?;
        let written = mine.file.write_all(lines.as_bytes());
        mine.gate.unlock()?;
        written?;
        mine.known.extend(new);
        Ok(())
    }

    /// Blocks garbage collection and verification until the returned value is dropped.
    pub(crate) fn enter(&self) -> io::Result<Entered<'_>> {
        let Some(noted) = &self.noted else { return Err(io::ErrorKind::ReadOnlyFilesystem.into()) };
        let mine = noted.uses.lock().unwrap_or_else(PoisonError::into_inner);
        mine.gate.lock_shared()?;
        Ok(Entered(mine))
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        // This fails only if the file descriptor is lost, and the lock with it.
        let _ = self.0.gate.unlock();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let Some(Noted { path, .. }) = &self.noted else { return };
        // A non-empty folder contains files that outlive this value; it is removed when nothing uses it.
        let _ = fs::remove_dir(&self.folder);
        let _ = fs::remove_file(path);
    }
}

/// Returns the folder of locks in a store.
pub(crate) fn locks(store: &Utf8Path) -> Utf8PathBuf {
    store.join("tmp").join(LOCKS)
}

/// Gets exclusive access to the store until the returned file is closed. Waits for processes that have recorded a use
/// and not yet relied on it.
pub(crate) fn exclude(store: &Utf8Path) -> Result<File, Error> {
    let gate = open_gate(store)?;
    gate.lock().map_err(Error::io("locking", store.join("lock")))?;
    Ok(gate)
}

fn open_gate(store: &Utf8Path) -> Result<File, Error> {
    let path = store.join("lock");
    let no_link = OFlags::NOFOLLOW.bits().cast_signed();
    File::options().create(true).append(true).custom_flags(no_link).open(&path).map_err(Error::io("opening", &path))
}

/// A session that is alive.
#[derive(Debug)]
pub(crate) struct Living {
    name: String,
    /// The ID of its process.
    pub(crate) process: u32,
    pub(crate) uses: BTreeSet<Use>,
}

impl Living {
    /// Returns whether this file or folder in `tmp` belongs to the session.
    pub(crate) fn owns(&self, file: &str) -> bool {
        file.strip_suffix(USES).or_else(|| file.strip_suffix(FOLDER)) == Some(&self.name)
    }
}

/// Returns the live sessions, with exclusive access to the store at `store`.
pub(crate) fn living(store: &Utf8Path, _excluded: &File) -> Result<Vec<Living>, Error> {
    let mut living = Vec::new();
    for path in files(&store.join("tmp"))? {
        if lock_if_free(&path, File::options().read(true))?.is_some() {
            continue;
        }
        let Some(text) = uses(&path)? else { continue };
        let name = path.file_name().and_then(|name| name.strip_suffix(USES)).unwrap_or_default().to_owned();
        let process = name.split('-').next().and_then(|process| process.parse().ok()).unwrap_or_default();
        living.push(Living { name, process, uses: text.lines().filter_map(Use::parse).collect() });
    }
    Ok(living)
}

/// Reads a session's file; returns `None` if there is none.
fn uses(path: &Utf8Path) -> Result<Option<String>, Error> {
    let mut text = String::new();
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = match File::options().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if is_none(&error) => return Ok(None),
        Err(error) => return Err(Error::io("opening", path)(error)),
    };
    if !file.metadata().map_err(Error::io("reading", path))?.is_file() {
        return Ok(None);
    }
    file.take(USES_LIMIT).read_to_string(&mut text).map_err(Error::io("reading", path))?;
    Ok(Some(text))
}

/// Returns whether an error means that there is no session file: it was removed since it was listed, or is a link, pipe
/// or the like, which no session creates.
fn is_none(error: &io::Error) -> bool {
    let others = [Errno::LOOP, Errno::NXIO].map(Errno::raw_os_error);
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error().is_some_and(|number| others.contains(&number))
}

/// The leftovers of an ended process: its file, which this value locks, and its folder.
struct Stale {
    path: Utf8PathBuf,
    _lock: File,
}

impl Stale {
    /// Removes the leftovers as far as possible; a later session tries the rest again.
    fn remove(self) {
        let name = self.path.as_str().strip_suffix(USES).unwrap_or(self.path.as_str());
        if crate::remove::tree(Utf8Path::new(&format!("{name}{FOLDER}"))).is_ok() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Returns the leftovers of ended processes in `tmp`.
fn stale(tmp: &Utf8Path) -> Result<Vec<Stale>, Error> {
    let mut stale = Vec::new();
    for path in files(tmp)? {
        if let Some(lock) = lock_if_free(&path, File::options().read(true))? {
            stale.push(Stale { path, _lock: lock });
        }
    }
    Ok(stale)
}

fn files(tmp: &Utf8Path) -> Result<Vec<Utf8PathBuf>, Error> {
    let mut files = Vec::new();
    for entry in tmp.read_dir_utf8().map_err(Error::io("listing", tmp))? {
        let entry = entry.map_err(Error::io("listing", tmp))?;
        if entry.file_name().ends_with(USES) {
            files.push(entry.into_path());
        }
    }
    Ok(files)
}

/// Opens a file with these options and locks it; returns `None` if another process holds the lock or the file is
/// missing.
pub(crate) fn lock_if_free(path: &Utf8Path, how: &OpenOptions) -> Result<Option<File>, Error> {
    // In a shared store, another user may put a pipe or a link there.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = match how.clone().custom_flags(flags.bits().cast_signed()).open(path) {
        Ok(file) => file,
        // It was removed after the listing, or belongs to another user, who must remove it.
        Err(error) if is_none(&error) || error.kind() == io::ErrorKind::PermissionDenied => return Ok(None),
        Err(error) => return Err(Error::io("opening", path)(error)),
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        Err(fs::TryLockError::Error(error)) => Err(Error::io("locking", path)(error)),
    }
}
