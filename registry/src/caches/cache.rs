//! One cache of records and blobs, independent of its transport.

use std::time::Duration;

use vcnetwork::Network;
use vcnetwork::download::Body;
use vcstore::{ActionKey, Blob, Digest, Record, Store};

use super::Error;
use super::address::Address;
use super::file::FileCache;
use super::http::HttpCache;
use super::oci::OciCache;
use super::ssh::SshCache;
use crate::BlobPush;
use crate::settings::Registries;

/// The maximum size of a record in bytes: a record lists every file from which a program was compiled.
pub(super) const RECORD_LIMIT: u64 = 32 << 20;

/// A cache of one of the transports.
#[derive(Debug)]
pub(crate) enum Cache {
    File(FileCache),
    Http(HttpCache),
    Ssh(SshCache),
    Oci(OciCache),
}

/// Why a cache did not return an object.
#[derive(Debug)]
pub(crate) enum CacheError {
    /// It does not have the object.
    Absent,
    /// It cannot be used. Contains the reason in one line.
    Broken(String),
}

/// The purpose for which a cache is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Read,
    Write,
}

impl Cache {
    /// Prepares a cache for use; sends no request yet. `timeout` is how long it may be silent.
    ///
    /// # Errors
    /// Returns an error if it needs a network that may not be used, or if credentials or certificates on this machine
    /// cannot be read.
    pub(crate) fn open(
        address: &Address,
        purpose: Purpose,
        timeout: Duration,
        network: &Network,
        registries: &Registries,
    ) -> Result<Self, Error> {
        let permit = || network.permit(format!("using the cache {address}"));
        Ok(match address {
            Address::File(path) => Self::File(FileCache::at(path)),
            Address::Http(url) => Self::Http(HttpCache::at(url, timeout, permit()?)?),
            Address::Ssh { host, user, port, path } => {
                Self::Ssh(SshCache::at(host, user.as_deref(), *port, path, timeout, permit()?))
            }
            Address::Oci { registry, repository } => {
                Self::Oci(OciCache::at(registry, repository, purpose, timeout, registries, permit()?)?)
            }
        })
    }

    /// Returns the record of an action without verification.
    pub(crate) async fn record(&self, key: &ActionKey) -> Result<Vec<u8>, CacheError> {
        match self {
            Self::File(cache) => cache.record(key).await,
            Self::Http(cache) => cache.record(key).await,
            Self::Ssh(cache) => cache.record(key).await,
            Self::Oci(cache) => cache.record(key).await,
        }
    }

    /// Returns the content of a blob from an offset on.
    pub(crate) async fn blob(&self, digest: &Digest, offset: u64) -> Result<Body, CacheError> {
        match self {
            Self::File(cache) => cache.blob(digest, offset).await,
            Self::Http(cache) => cache.blob(digest, offset).await,
            Self::Ssh(cache) => cache.blob(digest, offset).await,
            Self::Oci(cache) => cache.blob(digest, offset).await,
        }
    }

    /// Uploads a blob, unless the cache has it.
    pub(crate) async fn put_blob(&self, blob: Blob, store: &Store) -> Result<BlobPush, CacheError> {
        match self {
            Self::File(cache) => cache.put_blob(blob, store).await,
            Self::Http(cache) => cache.put_blob(blob, store).await,
            Self::Ssh(cache) => cache.put_blob(blob, store).await,
            Self::Oci(cache) => cache.put_blob(blob, store).await,
        }
    }

    /// Uploads a record, whose blobs the cache must have. Replaces an existing record.
    pub(crate) async fn put_record(&self, key: &ActionKey, record: &Record, bytes: Vec<u8>) -> Result<(), CacheError> {
        match self {
            Self::File(cache) => cache.put_record(key, &bytes).await,
            Self::Http(cache) => cache.put_record(key, bytes).await,
            Self::Ssh(cache) => cache.put_record(key, &bytes).await,
            Self::Oci(cache) => cache.put_record(key, record, &bytes).await,
        }
    }
}

/// Returns the path of an action's record in a folder.
pub(super) fn record_path(key: &ActionKey) -> String {
    format!("records/{key}")
}

/// Returns the path of a blob in a folder, as in an OCI image layout.
pub(super) fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// Reads a record, up to the size limit of records.
pub(super) async fn whole(mut body: Body) -> Result<Vec<u8>, CacheError> {
    use futures::TryStreamExt;
    let mut bytes = Vec::new();
    while let Some(piece) = body.bytes.try_next().await.map_err(CacheError::Broken)? {
        bytes.extend_from_slice(&piece);
        if bytes.len() as u64 > RECORD_LIMIT {
            return Err(CacheError::Broken(format!("its record is larger than {RECORD_LIMIT} bytes")));
        }
    }
    Ok(bytes)
}

impl CacheError {
    /// Builds the error that the cache cannot be used for this reason.
    #[expect(clippy::needless_pass_by_value, reason = "errors come by value to where it stands: map_err")]
    pub(super) fn broken(why: impl ToString) -> Self {
        Self::Broken(why.to_string())
    }
}
