//! Writing to a registry: sends only what it lacks, and mounts blobs from its other repositories if possible.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Mutex, PoisonError};

use oci_spec::image::Descriptor;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use reqwest::{Body, Method, Response, StatusCode, Url};
use tokio_util::bytes::Bytes;
use vcnetwork::causes;
use vcnetwork::download;
use vcnetwork::http::{self, Moved};
use vcstore::{Blob, Digest, Image, Store};

use super::endpoint::Endpoint;
use super::{Error, Repository, several};

/// The number of blobs that are pushed at once.
const AT_ONCE: usize = 4;

/// What was done with a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlobPush {
    /// The repository had it.
    There,
    /// Another repository of the registry had it.
    Mounted,
    /// Its bytes were sent.
    Uploaded,
}

/// The statistics of a push.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Tally {
    /// The number of blobs that were sent.
    pub blobs: u64,
    /// The size of these blobs in bytes.
    pub bytes: u64,
    /// The number of blobs that were already present.
    pub there: u64,
    /// The number of blobs that were mounted from another repository.
    pub mounted: u64,
}

impl Tally {
    /// Counts a blob.
    pub fn count(&mut self, blob: Blob, sent: BlobPush) {
        match sent {
            BlobPush::There => self.there += 1,
            BlobPush::Mounted => self.mounted += 1,
            BlobPush::Uploaded => {
                self.blobs += 1;
                self.bytes += blob.size;
            }
        }
    }
}

/// Pushes an image: its blobs, the manifest of each platform, and last the document that `tag` will refer to.
///
/// # Errors
/// Returns an error if the store lacks a blob, or if the registry rejects a request.
pub async fn push_image(repository: &Repository, tag: &str, image: &Image, store: &Store) -> Result<Tally, Error> {
    let tally = Mutex::new(Tally::default());
    let mut seen = BTreeSet::new();
    let parts = image
        .platforms
        .iter()
        .flat_map(|one| one.layers.iter().map(vcstore::Layer::descriptor).chain([one.config.clone()]));
    let blobs = parts.map(|part| blob_of(&part)).collect::<Result<Vec<_>, _>>()?;
    let blobs = blobs.into_iter().filter(|blob| seen.insert(blob.digest));
    let sends = blobs.map(|blob| {
        let tally = &tally;
        async move {
            let sent = repository.push_blob(blob, store).await?;
            tally.lock().unwrap_or_else(PoisonError::into_inner).count(blob, sent);
            Ok::<_, Error>(())
        }
    });
    several(AT_ONCE, sends).await?;
    for one in &image.platforms {
        for document in [&one.manifest].into_iter().chain(one.indexes.iter().rev()) {
            repository.push_document(document.digest().as_ref(), document, store).await?;
        }
    }
    repository.push_document(tag, &image.target, store).await?;
    Ok(tally.into_inner().unwrap_or_else(PoisonError::into_inner))
}

impl Repository {
    /// Pushes a blob of the store, unless the repository has it.
    ///
    /// # Errors
    /// Returns an error if the store lacks it, or if the registry rejects a request.
    pub async fn push_blob(&self, blob: Blob, store: &Store) -> Result<BlobPush, Error> {
        // A missing blob is reported as such, and not as an interrupted transfer.
        drop(store.reader(&blob.digest)?);
        self.push(blob, |moved| match download::upload(store, &blob.digest) {
            Ok(content) => moved.count(content),
            Err(error) => Body::wrap_stream(futures::stream::once(async { Err::<Bytes, _>(io::Error::other(error)) })),
        })
        .await
    }

    /// Pushes a few bytes as a blob, unless the repository has it.
    ///
    /// # Errors
    /// Returns an error if the registry rejects a request.
    pub async fn push_bytes(&self, bytes: &[u8]) -> Result<Blob, Error> {
        let blob = Blob { digest: Digest::of(bytes), size: bytes.len() as u64 };
        self.push(blob, |_| Body::from(bytes.to_vec())).await.map(|_| blob)
    }

    async fn push(&self, blob: Blob, content: impl Fn(&Moved) -> Body) -> Result<BlobPush, Error> {
        let endpoint = self.itself()?;
        let attempt = format!("pushing {} to {} at", blob.digest, self.name);
        if self.has(endpoint, &attempt, &blob.digest).await? {
            return Ok(BlobPush::There);
        }
        let mut count = 1;
        loop {
            let begun = self.begin(endpoint, &attempt, &blob.digest).await?;
            if begun.status() == StatusCode::CREATED {
                return Ok(BlobPush::Mounted);
            }
            let mut location = upload_place(&begun).map_err(|why| endpoint.answer(&attempt, why))?;
            location.query_pairs_mut().append_pair("digest", &blob.digest.to_string());
            let moved = Moved::default();
            let dress = |request: reqwest::RequestBuilder| {
                let request = request.header(CONTENT_LENGTH, blob.size);
                request.header(CONTENT_TYPE, "application/octet-stream").body(content(&moved))
            };
            match endpoint.send_once(&attempt, Method::PUT, &location, &moved, dress).await {
                Ok(_) => return Ok(BlobPush::Uploaded),
                Err(error @ Error::Unreachable { .. }) if count < endpoint.patience().attempts => {
                    tracing::debug!(%error, "sending it again");
                    tokio::time::sleep(http::backoff(count)).await;
                    count += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Starts an upload, or mounts the blob from another repository. Registries refuse a mount in many ways; the blob
    /// is then uploaded instead.
    async fn begin(&self, endpoint: &Endpoint, attempt: &str, digest: &Digest) -> Result<Response, Error> {
        let post = async |url: &Url| {
            endpoint.send(attempt, Method::POST, url, |request| request.header(CONTENT_LENGTH, 0)).await
        };
        let url = endpoint.url("blobs/uploads/")?;
        if let Some(mounted) = endpoint.mounted() {
            let mut mount = url.clone();
            mount.query_pairs_mut().append_pair("mount", &digest.to_string()).append_pair("from", mounted);
            match post(&mount).await {
                Err(error) if error.is_refusal() => endpoint.mount_nothing(&causes(&error)),
                begun => return begun,
            }
        }
        post(&url).await
    }

    /// Pushes the manifest or index that the store has under `target`'s digest, with this reference.
    ///
    /// # Errors
    /// Returns an error if the store lacks it, or if the registry rejects a request.
    pub async fn push_document(&self, reference: &str, target: &Descriptor, store: &Store) -> Result<(), Error> {
        let bytes = store.document_bytes(&blob_of(target)?.digest)?;
        self.put_document(reference, target.media_type().as_ref(), &bytes).await
    }

    /// Pushes a manifest or index under a tag or its digest.
    ///
    /// # Errors
    /// Returns an error if the registry rejects the request.
    pub async fn put_document(&self, reference: &str, media_type: &str, bytes: &[u8]) -> Result<(), Error> {
        let endpoint = self.itself()?;
        let attempt = format!("pushing {reference} of {} to", self.name);
        let url = endpoint.url(&format!("manifests/{reference}"))?;
        let put = |request: reqwest::RequestBuilder| request.header(CONTENT_TYPE, media_type).body(bytes.to_vec());
        endpoint.send(&attempt, Method::PUT, &url, put).await.map(drop)
    }

    async fn has(&self, endpoint: &Endpoint, attempt: &str, digest: &Digest) -> Result<bool, Error> {
        let url = endpoint.url(&format!("blobs/{digest}"))?;
        match endpoint.send(attempt, Method::HEAD, &url, |request| request).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Returns the endpoint of the registry itself, which comes after its mirrors.
    fn itself(&self) -> Result<&Endpoint, Error> {
        let none = || Error::Start(Box::new(super::Cause("no host is known".to_owned())));
        self.endpoints.last().ok_or_else(none)
    }
}

/// Returns the URL for an upload that was started: at the registry itself or at another server.
fn upload_place(begun: &Response) -> Result<Url, String> {
    let location = begun.headers().get(LOCATION).and_then(|location| location.to_str().ok());
    let location = location.and_then(|location| begun.url().join(location).ok());
    let location = location.ok_or("its response has no upload location")?;
    http::check_redirect(begun.url(), &location).map_err(|why| {
        let misled =
            "a registry behind a proxy that terminates TLS does this if the proxy does not set X-Forwarded-Proto";
        let misled = if location.scheme() == "http" { format!("; {misled}") } else { String::new() };
        format!("its upload location is {why}{misled}")
    })?;
    Ok(location)
}

fn blob_of(descriptor: &Descriptor) -> Result<Blob, Error> {
    let digest = Digest::try_from(descriptor.digest())
        .map_err(|why| vcstore::Error::BadImage { image: descriptor.digest().to_string(), why: why.to_string() })?;
    Ok(Blob { digest, size: descriptor.size() })
}
