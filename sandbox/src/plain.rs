//! Regular files in untrusted folders: outputs of a build or a build host, or a source. They are opened without
//! following a link out of the folder, without blocking on a pipe, and only up to a maximum size.

use std::fs::{File, Metadata};
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use camino::{Utf8Component, Utf8Path, Utf8PathBuf};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;
use vcstore::lossy;
use vcstore::{BlobWriter, Store};

use crate::Error;
use crate::elf::Machine;

/// The flags for opening a file. They avoid waiting for the writer of a pipe, and acquiring a controlling terminal.
const READ: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

/// The flags for opening a folder in a path.
const FOLDER: OFlags = OFlags::PATH.union(OFlags::CLOEXEC).union(OFlags::DIRECTORY);

/// Reads a text file of a source, whose author may have made it a link, a pipe or a device.
///
/// # Errors
/// Returns an error like [`vcstore::text::read`], or if it is not a regular file.
pub fn read_text(path: &Utf8Path) -> io::Result<String> {
    vcstore::text::read_from(Plain::follow(path)?.content())
}

/// Why a file is rejected. The messages follow its name.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// A symbolic link, or a path through one.
    #[error("is a symbolic link or below one, which could point to any file of this machine")]
    Link,
    /// A path with `..`.
    #[error("points outside its folder")]
    Outside,
    /// A folder, pipe, socket or device.
    #[error("is not a regular file")]
    Special,
    /// A file that is too large.
    #[error("has {} bytes, more than the allowed {limit} (--max-disk)", .size)]
    Size {
        /// Its size in bytes.
        size: u64,
        /// The maximum size in bytes.
        limit: u64,
    },
    /// It cannot be opened or read.
    #[error("cannot be read: {0}")]
    Read(#[from] io::Error),
}

/// A folder whose files may have been created by an untrusted program.
#[derive(Debug)]
pub struct Folder {
    fd: OwnedFd,
    path: Utf8PathBuf,
}

/// An open regular file.
#[derive(Debug)]
pub struct Plain {
    file: File,
    meta: Metadata,
    path: Utf8PathBuf,
}

impl Folder {
    /// Opens a folder. The caller must trust its path.
    ///
    /// # Errors
    /// Returns an error if it does not exist.
    pub fn open(path: &Utf8Path) -> Result<Self, Error> {
        let fd = openat(CWD, path.as_std_path(), FOLDER, Mode::empty());
        let fd = fd.map_err(|errno| Error::io("opening", path)(errno.into()))?;
        Ok(Self { fd, path: path.to_owned() })
    }

    /// Opens a file below the folder. Its length may be at most `limit` bytes: a sparse file may occupy less disk
    /// space, but occupies its full length where it is copied to.
    ///
    /// # Errors
    /// Returns an error if it does not exist or is rejected.
    pub fn file(&self, path: &Utf8Path, limit: u64) -> Result<Plain, Refusal> {
        Plain::new(self.descend(path)?, self.path.join(path), limit)
    }

    fn descend(&self, path: &Utf8Path) -> Result<OwnedFd, Refusal> {
        let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        match openat2(&self.fd, path.as_std_path(), READ, Mode::empty(), within) {
            // Kernels before 5.6, and containers whose seccomp filter does not know the call.
            Err(Errno::NOSYS | Errno::PERM) => self.walk(path),
            opened => opened.map_err(refusal),
        }
    }

    /// Opens it one path component at a time.
    fn walk(&self, path: &Utf8Path) -> Result<OwnedFd, Refusal> {
        let mut parts = Vec::new();
        for part in path.components() {
            match part {
                Utf8Component::Normal(name) => parts.push(name),
                Utf8Component::CurDir => {}
                _ => return Err(Refusal::Outside),
            }
        }
        let (name, folders) = parts.split_last().ok_or(Refusal::Special)?;
        let mut folder: Option<OwnedFd> = None;
        for part in folders {
            let at = folder.as_ref().map_or(self.fd.as_fd(), AsFd::as_fd);
            let next = openat(at, *part, FOLDER | OFlags::NOFOLLOW, Mode::empty());
            folder = Some(next.map_err(|errno| link_or(at, part, errno))?);
        }
        let at = folder.as_ref().map_or(self.fd.as_fd(), AsFd::as_fd);
        openat(at, *name, READ | OFlags::NOFOLLOW, Mode::empty()).map_err(refusal)
    }
}

impl Plain {
    /// Opens a file in trusted folders; the file itself must not be a link.
    ///
    /// # Errors
    /// Returns an error like [`Folder::file`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Refusal> {
        let fd = openat(CWD, path.as_ref(), READ | OFlags::NOFOLLOW, Mode::empty()).map_err(refusal)?;
        Self::new(fd, lossy(path.as_ref()), u64::MAX)
    }

    /// Opens a file by a trusted path, which may be a link.
    ///
    /// # Errors
    /// Returns an error like [`Folder::file`].
    pub fn follow(path: impl AsRef<Path>) -> Result<Self, Refusal> {
        let fd = openat(CWD, path.as_ref(), READ, Mode::empty()).map_err(refusal)?;
        Self::new(fd, lossy(path.as_ref()), u64::MAX)
    }

    fn new(fd: OwnedFd, path: Utf8PathBuf, limit: u64) -> Result<Self, Refusal> {
        let file = File::from(fd);
        let meta = file.metadata()?;
        match meta.len() {
            _ if !meta.is_file() => Err(Refusal::Special),
            size if size > limit => Err(Refusal::Size { size, limit }),
            _ => Ok(Self { file, meta, path }),
        }
    }

    /// Its length in bytes.
    pub fn size(&self) -> u64 {
        self.meta.len()
    }

    /// Whether its owner may execute it.
    pub fn is_executable(&self) -> bool {
        self.meta.permissions().mode() & 0o100 != 0
    }

    /// Detects the kind of program.
    ///
    /// # Errors
    /// Returns an error if it cannot be read.
    pub fn machine(&mut self) -> Result<Machine, Error> {
        let read = Machine::read(&self.file).and_then(|machine| self.file.rewind().map(|()| machine));
        read.map_err(Error::io("reading", &self.path))
    }

    /// Returns its content up to its length at the time of opening, because a file that grows may never end.
    pub fn content(&self) -> impl Read {
        (&self.file).take(self.size())
    }

    /// Copies its content to the store; the caller must commit it.
    ///
    /// # Errors
    /// Returns an error if it cannot be read, changes meanwhile, or the store cannot be written.
    pub fn into_store(self, store: &Store) -> Result<BlobWriter, Error> {
        let mut writer = store.writer()?;
        let copied = io::copy(&mut self.content(), &mut writer);
        if copied.map_err(Error::io("copying into the store", &self.path))? == self.size() {
            Ok(writer)
        } else {
            Err(Error::SourceChanged { path: self.path })
        }
    }
}

impl From<Refusal> for io::Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Read(error) => error,
            other => Self::other(format!("it {other}")),
        }
    }
}

/// Interprets the kernel's error from opening a file.
fn refusal(errno: Errno) -> Refusal {
    match errno {
        Errno::LOOP => Refusal::Link,
        Errno::XDEV => Refusal::Outside,
        // A socket, or a device that does not exist.
        Errno::NXIO => Refusal::Special,
        other => Refusal::Read(other.into()),
    }
}

/// Interprets the error of opening a folder: the kernel returns the same error for a link as for a file.
fn link_or(at: impl AsFd, name: &str, errno: Errno) -> Refusal {
    let is_link = rustix::fs::readlinkat(at, name, Vec::new()).is_ok();
    if is_link { Refusal::Link } else { refusal(errno) }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use camino::{Utf8Path, Utf8PathBuf};

    use super::{Folder, Plain, Refusal};

    fn scratch() -> (tempfile::TempDir, Utf8PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::try_from(folder.path().to_owned()).unwrap();
        (folder, path)
    }

    fn pipe(path: &Utf8Path) {
        nix::unistd::mkfifo(path.as_std_path(), nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    }

    /// Returns a folder with every kind of file that a hostile build may create instead of a regular one.
    fn hostile() -> (tempfile::TempDir, Utf8PathBuf, UnixListener) {
        let (folder, top) = scratch();
        let made = top.join("made");
        fs::create_dir_all(made.join("a/b")).unwrap();
        fs::create_dir(top.join("outside")).unwrap();
        fs::write(top.join("outside/secret"), "secret").unwrap();
        fs::write(made.join("a/b/file"), "content").unwrap();
        symlink(top.join("outside/secret"), made.join("link")).unwrap();
        symlink("a/b/file", made.join("inner")).unwrap();
        symlink(top.join("outside"), made.join("folder")).unwrap();
        symlink("nowhere", made.join("dangling")).unwrap();
        symlink("/dev/zero", made.join("zero")).unwrap();
        symlink("/proc/self/exe", made.join("magic")).unwrap();
        pipe(&made.join("pipe"));
        let socket = UnixListener::bind(made.join("socket")).unwrap();
        fs::File::create(made.join("sparse")).unwrap().set_len(4 << 40).unwrap();
        (folder, made, socket)
    }

    #[test]
    fn only_plain_files_below_the_folder_are_opened_with_and_without_openat2() {
        let (_folder, made, _socket) = hostile();
        let opened = Folder::open(&made).unwrap();
        for path in ["a/b/file", "./a/b/file"] {
            let mut text = String::new();
            opened.file(path.into(), 7).unwrap().content().read_to_string(&mut text).unwrap();
            assert_eq!(text, "content");
        }
        let whole = made.join("a/b/file");
        let cases = [
            ("link", "is a symbolic link or below one"),
            ("inner", "is a symbolic link or below one"),
            ("folder/secret", "is a symbolic link or below one"),
            ("dangling", "is a symbolic link or below one"),
            ("zero", "is a symbolic link or below one"),
            ("magic", "is a symbolic link or below one"),
            ("../outside/secret", "points outside its folder"),
            (whole.as_str(), "points outside its folder"),
            ("pipe", "is not a regular file"),
            ("socket", "is not a regular file"),
            ("a/b", "is not a regular file"),
            ("a/b/file/below", "cannot be read: Not a directory"),
            ("absent", "cannot be read: No such file"),
        ];
        for (path, why) in cases {
            let path = Utf8Path::new(path);
            for descended in [opened.descend(path), opened.walk(path)] {
                let said = descended.and_then(|fd| Plain::new(fd, path.to_owned(), u64::MAX)).unwrap_err().to_string();
                assert!(said.starts_with(why), "{path}: {said}");
            }
        }
    }

    #[test]
    fn a_file_with_holes_is_as_large_as_it_says() {
        let (_folder, made, _socket) = hostile();
        let refused = Folder::open(&made).unwrap().file("sparse".into(), 1 << 30).unwrap_err();
        assert!(matches!(refused, Refusal::Size { size, limit } if (size, limit) == (4 << 40, 1 << 30)), "{refused}");
        assert!(Folder::open(&made).unwrap().file("a/b/file".into(), 6).is_err());
    }

    #[test]
    fn a_file_by_itself_is_opened_with_or_without_its_link() {
        let (_folder, made, _socket) = hostile();
        assert!(matches!(Plain::open(made.join("inner")), Err(Refusal::Link)));
        assert_eq!(Plain::open(made.join("a/b/file")).unwrap().size(), 7);
        assert_eq!(Plain::follow(made.join("inner")).unwrap().size(), 7);
        for path in ["pipe", "zero", "socket"] {
            assert!(matches!(Plain::follow(made.join(path)), Err(Refusal::Special)), "{path}");
        }
    }

    #[test]
    fn what_grows_or_shrinks_while_it_is_taken_is_not_taken() {
        let (_folder, top) = scratch();
        let store = vcstore::Store::open(&top.join("store")).unwrap();
        let path = top.join("file");
        fs::write(&path, "four").unwrap();
        let plain = Plain::open(&path).unwrap();
        fs::write(&path, "longer than four").unwrap();
        let mut text = String::new();
        plain.content().read_to_string(&mut text).unwrap();
        assert_eq!(text, "long");
        let plain = Plain::open(&path).unwrap();
        fs::write(&path, "one").unwrap();
        assert!(matches!(plain.into_store(&store), Err(crate::Error::SourceChanged { .. })));
    }
}
