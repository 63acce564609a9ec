//! Records: what `actions/<key>` holds of an action, and what caches exchange of it, signed by who vouches for the outputs.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::store::replace;
use crate::{Action, ActionKey, Digest, Error, Outputs, Store, canonical_json};

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

/// Somewhere else that may have what actions yielded, such as a cache that others fill.
pub trait Substituter: fmt::Debug + Send + Sync {
    /// Finds the record of `key` and gets its blobs into `store`; `None` when it is nowhere to be had. Whom to believe is
    /// the substituter's to know. What goes wrong is its to tell: a build never fails because a cache does.
    fn substitute(&self, key: &ActionKey, store: &Store) -> Option<Record>;

    /// Whether it was [`Substituter::substitute`] that gave the outputs of `key`, earlier in this process.
    fn gave(&self, key: &ActionKey) -> bool;
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

impl Store {
    /// The record of an action, whether or not its outputs are still there; `None` when there is none or it is damaged.
    ///
    /// # Errors
    /// When it is there and the disk will not give it.
    pub fn record(&self, key: &ActionKey) -> Result<Option<Record>, Error> {
        let path = self.action_path(key);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("reading", &path)(error)),
        };
        match serde_json::from_slice::<Record>(&bytes) {
            Ok(record) => Ok(Some(record)),
            Err(_) => {
                tracing::warn!(%path, "the record of an action is damaged: running the action again");
                Ok(None)
            }
        }
    }

    /// Writes a record, in the place of the one there may be for the same action.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put_record(&self, record: &Record) -> Result<(), Error> {
        replace(&self.tmp(), &self.action_path(&record.key()?), &canonical_json(record)?)
    }

    /// The keys of all actions that have a record.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn recorded(&self) -> Result<Vec<ActionKey>, Error> {
        let folder = self.path().join("actions");
        let mut keys = Vec::new();
        for entry in folder.read_dir_utf8().map_err(Error::io("listing", &folder))? {
            let entry = entry.map_err(Error::io("listing", &folder))?;
            keys.extend(entry.file_name().parse::<ActionKey>());
        }
        keys.sort();
        Ok(keys)
    }

    /// Whether every output of `record` is in the store.
    #[must_use]
    pub fn has_outputs(&self, record: &Record) -> bool {
        record.outputs.blobs().values().all(|blob| self.size(&blob.digest) == Some(blob.size))
    }

    pub(crate) fn action_path(&self, key: &ActionKey) -> Utf8PathBuf {
        self.path().join("actions").join(key.to_string())
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

#[cfg(test)]
mod tests {
    use super::Record;
    use crate::store::tests::scratch;
    use crate::{Action, Outputs, canonical_json};

    fn record(source: &str, note: &str) -> Record {
        let action = Action::new("compile", "manager").input("source", source).unwrap();
        Record::new(&action, Outputs::new().with_note("go", note))
    }

    #[test]
    fn what_is_signed_covers_key_and_outputs_and_no_signature() {
        let one = record("a", "1");
        let signed = one.clone().with_signature("k", "x".to_owned());
        assert_eq!(one.signed_bytes().unwrap(), signed.signed_bytes().unwrap());
        assert_eq!(one.key().unwrap(), signed.key().unwrap());
        for other in [record("b", "1"), record("a", "2")] {
            assert_ne!(one.signed_bytes().unwrap(), other.signed_bytes().unwrap());
        }
        let read: Record = serde_json::from_slice(&canonical_json(&signed).unwrap()).unwrap();
        assert_eq!(read.signed_bytes().unwrap(), one.signed_bytes().unwrap(), "reading and writing loses nothing");
    }

    #[test]
    fn records_are_kept_with_their_signatures() {
        let (_folder, store) = scratch();
        let signed = record("a", "1").with_signature("k", "x".to_owned());
        store.put_record(&signed).unwrap();
        let key = signed.key().unwrap();
        assert_eq!(store.recorded().unwrap(), [key]);
        assert_eq!(store.record(&key).unwrap(), Some(signed));
        assert_eq!(store.record(&record("b", "1").key().unwrap()).unwrap(), None);
    }
}
