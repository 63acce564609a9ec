//! A cache in a folder: `records/KEY` and `blobs/sha256/HEX`, as a web server can serve them.

use std::io::{self, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;

use camino::{Utf8Path, Utf8PathBuf};
use futures::{StreamExt, TryStreamExt};
use tokio::io::AsyncSeekExt;
use tokio_util::io::ReaderStream;
use vcnetwork::download::Body;
use vcstore::{ActionKey, Blob, Digest, Store};

use super::cache::{CacheError, blob_path, record_path, whole};
use crate::BlobPush;

/// The buffer size for reading, in bytes.
const PIECE: usize = 256 << 10;

/// A folder.
#[derive(Debug)]
pub(crate) struct FileCache {
    folder: Utf8PathBuf,
}

impl FileCache {
    pub(super) fn at(folder: &Utf8Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    pub(super) async fn record(&self, key: &ActionKey) -> Result<Vec<u8>, CacheError> {
        whole(self.read(&record_path(key), 0).await?).await
    }

    pub(super) async fn blob(&self, digest: &Digest, offset: u64) -> Result<Body, CacheError> {
        self.read(&blob_path(digest), offset).await
    }

    pub(super) async fn put_blob(&self, blob: Blob, store: &Store) -> Result<BlobPush, CacheError> {
        let path = self.folder.join(blob_path(&blob.digest));
        if path.metadata().is_ok_and(|meta| meta.len() == blob.size) {
            return Ok(BlobPush::There);
        }
        let mut reader = store.reader(&blob.digest).map_err(CacheError::broken)?;
        let written = tokio::task::spawn_blocking(move || write(&path, |file| io::copy(&mut reader, file).map(drop)));
        written.await.map_err(CacheError::broken)??;
        Ok(BlobPush::Uploaded)
    }

    pub(super) async fn put_record(&self, key: &ActionKey, bytes: &[u8]) -> Result<(), CacheError> {
        write(&self.folder.join(record_path(key)), |file| file.write_all(bytes))
    }

    async fn read(&self, path: &str, offset: u64) -> Result<Body, CacheError> {
        let path = self.folder.join(path);
        let mut file = match tokio::fs::File::open(&path).await {
            Ok(file) => file,
            // A folder that does not exist yet, or whose disk is not mounted, counts as empty.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(CacheError::Absent),
            Err(error) => return Err(CacheError::Broken(format!("opening {path}: {error}"))),
        };
        file.seek(SeekFrom::Start(offset)).await.map_err(CacheError::broken)?;
        let bytes = ReaderStream::with_capacity(file, PIECE).map_err(move |error| format!("reading {path}: {error}"));
        Ok(Body { start: offset, bytes: bytes.boxed() })
    }
}

/// Writes a file so that readers see all of it or none, even after a power failure.
fn write(path: &Utf8Path, fill: impl FnOnce(&mut std::fs::File) -> io::Result<()>) -> Result<(), CacheError> {
    let folder = path.parent().unwrap_or(Utf8Path::new("/"));
    let written = || {
        std::fs::create_dir_all(folder)?;
        let mut file = tempfile::Builder::new().prefix(".incoming-").tempfile_in(folder)?;
        fill(file.as_file_mut())?;
        file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        std::fs::File::open(folder)?.sync_all()
    };
    written().map_err(|error: io::Error| CacheError::Broken(format!("writing {path}: {error}")))
}
