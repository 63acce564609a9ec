//! The tree of a system while it is set up: what the steps that set it up read of it and write into it.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use vcstore::{Content, Entry, Kind, Tree};

use super::Error;

/// A text of the system larger than this is none.
const TEXT_LIMIT: u64 = 1 << 20;

/// The tree of a system that is being set up.
pub(crate) struct System<'a> {
    tree: &'a mut Tree,
}

impl<'a> System<'a> {
    /// The system in a tree.
    pub(crate) fn of(tree: &'a mut Tree) -> Self {
        Self { tree }
    }

    /// The text of a file that a package holds; nothing when none does.
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

    /// The text of a file that a package must hold for `path` to be made from.
    pub(crate) fn master(&self, master: &str, path: &str) -> Result<String, Error> {
        let why = || format!("no package contains /{master}, from which it is generated");
        self.text(master)?.ok_or_else(|| Error::Setup { path: path.to_owned(), why: why() })
    }

    /// Whether a file or link is there.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.tree.get(path).is_some()
    }

    /// The names of the files in a folder, in byte order.
    pub(crate) fn names(&self, folder: &str) -> Vec<String> {
        let prefix = format!("{folder}/");
        let below = self.tree.iter().filter_map(|(path, _)| path.strip_prefix(&prefix));
        below.filter(|name| !name.contains('/')).map(str::to_owned).collect()
    }

    /// The paths of all that is below a folder, from there, in byte order.
    pub(crate) fn below(&self, folder: &str) -> Vec<String> {
        let prefix = format!("{folder}/");
        self.tree.iter().filter_map(|(path, _)| path.strip_prefix(&prefix)).map(str::to_owned).collect()
    }

    /// The permissions and the group of what is at a path.
    pub(crate) fn permissions(&self, path: &str) -> Option<(u32, u64)> {
        self.tree.get(path).map(|entry| (entry.mode, entry.gid))
    }

    /// Makes a file, unless there is one: what a package holds is never overwritten.
    pub(crate) fn file(&mut self, path: &str, mode: u32, gid: u64, text: impl Into<String>) -> Result<(), Error> {
        let kind = Kind::File(Content::Bytes(text.into().into_bytes()));
        self.entry(path, Entry { kind, mode, uid: 0, gid })
    }

    /// Makes a symbolic link, unless there is something.
    pub(crate) fn link(&mut self, path: &str, target: &str) -> Result<(), Error> {
        self.entry(path, Entry { kind: Kind::Symlink(target.to_owned()), mode: 0o777, uid: 0, gid: 0 })
    }

    /// Makes a folder, unless there is one.
    pub(crate) fn folder(&mut self, path: &str, mode: u32, gid: u64) -> Result<(), Error> {
        self.entry(path, Entry { kind: Kind::Directory, mode, uid: 0, gid })
    }

    /// Removes what a package holds.
    pub(crate) fn remove(&mut self, path: &str) {
        self.tree.remove(path);
    }

    /// Gives a packaged file another group and other permissions.
    pub(crate) fn change(&mut self, path: &str, mode: u32, gid: u64) -> Result<(), Error> {
        let Some(entry) = self.tree.get(path).cloned() else { return Ok(()) };
        self.tree.remove(path);
        Ok(self.tree.insert(path, Entry { mode, gid, ..entry })?)
    }

    /// Gives a packaged file an extended attribute.
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

    /// A tree of text files.
    pub(crate) fn tree(files: &[(&str, &str)]) -> Tree {
        let mut tree = Tree::new();
        for (path, text) in files {
            tree.file(path, 0o644, Content::Bytes(text.as_bytes().to_vec())).unwrap();
        }
        tree
    }

    /// The system in a tree.
    pub(crate) fn system(tree: &mut Tree) -> System<'_> {
        System::of(tree)
    }

    /// The text of a file in a tree.
    pub(crate) fn text(tree: &Tree, path: &str) -> String {
        match tree.get(path).map(|entry| &entry.kind) {
            Some(Kind::File(Content::Bytes(bytes))) => String::from_utf8(bytes.clone()).unwrap(),
            Some(Kind::Symlink(target)) => format!("-> {target}"),
            other => panic!("{path}: {other:?}"),
        }
    }
}
