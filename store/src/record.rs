//! Records: what `actions/<key>` holds of an action.

use std::collections::BTreeMap;
use std::fs;

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::store::replace;
use crate::{Action, ActionKey, Error, Outputs, Store, canonical_json};

/// An action that was done: the description too, so that a store explains itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    kind: String,
    name: String,
    inputs: BTreeMap<String, Value>,
    outputs: Outputs,
}

impl Record {
    pub(crate) fn new(action: &Action, outputs: Outputs) -> Self {
        let (kind, name, inputs) = (action.kind().to_owned(), action.name().to_owned(), action.inputs().clone());
        Self { kind, name, inputs, outputs }
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

    /// What the action yielded.
    #[must_use]
    pub fn outputs(&self) -> &Outputs {
        &self.outputs
    }

    /// The key of the action, computed from the kind and the inputs that the record has.
    ///
    /// # Errors
    /// When an input cannot be written as canonical JSON.
    pub fn key(&self) -> Result<ActionKey, Error> {
        ActionKey::of_action(&self.kind, &self.inputs)
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
                tracing::warn!(%path, "the record of an action is damaged: the action runs again");
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

#[cfg(test)]
mod tests {
    use super::Record;
    use crate::store::tests::scratch;
    use crate::{Action, Outputs};

    #[test]
    fn records_are_kept_by_their_keys() {
        let (_folder, store) = scratch();
        let action = |source| Action::new("compile", "manager").input("source", source).unwrap();
        let record = Record::new(&action("a"), Outputs::new().with_note("go", "1"));
        store.put_record(&record).unwrap();
        assert_eq!(record.key().unwrap(), action("a").key().unwrap());
        assert_eq!(store.recorded().unwrap(), [record.key().unwrap()]);
        assert_eq!(store.record(&record.key().unwrap()).unwrap(), Some(record));
        assert_eq!(store.record(&action("b").key().unwrap()).unwrap(), None);
    }
}
