//! A cache in a repository of a registry: each record is an artifact with the tag `rec-KEY`, whose configuration is the
//! record and whose layers are the blobs (image specification, "Guidelines for Artifact Usage").

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use vcnetwork::download::Body;
use vcnetwork::{Permit, causes};
use vcstore::{ActionKey, Blob, Digest, Record, Store};

use super::Error;
use super::cache::{CacheError, Purpose, RECORD_LIMIT, whole};
use crate::settings::Registries;
use crate::{BlobPush, MANIFESTS, Patience, Repository};

/// The media type of a record.
const RECORD_TYPE: &str = "application/vnd.vcbuild.record.v1+json";

/// The media type of a blob, whose actual type only its record contains.
const BLOB_TYPE: &str = "application/octet-stream";

/// The empty document for unused parts of an artifact (image specification, "Guidance for an Empty Descriptor").
const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";
const EMPTY: &[u8] = b"{}";

/// A repository.
#[derive(Debug)]
pub(crate) struct OciCache {
    repository: Repository,
}

impl OciCache {
    pub(super) fn at(
        registry: &str,
        name: &str,
        purpose: Purpose,
        timeout: Duration,
        registries: &Registries,
        permit: Permit,
    ) -> Result<Self, Error> {
        let repository = match purpose {
            // The reader limits silence; this limit only needs to be longer.
            Purpose::Read => {
                let patience = Patience { connect: timeout, silence: timeout * 2, attempts: 2 };
                Repository::to_read(registry, name, registries, patience, permit)?
            }
            Purpose::Write => Repository::to_write(registry, name, None, registries, Patience::MUCH, permit)?,
        };
        Ok(Self { repository })
    }

    pub(super) async fn record(&self, key: &ActionKey) -> Result<Vec<u8>, CacheError> {
        #[derive(Deserialize)]
        struct Manifest {
            config: Config,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Config {
            media_type: String,
            digest: Digest,
            size: u64,
        }
        let document = self.repository.document(&tag(key)).await.map_err(|error| fault(&error))?;
        let manifest: Manifest = serde_json::from_slice(&document.bytes).map_err(CacheError::broken)?;
        let Config { media_type, digest, size } = manifest.config;
        if media_type != RECORD_TYPE || size > RECORD_LIMIT {
            return Err(CacheError::Broken(format!("{} is {media_type} of {size} bytes, not a record", tag(key))));
        }
        whole(self.blob(&digest, 0).await?).await
    }

    pub(super) async fn blob(&self, digest: &Digest, offset: u64) -> Result<Body, CacheError> {
        self.repository.open_blob(digest, offset).await.map_err(|error| fault(&error))
    }

    pub(super) async fn put_blob(&self, blob: Blob, store: &Store) -> Result<BlobPush, CacheError> {
        self.repository.push_blob(blob, store).await.map_err(|error| fault(&error))
    }

    pub(super) async fn put_record(&self, key: &ActionKey, record: &Record, bytes: &[u8]) -> Result<(), CacheError> {
        let of = |kind: &str, blob: Blob| json!({"mediaType": kind, "digest": blob.digest, "size": blob.size});
        let config = of(RECORD_TYPE, self.repository.push_bytes(bytes).await.map_err(|error| fault(&error))?);
        let mut layers: Vec<_> = record.outputs().blobs().values().map(|blob| of(BLOB_TYPE, *blob)).collect();
        if layers.is_empty() {
            layers.push(of(EMPTY_TYPE, self.repository.push_bytes(EMPTY).await.map_err(|error| fault(&error))?));
        }
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFESTS[0],
            "artifactType": RECORD_TYPE,
            "config": config,
            "layers": layers,
        });
        let manifest = vcstore::canonical_json(&manifest).map_err(CacheError::broken)?;
        self.repository.put_document(&tag(key), MANIFESTS[0], &manifest).await.map_err(|error| fault(&error))
    }
}

fn tag(key: &ActionKey) -> String {
    format!("rec-{key}")
}

fn fault(error: &crate::Error) -> CacheError {
    if error.is_not_found() { CacheError::Absent } else { CacheError::Broken(causes(error)) }
}
