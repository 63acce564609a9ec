//! The identity of the inputs that a build reads from this machine. Action keys include it, because the outputs depend
//! on it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::OnceLock;

use camino::{Utf8Path, Utf8PathBuf};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use vcsandbox::{SYSTEM_FOLDERS, Step};
use vcstore::Store;

use crate::Error;
use crate::error::HostInputError;
use crate::file_manifest::FileManifest;
use crate::source::FileHash;

/// The search path for the machine's programs.
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A cache that Python writes next to its modules and recreates when it is missing.
const LEFT_BEHIND: &str = "__pycache__";

/// Returns the identity of the machine's programs and libraries: a hash of the names, sizes, permissions and
/// modification times of all files that a step with access to the system can see. Hashing the content would take
/// minutes.
///
/// # Errors
/// When a folder cannot be read.
pub(crate) fn system() -> Result<FileHash, Error> {
    static KNOWN: OnceLock<FileHash> = OnceLock::new();
    if let Some(known) = KNOWN.get() {
        return Ok(known.clone());
    }
    let mut hasher = blake3::Hasher::new();
    for folder in SYSTEM_FOLDERS.map(Utf8Path::new) {
        if fs::symlink_metadata(folder).is_ok() {
            // Inodes and change times are left out, so that a copy with the same modification time has the same
            // identity.
            let state = |meta: &Metadata| [i64::from(meta.mode()), meta.mtime(), 0];
            let hash = describe(folder.as_std_path(), &|name| name != LEFT_BEHIND, &state);
            hasher.update(folder.as_str().as_bytes()).update(hash.map_err(Error::io("reading", folder))?.as_bytes());
        }
    }
    let identity = FileHash::of(hasher.finalize().as_bytes());
    Ok(KNOWN.get_or_init(|| identity).clone())
}

/// Returns the content hashes of the inputs of `component`, by their paths in the sandbox.
///
/// # Errors
/// When an input is missing or cannot be read.
pub(crate) fn identities(
    inputs: &BTreeMap<String, Utf8PathBuf>,
    component: &str,
    store: &Store,
) -> Result<BTreeMap<String, FileHash>, Error> {
    let identity = |(inside, host): (&String, &Utf8PathBuf)| {
        let known = content(host, store).map_err(|source| {
            let (component, host, source) = (component.to_owned(), host.clone(), Box::new(source));
            HostInputError::Input { component, host, source }
        });
        Ok((inside.clone(), known?))
    };
    inputs.iter().map(identity).collect()
}

/// Checks, after a step of `component` has read its inputs, that they still have the content in the action key.
///
/// # Errors
/// When an input changed or is missing.
pub(crate) fn unchanged(
    known: &BTreeMap<String, FileHash>,
    inputs: &BTreeMap<String, Utf8PathBuf>,
    component: &str,
    store: &Store,
) -> Result<(), Error> {
    let now = identities(inputs, component, store)?;
    let changed = inputs.iter().find(|(inside, _)| known.get(*inside) != now.get(*inside));
    changed.map_or(Ok(()), |(_, host)| Err(Error::source_changed(host.as_path())))
}

/// Gives a step of `component` access to its inputs.
///
/// # Errors
/// When an input is missing, or cannot appear at its path without a sandbox.
pub(crate) fn give(inputs: &BTreeMap<String, Utf8PathBuf>, component: &str, step: &mut Step) -> Result<(), Error> {
    for (inside, host) in inputs {
        if step.read_only(host, inside)? != *inside {
            let (component, host, inside) = (component.to_owned(), host.clone(), inside.clone());
            return Err(HostInputError::NeedsSandbox { component, host, inside }.into());
        }
    }
    Ok(())
}

/// Returns a hash of the content of a file or folder of this machine. The store caches it while no file changes.
///
/// # Errors
/// When the path does not exist or cannot be read.
pub(crate) fn content(path: &Utf8Path, store: &Store) -> Result<FileHash, Error> {
    /// A cached hash.
    #[derive(Serialize, Deserialize)]
    struct CachedHash {
        state: FileHash,
        content: FileHash,
    }
    let path = path.canonicalize_utf8().map_err(Error::io("finding", path))?;
    let state = |meta: &Metadata| [meta.ino().cast_signed(), meta.ctime(), meta.ctime_nsec()];
    let state = describe(path.as_std_path(), &|_| true, &state).map_err(Error::io("reading", &path))?;
    let state = FileHash::of(state.as_bytes());
    let memory = store.cache_dir("inputs")?.join(blake3::hash(path.as_str().as_bytes()).to_hex().as_str());
    let known = fs::read(&memory).ok().and_then(|bytes| serde_json::from_slice::<CachedHash>(&bytes).ok());
    if let Some(known) = known.filter(|known| known.state == state) {
        return Ok(known.content);
    }
    let content = FileManifest::all(&path)?.hash();
    // If the cache cannot be written, the next run computes the hash again.
    let known = CachedHash { state, content: content.clone() };
    let _ = vcstore::atomic::replace(&memory, &serde_json::to_vec(&known).unwrap_or_default());
    Ok(content)
}

/// Returns a hash of the names, sizes and links of all entries at and below `path` that `keep` accepts, and of the
/// numbers that `more` returns for each file.
fn describe(
    path: &Path,
    keep: &(impl Fn(&OsStr) -> bool + Sync),
    more: &(impl Fn(&Metadata) -> [i64; 3] + Sync),
) -> io::Result<blake3::Hash> {
    let meta = fs::symlink_metadata(path)?;
    let mut hasher = blake3::Hasher::new();
    if meta.is_symlink() {
        hasher.update(b"link").update(fs::read_link(path)?.as_os_str().as_encoded_bytes());
    } else if meta.is_dir() {
        let mut names: Vec<_> = match fs::read_dir(path) {
            // A program that this process starts cannot enter a folder that this process cannot enter.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Vec::new(),
            entries => entries?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>()?,
        };
        names.retain(|name| keep(name));
        names.sort();
        let hashes: Vec<_> =
            names.par_iter().map(|name| describe(&path.join(name), keep, more)).collect::<io::Result<_>>()?;
        for (name, hash) in names.iter().zip(hashes) {
            hasher.update(&name.len().to_le_bytes()).update(name.as_encoded_bytes()).update(hash.as_bytes());
        }
    } else {
        hasher.update(b"file").update(&meta.len().to_le_bytes());
        for number in more(&meta) {
            hasher.update(&number.to_le_bytes());
        }
    }
    Ok(hasher.finalize())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use camino::Utf8PathBuf;
    use vcstore::Store;

    use super::content;

    #[test]
    fn an_input_is_known_by_its_content_wherever_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let top = Utf8PathBuf::try_from(folder.path().to_owned()).unwrap();
        let store = Store::open(&top.join("store")).unwrap();
        for name in ["one", "two"] {
            fs::create_dir(top.join(name)).unwrap();
            fs::write(top.join(name).join("a"), "a").unwrap();
        }
        let first = content(&top.join("one"), &store).unwrap();
        assert_eq!(first, content(&top.join("two"), &store).unwrap());
        fs::write(top.join("one/a"), "b").unwrap();
        let changed = content(&top.join("one"), &store).unwrap();
        assert_ne!(first, changed);
        fs::write(top.join("one/a"), "a").unwrap();
        assert_eq!(content(&top.join("one"), &store).unwrap(), first, "and not by when it was written");
        assert!(content(&top.join("three"), &store).is_err());
    }

    #[test]
    fn the_system_is_what_it_was_a_moment_ago() {
        assert_eq!(super::system().unwrap(), super::system().unwrap());
    }
}
