//! Reproducibility check: runs every action again in another environment, and compares the outputs.

mod archive;
mod difference;
mod shadow;

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Serialize;
use vcsandbox::Environment;
use vcstore::{ActionKey, Store};

pub(crate) use self::archive::{ChangedInputs, CheckedArchive, check_archive};
pub(crate) use self::difference::Difference;
use self::shadow::Shadow;
use crate::Error;
use crate::build;
use crate::lock::Lock;
use crate::progress::Progress;
use crate::request::Request;

/// An environment that differs from the usual one in everything that a program can observe but that must not affect its
/// outputs.
pub(crate) const OTHER: Environment = Environment {
    build: "/elsewhere/to-build-again",
    hostname: "elsewhere",
    timezone: "ABC-13:45",
    locale: "tr_TR.UTF-8",
    umask: 0o027,
    processors: Some(1),
    reversed: true,
};

const A_SECOND: Duration = Duration::from_millis(1001);

/// The result of a reproducibility check.
#[derive(Debug, Serialize)]
pub(crate) struct Checked {
    /// The number of actions that ran again.
    pub(crate) actions: usize,
    pub(crate) differences: Vec<Difference>,
}

/// Builds the request, builds it again in another environment with no records or compiler caches of the first build,
/// and compares the outputs of each action. The second build adds no records to `store`.
///
/// # Errors
/// When a build fails.
pub(crate) fn check(
    first: &Request<'_>,
    again: &Request<'_>,
    store: &Store,
    lock: &Lock,
    progress: &Progress,
) -> Result<Checked, Error> {
    build::images(first, store, lock, progress)?;
    let before = keys(progress);
    // Ensures that an output that contains its build time in seconds differs.
    std::thread::sleep(A_SECOND);
    let _step = progress.step("building again in another folder with an empty store");
    let shadow = Shadow::of(store)?;
    let second = Progress::start();
    build::images(again, &shadow.store, lock, &second)?;
    let ran = keys(&second);
    let mut differences = Vec::new();
    // A differing output changes the keys of the actions that depend on it, so this reports only where differences
    // begin.
    for key in ran.intersection(&before) {
        differences.extend(difference::between(key, store, &shadow.store)?);
    }
    if differences.is_empty()
        && let Some(key) = ran.difference(&before).next()
    {
        differences.extend(difference::of_inputs(key, &shadow.store)?);
    }
    Ok(Checked { actions: ran.len(), differences })
}

/// Returns the keys of the actions of a build.
fn keys(progress: &Progress) -> BTreeSet<ActionKey> {
    progress.steps().iter().filter_map(|step| step.key.as_ref()?.parse().ok()).collect()
}
