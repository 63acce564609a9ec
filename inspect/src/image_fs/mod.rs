//! The files of an image: its layers stacked, as a container sees them.

mod layer;
pub mod outline;

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use rayon::prelude::*;
use vcstore::{Digest, Layer, Store};

pub use self::layer::{Entry, Kind, LayerContents, extract, texts};
use crate::Error;

/// A cache of layers by uncompressed digest: images share layers, and each is read once.
#[derive(Debug, Default)]
pub struct Layers(Mutex<HashMap<Digest, Arc<LayerContents>>>);

/// The file system of an image.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Files {
    /// The entries by path, without a leading slash.
    pub entries: BTreeMap<String, Placed>,
}

/// An entry with its layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// The entry of the layer.
    pub entry: Entry,
    /// The number of the layer, starting with 0 for the lowest.
    pub layer: usize,
}

impl Layers {
    /// Returns the contents of these layers in order; reads several in parallel.
    ///
    /// # Errors
    /// When a layer is missing or damaged.
    pub fn read(&self, store: &Store, layers: &[Layer]) -> Result<Vec<Arc<LayerContents>>, Error> {
        layers.par_iter().map(|layer| self.one(store, layer)).collect()
    }

    /// Returns the file system of these layers.
    ///
    /// # Errors
    /// When a layer is missing or damaged.
    pub fn files(&self, store: &Store, layers: &[Layer]) -> Result<Files, Error> {
        Ok(Files::of(self.read(store, layers)?.iter().map(AsRef::as_ref)))
    }

    fn one(&self, store: &Store, layer: &Layer) -> Result<Arc<LayerContents>, Error> {
        let known = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(contents) = known().get(&layer.diff_id) {
            return Ok(Arc::clone(contents));
        }
        let contents = Arc::new(layer::read(store, layer)?);
        known().insert(layer.diff_id, Arc::clone(&contents));
        Ok(contents)
    }
}

impl Files {
    /// Stacks layers, lowest first.
    pub fn of<'a>(layers: impl IntoIterator<Item = &'a LayerContents>) -> Self {
        let mut files = Self::default();
        for (number, layer) in layers.into_iter().enumerate() {
            take_away(&mut files.entries, &layer.opaque, &layer.whiteouts);
            for (path, entry) in &layer.entries {
                let placed = Placed { entry: entry.clone(), layer: number };
                put(&mut files.entries, path.clone(), placed, entry.kind == Kind::Directory);
            }
            files.resolve_hard_links(layer);
        }
        files
    }

    /// Finds the entry at a path, which may have a leading slash and pass through symbolic links. Returns its resolved
    /// path and the entry.
    pub fn find(&self, path: &str) -> Option<(String, &Placed)> {
        let at = follow(path, |at, last| {
            Ok::<_, Infallible>(match self.entries.get(at).map(|placed| &placed.entry.kind) {
                // A link at the end of the path is the requested entry itself.
                Some(Kind::Symlink(target)) if !last => Some(target.clone()),
                _ => None,
            })
        });
        let at = at.unwrap_or_else(|never| match never {})?;
        let placed = self.entries.get(&at)?;
        Some((at, placed))
    }

    /// Replaces hard links by the entries of their targets.
    fn resolve_hard_links(&mut self, layer: &LayerContents) {
        for (path, entry) in &layer.entries {
            if let Kind::HardLink(target) = &entry.kind
                && let Some(target) = self.entries.get(target).map(|placed| placed.entry.clone())
                && let Some(placed) = self.entries.get_mut(path)
            {
                placed.entry = target;
            }
        }
    }
}

/// Resolves the symbolic links in a path, as in a container, whose root no link can leave. Returns the path without a
/// leading slash, or `None` if there are more links than the kernel follows. `link` returns the target of a link at a
/// path that is to be followed; its second argument states whether the path's last component is reached.
///
/// # Errors
/// When `link` fails.
pub fn follow<E>(
    path: &str,
    mut link: impl FnMut(&str, bool) -> Result<Option<String>, E>,
) -> Result<Option<String>, E> {
    /// The kernel's limit of followed links.
    const LINKS: usize = 40;
    let parts = |path: &str| -> Vec<String> {
        let parts = path.split('/').filter(|part| !matches!(*part, "" | "."));
        parts.rev().map(ToOwned::to_owned).collect()
    };
    let mut todo = parts(path);
    let mut at = String::new();
    let mut followed = 0;
    while let Some(part) = todo.pop() {
        if part == ".." {
            at = at.rsplit_once('/').map_or(String::new(), |(folder, _)| folder.to_owned());
            continue;
        }
        let next = if at.is_empty() { part } else { format!("{at}/{part}") };
        match link(&next, todo.is_empty())? {
            Some(target) => {
                followed += 1;
                if followed > LINKS {
                    return Ok(None);
                }
                if target.starts_with('/') {
                    at.clear();
                }
                todo.extend(parts(&target));
            }
            None => at = next,
        }
    }
    Ok(Some(at))
}

/// Removes the paths that a layer deletes from a file system.
fn take_away<T>(entries: &mut BTreeMap<String, T>, opaque: &[String], whiteouts: &[String]) {
    for path in opaque {
        remove_below(entries, path);
    }
    for path in whiteouts {
        entries.remove(path);
        remove_below(entries, path);
    }
}

/// Adds an entry of a layer to a file system; removes everything below an entry that is not a folder.
fn put<T>(entries: &mut BTreeMap<String, T>, path: String, entry: T, folder: bool) {
    if !folder {
        remove_below(entries, &path);
    }
    entries.insert(path, entry);
}

fn remove_below<T>(entries: &mut BTreeMap<String, T>, path: &str) {
    let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
    let start = entries.range(prefix.clone()..);
    let below: Vec<_> = start.take_while(|(path, _)| path.starts_with(&prefix)).map(|(path, _)| path.clone()).collect();
    for path in below {
        entries.remove(&path);
    }
}

impl Kind {
    /// Returns the size of a file; 0 for other types.
    pub fn size(&self) -> u64 {
        match self {
            Self::File { size, .. } => *size,
            _ => 0,
        }
    }

    /// Returns the name of the type.
    pub fn word(&self) -> &str {
        match self {
            Self::File { .. } => "file",
            Self::Directory => "directory",
            Self::Symlink(_) => "symlink",
            Self::HardLink(_) => "hardlink",
            Self::Special(_) => "special",
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use vcstore::Digest;

    use super::{Entry, Files, Kind, LayerContents};

    /// Creates a layer of files (`path content`), folders (`path/`), symbolic links (`path -> target`), hard links
    /// (`path => target`) and whiteouts (`-path`, or `-path/` for a folder's content).
    pub(crate) fn layer(lines: &[&str]) -> LayerContents {
        let mut layer = LayerContents::default();
        for line in lines {
            if let Some(path) = line.strip_prefix('-') {
                match path.strip_suffix('/') {
                    Some(folder) => layer.opaque.push(folder.to_owned()),
                    None => layer.whiteouts.push(path.to_owned()),
                }
                continue;
            }
            let file =
                |content: &str| Kind::File { size: content.len() as u64, digest: Digest::of(content.as_bytes()) };
            let (path, kind) = if let Some((path, target)) = line.split_once(" -> ") {
                (path, Kind::Symlink(target.to_owned()))
            } else if let Some((path, target)) = line.split_once(" => ") {
                (path, Kind::HardLink(target.to_owned()))
            } else if let Some(path) = line.strip_suffix('/') {
                (path, Kind::Directory)
            } else {
                let (path, content) = line.split_once(' ').unwrap();
                (path, file(content))
            };
            let entry = Entry { kind, mode: 0o644, uid: 0, gid: 0, mtime: 0, xattrs: BTreeMap::new() };
            layer.entries.insert(path.to_owned(), entry);
        }
        layer
    }

    fn paths(files: &Files) -> Vec<String> {
        files.entries.iter().map(|(path, placed)| format!("{path} {}", placed.layer)).collect()
    }

    #[test]
    fn upper_layers_stand_over_lower_ones_and_take_away() {
        let lower = layer(&["a/", "a/1 one", "a/2 two", "b/", "b/c/", "b/c/3 three", "d/", "d/4 four"]);
        let upper = layer(&["-a/1", "-b/", "b/new new", "d file", "a/2 changed"]);
        assert_eq!(paths(&Files::of([&lower, &upper])), ["a 0", "a/2 1", "b 0", "b/new 1", "d 1"]);
    }

    #[test]
    fn a_hard_link_is_its_file_wherever_that_is() {
        let lower = layer(&["z one"]);
        let upper = layer(&["a => z", "b => nowhere"]);
        let files = Files::of([&lower, &upper]);
        assert_eq!(files.entries["a"].entry.kind, files.entries["z"].entry.kind);
        assert_eq!(files.entries["b"].entry.kind, Kind::HardLink("nowhere".to_owned()));
    }

    #[test]
    fn a_path_is_found_through_links_and_never_without_end() {
        let files = Files::of([&layer(&[
            "bin -> usr/bin",
            "usr/",
            "usr/bin/",
            "usr/bin/sh -> dash",
            "usr/bin/dash x",
            "loop -> loop/a",
            "up -> ../../usr",
        ])]);
        let found = |path: &str| files.find(path).map(|(path, _)| path);
        assert_eq!(found("/bin/dash").unwrap(), "usr/bin/dash");
        assert_eq!(found("/bin/sh").unwrap(), "usr/bin/sh");
        assert_eq!(found("up/./bin//dash").unwrap(), "usr/bin/dash");
        assert_eq!(found("/usr/bin/../bin").unwrap(), "usr/bin");
        assert_eq!((found("/loop/b"), found("/nowhere"), found("/")), (None, None, None));
    }
}
