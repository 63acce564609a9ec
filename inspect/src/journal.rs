//! The journal: what each build did and when, stored next to the actions. It is informational: no output depends on it,
//! and a lost entry does no harm.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use camino::Utf8PathBuf;
use oci_spec::image::Descriptor;
use serde::{Deserialize, Serialize};
use vcstore::Store;

use crate::Error;

/// The number of builds to keep.
const KEPT: usize = 100;

/// A build.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Build {
    /// The start time in milliseconds since 1970.
    pub began: u64,
    /// The duration in milliseconds.
    pub took: u64,
    /// Whether the build succeeded.
    pub succeeded: bool,
    /// The targets of the image names at the end of the build.
    pub images: BTreeMap<String, Descriptor>,
    /// The steps, in the order of their ends.
    pub steps: Vec<JournalStep>,
}

/// A step of a build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalStep {
    /// The kind of the action.
    pub kind: String,
    /// The name of the action for messages.
    pub name: String,
    /// The key of the action; `None` for a step that is not an action of the store.
    pub key: Option<String>,
    /// The start time in milliseconds since the start of the build.
    pub start: u64,
    /// The duration in milliseconds.
    pub took: u64,
    /// The outcome.
    pub outcome: Outcome,
}

/// The outcome of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The action ran.
    Run,
    /// The store had the outputs.
    Reused,
    /// A cache had the outputs.
    Substituted,
    /// The action failed.
    Failed,
}

/// Adds a build, and removes the entries of all but the last `KEPT` builds.
///
/// # Errors
/// When the store cannot be written.
pub fn add(store: &Store, build: &Build) -> Result<(), Error> {
    let folder = folder(store);
    fs::create_dir_all(&folder).map_err(Error::io("making", &folder))?;
    // The process ID distinguishes builds that start in the same millisecond.
    let path = folder.join(format!("{:015}-{}.json", build.began, std::process::id()));
    let text = serde_json::to_vec(build).map_err(|why| Error::io("writing", &path)(why.into()))?;
    vcstore::atomic::replace(&path, &text).map_err(Error::io("writing", &path))?;
    let files = files(store)?;
    for old in files.iter().rev().skip(KEPT) {
        match fs::remove_file(old) {
            // Another build removed it first.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => result.map_err(Error::io("removing", old))?,
        }
    }
    Ok(())
}

/// Returns the builds of a store, oldest first.
///
/// # Errors
/// When the store cannot be read.
pub fn builds(store: &Store) -> Result<Vec<Build>, Error> {
    let mut builds = Vec::new();
    for path in files(store)? {
        match fs::read(&path) {
            Ok(bytes) => match serde_json::from_slice(&bytes) {
                Ok(build) => builds.push(build),
                Err(why) => tracing::warn!("ignoring {path}, which is not a journal entry: {why}"),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io("reading", &path)(error)),
        }
    }
    Ok(builds)
}

/// Converts a time to milliseconds since 1970.
pub fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn folder(store: &Store) -> Utf8PathBuf {
    store.path().join("builds")
}

/// Returns the files of the entries, sorted by name and thus by time.
fn files(store: &Store) -> Result<Vec<Utf8PathBuf>, Error> {
    let folder = folder(store);
    let entries = match folder.read_dir_utf8() {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("listing", &folder)(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(Error::io("listing", &folder))?.into_path();
        if path.extension() == Some("json") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use camino::Utf8PathBuf;
    use vcstore::Store;

    use super::{Build, KEPT, add, builds};

    fn build(began: u64) -> Build {
        Build { began, took: 1, succeeded: true, images: [].into(), steps: Vec::new() }
    }

    #[test]
    fn builds_are_read_in_their_order_and_the_oldest_are_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&Utf8PathBuf::try_from(folder.path().join("store")).unwrap()).unwrap();
        assert_eq!(builds(&store).unwrap(), []);
        for began in (0..KEPT as u64 + 3).rev() {
            add(&store, &build(began + 999_999)).unwrap();
        }
        std::fs::write(store.path().join("builds/000000009999999-1.json"), "{").unwrap();
        let seen: Vec<_> = builds(&store).unwrap().iter().map(|build| build.began).collect();
        assert_eq!(seen.len(), KEPT, "the newest, without the one that is damaged");
        assert_eq!((seen[0], seen[KEPT - 1]), (999_999 + 3, 999_999 + KEPT as u64 + 2));
    }
}
