//! Verification: hashes every blob, reads every record, and quarantines damaged files.

use std::collections::BTreeMap;
use std::fs;
use std::io;

use camino::Utf8Path;
use rayon::prelude::*;
use serde::Serialize;

use crate::{ActionKey, Amount, BlobReader, Digest, Error, Record, Store};

/// The result of a verification.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// The intact blobs.
    pub blobs: Amount,
    /// The number of intact action records.
    pub actions: u64,
    /// The damaged blobs, which were quarantined: they count as missing, and are built or fetched again.
    pub damaged_blobs: Vec<Digest>,
    /// The damaged action records, which were quarantined too: the actions run again.
    pub damaged_actions: Vec<String>,
    /// The named images that are incomplete or cannot be read, with the reason.
    pub broken_images: BTreeMap<String, String>,
}

impl Verified {
    /// Returns whether everything was in order.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.damaged_blobs.is_empty() && self.damaged_actions.is_empty() && self.broken_images.is_empty()
    }
}

/// The state of a file.
enum Found<T> {
    Sound(T),
    Damaged,
    /// Garbage collection removed it meanwhile.
    Gone,
}

impl Store {
    /// Hashes every blob on all cores, verifies that action records match their file names, and checks that every named
    /// image is complete. Other processes may use the store meanwhile.
    ///
    /// # Errors
    /// When the store cannot be read, or a damaged file cannot be quarantined.
    pub fn verify(&self) -> Result<Verified, Error> {
        let mut verified = Verified::default();
        let names = self.files("blobs/sha256")?.into_iter();
        let digests: Vec<Digest> = names.filter_map(|path| Digest::from_hex(path.file_name()?).ok()).collect();
        let rehash = |digest: Digest| Ok((digest, self.rehash(&digest)?));
        let found: Vec<_> = digests.into_par_iter().with_max_len(1).map(rehash).collect::<Result<_, Error>>()?;
        for (digest, found) in found {
            match found {
                Found::Sound(size) => verified.blobs.add(size),
                Found::Damaged => verified.damaged_blobs.push(digest),
                Found::Gone => {}
            }
        }
        verified.damaged_blobs.sort();
        for path in self.files("actions")? {
            match self.reread(&path)? {
                Found::Sound(()) => verified.actions += 1,
                Found::Damaged => verified.damaged_actions.push(path.file_name().unwrap_or_default().to_owned()),
                Found::Gone => {}
            }
        }
        verified.damaged_actions.sort();
        for (name, target) in self.images()? {
            let whole = crate::Image::open(self, &name, &target).and_then(|image| image.check_complete(self));
            if let Err(error) = whole {
                verified.broken_images.insert(name, error.to_string());
            }
        }
        Ok(verified)
    }

    /// Hashes a blob, and quarantines a damaged one.
    fn rehash(&self, digest: &Digest) -> Result<Found<u64>, Error> {
        let mut reader = match BlobReader::open_now(self, digest) {
            Ok(reader) => reader,
            Err(Error::Missing { .. }) => return Ok(Found::Gone),
            Err(error) => return Err(error),
        };
        match io::copy(&mut reader, &mut io::sink()) {
            Ok(size) => Ok(Found::Sound(size)),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(Found::Damaged),
            Err(error) => Err(Error::io("reading", self.blob_path(digest))(error)),
        }
    }

    /// Reads an action record, and quarantines one that does not match its file name.
    fn reread(&self, path: &Utf8Path) -> Result<Found<()>, Error> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Gone),
            Err(error) => return Err(Error::io("reading", path)(error)),
        };
        let name = path.file_name().unwrap_or_default();
        let key = serde_json::from_slice::<Record>(&bytes).ok().and_then(|record| record.key().ok());
        if key.is_some() && name.parse::<ActionKey>().ok() == key {
            return Ok(Found::Sound(()));
        }
        if !self.is_writable() {
            return Ok(Found::Damaged);
        }
        let folder = self.quarantined();
        fs::create_dir_all(&folder).map_err(Error::io("making", &folder))?;
        match fs::rename(path, folder.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("moving away", path)(error)),
            _ => Ok(Found::Damaged),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::image::tests::image;
    use crate::store::tests::scratch;
    use crate::{Action, Compression, Error, Outputs};

    #[test]
    fn verification_finds_damage_and_building_again_mends_it() {
        let (_folder, store) = scratch();
        let first = image(&store, Compression::Zstd, b"manager");
        assert!(store.verify().unwrap().passed());
        let layer = first.platforms[0].layers[1].digest;
        std::fs::write(store.blob_path(&layer), b"rot").unwrap();
        let verified = store.verify().unwrap();
        assert_eq!((verified.damaged_blobs, verified.broken_images.len()), (vec![layer], 1));
        assert_eq!(std::fs::read(store.quarantined().join(layer.hex())).unwrap(), b"rot");
        image(&store, Compression::Zstd, b"manager");
        assert!(store.verify().unwrap().passed());
    }

    #[test]
    fn a_record_that_is_not_what_its_name_says_is_put_aside() {
        let (_folder, store) = scratch();
        let [one, other] = ["one", "other"].map(|name| Action::new("scan", name).input("of", name).unwrap());
        for action in [&one, &other] {
            store.realise(action, || Ok::<_, Error>(Outputs::new().with_note("found", "much"))).unwrap();
        }
        assert_eq!(store.verify().unwrap().actions, 2);
        let [path, swapped] = [&one, &other].map(|action| store.action_path(&action.key().unwrap()));
        std::fs::copy(&path, &swapped).unwrap();
        let verified = store.verify().unwrap();
        assert_eq!((verified.actions, verified.damaged_actions), (1, vec![other.key().unwrap().to_string()]));
        assert_eq!(store.recall(&other.key().unwrap()).unwrap(), None);
        assert!(store.verify().unwrap().passed());
    }
}
