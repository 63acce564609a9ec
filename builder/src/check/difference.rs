//! Differences between the outputs of two runs of an action.

use std::process::{Command, Stdio};
use std::time::Duration;

use serde::Serialize;
use vcinspect::compare::bytes::{ByteDifference, first_difference};
use vcinspect::compare::elf::{self, Place};
use vcsandbox::process;
use vcstore::{ActionKey, Digest, Store};

use crate::Error;

/// How long diffoscope may look, and how much of what it says is kept.
const DIFFOSCOPE_LIMIT: Duration = Duration::from_secs(10 * 60);
const DIFFOSCOPE_SIZE: &str = "65536";

/// An output that came out differently.
#[derive(Debug, Serialize)]
pub(crate) struct Difference {
    /// The action's kind and name.
    pub(crate) action: String,
    /// The output's name.
    pub(crate) output: String,
    /// What it was and is; none where it is not there.
    pub(crate) before: Option<Digest>,
    pub(crate) after: Option<Digest>,
    /// Where images have it.
    pub(crate) files: Vec<LayerFile>,
    /// Where the two begin to differ.
    pub(crate) first: Option<ByteDifference>,
    /// What is there, in an executable.
    pub(crate) place: Option<Place>,
    /// What diffoscope says, where it is installed.
    pub(crate) diffoscope: Option<String>,
}

/// A file in a layer.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct LayerFile {
    pub(crate) path: String,
    pub(crate) layer: Digest,
}

/// The outputs of one action that differ between two stores.
pub(super) fn between(key: &ActionKey, before: &Store, after: &Store) -> Result<Vec<Difference>, Error> {
    let (Some(old), Some(new)) = (before.record(key)?, after.record(key)?) else { return Ok(Vec::new()) };
    let (was, is) = (old.outputs().blobs(), new.outputs().blobs());
    let names = was.keys().chain(is.keys().filter(|name| !was.contains_key(*name)));
    let mut found = Vec::new();
    for name in names {
        let (was, is) = (was.get(name).copied(), is.get(name).copied());
        if was == is {
            continue;
        }
        let mut difference = Difference::of(format!("{} {}", old.kind(), old.name()), name.clone());
        difference.before = was.map(|blob| blob.digest);
        difference.after = is.map(|blob| blob.digest);
        if let (Some(was), Some(is)) = (was, is) {
            difference.look_into((before, was.digest), (after, is.digest))?;
            difference.files = files(before, was.digest)?;
        }
        found.push(difference);
    }
    Ok(found)
}

/// An action of the second build that the first did not have, though nothing that was made before it differs: what it was
/// given depends on where it ran.
pub(super) fn of_inputs(key: &ActionKey, after: &Store) -> Result<Option<Difference>, Error> {
    let difference =
        |record: vcstore::Record| Difference::of(format!("{} {}", record.kind(), record.name()), "inputs".to_owned());
    Ok(after.record(key)?.map(difference))
}

impl Difference {
    /// Nothing is known of it yet.
    pub(super) fn of(action: String, output: String) -> Self {
        let (before, after, first, place, diffoscope) = Default::default();
        Self { action, output, before, after, files: Vec::new(), first, place, diffoscope }
    }

    /// Finds where two blobs begin to differ, and what is there.
    ///
    /// # Errors
    /// When one cannot be read.
    pub(super) fn look_into(&mut self, before: (&Store, Digest), after: (&Store, Digest)) -> Result<(), Error> {
        let path = before.0.blob_path(&before.1);
        let (old, new) = (before.0.reader(&before.1)?, after.0.reader(&after.1)?);
        self.first = first_difference(old, new).map_err(Error::io("reading", &path))?;
        self.place = self.first.as_ref().and_then(|first| elf::place(&path, first.offset));
        self.diffoscope = diffoscope(&path, &after.0.blob_path(&after.1));
        Ok(())
    }
}

/// Where layers have this content.
fn files(store: &Store, content: Digest) -> Result<Vec<LayerFile>, Error> {
    let content = serde_json::Value::String(content.to_string());
    let mut found = Vec::new();
    for key in store.recorded()? {
        let Some(record) = store.record(&key)?.filter(|record| record.kind() == "layer") else { continue };
        let Some(layer) = record.outputs().blob("layer") else { continue };
        let contents = record.inputs().get("contents").and_then(serde_json::Value::as_object);
        let holds = contents.into_iter().flatten().filter(|(_, item)| item["what"]["blob"] == content);
        found.extend(holds.map(|(path, _)| LayerFile { path: format!("/{path}"), layer: layer.digest }));
    }
    Ok(found)
}

/// What diffoscope says of two files; it ends with 1 when they differ.
fn diffoscope(before: &camino::Utf8Path, after: &camino::Utf8Path) -> Option<String> {
    let mut command = Command::new("diffoscope");
    command.args(["--text", "-", "--text-color", "never", "--max-text-report-size", DIFFOSCOPE_SIZE]);
    command.args([before, after]).stdin(Stdio::null());
    match process::run_to_end(&mut command, "diffoscope", DIFFOSCOPE_LIMIT, Some(process::OUTPUT_LIMIT), || Ok(())) {
        Ok(ended) if ended.status.code() == Some(1) => Some(String::from_utf8_lossy(&ended.output).into_owned()),
        Ok(ended) => {
            tracing::warn!("diffoscope ended with {}: {}", ended.status, ended.stderr.trim());
            None
        }
        Err(failure) if failure.is_missing_program() => None,
        Err(failure) => {
            tracing::warn!("diffoscope: {failure}");
            None
        }
    }
}
