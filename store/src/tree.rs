//! The files of a layer, by path.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use camino::Utf8PathBuf;

use crate::{Digest, Error, Store};

/// The prefix of whiteouts, which delete files of lower layers (image specification, layer.md, "Whiteouts").
const WHITEOUT: &str = ".wh.";

/// The files of a layer: relative paths in byte order. Each parent is a folder in the tree.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    entries: BTreeMap<String, Entry>,
    /// The extended attributes, by the path of the entry and by name.
    xattrs: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
}

/// A file, folder or link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The type of the entry.
    pub kind: Kind,
    /// The permission bits, including set-user-ID, set-group-ID and sticky: at most 0o7777.
    pub mode: u32,
    /// The ID of the owner.
    pub uid: u64,
    /// The ID of the group.
    pub gid: u64,
}

/// The type of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A folder.
    Directory,
    /// A file.
    File(Content),
    /// A symbolic link with this target, unchanged.
    Symlink(String),
    /// A hard link to the file at this path in the tree.
    HardLink(String),
}

/// The content of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Content in memory.
    Bytes(Vec<u8>),
    /// The content of a file in the file system.
    Path(Utf8PathBuf),
    /// A part of a file in the file system.
    Slice {
        /// The path of the file.
        path: Utf8PathBuf,
        /// The offset of the part in bytes.
        offset: u64,
        /// The length of the part in bytes.
        len: u64,
    },
    /// A blob in the store.
    Blob(Digest),
}

impl Content {
    /// Opens the content: returns its size in bytes and a reader.
    pub(crate) fn open(&self, store: &Store) -> Result<(u64, Box<dyn Read + '_>), Error> {
        Ok(match self {
            Self::Bytes(bytes) => (bytes.len() as u64, Box::new(bytes.as_slice())),
            Self::Path(path) => {
                let file = File::open(path).map_err(Error::io("opening", path))?;
                (file.metadata().map_err(Error::io("reading", path))?.len(), Box::new(file))
            }
            Self::Slice { path, offset, len } => {
                let mut file = File::open(path).map_err(Error::io("opening", path))?;
                file.seek(SeekFrom::Start(*offset)).map_err(Error::io("reading", path))?;
                (*len, Box::new(file.take(*len)))
            }
            Self::Blob(digest) => {
                let reader = store.reader(digest)?;
                (reader.size(), Box::new(reader))
            }
        })
    }

    /// Returns the location of the content for an error message.
    pub(crate) fn origin(&self, store: &Store) -> Utf8PathBuf {
        match self {
            Self::Bytes(_) => Utf8PathBuf::from("(memory)"),
            Self::Path(path) | Self::Slice { path, .. } => path.clone(),
            Self::Blob(digest) => store.blob_path(digest),
        }
    }
}

impl Tree {
    /// Creates an empty tree.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds or replaces a folder owned by root.
    ///
    /// # Errors
    /// As [`Tree::insert`].
    pub fn dir(&mut self, path: &str, mode: u32) -> Result<(), Error> {
        self.insert(path, Entry { kind: Kind::Directory, mode, uid: 0, gid: 0 })
    }

    /// Adds or replaces a file owned by root.
    ///
    /// # Errors
    /// As [`Tree::insert`].
    pub fn file(&mut self, path: &str, mode: u32, content: Content) -> Result<(), Error> {
        self.insert(path, Entry { kind: Kind::File(content), mode, uid: 0, gid: 0 })
    }

    /// Adds or replaces a symbolic link owned by root.
    ///
    /// # Errors
    /// As [`Tree::insert`].
    pub fn symlink(&mut self, path: &str, target: &str) -> Result<(), Error> {
        self.insert(path, Entry { kind: Kind::Symlink(target.to_owned()), mode: 0o777, uid: 0, gid: 0 })
    }

    /// Adds or replaces a hard link to the file at `to`.
    ///
    /// # Errors
    /// As [`Tree::insert`].
    pub fn hard_link(&mut self, path: &str, to: &str) -> Result<(), Error> {
        self.insert(path, Entry { kind: Kind::HardLink(to.to_owned()), mode: 0o644, uid: 0, gid: 0 })
    }

    /// Adds or replaces an entry. Creates missing parents as folders of mode 0755 owned by root.
    ///
    /// # Errors
    /// When the path is absolute, empty, not normalised, passes through something other than a folder, or has the name
    /// of a whiteout; when the mode or the target of a link is invalid; or when something else would replace a
    /// non-empty folder.
    pub fn insert(&mut self, path: &str, entry: Entry) -> Result<(), Error> {
        let path = path.strip_suffix('/').unwrap_or(path);
        let bad = |why: &str| Error::BadPath { path: path.to_owned(), why: why.to_owned() };
        if path.split('/').any(|part| matches!(part, "" | "." | "..")) || path.contains('\0') {
            return Err(bad("it is not a normalised relative path"));
        }
        if path.split('/').any(|part| part.starts_with(WHITEOUT)) {
            return Err(bad("a name that starts with \".wh.\" deletes a file of a lower layer"));
        }
        if let Kind::Symlink(target) | Kind::HardLink(target) = &entry.kind
            && (target.is_empty() || target.contains('\0'))
        {
            return Err(bad("a link needs a target"));
        }
        if entry.mode > 0o7777 {
            return Err(bad("its mode has bits other than permissions"));
        }
        for (end, _) in path.match_indices('/') {
            let parent = &path[..end];
            match self.entries.get(parent).map(|parent| &parent.kind) {
                Some(Kind::Directory) => {}
                Some(_) => return Err(bad(&format!("{parent} is not a folder"))),
                None => {
                    let folder = Entry { kind: Kind::Directory, mode: 0o755, uid: 0, gid: 0 };
                    self.entries.insert(parent.to_owned(), folder);
                }
            }
        }
        if entry.kind != Kind::Directory && self.children(path).next().is_some() {
            return Err(bad("it is a folder that is not empty"));
        }
        self.entries.insert(path.to_owned(), entry);
        Ok(())
    }

    /// Adds an extended attribute to an entry.
    ///
    /// # Errors
    /// When the entry does not exist, or the name of the attribute is invalid.
    pub fn xattr(&mut self, path: &str, name: &str, value: Vec<u8>) -> Result<(), Error> {
        let bad = |why: &str| Error::BadPath { path: path.to_owned(), why: why.to_owned() };
        if !self.entries.contains_key(path) {
            return Err(bad("the path does not exist, so it cannot have an attribute"));
        }
        if name.is_empty() || name.contains(['\0', '=']) {
            return Err(bad("the name of the attribute is not valid"));
        }
        self.xattrs.entry(path.to_owned()).or_default().insert(name.to_owned(), value);
        Ok(())
    }

    /// Returns the extended attributes of an entry, by name.
    pub(crate) fn xattrs(&self, path: &str) -> impl Iterator<Item = (&str, &[u8])> {
        let found = self.xattrs.get(path).into_iter().flatten();
        found.map(|(name, value)| (name.as_str(), value.as_slice()))
    }

    /// Removes an entry and everything below it.
    pub fn remove(&mut self, path: &str) {
        let below: Vec<String> = self.children(path).map(|(path, _)| path.to_owned()).collect();
        for path in below.iter().map(String::as_str).chain([path]) {
            self.entries.remove(path);
            self.xattrs.remove(path);
        }
    }

    /// Returns the entry at a path.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&Entry> {
        self.entries.get(path)
    }

    /// Returns all entries in the byte order of their paths: a folder precedes its content.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries.iter().map(|(path, entry)| (path.as_str(), entry))
    }

    /// Returns the number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns whether the tree has no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn children(&self, path: &str) -> impl Iterator<Item = (&str, &Entry)> {
        let prefix = format!("{path}/");
        let start = self.entries.range(prefix.clone()..);
        start.take_while(move |(path, _)| path.starts_with(&prefix)).map(|(path, entry)| (path.as_str(), entry))
    }
}

/// Copies exactly `size` bytes. A file that grew or shrank since it was measured is an error, and does not result in an
/// invalid archive.
pub(crate) fn copy_exactly(mut from: impl Read, to: &mut impl io::Write, size: u64) -> io::Result<()> {
    let copied = io::copy(&mut from.by_ref().take(size), to)?;
    // Read one more byte: the content must end here, and the digest of a blob is verified at its end.
    let more = from.read(&mut [0])?;
    if copied == size && more == 0 { Ok(()) } else { Err(io::Error::other("the file changed while it was read")) }
}

#[cfg(test)]
mod tests {
    use super::{Content, Kind, Tree};

    fn file() -> Content {
        Content::Bytes(Vec::new())
    }

    #[test]
    fn parents_are_made_and_come_first() {
        let mut tree = Tree::new();
        tree.file("usr/local/bin/manager", 0o755, file()).unwrap();
        tree.file("usr-x", 0o644, file()).unwrap();
        let paths: Vec<_> = tree.iter().map(|(path, _)| path).collect();
        assert_eq!(paths, ["usr", "usr-x", "usr/local", "usr/local/bin", "usr/local/bin/manager"]);
    }

    #[test]
    fn hostile_paths_are_refused() {
        let mut tree = Tree::new();
        tree.symlink("lib", "usr/lib").unwrap();
        tree.file("etc/passwd", 0o644, file()).unwrap();
        let bad =
            ["", "/", "/etc", "..", "a/../b", "./a", "a//b", "a\0b", "lib/x", "etc/passwd/x", ".wh.a", "a/.wh.b/c"];
        for path in bad {
            assert!(tree.file(path, 0o644, file()).is_err(), "{path:?} must be refused");
        }
        assert!(tree.file("etc", 0o644, file()).is_err(), "a folder with something in it stays a folder");
        assert!(tree.file("big", 0o10000, file()).is_err());
        assert_eq!(tree.len(), 3);
    }

    #[test]
    fn a_folder_may_be_given_its_mode_after_its_files_and_goes_with_them() {
        let mut tree = Tree::new();
        tree.file("root/.profile", 0o644, file()).unwrap();
        tree.dir("root/", 0o700).unwrap();
        assert_eq!(tree.get("root").map(|entry| (entry.mode, entry.kind.clone())), Some((0o700, Kind::Directory)));
        tree.remove("root");
        assert!(tree.is_empty());
    }
}
