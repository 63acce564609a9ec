//! A client of registries that implement the OCI distribution protocol. It uses the credentials, mirrors and
//! certificates of Docker and Podman, limits the size of responses, retries when the network fails, and resumes
//! interrupted downloads.
//!
//! oci-client is not used for this: it reads documents of any size into memory, does not retry, and reports neither the
//! requested waiting time nor which of 401, 403 and 404 it received.

pub mod caches;
mod challenge;
mod credentials;
mod endpoint;
mod error;
mod host;
mod push;
pub mod settings;

use std::future::Future;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use reqwest::header::{ACCEPT, CONTENT_RANGE, RANGE};
use reqwest::{Method, StatusCode};
use vcnetwork::download::{self, Body, Failure, Persistence};
use vcnetwork::http;
use vcnetwork::{Permit, causes};
use vcstore::{Blob, Digest, Store};

pub use self::endpoint::Access;
use self::endpoint::Endpoint;
pub use self::error::{Cause, Error};
use self::host::Host;
pub use self::host::Patience;
pub use self::push::{BlobPush, Tally, push_image};
use crate::settings::Registries;

/// The maximum size of a manifest or index in bytes, which registries also use.
pub const DOCUMENT_LIMIT: u64 = 4 << 20;

/// The media types of manifests, of OCI and of Docker.
pub const MANIFESTS: [&str; 2] =
    ["application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"];
/// The media types of indexes, of OCI and of Docker.
pub const INDEXES: [&str; 2] =
    ["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"];

/// The media type of Docker's manifests before 2016, which contain no digest of a configuration.
pub const OLD_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";

/// A repository at the mirrors of its registry and at the registry itself.
#[derive(Debug)]
pub struct Repository {
    /// Its registry and its name there, such as `registry.example/team/app`.
    name: String,
    /// The registry itself is last.
    endpoints: Vec<Endpoint>,
}

/// A manifest or an index from a registry.
#[derive(Debug, Clone)]
pub struct Document {
    /// Its content.
    pub bytes: Vec<u8>,
    /// Its media type.
    pub media_type: String,
}

impl Repository {
    /// Prepares to read a repository; sends no request yet.
    ///
    /// # Errors
    /// Returns an error if credentials or certificates on this machine cannot be read.
    pub fn to_read(
        registry: &str,
        name: &str,
        registries: &Registries,
        patience: Patience,
        _permit: Permit,
    ) -> Result<Self, Error> {
        let hosts = Host::all(registry, registries).into_iter();
        let endpoints =
            hosts.map(|host| Endpoint::new(host, name, patience, Access::Pull)).collect::<Result<_, _>>()?;
        Ok(Self { name: format!("{registry}/{name}"), endpoints })
    }

    /// Prepares to write to a repository, into which blobs may be mounted from another repository of the registry.
    /// Mirrors are left out, because content that is written to a mirror would exist nowhere else.
    ///
    /// # Errors
    /// Returns an error if credentials or certificates on this machine cannot be read.
    pub fn to_write(
        registry: &str,
        name: &str,
        mounted: Option<&str>,
        registries: &Registries,
        patience: Patience,
        _permit: Permit,
    ) -> Result<Self, Error> {
        let hosts = Host::all(registry, registries).pop().into_iter();
        let endpoint = |host| Ok(Endpoint::new(host, name, patience, Access::Push)?.mounting(mounted));
        let endpoints = hosts.map(endpoint).collect::<Result<_, Error>>()?;
        Ok(Self { name: format!("{registry}/{name}"), endpoints })
    }

    /// Fetches the manifest or index with this tag or digest. Verifies the content against a digest.
    ///
    /// # Errors
    /// Returns an error if it cannot be fetched.
    pub async fn document(&self, reference: &str) -> Result<Document, Error> {
        self.first(async |endpoint: &Endpoint| {
            let attempt = format!("pulling {reference} of {} from", self.name);
            let url = endpoint.url(&format!("manifests/{reference}"))?;
            let accepted = [MANIFESTS, INDEXES].concat().join(", ");
            let response =
                endpoint.send(&attempt, Method::GET, &url, |request| request.header(ACCEPT, &accepted)).await?;
            let bytes = endpoint.body(&attempt, response, DOCUMENT_LIMIT).await?;
            if reference.parse::<Digest>().is_ok_and(|digest| digest != Digest::of(&bytes)) {
                return Err(endpoint.answer(&attempt, format!("it returned {} instead", Digest::of(&bytes))));
            }
            let media_type = media_type(&bytes).map_err(|why| endpoint.answer(&attempt, why.to_string()))?;
            Ok(Document { bytes, media_type })
        })
        .await
    }

    /// Pulls a blob into the store, unless the store has it.
    ///
    /// # Errors
    /// Returns an error if it cannot be fetched, or if it does not match its digest.
    pub async fn pull_blob(&self, blob: Blob, store: &Store) -> Result<(), Error> {
        self.first(async |endpoint: &Endpoint| {
            let attempt = format!("pulling {} of {} from", blob.digest, self.name);
            let Patience { attempts, silence, .. } = endpoint.patience();
            let persistence = Persistence { attempts, silence, outlast_silence: true };
            let open = async |offset| open(endpoint, &attempt, &blob.digest, offset).await;
            download::download(store, blob, persistence, open).await.map_err(|failure| match failure {
                Failure::Refused(error) => error,
                Failure::Store(error) => error.into(),
                Failure::Cut(why) | Failure::Lie(why) => endpoint.answer(&attempt, why),
            })
        })
        .await
    }

    /// Returns the content of a blob from an offset on, from the first host that has it.
    ///
    /// # Errors
    /// Returns an error if it cannot be fetched.
    pub async fn open_blob(&self, digest: &Digest, offset: u64) -> Result<Body, Error> {
        let attempt = format!("pulling {digest} of {} from", self.name);
        self.first(async |endpoint: &Endpoint| open(endpoint, &attempt, digest, offset).await).await
    }

    /// Fetches a blob that is no larger than the maximum size of documents, and verifies its digest.
    ///
    /// # Errors
    /// Returns an error if it cannot be fetched.
    pub async fn small_blob(&self, digest: &Digest) -> Result<Vec<u8>, Error> {
        let attempt = format!("pulling {digest} of {} from", self.name);
        self.first(async |endpoint: &Endpoint| {
            let url = endpoint.url(&format!("blobs/{digest}"))?;
            let response = endpoint.send(&attempt, Method::GET, &url, |request| request).await?;
            let bytes = endpoint.body(&attempt, response, DOCUMENT_LIMIT).await?;
            match Digest::of(&bytes) {
                found if found == *digest => Ok(bytes),
                found => Err(endpoint.answer(&attempt, format!("it returned {found} instead"))),
            }
        })
        .await
    }

    /// Returns the result of the first host that succeeds; otherwise, the error of the registry itself.
    async fn first<T>(&self, read: impl AsyncFn(&Endpoint) -> Result<T, Error>) -> Result<T, Error> {
        let mut last = None;
        for endpoint in &self.endpoints {
            if let Some(error) = last.take() {
                tracing::debug!(error = causes(&error), "asking the next host");
            }
            match read(endpoint).await {
                Ok(found) => return Ok(found),
                Err(Error::Store(error)) => return Err(Error::Store(error)),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| Error::Start(Box::new(Cause("no host is known".to_owned())))))
    }
}

/// Creates the runtime for network operations.
///
/// # Errors
/// Returns an error if its threads cannot be started.
pub fn runtime() -> Result<tokio::runtime::Runtime, Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.map_err(|error| Error::Start(Box::new(error)))
}

/// Runs several transfers of one kind concurrently.
///
/// # Errors
/// Returns the first error of any of them.
pub async fn several<F: Future<Output = Result<(), E>>, E>(
    at_once: usize,
    transfers: impl Iterator<Item = F>,
) -> Result<(), E> {
    futures::stream::iter(transfers).buffer_unordered(at_once).try_collect().await
}

async fn open(endpoint: &Endpoint, attempt: &str, digest: &Digest, offset: u64) -> Result<Body, Error> {
    let url = endpoint.url(&format!("blobs/{digest}"))?;
    let range = |request: reqwest::RequestBuilder| match offset {
        0 => request,
        offset => request.header(RANGE, format!("bytes={offset}-")),
    };
    let response = endpoint.send(attempt, Method::GET, &url, range).await?;
    body_of(response, offset, endpoint.patience().silence).map_err(|why| endpoint.answer(attempt, why))
}

/// Returns the body of a successful response to a request for the content from `offset` on (RFC 9110, section 14).
///
/// # Errors
/// Returns an error if the response contains another range.
pub fn body_of(response: reqwest::Response, offset: u64, silence: Duration) -> Result<Body, String> {
    let start = if response.status() == StatusCode::PARTIAL_CONTENT {
        let range = response.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
        let start = range.and_then(|range| range.strip_prefix("bytes ")?.split('-').next()?.parse().ok());
        start.filter(|start| *start == offset).ok_or("it sent a different range than requested")?
    } else {
        0
    };
    Ok(Body { start, bytes: http::paced(response, silence) })
}

/// Returns the media type in a document. The specification makes this field optional; without it, the type is derived
/// from the document's contents. The registry's `Content-Type` is ignored, because some registries return the same for
/// all documents.
pub fn media_type(bytes: &[u8]) -> Result<String, serde_json::Error> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Kind {
        schema_version: Option<serde_json::Value>,
        media_type: Option<String>,
        manifests: Option<serde::de::IgnoredAny>,
    }
    let kind: Kind = serde_json::from_slice(bytes)?;
    if kind.schema_version.is_some_and(|version| version == 1) {
        return Ok(OLD_MANIFEST.to_owned());
    }
    let implied = if kind.manifests.is_some() { INDEXES[0] } else { MANIFESTS[0] };
    Ok(kind.media_type.unwrap_or_else(|| implied.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::media_type;

    #[test]
    fn a_document_tells_what_it_is_one_way_or_the_other() {
        assert_eq!(media_type(br#"{"mediaType": "a/b", "manifests": []}"#).unwrap(), "a/b");
        assert_eq!(media_type(br#"{"manifests": []}"#).unwrap(), super::INDEXES[0]);
        assert_eq!(media_type(br#"{"layers": []}"#).unwrap(), super::MANIFESTS[0]);
        assert_eq!(media_type(br#"{"schemaVersion": 1, "fsLayers": []}"#).unwrap(), super::OLD_MANIFEST);
        assert!(media_type(b"<html>").is_err());
    }
}
