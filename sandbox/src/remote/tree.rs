//! The contents of a folder, file by file with their hashes: read on one side and recreated on the other.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use camino::{Utf8Component, Utf8Path, Utf8PathBuf};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use vcstore::{Digest, Hasher};
use walkdir::WalkDir;

use crate::FOLDER_MODE;
use crate::plain::Plain;

/// Go's module cache keeps downloaded archives in folders with this name. Go reads only the unpacked modules beside
/// them.
const FETCHED: &str = "@v";

/// A file or folder with everything below it, by path; a file is a tree of its own with an empty path.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Tree(pub(super) BTreeMap<String, Node>);

/// The entry at a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Node {
    File {
        digest: Digest,
        size: u64,
        executable: bool,
    },
    Link(String),
    Folder,
    /// A socket, a pipe or the like. Its content is not transferred: a pipe replaces it, so that it is not mistaken for
    /// a file.
    Other,
}

/// The hashes of files that were read, valid as long as the files do not change.
#[derive(Debug, Default)]
pub(super) struct Memory(Mutex<HashMap<[i64; 6], Digest>>);

impl Tree {
    /// Reads a file or folder.
    ///
    /// # Errors
    /// Returns an error if it cannot be read, or if a name in it is not UTF-8.
    pub(super) fn read(top: &Utf8Path, memory: &Memory) -> io::Result<Self> {
        let mut paths = Vec::new();
        for entry in WalkDir::new(top) {
            let entry = entry?;
            let path = entry.path().strip_prefix(top).map_err(io::Error::other)?;
            let path = path.to_str().ok_or_else(|| io::Error::other(format!("{} is not UTF-8", path.display())))?;
            if !is_fetched(entry.path()) {
                paths.push((path.to_owned(), entry.into_path()));
            }
        }
        let read = |(path, place): (String, std::path::PathBuf)| {
            let node = Node::read(&place, memory).map_err(|error| naming(&place, &error))?;
            Ok((path, node))
        };
        Ok(Self(paths.into_par_iter().map(read).collect::<io::Result<_>>()?))
    }

    /// Returns its files: path, hash and size.
    pub(super) fn files(&self) -> impl Iterator<Item = (&str, Digest, u64)> {
        self.0.iter().filter_map(|(path, node)| match node {
            Node::File { digest, size, .. } => Some((path.as_str(), *digest, *size)),
            Node::Link(_) | Node::Folder | Node::Other => None,
        })
    }

    /// Returns the digest of the tree.
    ///
    /// # Errors
    /// Cannot fail in practice, because the tree contains only text and numbers.
    pub(super) fn digest(&self) -> io::Result<Digest> {
        Ok(Digest::of(&vcstore::canonical_json(self).map_err(io::Error::other)?))
    }

    /// Creates the tree at `top`, which must not exist; `content` returns the path of a file's content.
    ///
    /// # Errors
    /// Returns an error if something cannot be created.
    pub(super) fn make(&self, top: &Utf8Path, content: impl Fn(&Digest) -> io::Result<Utf8PathBuf>) -> io::Result<()> {
        // A folder is created before its entries, and links are created last, so that nothing is written through
        // one.
        let is_link = |node: &&Node| matches!(node, Node::Link(_));
        let (links, others): (Vec<_>, Vec<_>) = self.0.iter().partition(|(_, node)| is_link(node));
        for (path, node) in others.into_iter().chain(links) {
            let place = if path.is_empty() { top.to_owned() } else { top.join(relative(path)?) };
            match node {
                Node::Folder => {
                    fs::create_dir_all(&place)?;
                    fs::set_permissions(&place, Permissions::from_mode(FOLDER_MODE))?;
                }
                Node::Link(target) => symlink(target, &place)?,
                Node::File { digest, size, executable } => {
                    copy(&content(digest)?, digest, *size, &place)?;
                    fs::set_permissions(&place, permissions(*executable))?;
                }
                Node::Other => pipe(&place)?,
            }
        }
        Ok(())
    }

    /// Returns the entries that are removed in `later`, the same tree after a program ran, or that changed from or to a
    /// folder. The entries in a folder come before the folder.
    pub(super) fn gone<'a>(&'a self, later: &Self) -> impl Iterator<Item = &'a String> {
        let is_folder = |node: &Node| matches!(node, Node::Folder);
        let stays = move |later: Option<&Node>, node| later.is_some_and(|later| is_folder(later) == is_folder(node));
        let gone = self.0.iter().rev().filter(move |(path, node)| !stays(later.0.get(*path), node));
        gone.map(|(path, _)| path)
    }

    /// Returns the entries of `later` that are new or changed.
    pub(super) fn changes<'a>(&self, later: &'a Self) -> impl Iterator<Item = (&'a String, &'a Node)> {
        later.0.iter().filter(|(path, node)| self.0.get(*path) != Some(node))
    }
}

impl Node {
    fn read(path: &Path, memory: &Memory) -> io::Result<Self> {
        let meta = fs::symlink_metadata(path)?;
        if meta.is_dir() {
            return Ok(Self::Folder);
        }
        if meta.is_symlink() {
            let target = fs::read_link(path)?;
            let target = target.to_str().ok_or_else(|| io::Error::other("its target is not UTF-8"))?;
            return Ok(Self::Link(target.to_owned()));
        }
        if !meta.is_file() {
            return Ok(Self::Other);
        }
        let executable = meta.mode() & 0o100 != 0;
        Ok(Self::File { digest: memory.hash(path, &meta)?, size: meta.len(), executable })
    }
}

impl Memory {
    fn hash(&self, path: &Path, meta: &Metadata) -> io::Result<Digest> {
        let known = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let [device, inode, size] = [meta.dev(), meta.ino(), meta.len()].map(u64::cast_signed);
        let state = [device, inode, size, meta.mtime(), meta.ctime(), meta.ctime_nsec()];
        if let Some(digest) = known().get(&state) {
            return Ok(*digest);
        }
        let mut hasher = Hasher::default();
        let place = Utf8Path::from_path(path).ok_or_else(|| io::Error::other("its path is not UTF-8"))?;
        let file = Plain::open(place)?;
        let mut content = file.content();
        let mut buffer = vec![0; 128 << 10];
        loop {
            match content.read(&mut buffer)? {
                0 => break,
                count => hasher.update(&buffer[..count]),
            }
        }
        let blob = hasher.finish();
        if blob.size != meta.len() {
            return Err(io::Error::other("it changed while it was read"));
        }
        known().insert(state, blob.digest);
        Ok(blob.digest)
    }
}

/// Reads the content of a file from a stream into a new file. Removes the file if its content is wrong.
///
/// # Errors
/// Returns an error if the stream ends early, the content is wrong, or the file cannot be written.
pub(super) fn receive(from: &mut impl Read, digest: &Digest, size: u64, to: &Path) -> io::Result<()> {
    let mut hasher = Hasher::default();
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(to)?;
    let mut from = from.take(size);
    let mut buffer = vec![0; 128 << 10];
    loop {
        match from.read(&mut buffer)? {
            0 => break,
            count => {
                hasher.update(&buffer[..count]);
                file.write_all(&buffer[..count])?;
            }
        }
    }
    let found = hasher.finish();
    if found.size == size && found.digest == *digest {
        return Ok(());
    }
    fs::remove_file(to)?;
    if found.size < size {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the connection ended"));
    }
    Err(io::Error::other(format!("a file arrived with digest {}, expected {digest}", found.digest)))
}

/// Copies a cached file. Removes it if it is damaged, so that it is requested again next time.
///
/// # Errors
/// Returns an error if it is damaged or cannot be copied.
fn copy(kept: &Utf8Path, digest: &Digest, size: u64, to: &Utf8Path) -> io::Result<()> {
    receive(&mut File::open(kept)?, digest, size, to.as_std_path()).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::Other => {
            let _ = fs::remove_file(kept);
            io::Error::other(format!("the kept copy of {} is damaged, and was removed", digest.hex()))
        }
        _ => error,
    })
}

/// Writes an entry to the folder `top` (or replaces the file `top`), which may contain others. Nothing is written
/// through a link.
///
/// # Errors
/// Returns an error if the path leads out of the folder or through a link, or if the entry cannot be written.
pub(super) fn put(
    top: &Utf8Path,
    path: &str,
    node: &Node,
    content: impl Fn(&Digest) -> io::Result<Utf8PathBuf>,
) -> io::Result<()> {
    let place = below(top, path)?;
    if let Some(folder) = place.parent() {
        fs::create_dir_all(folder)?;
    }
    if matches!(node, Node::Folder) {
        return fs::create_dir_all(&place);
    }
    if fs::symlink_metadata(&place).is_ok() {
        fs::remove_file(&place)?;
    }
    match node {
        Node::Link(target) => symlink(target, &place),
        Node::File { digest, size, executable } => {
            copy(&content(digest)?, digest, *size, &place)?;
            fs::set_permissions(&place, permissions(*executable))
        }
        Node::Other => pipe(&place),
        Node::Folder => Ok(()),
    }
}

/// Removes an entry from the folder `top`, with everything below it. The entry may already be gone with its
/// folder.
///
/// # Errors
/// Returns an error if the path is the folder itself, leads out of it or through a link, or if the entry cannot be
/// removed.
pub(super) fn remove(top: &Utf8Path, path: &str) -> io::Result<()> {
    if path.is_empty() {
        return Err(io::Error::other(format!("{top} itself was removed")));
    }
    let place = below(top, path)?;
    match fs::symlink_metadata(&place) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(&place),
        Ok(_) => fs::remove_file(&place),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Returns the location of a path in the folder `top`.
fn below(top: &Utf8Path, path: &str) -> io::Result<Utf8PathBuf> {
    let place = if path.is_empty() { top.to_owned() } else { top.join(relative(path)?) };
    for folder in place.ancestors().skip(1).take_while(|folder| folder.starts_with(top) && *folder != top) {
        if fs::symlink_metadata(folder).is_ok_and(|meta| !meta.is_dir()) {
            return Err(io::Error::other(format!("{path} passes through {folder}, which is not a folder")));
        }
    }
    Ok(place)
}

/// Whether this file is an archive that Go has downloaded and unpacked.
fn is_fetched(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "zip")
        && path.parent().and_then(Path::file_name).is_some_and(|folder| folder == FETCHED)
        && path.with_extension("ziphash").exists()
}

fn pipe(place: &Utf8Path) -> io::Result<()> {
    Ok(nix::unistd::mkfifo(place.as_std_path(), nix::sys::stat::Mode::from_bits_truncate(0o600))?)
}

/// Returns a relative path without `..`.
fn relative(path: &str) -> io::Result<&Utf8Path> {
    let path = Utf8Path::new(path);
    if path.components().all(|part| matches!(part, Utf8Component::Normal(_))) {
        Ok(path)
    } else {
        Err(io::Error::other(format!("the path {path:?} points outside its folder")))
    }
}

fn permissions(executable: bool) -> Permissions {
    Permissions::from_mode(if executable { 0o755 } else { 0o644 })
}

fn naming(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use camino::{Utf8Path, Utf8PathBuf};
    use vcstore::Digest;

    use super::{Memory, Node, Tree, put, receive, remove};

    fn scratch() -> (tempfile::TempDir, Utf8PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::try_from(folder.path().to_owned()).unwrap();
        (folder, path)
    }

    fn example(top: &Utf8Path) -> Tree {
        fs::create_dir_all(top.join("a/empty")).unwrap();
        fs::write(top.join("a/file"), "one").unwrap();
        fs::create_dir(top.join("@v")).unwrap();
        fs::write(top.join("@v/m.zip"), "fetched").unwrap();
        fs::write(top.join("@v/m.ziphash"), "h1:x").unwrap();
        fs::write(top.join("m.zip"), "an input").unwrap();
        fs::write(top.join("m.ziphash"), "another").unwrap();
        symlink("a/file", top.join("link")).unwrap();
        Tree::read(top, &Memory::default()).unwrap()
    }

    #[test]
    fn a_tree_is_made_again_as_it_was_without_what_was_only_fetched() {
        let (_folder, top) = scratch();
        let tree = example(&top.join("from"));
        let paths: Vec<&str> = tree.0.keys().map(String::as_str).collect();
        assert_eq!(paths, ["", "@v", "@v/m.ziphash", "a", "a/empty", "a/file", "link", "m.zip", "m.ziphash"]);
        let content = |digest: &Digest| {
            let of = |name: &str| Digest::of(&fs::read(top.join("from").join(name)).unwrap()) == *digest;
            Ok(["@v/m.ziphash", "a/file", "m.zip", "m.ziphash"]
                .into_iter()
                .find(|name| of(name))
                .map(|name| top.join("from").join(name))
                .unwrap())
        };
        tree.make(&top.join("to"), content).unwrap();
        let again = Tree::read(&top.join("to"), &Memory::default()).unwrap();
        assert_eq!((again.digest().unwrap(), &again), (tree.digest().unwrap(), &tree));
        fs::write(top.join("to/a/file"), "two").unwrap();
        fs::write(top.join("to/new"), "").unwrap();
        let later = Tree::read(&top.join("to"), &Memory::default()).unwrap();
        assert_eq!(tree.changes(&later).map(|(path, _)| path.as_str()).collect::<Vec<_>>(), ["a/file", "new"]);
        assert_eq!(tree.gone(&later).count(), 0);
    }

    #[test]
    fn what_went_or_became_something_else_is_so_on_the_other_side_too() {
        let (_folder, top) = scratch();
        let (here, there, outside) = (top.join("here"), top.join("there"), top.join("outside"));
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("stays"), "").unwrap();
        for side in [&here, &there] {
            for folder in ["kept", "gone/deep", "to-file/deep", "to-link"] {
                fs::create_dir_all(side.join(folder)).unwrap();
            }
            for file in
                ["kept/file", "kept/gone", "gone/deep/file", "to-file/deep/file", "to-link/file", "to-folder", "pipe"]
            {
                fs::write(side.join(file), "x").unwrap();
            }
            symlink(&outside, side.join("link-to-folder")).unwrap();
            symlink(&outside, side.join("link")).unwrap();
        }
        let before = Tree::read(&there, &Memory::default()).unwrap();
        for path in ["kept/gone", "to-folder", "link-to-folder", "link", "pipe"] {
            fs::remove_file(there.join(path)).unwrap();
        }
        for path in ["gone", "to-file", "to-link"] {
            fs::remove_dir_all(there.join(path)).unwrap();
        }
        fs::write(there.join("to-file"), "x").unwrap();
        symlink("kept", there.join("to-link")).unwrap();
        for folder in ["to-folder", "link-to-folder"] {
            fs::create_dir(there.join(folder)).unwrap();
            fs::write(there.join(folder).join("file"), "x").unwrap();
        }
        let _socket = std::os::unix::net::UnixListener::bind(there.join("pipe")).unwrap();
        let after = Tree::read(&there, &Memory::default()).unwrap();
        for path in before.gone(&after) {
            remove(&here, path).unwrap();
        }
        for (path, node) in before.changes(&after) {
            put(&here, path, node, |_| Ok(there.join("kept/file"))).unwrap();
        }
        assert_eq!(Tree::read(&here, &Memory::default()).unwrap(), after);
        assert!(outside.join("stays").exists());
    }

    #[test]
    fn nothing_is_removed_outside_of_its_folder() {
        let (_folder, top) = scratch();
        let (inside, outside) = (top.join("inside"), top.join("outside"));
        fs::create_dir_all(&inside).unwrap();
        fs::create_dir_all(&outside).unwrap();
        fs::write(outside.join("a"), "").unwrap();
        symlink(&outside, inside.join("link")).unwrap();
        for path in ["", "..", "../outside/a", "link/a", outside.join("a").as_str()] {
            assert!(remove(&inside, path).is_err(), "{path}");
        }
        remove(&inside, "never/there").unwrap();
        remove(&inside, "link").unwrap();
        assert!(outside.join("a").exists() && inside.exists() && !inside.join("link").exists());
    }

    #[test]
    fn nothing_is_put_outside_of_its_folder() {
        let (_folder, top) = scratch();
        let (inside, outside) = (top.join("inside"), top.join("outside"));
        fs::create_dir_all(&inside).unwrap();
        fs::create_dir_all(&outside).unwrap();
        symlink(&outside, inside.join("link")).unwrap();
        fs::write(top.join("content"), "x").unwrap();
        let file = Node::File { digest: Digest::of(b"x"), size: 1, executable: true };
        let put = |path: &str| put(&inside, path, &file, |_| Ok(top.join("content")));
        for path in ["../outside/a", "/etc/a", "link/a", "a/../../outside/a"] {
            assert!(put(path).is_err(), "{path}");
        }
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
        // A link itself is replaced, and not its target.
        put("link").unwrap();
        put("deep/er/a").unwrap();
        assert!(inside.join("link").is_file() && inside.join("deep/er/a").is_file() && outside.is_dir());
    }

    #[test]
    fn what_arrives_is_what_was_asked_for_or_is_not_there() {
        let (_folder, top) = scratch();
        let to = top.join("file");
        let receive = |bytes: &[u8], size| receive(&mut &bytes[..], &Digest::of(b"abc"), size, to.as_std_path());
        assert!(receive(b"ab", 3).unwrap_err().to_string().contains("the connection ended"));
        assert!(receive(b"abd", 3).unwrap_err().to_string().contains(", expected "));
        assert!(!to.exists());
        receive(b"abcdef", 3).unwrap();
        assert_eq!(fs::read(&to).unwrap(), b"abc");
    }
}
