//! A process's use of a store: where its temporary files are, and what garbage collection must leave it.
//!
//! Nix calls this temporary roots. Whoever opens a store has a file `tmp/<session>.uses`, locked as long as it lives, and
//! names in it every blob, action and cache it relies on *before* it looks whether they are there. It writes there under
//! a shared lock on the store's `lock`; garbage collection holds that lock for itself while it reads all these files and
//! takes away what nothing names. So both run side by side: a build waits for the moment of the collection, never for a
//! lock of its own, and nothing it has made or found goes before it ends. A file that nobody locks is of a process that
//! is gone, however it went.

use std::collections::{BTreeSet, HashSet};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::sync::{Mutex, MutexGuard, PoisonError};

use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::{ActionKey, Digest, Error};

/// What a session's file is called, after the session's name.
const USES: &str = ".uses";

/// What its folder of temporary files is called.
const FOLDER: &str = ".d";

/// The longest that such a file is: a hundred bytes for each of millions of blobs.
const USES_LIMIT: u64 = 1 << 30;

/// The folder of locks on actions and on the index, which all processes share.
const LOCKS: &str = "locks";

/// Something that a process relies on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Use {
    Blob(Digest),
    Action(ActionKey),
    /// A compiler's own cache, by the name of its folder.
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

/// This process's use of one store, for as long as the value lives.
#[derive(Debug)]
pub(crate) struct Session {
    /// For temporary files.
    folder: Utf8PathBuf,
    /// `None` for a read-only store, in which its use cannot be recorded.
    noted: Option<Noted>,
    /// The reader's folder, which goes with it.
    _scratch: Option<tempfile::TempDir>,
}

/// A use that garbage collection heeds.
#[derive(Debug)]
struct Noted {
    path: Utf8PathBuf,
    uses: Mutex<Uses>,
}

#[derive(Debug)]
pub(crate) struct Uses {
    /// Locked for this process alone, which is how others know that it lives.
    file: File,
    /// The store's `lock`, opened here: such a lock belongs to who opened the file, not to the process.
    gate: File,
    known: HashSet<Use>,
}

/// The right to give something in the store its name: garbage collection waits until it is dropped.
pub(crate) struct Entered<'a>(MutexGuard<'a, Uses>);

impl Session {
    /// Begins to use the store at `store`. What processes that are gone left in `tmp` is cleared on the way.
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

    /// Begins to read a store that cannot be written to: nothing is noted in it, and temporary files are elsewhere.
    pub(crate) fn of_reader() -> Result<Self, Error> {
        let scratch =
            tempfile::tempdir().map_err(Error::io("creating a folder in", "the folder for temporary files"))?;
        let folder = Utf8PathBuf::try_from(scratch.path().to_owned())
            .map_err(|_| Error::io("using", "the folder for temporary files")(io::ErrorKind::InvalidData.into()))?;
        Ok(Self { folder, noted: None, _scratch: Some(scratch) })
    }

    /// Whether the store can be written to.
    pub(crate) fn is_noted(&self) -> bool {
        self.noted.is_some()
    }

    /// The file is locked before it gets its name, so that no process ever sees it unlocked.
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
        // Nobody else reads what is unfinished, or runs it.
        fs::set_permissions(&folder, Permissions::from_mode(0o700)).map_err(Error::io("writing", &folder))?;
        Ok((folder, uses_path, file))
    }

    /// The folder for this session's temporary files.
    pub(crate) fn folder(&self) -> &Utf8Path {
        &self.folder
    }

    /// Has garbage collection leave these until this session ends. Only afterwards may it be relied on that they are there.
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
        // Nothing but a lost descriptor can make this fail, and with that the lock is lost as well.
        let _ = self.0.gate.unlock();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let Some(Noted { path, .. }) = &self.noted else { return };
        // A folder that is not empty has something in it that outlives this value; it goes when nobody uses it.
        let _ = fs::remove_dir(&self.folder);
        let _ = fs::remove_file(path);
    }
}

/// The folder of locks in a store.
pub(crate) fn locks(store: &Utf8Path) -> Utf8PathBuf {
    store.join("tmp").join(LOCKS)
}

/// Waits until nobody is in the store between naming what it relies on and relying on it, and keeps everybody out until
/// the returned file is closed.
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

/// A session that lives.
#[derive(Debug)]
pub(crate) struct Living {
    name: String,
    /// The process it is of.
    pub(crate) process: u32,
    pub(crate) uses: BTreeSet<Use>,
}

impl Living {
    /// Whether this file or folder in `tmp` is the session's.
    pub(crate) fn owns(&self, file: &str) -> bool {
        file.strip_suffix(USES).or_else(|| file.strip_suffix(FOLDER)) == Some(&self.name)
    }
}

/// The sessions that live, while everybody is kept out of the store at `store`.
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

/// What a session's file says; none where there is no such file.
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

/// Whether there is no file of a session: it went since it was listed, or is a link or the like that no session made.
fn is_none(error: &io::Error) -> bool {
    let others = [Errno::LOOP, Errno::NXIO].map(Errno::raw_os_error);
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error().is_some_and(|number| others.contains(&number))
}

/// What a process that is gone left: its file, locked now, and its folder.
struct Stale {
    path: Utf8PathBuf,
    _lock: File,
}

impl Stale {
    /// Removes it as far as that goes: what cannot be removed now is tried again later.
    fn remove(self) {
        let name = self.path.as_str().strip_suffix(USES).unwrap_or(self.path.as_str());
        if crate::remove::tree(Utf8Path::new(&format!("{name}{FOLDER}"))).is_ok() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// What processes that are gone left in `tmp`.
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

/// A file opened so, and locked, if nobody else locks it.
pub(crate) fn lock_if_free(path: &Utf8Path, how: &OpenOptions) -> Result<Option<File>, Error> {
    // In a store that several users share one of them may put a pipe or a link there.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = match how.clone().custom_flags(flags.bits().cast_signed()).open(path) {
        Ok(file) => file,
        // It went between the listing and now; another user's is left to that user.
        Err(error) if is_none(&error) || error.kind() == io::ErrorKind::PermissionDenied => return Ok(None),
        Err(error) => return Err(Error::io("opening", path)(error)),
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        Err(fs::TryLockError::Error(error)) => Err(Error::io("locking", path)(error)),
    }
}
