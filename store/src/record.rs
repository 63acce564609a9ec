//! The record of an action: what the store keeps of it and caches exchange, signed by those who vouch for the outputs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Action, ActionKey, Digest, Error, Outputs, canonical_json};

/// What a signature covers begins with these words, so that it says nothing of any other document.
const DOMAIN: &str = "vcbuild record 1";

/// An action that was done: the description too, so that a store explains itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    kind: String,
    name: String,
    inputs: BTreeMap<String, Value>,
    outputs: Outputs,
    /// Signatures in base64, by the names of their keys.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    signatures: BTreeMap<String, String>,
}

impl Record {
    pub(crate) fn new(action: &Action, outputs: Outputs) -> Self {
        let (kind, name, inputs) = (action.kind().to_owned(), action.name().to_owned(), action.inputs().clone());
        Self { kind, name, inputs, outputs, signatures: BTreeMap::new() }
    }

    /// The kind of the action.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The action's name for people.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The inputs by label.
    #[must_use]
    pub fn inputs(&self) -> &BTreeMap<String, Value> {
        &self.inputs
    }

    /// Every digest that its inputs name, wherever it stands in them.
    pub(crate) fn input_digests(&self) -> impl Iterator<Item = Digest> {
        self.inputs.values().flat_map(digests)
    }

    /// What the action yielded.
    #[must_use]
    pub fn outputs(&self) -> &Outputs {
        &self.outputs
    }

    /// The signatures in base64, by the names of their keys.
    #[must_use]
    pub fn signatures(&self) -> &BTreeMap<String, String> {
        &self.signatures
    }

    /// The record with one more signature, or with another by the same key.
    #[must_use]
    pub fn with_signature(mut self, key_name: &str, signature: String) -> Self {
        self.signatures.insert(key_name.to_owned(), signature);
        self
    }

    /// The key of the action, computed from the kind and the inputs that the record has.
    ///
    /// # Errors
    /// When an input cannot be written as canonical JSON.
    pub fn key(&self) -> Result<ActionKey, Error> {
        ActionKey::of_action(&self.kind, &self.inputs)
    }

    /// What a signature of the record is made over: the action's key, and everything in the record but signatures.
    ///
    /// # Errors
    /// When it cannot be written as canonical JSON.
    pub fn signed_bytes(&self) -> Result<Vec<u8>, Error> {
        let bare = Self { signatures: BTreeMap::new(), ..self.clone() };
        Ok([format!("{DOMAIN}\n{}\n", self.key()?).into_bytes(), canonical_json(&bare)?].concat())
    }
}

/// Every digest that stands somewhere in a document.
fn digests(value: &serde_json::Value) -> Vec<Digest> {
    match value {
        serde_json::Value::String(text) => text.parse().into_iter().collect(),
        serde_json::Value::Array(values) => values.iter().flat_map(digests).collect(),
        serde_json::Value::Object(fields) => fields.values().flat_map(digests).collect(),
        _ => Vec::new(),
    }
}
