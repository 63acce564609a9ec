//! Differences between the outputs of two runs of an action.

use std::process::{Command, Stdio};
use std::time::Duration;

use serde::Serialize;
use vcinspect::compare::bytes::{ByteDifference, first_difference};
use vcinspect::compare::elf::{self, Place};
use vcsandbox::process;
use vcstore::{ActionKey, Digest, Store};

use crate::Error;

/// The time limit of diffoscope, and the maximum size of its report in bytes.
const DIFFOSCOPE_LIMIT: Duration = Duration::from_secs(10 * 60);
const DIFFOSCOPE_SIZE: &str = "65536";

/// A differing output.
#[derive(Debug, Serialize)]
pub(crate) struct Difference {
    /// The kind and name of the action.
    pub(crate) action: String,
    /// The name of the output.
    pub(crate) output: String,
    /// The digest in the first and in the second run; `None` if the output is missing there.
    pub(crate) before: Option<Digest>,
    pub(crate) after: Option<Digest>,
    /// The layers that contain the output.
    pub(crate) files: Vec<LayerFile>,
    /// The first difference.
    pub(crate) first: Option<ByteDifference>,
    /// The location of the first difference in an executable.
    pub(crate) place: Option<Place>,
    /// The report of diffoscope, if it is installed.
    pub(crate) diffoscope: Option<String>,
}

/// A file in a layer.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct LayerFile {
    pub(crate) path: String,
    pub(crate) layer: Digest,
}

/// Returns the outputs of one action that differ between two stores.
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

/// Reports an action of the second build that the first build did not have, although all previous outputs are equal:
/// its inputs depend on the environment.
pub(super) fn of_inputs(key: &ActionKey, after: &Store) -> Result<Option<Difference>, Error> {
    let difference =
        |record: vcstore::Record| Difference::of(format!("{} {}", record.kind(), record.name()), "inputs".to_owned());
    Ok(after.record(key)?.map(difference))
}

impl Difference {
    /// Creates a difference without details.
    pub(super) fn of(action: String, output: String) -> Self {
        let (before, after, first, place, diffoscope) = Default::default();
        Self { action, output, before, after, files: Vec::new(), first, place, diffoscope }
    }

    /// Finds where two blobs begin to differ, and what is at that location.
    ///
    /// # Errors
    /// When a blob cannot be read.
    pub(super) fn look_into(&mut self, before: (&Store, Digest), after: (&Store, Digest)) -> Result<(), Error> {
        let path = before.0.blob_path(&before.1);
        let (old, new) = (before.0.reader(&before.1)?, after.0.reader(&after.1)?);
        self.first = first_difference(old, new).map_err(Error::io("reading", &path))?;
        self.place = self.first.as_ref().and_then(|first| elf::place(&path, first.offset));
        self.diffoscope = diffoscope(&path, &after.0.blob_path(&after.1));
        Ok(())
    }
}

/// Returns the files of recorded layers that have this content.
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

/// Runs diffoscope on two files. It exits with 1 if they differ.
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
