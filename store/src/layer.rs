//! Layers: converts a tree to a tar file, which is compressed and hashed in one streaming pass.

use std::io::{self, BufWriter};
use std::sync::LazyLock;

use camino::Utf8PathBuf;
use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};
use tar::EntryType;

use crate::digest::Hashed;
use crate::tarball::{Member, Writer};
use crate::{BlobWriter, Compression, Error, Hasher, Kind, Layer, Store, Tree};

/// A single thread for layers whose encoder uses all processors: writing them one after another takes no longer than in
/// parallel, and each reuses the memory of the previous one.
static ONE_BY_ONE: LazyLock<Result<ThreadPool, ThreadPoolBuildError>> =
    LazyLock::new(|| ThreadPoolBuilder::new().num_threads(1).thread_name(|_| "layers".to_owned()).build());

/// Writes `tree` as a layer to the store. All entries have the modification time `mtime`, in seconds since 1970.
///
/// Equal trees produce equal bytes: entries are in byte order, with hard links last, because they must follow their
/// targets.
///
/// # Errors
/// When a file cannot be read or changes during the write, or the store cannot be written.
pub fn write(store: &Store, tree: &Tree, compression: Compression, mtime: u64) -> Result<Layer, Error> {
    match (compression, &*ONE_BY_ONE) {
        (Compression::Zstd, Ok(thread)) => thread.install(|| write_here(store, tree, compression, mtime)),
        _ => write_here(store, tree, compression, mtime),
    }
}

fn write_here(store: &Store, tree: &Tree, compression: Compression, mtime: u64) -> Result<Layer, Error> {
    let blobs = store.blobs();
    let output = BufWriter::with_capacity(256 << 10, store.writer()?);
    let encoder = compression.encoder(output).map_err(Error::io("compressing a layer into", &blobs))?;
    // Buffer small writes, such as headers, before they are hashed and compressed.
    let mut tar = Writer::new(BufWriter::with_capacity(256 << 10, Hashed::new(encoder)));
    let (links, others): (Vec<_>, Vec<_>) = tree.iter().partition(|(_, entry)| matches!(entry.kind, Kind::HardLink(_)));
    for (path, entry) in others.into_iter().chain(links) {
        let mut member = Member {
            kind: EntryType::Regular,
            path,
            link: None,
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            mtime,
            size: 0,
        };
        let (origin, written) = match &entry.kind {
            Kind::Directory => {
                member.kind = EntryType::Directory;
                (Utf8PathBuf::from(path), tar.member_with(&member, tree.xattrs(path), io::empty()))
            }
            Kind::Symlink(target) => {
                (member.kind, member.link) = (EntryType::Symlink, Some(target.as_str()));
                (Utf8PathBuf::from(path), tar.member_with(&member, tree.xattrs(path), io::empty()))
            }
            Kind::HardLink(target) => {
                if !matches!(tree.get(target).map(|entry| &entry.kind), Some(Kind::File(_))) {
                    let why = format!("the tree has no file {target} to link to");
                    return Err(Error::BadPath { path: path.to_owned(), why });
                }
                (member.kind, member.link) = (EntryType::Link, Some(target.as_str()));
                (Utf8PathBuf::from(path), tar.member_with(&member, tree.xattrs(path), io::empty()))
            }
            Kind::File(content) => {
                let (size, reader) = content.open(store)?;
                member.size = size;
                (content.origin(store), tar.member_with(&member, tree.xattrs(path), reader))
            }
        };
        written.map_err(Error::io("writing a layer from", &origin))?;
    }
    let finish = || -> io::Result<(Hasher, BlobWriter)> {
        let hashed = tar.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
        let writer = hashed.output.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok((hashed.hasher, writer))
    };
    let (hasher, writer) = finish().map_err(Error::io("writing a layer into", &blobs))?;
    let blob = writer.commit()?;
    Ok(Layer {
        digest: blob.digest,
        diff_id: hasher.finish().digest,
        size: blob.size,
        media_type: compression.layer_media_type().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read;

    use proptest::prelude::*;

    use super::write;
    use crate::store::tests::scratch;
    use crate::{Compression, Content, Decoder, Digest, Entry, Kind, Tree};

    /// An entry as an independent reader parses it: kind, mode, owner, group, time, link, content.
    type Seen = (tar::EntryType, u32, u64, u64, u64, Vec<u8>, Vec<u8>);

    fn read(bytes: &[u8]) -> BTreeMap<Vec<u8>, Seen> {
        let mut archive = tar::Archive::new(bytes);
        archive
            .entries()
            .unwrap()
            .map(|entry| {
                let mut entry = entry.unwrap();
                let path = entry.path_bytes().into_owned();
                let link = entry.link_name_bytes().unwrap_or_default().into_owned();
                let mut content = Vec::new();
                entry.read_to_end(&mut content).unwrap();
                let head = entry.header();
                let numbers = (head.mode().unwrap(), head.uid().unwrap(), head.gid().unwrap(), head.mtime().unwrap());
                (path, (head.entry_type(), numbers.0, numbers.1, numbers.2, numbers.3, link, content))
            })
            .collect()
    }

    fn name() -> impl Strategy<Value = String> {
        // No newline: the reader in this test splits PAX records at newlines, whatever their stated length.
        prop_oneof!["[a-z]{1,8}", "[^/\0\n]{1,40}", "[a-z]{90,200}"]
            .prop_filter("normalised", |n| n != "." && n != "..")
    }

    fn entry() -> impl Strategy<Value = Entry> {
        let kind = prop_oneof![
            Just(Kind::Directory),
            proptest::collection::vec(any::<u8>(), 0..1200).prop_map(|bytes| Kind::File(Content::Bytes(bytes))),
            "[^\0\n]{1,160}".prop_map(Kind::Symlink),
        ];
        (kind, 0..=0o7777u32, 0..100_000u64, 0..100_000u64).prop_map(|(kind, mode, uid, gid)| Entry {
            kind,
            mode,
            uid,
            gid,
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_tree_is_read_back_equal_and_twice_the_same_bytes(
            entries in proptest::collection::vec((proptest::collection::vec(name(), 1..4), entry()), 0..12),
            mtime in 0..4_000_000_000u64,
        ) {
            let (_folder, store) = scratch();
            let mut tree = Tree::new();
            for (path, entry) in &entries {
                // A path through a file is refused, which other tests verify.
                let _ = tree.insert(&path.join("/"), entry.clone());
            }
            let layer = write(&store, &tree, Compression::Zstd, mtime).unwrap();
            let again = write(&store, &tree, Compression::Zstd, mtime).unwrap();
            prop_assert_eq!(&layer, &again);
            let mut bytes = Vec::new();
            Decoder::new(store.reader(&layer.digest).unwrap()).unwrap().read_to_end(&mut bytes).unwrap();
            prop_assert_eq!(Digest::of(&bytes), layer.diff_id);
            let seen = read(&bytes);
            prop_assert_eq!(seen.len(), tree.len());
            for (path, entry) in tree.iter() {
                let (kind, link, content, slash) = match &entry.kind {
                    Kind::Directory => (tar::EntryType::Directory, "", &[][..], "/"),
                    Kind::File(Content::Bytes(bytes)) => (tar::EntryType::Regular, "", bytes.as_slice(), ""),
                    Kind::Symlink(target) => (tar::EntryType::Symlink, target.as_str(), &[][..], ""),
                    other => panic!("not made here: {other:?}"),
                };
                let expected: Seen =
                    (kind, entry.mode, entry.uid, entry.gid, mtime, link.as_bytes().to_vec(), content.to_vec());
                prop_assert_eq!(seen.get(format!("{path}{slash}").as_bytes()), Some(&expected), "{}", path);
            }
        }
    }

    #[test]
    fn content_comes_from_memory_files_parts_of_files_and_blobs() {
        let (folder, store) = scratch();
        let path = camino::Utf8PathBuf::try_from(folder.path().join("spool")).unwrap();
        std::fs::write(&path, "0123456789").unwrap();
        let blob = store.put(b"blob").unwrap();
        let mut tree = Tree::new();
        tree.file("a", 0o644, Content::Bytes(b"bytes".to_vec())).unwrap();
        tree.file("b", 0o644, Content::Path(path.clone())).unwrap();
        tree.file("c", 0o644, Content::Slice { path, offset: 2, len: 3 }).unwrap();
        tree.file("d", 0o755, Content::Blob(blob.digest)).unwrap();
        tree.hard_link("0", "d").unwrap();
        let layer = write(&store, &tree, Compression::None, 0).unwrap();
        assert_eq!(layer.digest, layer.diff_id);
        let bytes = std::fs::read(store.blob_path(&layer.digest)).unwrap();
        let seen = read(&bytes);
        let content = |name: &str| seen[name.as_bytes()].6.clone();
        assert_eq!(
            [content("a"), content("b"), content("c"), content("d")].map(|c| String::from_utf8(c).unwrap()),
            ["bytes", "0123456789", "234", "blob"]
        );
        assert_eq!((seen[&b"0"[..]].0, seen[&b"0"[..]].5.as_slice()), (tar::EntryType::Link, &b"d"[..]));
        let order: Vec<_> = tar::Archive::new(bytes.as_slice())
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path_bytes().into_owned())
            .collect();
        assert_eq!(order.last().map(Vec::as_slice), Some(&b"0"[..]), "a hard link comes after its target");
    }

    #[test]
    fn extended_attributes_are_written_as_they_are() {
        let (_folder, store) = scratch();
        let mut tree = Tree::new();
        tree.dir("srv", 0o755).unwrap();
        tree.xattr("srv", "user.note", b"a\xff\nb".to_vec()).unwrap();
        assert!(tree.xattr("srv", "a=b", Vec::new()).is_err());
        assert!(tree.xattr("none", "user.note", Vec::new()).is_err());
        let layer = write(&store, &tree, Compression::None, 0).unwrap();
        let bytes = std::fs::read(store.blob_path(&layer.digest)).unwrap();
        let record = b"31 SCHILY.xattr.user.note=a\xff\nb\n";
        assert_eq!(&bytes[512..512 + record.len()], record);
        assert_eq!(bytes[156], b'x');
    }

    #[test]
    fn a_damaged_blob_never_becomes_a_layer() {
        let (_folder, store) = scratch();
        let blob = store.put(b"sound").unwrap();
        std::fs::write(store.blob_path(&blob.digest), b"found").unwrap();
        let mut tree = Tree::new();
        tree.file("a", 0o644, Content::Blob(blob.digest)).unwrap();
        assert!(write(&store, &tree, Compression::Zstd, 0).is_err());
    }
}
