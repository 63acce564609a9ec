//! The disk space that layers need on a node after they are unpacked. An image does not contain this size, so layers
//! are read to find it: each layer once, and only if a node has yet to unpack it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::iter::Sum;
use std::sync::Arc;

use tokio::sync::Mutex;
use vcstore::{Decoder, Digest, Store};

/// The block size of file systems, in bytes.
const BLOCK: u64 = 4096;

/// The unpacked sizes of layers, by their blobs' digests.
pub type UnpackedSizes = BTreeMap<Digest, UnpackedSize>;

/// The disk space that files need.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UnpackedSize {
    /// The size in bytes, in whole blocks.
    pub bytes: u64,
    /// The number of files, folders and links.
    pub files: u64,
}

impl<'a> Sum<&'a Self> for UnpackedSize {
    fn sum<I: Iterator<Item = &'a Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self { bytes: sum.bytes + one.bytes, files: sum.files + one.files })
    }
}

/// The unpacked sizes that are known so far. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct KnownSizes(Arc<Mutex<UnpackedSizes>>);

impl KnownSizes {
    /// Returns the unpacked sizes of these layers of the store. Reads layers whose size is not known yet; other callers
    /// wait meanwhile, because several nodes lack the same layers. Leaves out a layer that cannot be read: sending it
    /// will fail with the reason.
    pub(crate) async fn of(&self, store: &Store, layers: BTreeSet<Digest>) -> UnpackedSizes {
        let mut known = self.0.lock().await;
        for digest in layers.iter().filter(|digest| !known.contains_key(digest)).copied().collect::<Vec<_>>() {
            let store = store.clone();
            let measured = tokio::task::spawn_blocking(move || measure(&store, &digest)).await;
            match measured.map_err(io::Error::other).flatten() {
                Ok(size) => {
                    known.insert(digest, size);
                }
                Err(error) => tracing::debug!("what layer {digest} unpacks to is not known: {error}"),
            }
        }
        known.iter().filter(|(digest, _)| layers.contains(digest)).map(|(digest, one)| (*digest, *one)).collect()
    }
}

fn measure(store: &Store, digest: &Digest) -> io::Result<UnpackedSize> {
    let mut size = UnpackedSize::default();
    let blob = store.reader(digest).map_err(io::Error::other)?;
    for entry in tar::Archive::new(Decoder::new(blob)?).entries()? {
        let entry = entry?;
        // A hard link needs no space of its own.
        if !entry.header().entry_type().is_hard_link() {
            size.files += 1;
            size.bytes += entry.size().next_multiple_of(BLOCK);
        }
    }
    Ok(size)
}

#[cfg(test)]
mod tests {
    use camino::Utf8Path;
    use vcstore::{Compression, Content, Tree};

    use super::*;

    #[tokio::test]
    async fn a_layer_takes_whole_blocks_for_its_files() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(Utf8Path::from_path(folder.path()).expect("UTF-8")).expect("a store");
        let mut tree = Tree::new();
        for (name, size) in [("a/one", 1), ("a/block", 4096), ("a/more", 4097), ("a/empty", 0)] {
            tree.file(name, 0o644, Content::Bytes(vec![7; size])).expect("a file");
        }
        tree.hard_link("a/same", "a/more").expect("a link");
        for compression in [Compression::Zstd, Compression::Gzip, Compression::None] {
            let layer = vcstore::layer::write(&store, &tree, compression, 0).expect("a layer");
            let found = KnownSizes::default().of(&store, [layer.digest].into()).await;
            assert_eq!(found[&layer.digest], UnpackedSize { bytes: 4 * 4096, files: 5 }, "{compression:?}");
        }
        assert!(KnownSizes::default().of(&store, [Digest::of(b"absent")].into()).await.is_empty());
    }
}
