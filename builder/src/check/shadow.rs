//! A shadow store: it has the fetched inputs of another store, but no outputs.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;

use camino::Utf8PathBuf;
use vcstore::{Record, Store};

use crate::Error;

/// The caches of fetched content, which is verified by hash. The other caches contain compiler output, which a check
/// must not reuse.
const FETCHED: [&str; 6] = ["crates", "git", "gomod", "inputs", "module", "toolchain"];

/// A temporary store, removed on drop.
pub(super) struct Shadow {
    pub(super) store: Store,
    _folder: tempfile::TempDir,
}

impl Shadow {
    /// Creates a store with the fetched inputs of `of`. Outputs are written only to the new store.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub(super) fn of(of: &Store) -> Result<Self, Error> {
        let folder = of.temp_dir()?;
        let path = Utf8PathBuf::try_from(folder.path().to_owned())
            .map_err(|error| Error::io("using", of.path())(io::Error::other(error.to_string())))?;
        let blobs = path.join("blobs/sha256");
        fs::create_dir_all(&blobs).map_err(Error::io("making", &blobs))?;
        let known = of.path().join("blobs/sha256");
        for entry in known.read_dir_utf8().map_err(Error::io("listing", &known))? {
            let entry = entry.map_err(Error::io("listing", &known))?;
            match fs::hard_link(entry.path(), blobs.join(entry.file_name())) {
                // Garbage collection removed the blob meanwhile, so no record needs it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                linked => linked.map_err(Error::io("linking", entry.path()))?,
            }
        }
        let cache = path.join("cache");
        fs::create_dir_all(&cache).map_err(Error::io("making", &cache))?;
        for name in FETCHED {
            let known = of.cache_dir(name)?;
            symlink(&known, cache.join(name)).map_err(Error::io("linking", &known))?;
        }
        let store = Store::open(&path)?;
        for key in of.recorded()? {
            if let Some(record) = of.record(&key)?.filter(was_fetched) {
                store.put_record(&record)?;
            }
        }
        Ok(Self { store, _folder: folder })
    }
}

/// Returns whether an action only fetched content, which a second run would fetch again: a base that vcbuild did not
/// assemble.
fn was_fetched(record: &Record) -> bool {
    record.kind() == "base" && !record.inputs().contains_key("assembly")
}
