//! Pushes to a cache: signs records, sends their blobs first, and skips existing blobs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use vcnetwork::Network;
use vcstore::{ActionKey, Blob, Closure, Image, PlatformImage, Record, Store};

use super::cache::{Cache, CacheError, Purpose};
use super::{Address, Error, SecretKey};
use crate::settings::Registries;
use crate::{BlobPush, Tally, several};

/// The number of blobs or records that are sent at once.
const AT_ONCE: usize = 4;

/// The time limit for connecting to a cache for writing.
const CONNECT_LIMIT: Duration = Duration::from_secs(20);

/// The result of a push.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pushed {
    /// The number of records that were written.
    pub records: u64,
    /// The number of records that already existed with the same outputs and signatures.
    pub records_there: u64,
    /// The blobs.
    pub blobs: Tally,
}

/// Stores which actions of a build created its images, for a later push.
///
/// # Errors
/// Returns an error if the store cannot be written.
pub fn remember<'a>(
    store: &Store,
    images: impl Iterator<Item = &'a Image>,
    actions: BTreeSet<ActionKey>,
) -> Result<(), vcstore::Error> {
    let manifests = |image: &Image| image.platforms.iter().map(PlatformImage::manifest_digest).collect();
    let images = images.map(|image| (image.name.clone(), manifests(image))).collect();
    store.remember(&Closure { images, actions })
}

/// Sends the records of these actions and their blobs to a cache. With a key, signs the records, also in the store.
///
/// # Errors
/// Returns an error if a record or an output is not in the store, or if the cache cannot be written to.
pub fn push(
    address: &Address,
    actions: &BTreeSet<ActionKey>,
    key: Option<&SecretKey>,
    store: &Store,
    registries: &Registries,
) -> Result<Pushed, Error> {
    let mut records = BTreeMap::new();
    for action in actions {
        let incomplete = |what: String| Error::Incomplete { what };
        let mut record = store.record(action)?.ok_or_else(|| incomplete(format!("action {action}")))?;
        if !store.has_outputs(&record) {
            return Err(incomplete(format!("{} {}", record.kind(), record.name())));
        }
        if let Some(key) = key {
            let signed = key.sign(record.clone())?;
            if signed != record {
                store.put_record(&signed)?;
                record = signed;
            }
        }
        records.insert(*action, record);
    }
    let blobs: BTreeSet<Blob> =
        records.values().flat_map(|record| record.outputs().blobs().values().copied()).collect();
    let cache = Cache::open(address, Purpose::Write, CONNECT_LIMIT, &Network::Open, registries)?;
    let runtime = crate::runtime()?;
    let tally = Mutex::new(Pushed { records: 0, records_there: 0, blobs: Tally::default() });
    let locked = || tally.lock().unwrap_or_else(PoisonError::into_inner);
    let write = |fault| match fault {
        CacheError::Absent => Error::Write { cache: address.to_string(), why: "the address does not exist".to_owned() },
        CacheError::Broken(why) => Error::Write { cache: address.to_string(), why },
    };
    // A record is sent last, so that its blobs exist whenever it is found.
    let sends = blobs.iter().map(|blob| async {
        let sent: BlobPush = cache.put_blob(*blob, store).await?;
        locked().blobs.count(*blob, sent);
        Ok(())
    });
    runtime.block_on(several(AT_ONCE, sends)).map_err(write)?;
    let sends = records.iter().map(|(action, record)| async {
        match put_record(&cache, action, record).await? {
            true => locked().records += 1,
            false => locked().records_there += 1,
        }
        Ok(())
    });
    runtime.block_on(several(AT_ONCE, sends)).map_err(write)?;
    Ok(tally.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Writes a record, including other signatures of the same outputs that the cache already has. Returns whether anything
/// had to be written.
async fn put_record(cache: &Cache, action: &ActionKey, record: &Record) -> Result<bool, CacheError> {
    let known = match cache.record(action).await {
        Ok(bytes) => serde_json::from_slice::<Record>(&bytes).ok(),
        Err(CacheError::Absent) => None,
        Err(fault) => return Err(fault),
    };
    let mut merged = record.clone();
    if let Some(known) = &known
        && known.signed_bytes().ok() == record.signed_bytes().ok()
    {
        for (name, signature) in known.signatures() {
            if !merged.signatures().contains_key(name) {
                merged = merged.with_signature(name, signature.clone());
            }
        }
    }
    if known.as_ref() == Some(&merged) {
        return Ok(false);
    }
    let bytes = vcstore::canonical_json(&merged).map_err(CacheError::broken)?;
    cache.put_record(action, &merged, bytes).await.map(|()| true)
}
