//! Stores and layers of a test's own.

use camino::Utf8PathBuf;
use vcstore::{Layer, Store};

/// An empty store, with the folder that holds it.
#[must_use]
pub fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&Utf8PathBuf::try_from(folder.path().join("store")).unwrap()).unwrap();
    (folder, store)
}

/// A layer of entries: their kind, path, and a link's target or a folder's mode and owner.
pub fn layer(store: &Store, entries: &[(tar::EntryType, &str, &str, u32, u64)]) -> Layer {
    let mut builder = tar::Builder::new(Vec::new());
    for (kind, path, target, mode, owner) in entries {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(*kind);
        header.set_mode(*mode);
        header.set_uid(*owner);
        header.set_gid(*owner);
        header.set_size(0);
        if kind.is_symlink() || kind.is_hard_link() {
            builder.append_link(&mut header, path, target).unwrap();
        } else {
            builder.append_data(&mut header, path, std::io::empty()).unwrap();
        }
    }
    let bytes = builder.into_inner().unwrap();
    let blob = store.put(&bytes).unwrap();
    Layer { digest: blob.digest, diff_id: blob.digest, size: blob.size, media_type: String::new() }
}
