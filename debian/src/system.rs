//! The tree of a system during its configuration: access for the steps that read it and write to it.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use vcstore::{Content, Entry, Kind, Tree};

use super::Error;

/// The maximum size of a text file, in bytes.
const TEXT_LIMIT: u64 = 1 << 20;

/// The tree of a system that is being configured.
pub(crate) struct System<'a> {
    tree: &'a mut Tree,
}

impl<'a> System<'a> {
    /// Wraps a tree.
    pub(crate) fn of(tree: &'a mut Tree) -> Self {
        Self { tree }
    }

    /// Returns the text of a packaged file, or `None` if there is none.
    pub(crate) fn text(&self, path: &str) -> Result<Option<String>, Error> {
        let bytes = match self.tree.get(path).map(|entry| &entry.kind) {
            Some(Kind::File(Content::Bytes(bytes))) => bytes.clone(),
            Some(Kind::File(Content::Slice { path: spool, offset, len })) => {
                let mut bytes = Vec::new();
                let mut file = File::open(spool).map_err(Error::io("opening", spool))?;
                file.seek(SeekFrom::Start(*offset)).map_err(Error::io("reading", spool))?;
                file.take((*len).min(TEXT_LIMIT)).read_to_end(&mut bytes).map_err(Error::io("reading", spool))?;
                bytes
            }
            _ => return Ok(None),
        };
        let text = String::from_utf8(bytes);
        text.map(Some).map_err(|_| Error::Setup { path: path.to_owned(), why: "it is not UTF-8".to_owned() })
    }

    /// Returns the text of the packaged file from which `path` is generated.
    pub(crate) fn master(&self, master: &str, path: &str) -> Result<String, Error> {
        let why = || format!("no package contains /{master}, from which it is generated");
        self.text(master)?.ok_or_else(|| Error::Setup { path: path.to_owned(), why: why() })
    }

    /// Whether an entry exists.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.tree.get(path).is_some()
    }

    /// Returns the names in a folder, in byte order.
    pub(crate) fn names(&self, folder: &str) -> Vec<String> {
        let prefix = format!("{folder}/");
        let below = self.tree.iter().filter_map(|(path, _)| path.strip_prefix(&prefix));
        below.filter(|name| !name.contains('/')).map(str::to_owned).collect()
    }

    /// Returns the relative paths of everything below a folder, in byte order.
    pub(crate) fn below(&self, folder: &str) -> Vec<String> {
        let prefix = format!("{folder}/");
        self.tree.iter().filter_map(|(path, _)| path.strip_prefix(&prefix)).map(str::to_owned).collect()
    }

    /// Returns the mode and GID of an entry.
    pub(crate) fn permissions(&self, path: &str) -> Option<(u32, u64)> {
        self.tree.get(path).map(|entry| (entry.mode, entry.gid))
    }

    /// Creates a file, unless it exists: packaged files are never overwritten.
    pub(crate) fn file(&mut self, path: &str, mode: u32, gid: u64, text: impl Into<String>) -> Result<(), Error> {
        let kind = Kind::File(Content::Bytes(text.into().into_bytes()));
        self.entry(path, Entry { kind, mode, uid: 0, gid })
    }

    /// Creates a symbolic link, unless the path exists.
    pub(crate) fn link(&mut self, path: &str, target: &str) -> Result<(), Error> {
        self.entry(path, Entry { kind: Kind::Symlink(target.to_owned()), mode: 0o777, uid: 0, gid: 0 })
    }

    /// Creates a folder, unless it exists.
    pub(crate) fn folder(&mut self, path: &str, mode: u32, gid: u64) -> Result<(), Error> {
        self.entry(path, Entry { kind: Kind::Directory, mode, uid: 0, gid })
    }

    /// Removes a packaged entry.
    pub(crate) fn remove(&mut self, path: &str) {
        self.tree.remove(path);
    }

    /// Changes the group and mode of a packaged file.
    pub(crate) fn change(&mut self, path: &str, mode: u32, gid: u64) -> Result<(), Error> {
        let Some(entry) = self.tree.get(path).cloned() else { return Ok(()) };
        self.tree.remove(path);
        Ok(self.tree.insert(path, Entry { mode, gid, ..entry })?)
    }

    /// Sets an extended attribute of a packaged file.
    pub(crate) fn attribute(&mut self, path: &str, name: &str, value: impl Into<Vec<u8>>) -> Result<(), Error> {
        Ok(self.tree.xattr(path, name, value.into())?)
    }

    fn entry(&mut self, path: &str, entry: Entry) -> Result<(), Error> {
        if !self.has(path) {
            self.tree.insert(path, entry)?;
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use vcstore::{Content, Kind, Tree};

    use super::System;

    /// Returns a tree of text files.
    pub(crate) fn tree(files: &[(&str, &str)]) -> Tree {
        let mut tree = Tree::new();
        for (path, text) in files {
            tree.file(path, 0o644, Content::Bytes(text.as_bytes().to_vec())).unwrap();
        }
        tree
    }

    /// Wraps a tree.
    pub(crate) fn system(tree: &mut Tree) -> System<'_> {
        System::of(tree)
    }

    /// Returns the text of a file in a tree.
    pub(crate) fn text(tree: &Tree, path: &str) -> String {
        match tree.get(path).map(|entry| &entry.kind) {
            Some(Kind::File(Content::Bytes(bytes))) => String::from_utf8(bytes.clone()).unwrap(),
            Some(Kind::Symlink(target)) => format!("-> {target}"),
            other => panic!("{path}: {other:?}"),
        }
    }
}
