//! The action records of a store, indexed by output: which action produced a blob, and from which inputs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::SystemTime;

use serde_json::Value;
use vcstore::{ActionKey, Digest, Record, Store};

use crate::Error;

/// All records of a store.
#[derive(Debug, Default)]
pub struct Records {
    all: BTreeMap<ActionKey, Record>,
    /// The actions that produced each blob, most recently used last. Several actions may produce the same blob, such as
    /// the compilations of two source revisions.
    makers: BTreeMap<Digest, Vec<ActionKey>>,
}

impl Records {
    /// Reads the records.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn read(store: &Store) -> Result<Self, Error> {
        let mut records = Self::of(store, store.recorded()?)?;
        let used = |key: &ActionKey| {
            let path = store.path().join("actions").join(key.to_string());
            // A record that garbage collection removed meanwhile was not used recently.
            fs::metadata(path).and_then(|meta| meta.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
        };
        for makers in records.makers.values_mut().filter(|makers| makers.len() > 1) {
            makers.sort_by_cached_key(|key| (used(key), *key));
        }
        Ok(records)
    }

    /// Reads the records of these actions. If several produced a blob, their keys decide, because the provenance in an
    /// archive must not depend on the order of the uses.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn of(store: &Store, keys: impl IntoIterator<Item = ActionKey>) -> Result<Self, Error> {
        let mut records = Self::default();
        for key in keys {
            if let Some(record) = store.record(&key)? {
                records.all.insert(key, record);
            }
        }
        for (key, record) in &records.all {
            for blob in record.outputs().blobs().values() {
                records.makers.entry(blob.digest).or_default().push(*key);
            }
        }
        for makers in records.makers.values_mut() {
            makers.dedup();
        }
        Ok(records)
    }

    /// Returns the record of an action.
    pub fn get(&self, key: &ActionKey) -> Option<&Record> {
        self.all.get(key)
    }

    /// Returns all records.
    pub fn iter(&self) -> impl Iterator<Item = (&ActionKey, &Record)> {
        self.all.iter()
    }

    /// Returns the action that produced a blob; the most recently used of several, or the one with the greatest key in
    /// records of [`Records::of`].
    pub fn maker(&self, digest: &Digest) -> Option<(&ActionKey, &Record)> {
        self.all.get_key_value(self.makers.get(digest)?.last()?)
    }

    /// Returns the actions whose outputs an action uses as inputs, with the labels of the inputs, in the order of the
    /// labels.
    pub fn needs(&self, key: &ActionKey) -> Vec<(&str, &ActionKey)> {
        let Some(record) = self.all.get(key) else { return Vec::new() };
        let mut found = Vec::new();
        for (label, value) in record.inputs() {
            let makers: BTreeSet<_> = digests(value).iter().filter_map(|digest| Some(self.maker(digest)?.0)).collect();
            // An action that fetches a blob by its digest, such as a base, also produces it: exclude the action itself.
            found.extend(makers.into_iter().filter(|maker| *maker != key).map(|maker| (label.as_str(), maker)));
        }
        found
    }

    /// Returns the actions that contributed to a blob, each after the actions whose outputs it uses.
    pub fn made(&self, digest: &Digest) -> Vec<(&ActionKey, &Record)> {
        let mut order = Vec::new();
        let mut seen = BTreeSet::new();
        // Each action is visited twice: when it is found, and when all its dependencies are in the list.
        let mut todo: Vec<(&ActionKey, bool)> = self.maker(digest).map(|(key, _)| (key, false)).into_iter().collect();
        while let Some((key, complete)) = todo.pop() {
            if complete {
                order.extend(self.all.get_key_value(key));
            } else if seen.insert(key) {
                todo.push((key, true));
                todo.extend(self.needs(key).into_iter().rev().map(|(_, needed)| (needed, false)));
            }
        }
        order
    }
}

/// Returns the digests in a value, at any depth.
pub fn digests(value: &Value) -> BTreeSet<Digest> {
    let mut found = BTreeSet::new();
    walk(value, &mut |text| found.extend(text.parse::<Digest>()));
    found
}

/// Returns whether a value contains a hash: it identifies content, rather than a setting.
pub(crate) fn is_content(value: &Value) -> bool {
    let mut content = false;
    walk(value, &mut |text| content |= is_hash(text));
    content
}

fn is_hash(text: &str) -> bool {
    let hex = |text: &str| text.len() >= 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    text.starts_with("h1:") || hex(text.strip_prefix("sha256:").unwrap_or(text))
}

fn walk(value: &Value, see: &mut impl FnMut(&str)) {
    match value {
        Value::String(text) => see(text),
        Value::Array(values) => values.iter().for_each(|value| walk(value, see)),
        Value::Object(fields) => fields.values().for_each(|value| walk(value, see)),
        _ => {}
    }
}

#[cfg(test)]
pub(super) mod tests {
    use rigs::store as scratch;
    use serde_json::json;
    use vcstore::{Action, Blob, Outputs, Store};

    use super::{Records, is_content};
    use crate::Error;

    /// Records an action with `inputs` that produced a blob with the content `output`.
    pub(crate) fn record(store: &Store, kind: &str, inputs: &serde_json::Value, output: &str) -> Blob {
        let mut action = Action::new(kind, "x");
        for (label, value) in inputs.as_object().unwrap() {
            action = action.input(label, value).unwrap();
        }
        let blob = store.put(output.as_bytes()).unwrap();
        store.realise(&action, || Ok::<_, Error>(Outputs::new().with_blob("it", blob))).unwrap();
        blob
    }

    #[test]
    fn what_made_a_blob_is_found_through_all_that_was_needed() {
        let (_folder, store) = scratch();
        let binary = record(&store, "compile", &json!({"files": {"a.go": "0".repeat(64)}}), "binary");
        let layer = record(&store, "layer", &json!({"binary": binary.digest, "path": "x"}), "layer");
        let base = store.put(b"base").unwrap();
        record(&store, "base", &json!({"manifest": base.digest}), "base");
        let image = record(&store, "image", &json!({"layer": {"digest": layer.digest}, "base": base.digest}), "image");
        record(&store, "layer", &json!({"binary": "other"}), "another layer");
        let records = Records::read(&store).unwrap();
        let kinds: Vec<_> = records.made(&image.digest).iter().map(|(_, record)| record.kind().to_owned()).collect();
        assert_eq!(kinds, ["base", "compile", "layer", "image"]);
        assert_eq!(records.made(&vcstore::Digest::of(b"nothing")).len(), 0);
    }

    #[test]
    fn of_two_that_made_the_same_the_last_used_counts() {
        let (_folder, store) = scratch();
        let same = record(&store, "compile", &json!({"source": "one"}), "binary");
        record(&store, "compile", &json!({"source": "two"}), "binary");
        for (source, seconds) in [("one", 2000), ("two", 1000)] {
            let key = Action::new("compile", "x").input("source", source).unwrap().key().unwrap();
            let file = std::fs::File::open(store.path().join("actions").join(key.to_string())).unwrap();
            file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds)).unwrap();
        }
        let records = Records::read(&store).unwrap();
        assert_eq!(records.maker(&same.digest).unwrap().1.inputs()["source"], "one");
    }

    #[test]
    fn of_two_of_one_build_that_made_the_same_their_keys_decide() {
        let (_folder, store) = scratch();
        let same = record(&store, "compile", &json!({"source": "one"}), "binary");
        record(&store, "compile", &json!({"source": "two"}), "binary");
        let mut keys = store.recorded().unwrap();
        keys.sort();
        let greatest = *keys.last().unwrap();
        // Whichever was used last, and in either order of the arguments.
        for (earlier, later) in [(0, 1), (1, 0)] {
            for (place, seconds) in [(earlier, 1000), (later, 2000)] {
                let file = std::fs::File::open(store.path().join("actions").join(keys[place].to_string())).unwrap();
                file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds)).unwrap();
            }
            let records = Records::of(&store, [keys[later], keys[earlier]]).unwrap();
            assert_eq!(*records.maker(&same.digest).unwrap().0, greatest);
        }
    }

    #[test]
    fn content_is_told_from_settings() {
        let hash = "0123456789abcdef".repeat(4);
        for content in [json!(hash), json!({"a": hash}), json!([{"sum": "h1:x"}]), json!(format!("sha256:{hash}"))] {
            assert!(is_content(&content), "{content}");
        }
        for setting in [json!("linux/amd64"), json!(1), json!([]), json!([["GOOS", "linux"]]), json!(null)] {
            assert!(!is_content(&setting), "{setting}");
        }
    }
}
