//! Downloads files of a mirror over HTTP: several at once, with retries when the network fails, and with verification
//! of their digests.

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::future::Future;
use std::io::Write;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use reqwest::{Client, Response, StatusCode, header};
use vcnetwork::Permit;
use vcnetwork::http::{self, Moved};
use vcstore::{Blob, Store};

use super::Error;

/// The number of attempts to download a file.
const ATTEMPTS: u32 = 4;

/// How long a mirror may be silent.
const SILENCE: Duration = Duration::from_secs(30);

/// The number of concurrent downloads: enough to hide a mirror's latency, but not so many that they burden it.
pub(super) const AT_ONCE: usize = 8;

/// A client of mirrors. It uses one thread, which is sufficient to hash the data of the fastest mirror.
pub(crate) struct Mirror {
    runtime: tokio::runtime::Runtime,
    client: Client,
}

/// Why one attempt failed, and whether another may succeed.
enum AttemptError {
    Final(Error),
    Damaged(Error),
    Network(String),
    /// The mirror asks to retry, possibly after this time.
    Busy(String, Option<Duration>),
}

impl Mirror {
    pub(crate) fn new(_permit: Permit) -> Result<Self, Error> {
        let network = |source: Box<dyn StdError + Send + Sync>| Error::Network { source };
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().map_err(|error| network(error.into()))?;
        let client = http::client()
            .map_err(|error| network(error.into()))?
            .connect_timeout(Duration::from_secs(15))
            .build()
            .map_err(|error| network(error.into()))?;
        Ok(Self { runtime, client })
    }

    /// Runs a future to completion.
    pub(crate) fn run<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// Fetches a file of at most `limit` bytes into memory.
    pub(crate) async fn bytes(&self, url: &str, limit: u64) -> Result<Vec<u8>, Error> {
        self.attempts(url, None, async |response| {
            let bytes = http::read(response, limit, SILENCE).await.map_err(AttemptError::Network)?;
            let longer = || AttemptError::Damaged(Error::repository(url, format!("it is longer than {limit} bytes")));
            bytes.ok_or_else(longer)
        })
        .await
    }

    /// Fetches a file into the store, unless the store has it already.
    pub(crate) async fn blob(&self, store: &Store, url: &str, blob: Blob) -> Result<(), Error> {
        if store.size(&blob.digest) == Some(blob.size) {
            return Ok(());
        }
        self.attempts(url, None, async |response| into_store(store, url, blob, response).await).await
    }

    /// Fetches files that the store lacks. Returns those that the mirror no longer has, by their index in `wanted`,
    /// each with its error.
    pub(crate) fn blobs(&self, store: &Store, wanted: &[(String, Blob)]) -> Result<BTreeMap<usize, Error>, Error> {
        let transfers =
            wanted.iter().enumerate().map(async |(place, (url, blob))| match self.blob(store, url, *blob).await {
                Err(gone @ Error::Gone { .. }) => Ok(Some((place, gone))),
                fetched => fetched.map(|()| None),
            });
        let ended = futures::stream::iter(transfers).buffer_unordered(AT_ONCE);
        self.run(ended.try_filter_map(async |gone| Ok(gone)).try_collect())
    }

    /// Fetches the first `length` bytes of a file into memory, or fewer if it is shorter.
    pub(crate) async fn beginning(&self, url: &str, length: u64) -> Result<Vec<u8>, Error> {
        self.attempts(url, Some(length), async |response| {
            let mut bytes = Vec::new();
            let mut body = http::paced(response, SILENCE);
            // A mirror may ignore the range.
            while (bytes.len() as u64) < length {
                let Some(piece) = body.try_next().await.map_err(AttemptError::Network)? else { break };
                bytes.extend_from_slice(&piece);
            }
            bytes.truncate(usize::try_from(length).unwrap_or(usize::MAX));
            Ok(bytes)
        })
        .await
    }

    /// Requests a file, or its first `length` bytes, until it is read or the attempts are exhausted.
    async fn attempts<T>(
        &self,
        url: &str,
        length: Option<u64>,
        read: impl AsyncFn(Response) -> Result<T, AttemptError>,
    ) -> Result<T, Error> {
        let mut attempt = 1;
        loop {
            let mut request = self.client.get(url);
            if let Some(length) = length {
                request = request.header(header::RANGE, format!("bytes=0-{}", length.saturating_sub(1)));
            }
            let attempt_error = match http::send(request, SILENCE, &Moved::default()).await {
                Ok(response) => match attempt_error(url, &response) {
                    Some(attempt_error) => attempt_error,
                    None => match read(response).await {
                        Ok(done) => return Ok(done),
                        Err(attempt_error) => attempt_error,
                    },
                },
                Err(error) if error.is_final() => {
                    let why = error.to_string();
                    return Err(Error::Unreachable { url: url.to_owned(), attempts: attempt, why });
                }
                Err(error) => AttemptError::Network(error.to_string()),
            };
            let wait = match &attempt_error {
                AttemptError::Busy(_, wait) => *wait,
                _ => None,
            };
            match attempt_error {
                AttemptError::Final(error) => return Err(error),
                AttemptError::Damaged(error) if attempt == ATTEMPTS => return Err(error),
                AttemptError::Network(why) | AttemptError::Busy(why, _) if attempt == ATTEMPTS => {
                    return Err(Error::Unreachable { url: url.to_owned(), attempts: ATTEMPTS, why });
                }
                AttemptError::Damaged(error) => tracing::warn!(%error, "trying again"),
                AttemptError::Network(why) | AttemptError::Busy(why, _) => tracing::debug!(url, why, "trying again"),
            }
            tokio::time::sleep(wait.unwrap_or_else(|| http::backoff(attempt))).await;
            attempt += 1;
        }
    }
}

/// Returns the error of an unsuccessful response, which includes whether to retry.
fn attempt_error(url: &str, response: &Response) -> Option<AttemptError> {
    let status = response.status();
    match status {
        StatusCode::NOT_FOUND | StatusCode::GONE => {
            let help = if url.contains("/pool/") {
                "mirrors remove a package when a newer version replaces it: update the lock file (`vcbuild lock --update \
                 debian`), or name an archive that keeps old packages (VCBUILD_DEBIAN_SNAPSHOT)"
            } else {
                "check the mirror's address and the suite; not every mirror has every suite and architecture"
            };
            Some(AttemptError::Final(Error::Gone { url: url.to_owned(), help }))
        }
        status if status.is_success() => None,
        status if http::is_passing(status) => {
            Some(AttemptError::Busy(format!("it answered {status}"), http::retry_after(response.headers())))
        }
        status => {
            let why = format!("it answered {status}");
            Some(AttemptError::Final(Error::Unreachable { url: url.to_owned(), attempts: 1, why }))
        }
    }
}

async fn into_store(store: &Store, url: &str, blob: Blob, response: Response) -> Result<(), AttemptError> {
    let disk = |error: vcstore::Error| AttemptError::Final(error.into());
    let mut writer = store.writer().map_err(disk)?;
    let mut body = http::paced(response, SILENCE);
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(AttemptError::Network)?;
        let path = store.blob_path(&blob.digest);
        writer.write_all(&piece).map_err(|error| AttemptError::Final(Error::io("writing", path)(error)))?;
        if writer.size() > blob.size {
            let why = format!("it is longer than the expected {} bytes", blob.size);
            return Err(AttemptError::Damaged(Error::repository(url, why)));
        }
    }
    // Syncing to disk takes time, during which other transfers should continue.
    let committed = tokio::task::spawn_blocking(move || writer.commit_expecting(&blob.digest)).await;
    match committed.map_err(|error| AttemptError::Final(Error::Network { source: error.into() }))? {
        Ok(_) => Ok(()),
        Err(vcstore::Error::DigestMismatch { found, expected, .. }) => {
            Err(AttemptError::Damaged(Error::damaged(url, &found, &expected)))
        }
        Err(error) => Err(disk(error)),
    }
}
