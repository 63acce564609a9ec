//! Images that a command line names: of the store, or of a file, which is read into a store of its own.

use camino::Utf8Path;
use vcstore::{Image, Store};

use super::Common;
use crate::Error;

/// Images and the store they are in.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) store: Store,
    pub(super) images: Vec<Image>,
    /// Goes with the value, where the images are of a file.
    _folder: Option<tempfile::TempDir>,
}

impl Opened {
    /// Opens what `name` is: a file or folder of this name, which is checked whole, else an image of the store.
    ///
    /// # Errors
    /// When there is neither, or it is damaged.
    pub(super) fn open(name: &str, common: &Common) -> Result<Self, Error> {
        let path = Utf8Path::new(name);
        if !path.exists() {
            let store = common.store()?;
            let images = vec![store.image(name)?];
            return Ok(Self { store, images, _folder: None });
        }
        let folder = tempfile::tempdir().map_err(Error::io("making a folder in", "the folder for temporary files"))?;
        let place = Utf8Path::from_path(folder.path()).ok_or_else(|| {
            Error::io("using", folder.path().to_string_lossy().as_ref())(std::io::Error::other("its name is not UTF-8"))
        })?;
        let store = Store::open(place)?;
        let images = vcstore::archive::import(&store, path)?;
        Ok(Self { store, images, _folder: Some(folder) })
    }
}
