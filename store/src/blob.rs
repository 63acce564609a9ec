//! Reading and writing blobs: writes are atomic, and content is hashed on write and on read.

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

/// Reads a blob and verifies its digest at the end.
///
/// A blob whose content does not match its digest is moved to the store's quarantine, and the read at its end fails
/// with [`io::ErrorKind::InvalidData`].
#[derive(Debug)]
pub struct BlobReader {
    store: Store,
    file: File,
    digest: Digest,
    size: u64,
    hasher: Option<Hasher>,
    /// Whether a damaged blob is quarantined.
    quarantine: bool,
}

impl BlobReader {
    pub(crate) fn open(store: &Store, digest: &Digest) -> Result<Self, Error> {
        store.hold([Use::Blob(*digest)])?;
        Self::open_now(store, digest)
    }

    /// Opens a blob without a hold against garbage collection: an open file can be read to its end even if it is
    /// removed.
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

    /// Leaves a damaged blob in place. Required by a caller that has exclusive access to the store: quarantining would
    /// deadlock.
    pub(crate) fn without_quarantine(mut self) -> Self {
        self.quarantine = false;
        self
    }

    /// Returns the size of the blob's file in bytes.
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

/// Writes a blob to the store.
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

    /// Completes the blob: syncs it to disk and renames it to its path, unless the store has it.
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

    /// Completes the blob if its content has the digest `expected`, and discards it otherwise.
    ///
    /// # Errors
    /// When the digest differs, or the blob cannot be written.
    pub fn commit_expecting(self, expected: &Digest) -> Result<Blob, Error> {
        let found = self.file.hasher.clone().finish().digest;
        if found == *expected {
            self.commit()
        } else {
            Err(Error::DigestMismatch { what: "a new blob".to_owned(), expected: *expected, found })
        }
    }

    /// Returns the number of bytes written so far.
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
    /// Opens a blob for reading. The digest is verified during the read: reading a damaged blob fails at its end.
    ///
    /// # Errors
    /// When the store lacks the blob.
    pub fn reader(&self, digest: &Digest) -> Result<BlobReader, Error> {
        BlobReader::open(self, digest)
    }

    /// Reads a JSON document and verifies its digest.
    ///
    /// # Errors
    /// When the store lacks it, or it is damaged, too large for a document, or of another type.
    pub fn document<T: DeserializeOwned>(&self, digest: &Digest) -> Result<T, Error> {
        serde_json::from_slice(&self.document_bytes(digest)?)
            .map_err(|source| Error::Document { what: digest.to_string(), source })
    }

    /// Returns the verified bytes of a JSON document.
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

    /// Starts a blob. It enters the store on commit, and is discarded on drop.
    ///
    /// # Errors
    /// When the temporary file cannot be created.
    pub fn writer(&self) -> Result<BlobWriter, Error> {
        BlobWriter::create(self)
    }

    /// Writes a small blob to the store.
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

    /// Writes a document to the store, in canonical JSON.
    ///
    /// # Errors
    /// When it cannot be serialised or written.
    pub fn put_document<T: Serialize + ?Sized>(&self, document: &T) -> Result<Blob, Error> {
        self.put(&canonical_json(document)?)
    }

    /// Moves a damaged blob to the quarantine if its file is still the `damaged` one. The blob is missing from then on.
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
        // Another process may be replacing it right now, and the new file is not damaged.
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
