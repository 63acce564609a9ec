//! A cache on a web server: vcbuild reads from any server of static files, and writes to one that accepts PUT.

use std::time::Duration;

use reqwest::header::{CONTENT_LENGTH, RANGE};
use reqwest::{Client, Method, Response, StatusCode, Url};
use vcnetwork::Permit;
use vcnetwork::download::{self, Body};
use vcnetwork::http::{self, Moved};
use vcstore::{ActionKey, Blob, Digest, Store};

use super::Error;
use super::cache::{CacheError, blob_path, record_path, whole};
use crate::{BlobPush, body_of};

/// How long a server may be silent at most; readers have a shorter limit.
const SILENCE: Duration = Duration::from_secs(60);

/// A folder on a web server.
#[derive(Debug)]
pub(crate) struct HttpCache {
    /// Ends with a slash.
    url: Url,
    client: Client,
}

impl HttpCache {
    pub(super) fn at(url: &Url, timeout: Duration, _permit: Permit) -> Result<Self, Error> {
        let client = http::client().map_err(crate::Error::from)?.connect_timeout(timeout);
        let client = client.build().map_err(|error| crate::Error::Start(Box::new(error)))?;
        Ok(Self { url: url.clone(), client })
    }

    pub(super) async fn record(&self, key: &ActionKey) -> Result<Vec<u8>, CacheError> {
        whole(self.get(&record_path(key), 0).await?).await
    }

    pub(super) async fn blob(&self, digest: &Digest, offset: u64) -> Result<Body, CacheError> {
        self.get(&blob_path(digest), offset).await
    }

    pub(super) async fn put_blob(&self, blob: Blob, store: &Store) -> Result<BlobPush, CacheError> {
        let path = blob_path(&blob.digest);
        let there = self.send(self.request(Method::HEAD, &path)?, &Moved::default()).await;
        match there {
            Ok(response) if length(&response) == Some(blob.size) => return Ok(BlobPush::There),
            Ok(_) | Err(CacheError::Absent) => {}
            Err(fault) => return Err(fault),
        }
        let moved = Moved::default();
        let content = moved.count(download::upload(store, &blob.digest).map_err(CacheError::broken)?);
        let put = self.request(Method::PUT, &path)?.header(CONTENT_LENGTH, blob.size).body(content);
        self.write(put, &moved).await.map(|()| BlobPush::Uploaded)
    }

    pub(super) async fn put_record(&self, key: &ActionKey, bytes: Vec<u8>) -> Result<(), CacheError> {
        self.write(self.request(Method::PUT, &record_path(key))?.body(bytes), &Moved::default()).await
    }

    async fn write(&self, put: reqwest::RequestBuilder, moved: &Moved) -> Result<(), CacheError> {
        match self.send(put, moved).await {
            Ok(_) => Ok(()),
            Err(CacheError::Absent) => Err(CacheError::broken(
                "the server does not accept uploads (PUT): fill its folder through file:// or ssh://",
            )),
            Err(fault) => Err(fault),
        }
    }

    async fn get(&self, path: &str, offset: u64) -> Result<Body, CacheError> {
        let mut request = self.request(Method::GET, path)?;
        if offset > 0 {
            request = request.header(RANGE, format!("bytes={offset}-"));
        }
        body_of(self.send(request, &Moved::default()).await?, offset, SILENCE).map_err(CacheError::Broken)
    }

    fn request(&self, method: Method, path: &str) -> Result<reqwest::RequestBuilder, CacheError> {
        Ok(self.client.request(method, self.url.join(path).map_err(CacheError::broken)?))
    }

    async fn send(&self, request: reqwest::RequestBuilder, moved: &Moved) -> Result<Response, CacheError> {
        let response = http::send(request, SILENCE, moved).await.map_err(CacheError::broken)?;
        match response.status() {
            status if status.is_success() => Ok(response),
            // Object stores answer 403 for a missing object if the client may not list objects; servers of static files
            // answer 405 or 501 to a write.
            StatusCode::NOT_FOUND
            | StatusCode::GONE
            | StatusCode::FORBIDDEN
            | StatusCode::METHOD_NOT_ALLOWED
            | StatusCode::NOT_IMPLEMENTED => Err(CacheError::Absent),
            status => Err(CacheError::Broken(format!("it answered {status}"))),
        }
    }
}

/// Returns the size in the response to a HEAD request.
fn length(response: &Response) -> Option<u64> {
    response.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
