//! Closures: the actions of the build that produced an image, so that an image can be shared with everything that
//! avoids its rebuild.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;

use camino::Utf8PathBuf;
use serde::{Deserialize, Serialize};

use crate::store::replace;
use crate::{ActionKey, Digest, Error, Record, Store, canonical_json};

/// A build: its images and its actions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closure {
    /// The manifests of each image, by its full name.
    pub images: BTreeMap<String, BTreeSet<Digest>>,
    /// All actions of the build, whether or not they had to run.
    pub actions: BTreeSet<ActionKey>,
}

impl Closure {
    /// Returns the actions that `image` requires: those from which its manifests derive through digests in inputs, and
    /// those from which no image of the build derives, such as scans of a source.
    #[must_use]
    pub fn of(&self, image: &str, records: &BTreeMap<ActionKey, Record>) -> BTreeSet<ActionKey> {
        let mut makers: BTreeMap<Digest, Vec<&ActionKey>> = BTreeMap::new();
        for (key, record) in records.iter().filter(|(key, _)| self.actions.contains(key)) {
            for blob in record.outputs().blobs().values() {
                makers.entry(blob.digest).or_default().push(key);
            }
        }
        let reached = |manifests: &BTreeSet<Digest>| {
            let mut reached = BTreeSet::new();
            let mut wanted: Vec<Digest> = manifests.iter().copied().collect();
            while let Some(digest) = wanted.pop() {
                for key in makers.get(&digest).into_iter().flatten() {
                    if reached.insert(**key) {
                        wanted.extend(records[*key].input_digests());
                    }
                }
            }
            reached
        };
        let of_any: BTreeSet<ActionKey> = self.images.values().flat_map(reached).collect();
        let own = self.images.get(image).map(reached).unwrap_or_default();
        self.actions.iter().filter(|key| own.contains(key) || !of_any.contains(key)).copied().collect()
    }
}

impl Store {
    /// Records the build that produced these images, and replaces the record of the previous one.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn remember(&self, closure: &Closure) -> Result<(), Error> {
        let bytes = canonical_json(closure)?;
        for image in closure.images.keys() {
            let path = self.closure_path(image);
            if fs::read(&path).is_ok_and(|known| known == bytes) {
                continue;
            }
            let folder = path.parent().unwrap_or(self.path());
            fs::create_dir_all(folder).map_err(Error::io("making", folder))?;
            replace(&self.tmp(), &path, &bytes)?;
        }
        Ok(())
    }

    /// Returns the build that last produced this image, if it is recorded.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub fn closure(&self, image: &str) -> Result<Option<Closure>, Error> {
        let path = self.closure_path(image);
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|source| Error::Document { what: path.into_string(), source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("reading", &path)(error)),
        }
    }

    /// Returns the path of a record. It contains a hash, because the name of an image is not a valid file name.
    fn closure_path(&self, image: &str) -> Utf8PathBuf {
        self.path().join("closures").join(ActionKey::of(image.as_bytes()).to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::Closure;
    use crate::store::tests::scratch;
    use crate::{Action, ActionKey, Blob, Digest, Outputs, Record};

    fn record(kind: &str, inputs: &[&str], output: &str) -> (ActionKey, Record) {
        let named: Vec<_> = inputs.iter().map(|input| Digest::of(input.as_bytes())).collect();
        let action = Action::new(kind, kind).input("named", serde_json::json!({"deep": named})).unwrap();
        let blob = Blob { digest: Digest::of(output.as_bytes()), size: 1 };
        let record = Record::new(&action, Outputs::new().with_blob("out", blob));
        (record.key().unwrap(), record)
    }

    #[test]
    fn an_images_closure_has_what_leads_to_it_and_what_leads_to_none() {
        let steps = [
            record("scan", &[], "listing"),
            record("compile one", &[], "one"),
            record("layer one", &["one"], "layer of one"),
            record("image one", &["layer of one", "base"], "manifest of one"),
            record("compile two", &[], "two"),
            record("image two", &["two", "base"], "manifest of two"),
            record("base", &[], "base"),
        ];
        let other_build = record("image three", &["two"], "manifest of three");
        let keys: Vec<ActionKey> = steps.iter().map(|(key, _)| *key).collect();
        let closure = Closure {
            images: ["one", "two"]
                .map(|name| (name.to_owned(), [Digest::of(format!("manifest of {name}").as_bytes())].into()))
                .into(),
            actions: keys.iter().copied().collect(),
        };
        let records: BTreeMap<_, _> = steps.into_iter().chain([other_build]).collect();
        let of = |numbers: &[usize]| numbers.iter().map(|number| keys[*number]).collect::<BTreeSet<_>>();
        assert_eq!(closure.of("one", &records), of(&[0, 1, 2, 3, 6]));
        assert_eq!(closure.of("two", &records), of(&[0, 4, 5, 6]));

        let (_folder, store) = scratch();
        store.remember(&closure).unwrap();
        assert_eq!(store.closure("two").unwrap(), Some(closure));
        assert_eq!(store.closure("three").unwrap(), None);
    }
}
