//! The provenance that `vcbuild inspect` prints: the actions that built an image, and their inputs.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use vcstore::{ActionKey, Blob, Digest};

use super::{Records, is_content, summary};

/// An action that contributed to an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProvenanceStep {
    /// The key of the action.
    pub key: ActionKey,
    /// The kind of the action.
    pub kind: String,
    /// The name of the action for messages.
    pub name: String,
    /// The inputs in the action's key.
    pub inputs: BTreeMap<String, Value>,
    /// The outputs by name.
    pub outputs: BTreeMap<String, Blob>,
    /// The notes of the run, such as its confinement.
    #[serde(default)]
    pub notes: BTreeMap<String, String>,
}

/// Returns the actions that produced a manifest, each after the actions whose outputs it uses; an empty list if the
/// store has no record of them.
pub fn provenance(manifest: &Digest, records: &Records) -> Vec<ProvenanceStep> {
    let step = |(key, record): (&ActionKey, &vcstore::Record)| ProvenanceStep {
        key: *key,
        kind: record.kind().to_owned(),
        name: record.name().to_owned(),
        inputs: record.inputs().clone(),
        outputs: record.outputs().blobs().clone(),
        notes: record.outputs().notes().clone(),
    };
    records.made(manifest).into_iter().map(step).collect()
}

/// Returns those of `steps` that contributed to a manifest, in their order.
pub fn made(manifest: &Digest, steps: &[ProvenanceStep]) -> Vec<ProvenanceStep> {
    let mut wanted = BTreeSet::from([*manifest]);
    let mut found = Vec::new();
    // Each step follows the steps whose outputs it uses.
    for step in steps.iter().rev() {
        if step.outputs.values().any(|blob| wanted.contains(&blob.digest)) {
            wanted.extend(step.inputs.values().flat_map(super::records::digests));
            found.push(step.clone());
        }
    }
    found.reverse();
    found
}

impl ProvenanceStep {
    /// Summarises the content inputs of the step, without its settings.
    pub fn of(&self, others: &[Self]) -> String {
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
