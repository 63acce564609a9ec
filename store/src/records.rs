//! The action records of a store: a file `actions/<key>` for each action.

use std::fs;

use camino::Utf8PathBuf;

use crate::store::replace;
use crate::{ActionKey, Error, Record, Store, canonical_json};

impl Store {
    /// Returns the record of an action, whether or not the store has its outputs; `None` if there is none or it is
    /// damaged.
    ///
    /// # Errors
    /// When the record exists and cannot be read.
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

    /// Writes a record; replaces an existing one of the same action.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put_record(&self, record: &Record) -> Result<(), Error> {
        replace(&self.tmp(), &self.action_path(&record.key()?), &canonical_json(record)?)
    }

    /// Returns the keys of all recorded actions.
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

    /// Returns whether the store has all outputs of `record`.
    #[must_use]
    pub fn has_outputs(&self, record: &Record) -> bool {
        record.outputs().blobs().values().all(|blob| self.size(&blob.digest) == Some(blob.size))
    }

    pub(crate) fn action_path(&self, key: &ActionKey) -> Utf8PathBuf {
        self.path().join("actions").join(key.to_string())
    }
}

#[cfg(test)]
mod tests {
    use crate::store::tests::scratch;
    use crate::{Action, Outputs, Record, canonical_json};

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
