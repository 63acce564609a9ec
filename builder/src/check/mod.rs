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

/// Surroundings that differ from those of a build in all that a program can tell, and that its outputs must not.
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

/// What came of it.
#[derive(Debug, Serialize)]
pub(crate) struct Checked {
    /// How many actions ran again.
    pub(crate) actions: usize,
    pub(crate) differences: Vec<Difference>,
}

/// Builds, and builds again in other surroundings without any record or cache of the first time; compares what each action
/// made. The records of `store` stay as they are.
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
    // An output that has the second of its making has another one then.
    std::thread::sleep(A_SECOND);
    let _step = progress.step("building again in another folder with an empty store");
    let shadow = Shadow::of(store)?;
    let second = Progress::start();
    build::images(again, &shadow.store, lock, &second)?;
    let ran = keys(&second);
    let mut differences = Vec::new();
    // An action whose inputs another's difference changed has another key: only where it began is told.
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

/// The actions of a build.
fn keys(progress: &Progress) -> BTreeSet<ActionKey> {
    progress.steps().iter().filter_map(|step| step.key.as_ref()?.parse().ok()).collect()
}
