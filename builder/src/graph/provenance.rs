//! Which actions made an image, and of what: what `vcbuild inspect` tells.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use vcstore::{ActionKey, Blob, Digest};

use super::{Records, is_content, summary};

/// An action that an image came of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Step {
    pub(crate) key: ActionKey,
    pub(crate) kind: String,
    pub(crate) name: String,
    /// As they stand in the action's key.
    pub(crate) inputs: BTreeMap<String, Value>,
    pub(crate) outputs: BTreeMap<String, Blob>,
    /// What was noted when the action ran, such as what confined it.
    pub(crate) notes: BTreeMap<String, String>,
}

/// The actions that made a manifest, each after those whose outputs it took; none when another store made it.
pub(crate) fn provenance(manifest: &Digest, records: &Records) -> Vec<Step> {
    let step = |(key, record): (&ActionKey, &vcstore::Record)| Step {
        key: *key,
        kind: record.kind().to_owned(),
        name: record.name().to_owned(),
        inputs: record.inputs().clone(),
        outputs: record.outputs().blobs().clone(),
        notes: record.outputs().notes().clone(),
    };
    records.made(manifest).into_iter().map(step).collect()
}

impl Step {
    /// What it was made of, in a few words: the content that went in, and not its settings.
    pub(crate) fn of(&self, others: &[Self]) -> String {
        let made = |digest: &Digest| {
            others.iter().find(|step| step.key != self.key && step.outputs.values().any(|blob| blob.digest == *digest))
        };
        let words = |(label, value): (&String, &Value)| {
            let maker = super::records::digests(value).iter().find_map(made);
            match maker {
                Some(step) => format!("{label} of {} {}", step.kind, step.name),
                None => format!("{label} {}", summary(value)),
            }
        };
        self.inputs.iter().filter(|(_, value)| is_content(value)).map(words).collect::<Vec<_>>().join(", ")
    }
}
