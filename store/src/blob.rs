//! Blobs in and out: written whole or not at all, hashed on the way in and on the way out.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::digest::Hashed;
use crate::json::DOCUMENT_LIMIT;
use crate::session::{self, Use};
use crate::store::{sync, sync_folder};
use crate::{Blob, Digest, Error, Hasher, Store, canonical_json};

/// Reads a blob and checks its hash when its end is reached.
///
/// A blob whose content is not what its name says is moved to the store's quarantine, and the read at its end fails with
/// [`io::ErrorKind::InvalidData`].
#[derive(Debug)]
pub struct BlobReader {
    store: Store,
    file: File,
    digest: Digest,
    size: u64,
    hasher: Option<Hasher>,
    /// Whether a damaged blob is put aside.
    quarantine: bool,
}

impl BlobReader {
    pub(crate) fn open(store: &Store, digest: &Digest) -> Result<Self, Error> {
        store.hold([Use::Blob(*digest)])?;
        Self::open_now(store, digest)
    }

    /// Opens a blob that garbage collection may take meanwhile: what is open is read to its end all the same.
    pub(crate) fn open_now(store: &Store, digest: &Digest) -> Result<Self, Error> {
        let path = store.blob_path(digest);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Error::Missing { digest: *digest }),
            Err(error) => return Err(Error::io("opening", &path)(error)),
        };
        let size = file.metadata().map_err(Error::io("reading", &path))?.len();
        Ok(Self {
            store: store.clone(),
            file,
            digest: *digest,
            size,
            hasher: Some(Hasher::default()),
            quarantine: true,
        })
    }

    /// Leaves a damaged blob where it is: for who keeps everybody else out of the store, and would wait for itself.
    pub(crate) fn without_quarantine(mut self) -> Self {
        self.quarantine = false;
        self
    }

    /// The size of the blob's file in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        if count > 0 {
            if let Some(hasher) = &mut self.hasher {
                hasher.update(&buffer[..count]);
            }
        } else if !buffer.is_empty()
            && let Some(hasher) = self.hasher.take()
        {
            let found = hasher.finish().digest;
            if found != self.digest {
                let moved = self.quarantine && self.store.quarantine(&self.digest, &self.file).is_ok();
                let aside = if moved { "; it was moved aside and is treated as missing" } else { "" };
                let why = format!("blob {} is damaged: the digest of its content is {found}{aside}", self.digest);
                return Err(io::Error::new(io::ErrorKind::InvalidData, why));
            }
        }
        Ok(count)
    }
}

/// Writes a blob into the store.
#[derive(Debug)]
pub struct BlobWriter {
    store: Store,
    file: Hashed<tempfile::NamedTempFile>,
}

impl BlobWriter {
    pub(crate) fn create(store: &Store) -> Result<Self, Error> {
        let tmp = store.tmp();
        let file = tempfile::NamedTempFile::new_in(&tmp).map_err(Error::io("making a file in", &tmp))?;
        Ok(Self { store: store.clone(), file: Hashed::new(file) })
    }

    /// Ends the blob: it is synced to disk and gets its name, unless the store has it already.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn commit(self) -> Result<Blob, Error> {
        let blob = self.file.hasher.finish();
        let path = self.store.blob_path(&blob.digest);
        if self.store.size(&blob.digest) == Some(blob.size) {
            return Ok(blob);
        }
        let file = self.file.output;
        sync(&file, &path)?;
        let entered = self.store.session().enter().map_err(Error::io("locking", self.store.path()))?;
        file.persist(&path).map_err(|error| Error::io("writing", &path)(error.error))?;
        drop(entered);
        sync_folder(&path)?;
        Ok(blob)
    }

    /// Ends the blob if its content is `expected`; otherwise nothing of it stays.
    ///
    /// # Errors
    /// When the content is another, or it cannot be written.
    pub fn commit_expecting(self, expected: &Digest) -> Result<Blob, Error> {
        let found = self.file.hasher.clone().finish().digest;
        if found == *expected {
            self.commit()
        } else {
            Err(Error::DigestMismatch { what: "a new blob".to_owned(), expected: *expected, found })
        }
    }

    /// How many bytes were written so far.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.file.hasher.size()
    }
}

impl Write for BlobWriter {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.file.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Store {
    /// Reads a blob. Its hash is checked while it is read: a damaged blob is an error at its end, never a silent one.
    ///
    /// # Errors
    /// When the store lacks it.
    pub fn reader(&self, digest: &Digest) -> Result<BlobReader, Error> {
        BlobReader::open(self, digest)
    }

    /// Reads a JSON document, its digest checked.
    ///
    /// # Errors
    /// When the store lacks it, or it is damaged, too large for a document, or another kind of document.
    pub fn document<T: DeserializeOwned>(&self, digest: &Digest) -> Result<T, Error> {
        serde_json::from_slice(&self.document_bytes(digest)?)
            .map_err(|source| Error::Document { what: digest.to_string(), source })
    }

    /// The bytes of a JSON document, its digest checked.
    ///
    /// # Errors
    /// When the store lacks it, or it is damaged or too large for a document.
    pub fn document_bytes(&self, digest: &Digest) -> Result<Vec<u8>, Error> {
        let mut reader = self.reader(digest)?;
        if reader.size() > DOCUMENT_LIMIT {
            let (what, size) = (digest.to_string(), reader.size());
            return Err(Error::DocumentSize { what, size, limit: DOCUMENT_LIMIT });
        }
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).map_err(Error::io("reading", self.blob_path(digest)))?;
        Ok(bytes)
    }

    /// Begins a blob. It is in the store once it is committed; dropped before, nothing of it stays.
    ///
    /// # Errors
    /// When the temporary file cannot be made.
    pub fn writer(&self) -> Result<BlobWriter, Error> {
        BlobWriter::create(self)
    }

    /// Puts a small blob into the store.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put(&self, content: &[u8]) -> Result<Blob, Error> {
        let blob = Blob { digest: Digest::of(content), size: content.len() as u64 };
        if self.size(&blob.digest) == Some(blob.size) {
            return Ok(blob);
        }
        let mut writer = self.writer()?;
        writer.write_all(content).map_err(Error::io("writing", self.blob_path(&blob.digest)))?;
        writer.commit()
    }

    /// Puts a document into the store, in canonical JSON.
    ///
    /// # Errors
    /// When it cannot be serialised or written.
    pub fn put_document<T: Serialize + ?Sized>(&self, document: &T) -> Result<Blob, Error> {
        self.put(&canonical_json(document)?)
    }

    /// Takes a damaged blob out of the way, if its file is still the `damaged` one; from now on it counts as missing.
    ///
    /// # Errors
    /// When it cannot be moved.
    pub(crate) fn quarantine(&self, digest: &Digest, damaged: &File) -> Result<(), Error> {
        if !self.is_writable() {
            return Ok(());
        }
        let folder = self.quarantined();
        fs::create_dir_all(&folder).map_err(Error::io("making", &folder))?;
        let path = self.blob_path(digest);
        // Another process may be writing it again right now, and that file is not damaged.
        let excluded = session::exclude(self.path())?;
        let known = damaged.metadata().map_err(Error::io("reading", &path))?;
        if fs::metadata(&path).is_ok_and(|now| (now.dev(), now.ino()) == (known.dev(), known.ino())) {
            fs::rename(&path, folder.join(digest.hex())).map_err(Error::io("moving away", &path))?;
        }
        drop(excluded);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use proptest::prelude::*;

    use crate::store::tests::scratch;
    use crate::{Digest, Error};

    #[test]
    fn a_dropped_writer_leaves_nothing() {
        let (_folder, store) = scratch();
        let mut writer = store.writer().unwrap();
        writer.write_all(b"half a blob").unwrap();
        drop(writer);
        assert_eq!(std::fs::read_dir(store.tmp()).unwrap().count(), 0);
        assert!(!store.contains(&Digest::of(b"half a blob")));
    }

    #[test]
    fn content_other_than_expected_is_refused_and_leaves_nothing() {
        let (_folder, store) = scratch();
        let mut writer = store.writer().unwrap();
        writer.write_all(b"a lie").unwrap();
        let refused = writer.commit_expecting(&Digest::of(b"the truth"));
        assert!(matches!(refused, Err(Error::DigestMismatch { .. })));
        assert!(!store.contains(&Digest::of(b"a lie")) && !store.contains(&Digest::of(b"the truth")));
    }

    #[test]
    fn a_damaged_blob_is_an_error_at_its_end_and_then_missing() {
        let (_folder, store) = scratch();
        let blob = store.put(b"sound").unwrap();
        std::fs::write(store.blob_path(&blob.digest), b"found").unwrap();
        let error = store.reader(&blob.digest).unwrap().read_to_end(&mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains("is damaged"), "{error}");
        assert!(!store.contains(&blob.digest));
        assert_eq!(store.put(b"sound").unwrap(), blob);
        assert!(store.contains(&blob.digest));
    }

    #[test]
    fn a_truncated_blob_is_written_anew() {
        let (_folder, store) = scratch();
        let blob = store.put(b"whole").unwrap();
        std::fs::write(store.blob_path(&blob.digest), b"who").unwrap();
        store.put(b"whole").unwrap();
        assert_eq!(std::fs::read(store.blob_path(&blob.digest)).unwrap(), b"whole");
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..2000), 0..8)) {
            let (_folder, store) = scratch();
            let mut writer = store.writer().unwrap();
            for piece in &pieces {
                writer.write_all(piece).unwrap();
            }
            let whole = pieces.concat();
            let blob = writer.commit_expecting(&Digest::of(&whole)).unwrap();
            let mut read = Vec::new();
            store.reader(&blob.digest).unwrap().read_to_end(&mut read).unwrap();
            prop_assert_eq!(read, whole);
        }
    }
}
