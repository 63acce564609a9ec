//! Images named on the command line: in the store, or from a file or a registry, read into a temporary store.

use camino::Utf8Path;
use vcnetwork::Network;
use vcstore::reference;
use vcstore::{Image, Platform, Store};

use super::Common;
use crate::Error;
use crate::base;
use crate::lock::{self, Lock, Policy};
use crate::progress::Progress;

/// What the name of a registry's image begins with, as other tools have it.
const REGISTRY: &str = "docker://";

/// Images and the store they are in.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) store: Store,
    pub(super) images: Vec<Image>,
    /// Goes with the value, where the images are of a file.
    _folder: Option<tempfile::TempDir>,
}

impl Opened {
    /// Opens what `name` is: an image of a registry after [`REGISTRY`], a file or folder of this name, which is checked whole,
    /// else an image of the store.
    ///
    /// # Errors
    /// When there is none of them, or it is damaged.
    pub(super) fn open(name: &str, common: &Common) -> Result<Self, Error> {
        let path = Utf8Path::new(name);
        let remote = name.strip_prefix(REGISTRY);
        if remote.is_none() && !path.exists() {
            let store = common.store_to_read()?;
            let images = vec![store.image(name)?];
            return Ok(Self { store, images, _folder: None });
        }
        let folder =
            tempfile::tempdir().map_err(Error::io("creating a folder in", "the folder for temporary files"))?;
        let store = Store::open(&vcstore::utf8("using", folder.path())?)?;
        let images = match remote {
            Some(reference) => vec![pull(reference, &store)?],
            None => vcstore::archive::import(&store, path)?,
        };
        Ok(Self { store, images, _folder: Some(folder) })
    }
}

/// Pulls an image for linux/amd64 into a store of its own.
fn pull(reference: &str, store: &Store) -> Result<Image, Error> {
    let bad = |why| Error::Usage(format!("{REGISTRY}{reference} is not a valid image reference: {why}"));
    let reference = reference::parse(reference).map_err(bad)?;
    let lock = Lock::open(&store.path().join(lock::FILE_NAME), Policy::Fill, Network::Open)?;
    let image = base::pull(&reference, &Platform::default(), store, &lock, &Progress::start())?;
    Ok(Image::open(store, &reference.whole(), &image.manifest)?)
}
