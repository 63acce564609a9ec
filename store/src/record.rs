//! The record of an action: stored, exchanged with caches, and signed by those who vouch for the outputs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Action, ActionKey, Digest, Error, Outputs, canonical_json};

/// The prefix of signed data, so that a signature is not valid for any other document.
const DOMAIN: &str = "vcbuild record 1";

/// A completed action. Includes the description of the action, so that a store is self-explanatory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    kind: String,
    name: String,
    inputs: BTreeMap<String, Value>,
    outputs: Outputs,
    /// The base64 signatures, by key name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    signatures: BTreeMap<String, String>,
}

impl Record {
    pub(crate) fn new(action: &Action, outputs: Outputs) -> Self {
        let (kind, name, inputs) = (action.kind().to_owned(), action.name().to_owned(), action.inputs().clone());
        Self { kind, name, inputs, outputs, signatures: BTreeMap::new() }
    }

    /// Returns the kind of the action.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Returns the name of the action for messages.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the inputs by label.
    #[must_use]
    pub fn inputs(&self) -> &BTreeMap<String, Value> {
        &self.inputs
    }

    /// Returns all digests in the inputs, at any depth.
    pub(crate) fn input_digests(&self) -> impl Iterator<Item = Digest> {
        self.inputs.values().flat_map(digests)
    }

    /// Returns the outputs of the action.
    #[must_use]
    pub fn outputs(&self) -> &Outputs {
        &self.outputs
    }

    /// Returns the base64 signatures, by key name.
    #[must_use]
    pub fn signatures(&self) -> &BTreeMap<String, String> {
        &self.signatures
    }

    /// Adds a signature; replaces one by the same key.
    #[must_use]
    pub fn with_signature(mut self, key_name: &str, signature: String) -> Self {
        self.signatures.insert(key_name.to_owned(), signature);
        self
    }

    /// Returns the key of the action, computed from the kind and inputs in the record.
    ///
    /// # Errors
    /// When an input cannot be serialised as canonical JSON.
    pub fn key(&self) -> Result<ActionKey, Error> {
        ActionKey::of_action(&self.kind, &self.inputs)
    }

    /// Returns the data that a signature covers: the action's key, and the record without signatures.
    ///
    /// # Errors
    /// When the record cannot be serialised as canonical JSON.
    pub fn signed_bytes(&self) -> Result<Vec<u8>, Error> {
        let bare = Self { signatures: BTreeMap::new(), ..self.clone() };
        Ok([format!("{DOMAIN}\n{}\n", self.key()?).into_bytes(), canonical_json(&bare)?].concat())
    }
}

/// Returns all digests in a document, at any depth.
fn digests(value: &serde_json::Value) -> Vec<Digest> {
    match value {
        serde_json::Value::String(text) => text.parse().into_iter().collect(),
        serde_json::Value::Array(values) => values.iter().flat_map(digests).collect(),
        serde_json::Value::Object(fields) => fields.values().flat_map(digests).collect(),
        _ => Vec::new(),
    }
}
