//! Roots: named references that garbage collection keeps, in addition to named images.

use std::collections::BTreeMap;
use std::fs;
use std::io;

use camino::Utf8PathBuf;
use oci_spec::image::Descriptor;

use crate::store::replace;
use crate::{Error, Store};

impl Store {
    /// Keeps the blobs in `targets` and everything that they reference, under this name, until [`Store::unroot`].
    ///
    /// # Errors
    /// When the name is not a valid file name, or the root cannot be written.
    pub fn root(&self, name: &str, targets: &[Descriptor]) -> Result<(), Error> {
        let path = self.root_path(name)?;
        replace(&self.tmp(), &path, &crate::canonical_json(targets)?)
    }

    /// Removes a root; returns whether it existed.
    ///
    /// # Errors
    /// When the name is not a valid file name, or the root cannot be removed.
    pub fn unroot(&self, name: &str) -> Result<bool, Error> {
        let path = self.root_path(name)?;
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::io("removing", &path)(error)),
        }
    }

    /// Returns the targets of all roots.
    ///
    /// # Errors
    /// When a root cannot be read.
    pub fn roots(&self) -> Result<BTreeMap<String, Vec<Descriptor>>, Error> {
        let mut roots = BTreeMap::new();
        for path in self.files("roots")? {
            let bytes = match fs::read(&path) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(Error::io("reading", &path)(error)),
            };
            let targets =
                serde_json::from_slice(&bytes).map_err(|source| Error::Document { what: path.to_string(), source })?;
            roots.insert(path.file_name().unwrap_or_default().to_owned(), targets);
        }
        Ok(roots)
    }

    fn root_path(&self, name: &str) -> Result<Utf8PathBuf, Error> {
        if name.is_empty() || name.starts_with('.') || name.contains(['/', '\0']) || name.len() > 255 {
            return Err(Error::RootName { name: name.to_owned() });
        }
        Ok(self.path().join("roots").join(name))
    }
}

#[cfg(test)]
mod tests {
    use crate::Error;
    use crate::image::tests::image;
    use crate::store::tests::scratch;

    #[test]
    fn a_root_has_a_plain_name_and_goes_once() {
        let (_folder, store) = scratch();
        let image = image(&store, crate::Compression::None, b"manager");
        store.root("release-1", std::slice::from_ref(&image.target)).unwrap();
        assert_eq!(store.roots().unwrap(), [("release-1".to_owned(), vec![image.target])].into());
        for bad in ["", ".", "..", ".hidden", "../escape", "a/b", "a\0b", &"x".repeat(256)] {
            assert!(matches!(store.root(bad, &[]), Err(Error::RootName { .. })), "{bad:?} must be refused");
        }
        assert!(store.unroot("release-1").unwrap());
        assert!(!store.unroot("release-1").unwrap());
    }
}
