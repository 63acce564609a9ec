//! Actions: build steps identified by all their inputs, and their outputs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{ActionKey, Blob, Error, canonical_json};

/// A build step with all its inputs.
///
/// The key is the BLAKE3 hash of the canonical JSON of kind and inputs. The name is for messages and is not part of the
/// key: components with equal inputs share outputs.
#[derive(Debug, Clone)]
pub struct Action {
    kind: String,
    name: String,
    inputs: BTreeMap<String, serde_json::Value>,
}

impl Action {
    /// Creates an action of this kind ("compile", "layer") with a name, such as that of a component.
    pub fn new(kind: impl Into<String>, name: impl Into<String>) -> Self {
        Self { kind: kind.into(), name: name.into(), inputs: BTreeMap::new() }
    }

    /// Adds an input. Everything that can change the outputs must be an input.
    ///
    /// # Errors
    /// When the value cannot be serialised.
    pub fn input<T: Serialize>(mut self, label: &str, value: T) -> Result<Self, Error> {
        let what = format!("input {label} of action {} {}", self.kind, self.name);
        let value = serde_json::to_value(value).map_err(|source| Error::Document { what, source })?;
        self.inputs.insert(label.to_owned(), value);
        Ok(self)
    }

    /// Returns the kind.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Returns the name for messages.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the inputs by label.
    #[must_use]
    pub fn inputs(&self) -> &BTreeMap<String, serde_json::Value> {
        &self.inputs
    }

    /// Returns the key that identifies the action.
    ///
    /// # Errors
    /// When the inputs cannot be serialised as canonical JSON.
    pub fn key(&self) -> Result<ActionKey, Error> {
        ActionKey::of_action(&self.kind, &self.inputs)
    }
}

impl ActionKey {
    pub(crate) fn of_action(kind: &str, inputs: &BTreeMap<String, serde_json::Value>) -> Result<Self, Error> {
        Ok(Self::of(&canonical_json(&serde_json::json!({"kind": kind, "inputs": inputs}))?))
    }
}

/// The outputs of an action: blobs, and short texts that are recorded with them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outputs {
    blobs: BTreeMap<String, Blob>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    notes: BTreeMap<String, String>,
}

impl Outputs {
    /// Creates empty outputs.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a blob that is in the store.
    #[must_use]
    pub fn with_blob(mut self, name: &str, blob: Blob) -> Self {
        self.blobs.insert(name.to_owned(), blob);
        self
    }

    /// Adds a text.
    #[must_use]
    pub fn with_note(mut self, name: &str, text: impl Into<String>) -> Self {
        self.notes.insert(name.to_owned(), text.into());
        self
    }

    /// Returns the blob with this name.
    #[must_use]
    pub fn blob(&self, name: &str) -> Option<Blob> {
        self.blobs.get(name).copied()
    }

    /// Returns the text with this name.
    #[must_use]
    pub fn note(&self, name: &str) -> Option<&str> {
        self.notes.get(name).map(String::as_str)
    }

    /// Returns all texts by name.
    #[must_use]
    pub fn notes(&self) -> &BTreeMap<String, String> {
        &self.notes
    }

    /// Returns all blobs by name.
    #[must_use]
    pub fn blobs(&self) -> &BTreeMap<String, Blob> {
        &self.blobs
    }
}
