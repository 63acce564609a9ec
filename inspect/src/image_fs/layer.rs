//! The content of a layer: all entries with their attributes and content hashes, read in one pass.

use std::collections::BTreeMap;
use std::io::{self, Read};

use vcstore::{BlobReader, Bounded, Decoder, Digest, Hasher, Layer, Store};

use crate::Error;

/// The maximum number of entries; valid layers have fewer.
const ENTRY_LIMIT: usize = 2_000_000;

/// The prefix of a whiteout, and the name of an opaque whiteout, which hides a folder's content (layer.md,
/// "Whiteouts").
pub(super) const WHITEOUT: &str = ".wh.";
pub(super) const OPAQUE: &str = ".wh..wh..opq";

/// The prefix of extended attributes in PAX records.
pub(super) const XATTR: &str = "SCHILY.xattr.";

/// The entries and whiteouts of a layer.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct LayerContents {
    /// The entries by path, without a leading slash.
    pub entries: BTreeMap<String, Entry>,
    /// The paths that the layer deletes.
    pub whiteouts: Vec<String>,
    /// The folders whose lower content the layer hides.
    pub opaque: Vec<String>,
}

/// A file, folder or link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The type of the entry.
    pub kind: Kind,
    /// The permission bits.
    pub mode: u32,
    /// The user ID.
    pub uid: u64,
    /// The group ID.
    pub gid: u64,
    /// The modification time in seconds since 1970.
    pub mtime: u64,
    /// The digests of the extended attributes, by name.
    pub xattrs: BTreeMap<String, Digest>,
}

/// The type of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File {
        /// The size in bytes.
        size: u64,
        /// The digest of the content.
        digest: Digest,
    },
    /// A folder.
    Directory,
    /// A symbolic link with this target.
    Symlink(String),
    /// A hard link to the file at this path.
    HardLink(String),
    /// A device or pipe, with a description.
    Special(String),
}

/// Reads a layer, without writing its content or loading whole files into memory.
///
/// # Errors
/// When the layer is missing, damaged, or not a tar file.
pub(crate) fn read(store: &Store, layer: &Layer) -> Result<LayerContents, Error> {
    let mut contents = LayerContents::default();
    let mut buffer = vec![0; 128 << 10];
    let blob = store.reader(&layer.digest)?;
    walk(blob, layer.size, |entry| contents.add(entry, &mut buffer))
        .map_err(Error::io("reading layer", store.blob_path(&layer.digest)))?;
    Ok(contents)
}

/// Returns the contents of the files in a layer whose paths `wanted` accepts; the last of entries with equal paths.
///
/// # Errors
/// When the layer cannot be read, or the contents exceed `limit` bytes in total.
pub fn texts(
    store: &Store,
    layer: &Layer,
    limit: u64,
    wanted: impl Fn(&str) -> bool,
) -> Result<BTreeMap<String, Vec<u8>>, Error> {
    let mut found = BTreeMap::new();
    let mut left = limit;
    let see = |mut entry: TarEntry<'_>| {
        let path = normal(&String::from_utf8_lossy(&entry.path_bytes()));
        if wanted(&path) && entry.header().entry_type().is_file() {
            left = left
                .checked_sub(entry.size())
                .ok_or_else(|| io::Error::other(format!("{path} and similar files exceed the size limit")))?;
            let mut content = Vec::new();
            entry.read_to_end(&mut content)?;
            found.insert(path, content);
        } else {
            // Skip the content now, because bytes that are read before the next entry count as its header.
            io::copy(&mut entry, &mut io::sink())?;
        }
        Ok(())
    };
    let blob = store.reader(&layer.digest)?;
    walk(blob, layer.size, see).map_err(Error::io("reading layer", store.blob_path(&layer.digest)))?;
    Ok(found)
}

/// Writes the contents of the files in a layer whose paths `wanted` accepts to the store `into`.
///
/// # Errors
/// When the layer cannot be read, or the store cannot be written.
pub fn extract(store: &Store, layer: &Layer, into: &Store, wanted: impl Fn(&str) -> bool) -> Result<(), Error> {
    let see = |mut entry: TarEntry<'_>| {
        let path = normal(&String::from_utf8_lossy(&entry.path_bytes()));
        if wanted(&path) && entry.header().entry_type().is_file() {
            let mut writer = into.writer().map_err(io::Error::other)?;
            io::copy(&mut entry, &mut writer)?;
            writer.commit().map_err(io::Error::other)?;
        } else {
            io::copy(&mut entry, &mut io::sink())?;
        }
        Ok(())
    };
    let blob = store.reader(&layer.digest)?;
    walk(blob, layer.size, see).map_err(Error::io("reading layer", store.blob_path(&layer.digest)))
}

pub(super) type TarEntry<'a> = tar::Entry<'a, PaddedReader<Bounded<Decoder<BlobReader>>>>;

/// Calls `see` for every entry of a layer, and reads on to the end, where the digest of the layer is verified.
pub(super) fn walk(blob: BlobReader, size: u64, mut see: impl FnMut(TarEntry<'_>) -> io::Result<()>) -> io::Result<()> {
    let (input, headers) = Bounded::new(Decoder::new(blob)?, size);
    let mut archive = tar::Archive::new(PaddedReader { input, read: 0 });
    let mut entries = archive.entries()?;
    for number in 0.. {
        headers.begin();
        let Some(entry) = entries.next() else { break };
        headers.end();
        if number >= ENTRY_LIMIT {
            return Err(io::Error::other(format!("it has more than {ENTRY_LIMIT} entries")));
        }
        see(entry?)?;
    }
    headers.end();
    io::copy(&mut archive.into_inner(), &mut io::sink())?;
    Ok(())
}

/// A tar file with the padding of its last block, which some tools omit (for example umoci). containerd and Docker
/// accept such layers.
pub(super) struct PaddedReader<R> {
    input: R,
    read: u64,
}

impl<R: Read> Read for PaddedReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        const BLOCK: u64 = 512;
        let mut count = self.input.read(buffer)?;
        if count == 0 {
            let missing = usize::try_from(self.read.next_multiple_of(BLOCK) - self.read).unwrap_or(0);
            count = missing.min(buffer.len());
            buffer[..count].fill(0);
        }
        self.read += count as u64;
        Ok(count)
    }
}

impl LayerContents {
    fn add(&mut self, mut entry: TarEntry<'_>, buffer: &mut [u8]) -> io::Result<()> {
        let path = normal(&String::from_utf8_lossy(&entry.path_bytes()));
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", &path));
        if name == OPAQUE {
            self.opaque.push(folder.to_owned());
            return Ok(());
        }
        if let Some(name) = name.strip_prefix(WHITEOUT) {
            self.whiteouts.push(if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") });
            return Ok(());
        }
        if path.is_empty() {
            return Ok(());
        }
        let xattrs = xattrs(&mut entry)?;
        let link =
            |entry: &TarEntry<'_>| String::from_utf8_lossy(&entry.link_name_bytes().unwrap_or_default()).into_owned();
        let kind = match entry.header().entry_type() {
            tar::EntryType::Directory => Kind::Directory,
            tar::EntryType::Symlink => Kind::Symlink(link(&entry)),
            tar::EntryType::Link => Kind::HardLink(normal(&link(&entry))),
            tar::EntryType::Regular | tar::EntryType::Continuous | tar::EntryType::GNUSparse => {
                let (size, digest) = hash(&mut entry, buffer)?;
                Kind::File { size, digest }
            }
            tar::EntryType::Char => Kind::Special(device("character device", entry.header())),
            tar::EntryType::Block => Kind::Special(device("block device", entry.header())),
            tar::EntryType::Fifo => Kind::Special("pipe".to_owned()),
            // Other types describe the archive and are not files.
            _ => return Ok(()),
        };
        let header = entry.header();
        let (mode, uid, gid, mtime) = (header.mode()? & 0o7777, header.uid()?, header.gid()?, header.mtime()?);
        self.entries.insert(path, Entry { kind, mode, uid, gid, mtime, xattrs });
        Ok(())
    }
}

/// Removes redundant components from a path.
pub(super) fn normal(path: &str) -> String {
    path.split('/').filter(|part| !matches!(*part, "" | ".")).collect::<Vec<_>>().join("/")
}

fn xattrs(entry: &mut tar::Entry<'_, impl Read>) -> io::Result<BTreeMap<String, Digest>> {
    let mut found = BTreeMap::new();
    if let Some(records) = entry.pax_extensions()? {
        for record in records {
            let record = record?;
            let key = String::from_utf8_lossy(record.key_bytes());
            if let Some(name) = key.strip_prefix(XATTR) {
                found.insert(name.to_owned(), Digest::of(record.value_bytes()));
            }
        }
    }
    Ok(found)
}

fn hash(content: &mut impl Read, buffer: &mut [u8]) -> io::Result<(u64, Digest)> {
    let mut hasher = Hasher::default();
    loop {
        match content.read(buffer) {
            Ok(0) => break,
            Ok(count) => hasher.update(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let blob = hasher.finish();
    Ok((blob.size, blob.digest))
}

fn device(kind: &str, header: &tar::Header) -> String {
    let number = |number: io::Result<Option<u32>>| number.ok().flatten().unwrap_or(0);
    format!("{kind} {}:{}", number(header.device_major()), number(header.device_minor()))
}

#[cfg(test)]
mod tests {
    use vcstore::{Layer, TarWriter};

    use super::{Kind, read, texts};
    use rigs::store as scratch;

    #[test]
    fn a_layer_without_its_last_padding_is_read_and_one_cut_short_is_not() {
        let (_folder, store) = scratch();
        let mut writer = TarWriter::new(Vec::new());
        writer.file("./etc/motd", 3, &b"hi\n"[..]).unwrap();
        let whole = writer.finish().unwrap();
        let layer = |bytes: &[u8]| {
            let blob = store.put(bytes).unwrap();
            Layer { digest: blob.digest, diff_id: blob.digest, size: blob.size, media_type: String::new() }
        };
        for end in [whole.len(), 1024, 515] {
            let contents = read(&store, &layer(&whole[..end])).unwrap();
            assert_eq!(contents.entries["etc/motd"].kind.size(), 3, "{end} bytes");
            assert!(matches!(contents.entries["etc/motd"].kind, Kind::File { .. }));
            assert_eq!(
                texts(&store, &layer(&whole[..end]), 3, |path| path == "etc/motd").unwrap()["etc/motd"],
                b"hi\n"
            );
        }
        assert!(texts(&store, &layer(&whole), 2, |_| true).is_err(), "larger than is read into memory");
        let mut writer = TarWriter::new(Vec::new());
        for name in ["a", "b"] {
            writer.file(name, 3, &b"hi\n"[..]).unwrap();
        }
        let two = layer(&writer.finish().unwrap());
        assert!(texts(&store, &two, 5, |_| true).is_err(), "larger together than is read into memory");
        assert_eq!(texts(&store, &two, 6, |_| true).unwrap().len(), 2);
        assert!(read(&store, &layer(&whole[..400])).is_err());
        assert!(read(&store, &layer(b"no tar file at all, but long enough to be one header's beginning")).is_err());
    }
}
