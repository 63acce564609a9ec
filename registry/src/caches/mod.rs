//! Substituters: caches that other users fill with records and blobs, queried before an action runs.
//!
//! A record is accepted if its inputs are those of the requested action and a trusted key signed it, and a blob if it
//! matches the digest in the record. So a cache can refuse to serve, but not provide wrong content. All caches are
//! queried at once; one that fails, hangs or returns wrong content is reported and not used for the rest of the run.

mod address;
mod cache;
mod error;
mod file;
mod http;
mod key;
mod oci;
mod push;
mod ssh;

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use vcnetwork::Network;
use vcnetwork::download::{self, Failure, Persistence};
use vcstore::{ActionKey, Blob, Record, Store, Substituter};

pub use self::address::Address;
use self::cache::{Cache, CacheError, Purpose};
pub use self::error::Error;
pub use self::key::{Keyring, PublicKey, SecretKey};
pub use self::push::{Pushed, push, remember};
use crate::settings::Registries;

/// The default time that a cache may be silent.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// The maximum number of consecutive interruptions of a blob.
const ATTEMPTS: u32 = 3;

/// The minimum rate in bytes per second: below it, building is faster than fetching.
const LEAST_RATE: u64 = 32 << 10;

/// The number of blobs of one record that are fetched at once.
const AT_ONCE: usize = 4;

/// The caches of a run.
#[derive(Debug)]
pub struct Caches {
    members: Vec<CacheMember>,
    trusted: Keyring,
    timeout: Duration,
    /// Taken when the run ends.
    runtime: Option<Runtime>,
    given: Mutex<BTreeSet<ActionKey>>,
    /// The warnings that were already printed, so that each is printed once.
    warned: Mutex<BTreeSet<String>>,
}

/// A cache and its state in this run.
#[derive(Debug)]
struct CacheMember {
    address: Address,
    cache: Cache,
    /// Cancelled when the cache is excluded from the run.
    out: CancellationToken,
    /// Actions for which it has no record.
    lacks: Mutex<BTreeSet<ActionKey>>,
}

impl Caches {
    /// Prepares to query these caches for records that these keys signed; sends no request yet. Leaves out caches that
    /// need a network that may not be used.
    ///
    /// # Errors
    /// Returns an error if no key is trusted, or if credentials or certificates on this machine cannot be read.
    pub fn new(
        addresses: Vec<Address>,
        trusted: Keyring,
        timeout: Duration,
        network: &Network,
        registries: &Registries,
    ) -> Result<Self, Error> {
        if trusted.is_empty() {
            return Err(Error::NoKey);
        }
        let mut members = Vec::new();
        for address in addresses {
            match Cache::open(&address, Purpose::Read, timeout, network, registries) {
                Ok(cache) => {
                    members.push(CacheMember {
                        address,
                        cache,
                        out: CancellationToken::new(),
                        lacks: Mutex::default(),
                    });
                }
                Err(Error::Offline(why)) => tracing::info!("{why}"),
                Err(error) => return Err(error),
            }
        }
        let (given, warned) = (Mutex::default(), Mutex::default());
        Ok(Self { members, trusted, timeout, runtime: Some(crate::runtime()?), given, warned })
    }

    /// Queries all caches at once. Returns the first record that is trusted and whose blobs can be fetched.
    async fn find(&self, key: &ActionKey, store: &Store) -> Option<Record> {
        let asked = self.members.iter().filter(|member| !member.out.is_cancelled() && !member.lacks(key));
        let mut answers: FuturesUnordered<_> =
            asked.map(|member| async move { (member, self.ask(member, key).await) }).collect();
        while let Some((member, answer)) = answers.next().await {
            let Some(record) = answer else { continue };
            if self.fetch(member, &record, store).await {
                tracing::debug!(cache = %member.address, kind = record.kind(), name = record.name(), "substituted");
                return Some(record);
            }
        }
        None
    }

    /// Returns a cache's record of an action, if it is trusted.
    async fn ask(&self, member: &CacheMember, key: &ActionKey) -> Option<Record> {
        let answer = tokio::select! {
            // Another query has already excluded the cache.
            () = member.out.cancelled() => return None,
            answer = tokio::time::timeout(self.timeout, member.cache.record(key)) => answer,
        };
        match answer {
            Ok(Ok(bytes)) => match self.check(key, &bytes) {
                Ok(record) => return Some(record),
                Err(why) => self.warn(member, &format!("ignoring a record: {why}")),
            },
            Ok(Err(CacheError::Absent)) => {}
            Ok(Err(CacheError::Broken(why))) => self.leave_out(member, &why),
            Err(_) => self.leave_out(member, &format!("no response within {} s", self.timeout.as_secs_f32())),
        }
        member.lacks.lock().unwrap_or_else(PoisonError::into_inner).insert(*key);
        None
    }

    /// Checks that a cache's bytes are a trusted record of the action.
    fn check(&self, key: &ActionKey, bytes: &[u8]) -> Result<Record, String> {
        let record: Record = serde_json::from_slice(bytes).map_err(|_| "it cannot be read".to_owned())?;
        if record.key().map_err(|error| error.to_string())? != *key {
            return Err("it belongs to a different action than requested".to_owned());
        }
        self.trusted.check(&record).map_err(|distrust| distrust.to_string())?;
        Ok(record)
    }

    /// Fetches the blobs of a record. Returns whether all of them are now in the store.
    async fn fetch(&self, member: &CacheMember, record: &Record, store: &Store) -> bool {
        let blobs = record.outputs().blobs().values().copied();
        let fetches = blobs.map(|blob| self.fetch_blob(member, blob, store));
        let result = tokio::select! {
            () = member.out.cancelled() => return false,
            result = crate::several(AT_ONCE, fetches) => result,
        };
        match result {
            Ok(()) => true,
            Err(Failure::Refused(CacheError::Absent)) => {
                self.warn(member, "it has a record but not its blobs");
                false
            }
            Err(Failure::Refused(CacheError::Broken(why)) | Failure::Cut(why)) => {
                self.leave_out(member, &why);
                false
            }
            Err(Failure::Lie(why)) => {
                self.leave_out(member, &format!("a blob does not match its record: {why}"));
                false
            }
            Err(Failure::Store(error)) => {
                tracing::warn!(%error, "content from a cache cannot be stored");
                false
            }
        }
    }

    async fn fetch_blob(&self, member: &CacheMember, blob: Blob, store: &Store) -> Result<(), Failure<CacheError>> {
        // Silence is detected earlier; this limit is for a cache that sends too slowly.
        let limit = self.timeout * 2 + Duration::from_secs(blob.size / LEAST_RATE);
        let persistence = Persistence { attempts: ATTEMPTS, silence: self.timeout, outlast_silence: false };
        let open = async |offset| {
            let opened = tokio::time::timeout(self.timeout, member.cache.blob(&blob.digest, offset)).await;
            opened
                .unwrap_or_else(|_| Err(CacheError::Broken(format!("no blob within {} s", self.timeout.as_secs_f32()))))
        };
        let download = download::download(store, blob, persistence, open);
        match tokio::time::timeout(limit, download).await {
            Ok(result) => result,
            Err(_) => Err(Failure::Cut(format!("{} bytes took more than {} s", blob.size, limit.as_secs()))),
        }
    }

    fn leave_out(&self, member: &CacheMember, why: &str) {
        if !member.out.is_cancelled() {
            member.out.cancel();
            self.warn(member, &format!("not using it for the rest of this run: {why}"));
        }
    }

    fn warn(&self, member: &CacheMember, what: &str) {
        let warning = format!("cache {}: {what}", member.address);
        if self.warned.lock().unwrap_or_else(PoisonError::into_inner).insert(warning.clone()) {
            tracing::warn!("{warning}");
        }
    }
}

impl Substituter for Caches {
    fn substitute(&self, key: &ActionKey, store: &Store) -> Option<Record> {
        let record = self.runtime.as_ref()?.block_on(self.find(key, store))?;
        self.given.lock().unwrap_or_else(PoisonError::into_inner).insert(*key);
        Some(record)
    }

    fn gave(&self, key: &ActionKey) -> bool {
        self.given.lock().unwrap_or_else(PoisonError::into_inner).contains(key)
    }
}

impl Drop for Caches {
    fn drop(&mut self) {
        // A DNS lookup or disk access that hangs blocks its thread: the end of the run does not wait for it.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl CacheMember {
    fn lacks(&self, key: &ActionKey) -> bool {
        self.lacks.lock().unwrap_or_else(PoisonError::into_inner).contains(key)
    }
}

/// Parses a record of a cache, and checks its signatures without a trusted key.
#[cfg(any(test, fuzzing))]
pub fn hostile(bytes: &[u8]) {
    if let Ok(record) = serde_json::from_slice::<Record>(bytes) {
        let _ = (record.key(), record.signed_bytes());
        let _ = Keyring::new([]).check(&record);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn records_of_others_are_read_or_refused() {
        mutate::hostile("record", super::hostile);
    }
}
