//! Verification: every blob is hashed again, and what does not hold is put aside.

use std::io;

use rayon::prelude::*;
use serde::Serialize;

use crate::{Digest, Error, Store};

/// What verification found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// How many blobs were hashed.
    pub blobs: u64,
    /// Their size in bytes.
    pub bytes: u64,
    /// Damaged blobs, put aside in the store's quarantine: they count as missing, and are built or fetched again.
    pub damaged: Vec<Digest>,
    /// Names of images that lack a blob, with the reason.
    pub incomplete: Vec<(String, String)>,
}

impl Verified {
    /// Whether everything was in order.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.damaged.is_empty() && self.incomplete.is_empty()
    }
}

impl Store {
    /// Hashes every blob, on all cores, and checks that every named image is complete.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn verify(&self) -> Result<Verified, Error> {
        let folder = self.blobs();
        let names = folder
            .read_dir_utf8()
            .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.file_name().to_owned())).collect())
            .map_err(Error::io("listing", &folder))?;
        let names: Vec<String> = names;
        let digests = names.iter().filter_map(|name| Digest::from_hex(name).ok());
        let digests: Vec<Digest> = digests.collect();
        let found: Vec<(Digest, Option<u64>)> =
            digests.into_par_iter().map(|digest| Ok((digest, self.rehash(&digest)?))).collect::<Result<_, Error>>()?;
        let mut verified = Verified { blobs: found.len() as u64, ..Verified::default() };
        for (digest, size) in found {
            match size {
                Some(size) => verified.bytes += size,
                None => verified.damaged.push(digest),
            }
        }
        verified.damaged.sort();
        for (name, target) in self.images()? {
            let whole = crate::Image::open(self, &name, &target).and_then(|image| image.check_complete(self));
            if let Err(error) = whole {
                verified.incomplete.push((name, error.to_string()));
            }
        }
        Ok(verified)
    }

    /// A blob's size, or `None` when it was damaged.
    fn rehash(&self, digest: &Digest) -> Result<Option<u64>, Error> {
        match io::copy(&mut self.reader(digest)?, &mut io::sink()) {
            Ok(size) => Ok(Some(size)),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(None),
            Err(error) => Err(Error::io("reading", self.blob_path(digest))(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::Compression;
    use crate::image::tests::image;
    use crate::store::tests::scratch;

    #[test]
    fn verification_finds_damage_and_building_again_mends_it() {
        let (_folder, store) = scratch();
        let first = image(&store, Compression::Zstd, b"manager");
        assert!(store.verify().unwrap().passed());
        let layer = first.platforms[0].layers[1].digest;
        std::fs::write(store.blob_path(&layer), b"rot").unwrap();
        let verified = store.verify().unwrap();
        assert_eq!((verified.damaged, verified.incomplete.len()), (vec![layer], 1));
        image(&store, Compression::Zstd, b"manager");
        assert!(store.verify().unwrap().passed());
    }
}
