//! The folder of a store: an OCI image layout with actions, roots, caches and temporary files.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::SystemTime;

use camino::{Utf8Path, Utf8PathBuf};

use crate::owner;
use crate::paths::path_variable;
use crate::session::{self, Session, Use};
use crate::{ActionKey, Digest, Error, Record};

/// The content of `oci-layout` (OCI image specification, image-layout.md).
const OCI_LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

/// An `index.json` without images.
pub(crate) const EMPTY_INDEX: &str =
    r#"{"manifests":[],"mediaType":"application/vnd.oci.image.index.v1+json","schemaVersion":2}"#;

/// Another source of action outputs, such as a shared cache.
pub trait Substituter: fmt::Debug + Send + Sync {
    /// Finds the record of `key` and copies its blobs to `store`; returns `None` if it cannot. The substituter decides
    /// which origins to trust and reports its own errors: a build never fails because of a cache.
    fn substitute(&self, key: &ActionKey, store: &Store) -> Option<Record>;

    /// Returns whether [`Substituter::substitute`] returned the outputs of `key` earlier in this process.
    fn gave(&self, key: &ActionKey) -> bool;
}

/// A content-addressed folder: blobs by SHA-256, images by name, actions by key.
///
/// Several processes may use a store concurrently, and during garbage collection: the blobs that a `Store` wrote, found
/// or read are kept for its lifetime.
#[derive(Debug, Clone)]
pub struct Store(Arc<Inner>, Option<Arc<dyn Substituter>>);

#[derive(Debug)]
struct Inner {
    path: Utf8PathBuf,
    session: Session,
}

impl Store {
    /// Returns whether a folder is a store of any version: an image layout with action records.
    #[must_use]
    pub fn is_at(path: &Utf8Path) -> bool {
        path.join("oci-layout").is_file() && path.join("actions").is_dir() && path.join("blobs").is_dir()
    }

    /// Opens the store at `path`; creates it if the folder is absent or empty.
    ///
    /// # Errors
    /// When the folder has other content or cannot be created, its layout version is unsupported, or another user may
    /// change it.
    pub fn open(path: &Utf8Path) -> Result<Self, Error> {
        let path = camino::absolute_utf8(path).map_err(Error::io("finding", path))?;
        owner::check(&path)?;
        let layout = path.join("oci-layout");
        match fs::read_to_string(&layout) {
            Ok(text) => check_layout(&path, &text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => create(&path)?,
            Err(error) => return Err(Error::io("reading", &layout)(error)),
        }
        let session = Session::begin(&path)?;
        Ok(Self(Arc::new(Inner { path, session }), None))
    }

    /// Opens an existing store for reading, even if it is not writable, because it belongs to another user or is on a
    /// read-only file system. Garbage collection does not know readers of such a store, so blobs may disappear.
    ///
    /// # Errors
    /// When there is no store at `path`, it cannot be read, or its layout version is unsupported.
    pub fn open_to_read(path: &Utf8Path) -> Result<Self, Error> {
        let path = camino::absolute_utf8(path).map_err(Error::io("finding", path))?;
        let layout = path.join("oci-layout");
        check_layout(&path, &fs::read_to_string(&layout).map_err(Error::io("reading", &layout))?)?;
        let session = match Session::begin(&path) {
            Err(Error::Io { source, .. })
                if matches!(source.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem) =>
            {
                Session::of_reader()?
            }
            begun => begun?,
        };
        Ok(Self(Arc::new(Inner { path, session }), None))
    }

    /// Opens a store whose images are passed on to others, so that its content must be trusted: refuses a store that
    /// another user may change, and opens one that is not writable for reading.
    ///
    /// # Errors
    /// As [`Store::open`] and [`Store::open_to_read`].
    pub fn open_to_give(path: &Utf8Path) -> Result<Self, Error> {
        owner::check(&camino::absolute_utf8(path).map_err(Error::io("finding", path))?)?;
        Self::open_to_read(path)
    }

    /// Returns whether the store is writable; `false` for one that was opened for reading and cannot be written.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.0.session.is_noted()
    }

    /// Returns the store with a substituter, which is queried for outputs before an action runs.
    #[must_use]
    pub fn with_substituter(self, substituter: Arc<dyn Substituter>) -> Self {
        Self(self.0, Some(substituter))
    }

    /// Returns the default path of the store: `$VCBUILD_STORE`, or else `vcbuild/store` in the user's cache folder
    /// (`$XDG_CACHE_HOME` or `~/.cache`).
    #[must_use]
    pub fn default_path() -> Utf8PathBuf {
        path_variable("VCBUILD_STORE").unwrap_or_else(|| {
            path_variable("XDG_CACHE_HOME")
                .or_else(|| path_variable("HOME").map(|home| home.join(".cache")))
                .unwrap_or_else(|| Utf8PathBuf::from("/var/cache"))
                .join("vcbuild/store")
        })
    }

    /// Returns the absolute path of the store.
    #[must_use]
    pub fn path(&self) -> &Utf8Path {
        &self.0.path
    }

    /// Returns a folder in the store for a compiler's cache. Garbage collection may remove it on request, when no
    /// `Store` that returned it is open.
    ///
    /// # Errors
    /// When the folder cannot be created.
    pub fn cache_dir(&self, name: &str) -> Result<Utf8PathBuf, Error> {
        let top = name.split('/').next().unwrap_or(name);
        self.hold([Use::Cache(top.to_owned())])?;
        let caches = self.caches();
        let path = caches.join(name);
        fs::create_dir_all(&path).map_err(Error::io("making", &path))?;
        // Record the last use for garbage collection; the files in the cache need not show it.
        let _ = File::open(caches.join(top)).and_then(|folder| folder.set_modified(SystemTime::now()));
        Ok(path)
    }

    /// Creates a temporary folder on the store's disk; it is removed on drop, or after this process has ended.
    ///
    /// # Errors
    /// When the folder cannot be created.
    pub fn temp_dir(&self) -> Result<tempfile::TempDir, Error> {
        let path = self.tmp();
        tempfile::TempDir::new_in(&path).map_err(Error::io("creating a folder in", &path))
    }

    /// Returns the path of a blob, whether or not it exists.
    #[must_use]
    pub fn blob_path(&self, digest: &Digest) -> Utf8PathBuf {
        self.blobs().join(digest.hex())
    }

    /// Returns the size of a blob in bytes; `None` if the store lacks it. An existing blob is kept for the lifetime of
    /// this `Store`.
    #[must_use]
    pub fn size(&self, digest: &Digest) -> Option<u64> {
        // A blob that cannot be reserved is treated as missing: writing it again then reports the cause.
        self.hold([Use::Blob(*digest)]).ok().and_then(|()| self.size_now(digest))
    }

    /// Returns whether the store has a blob.
    #[must_use]
    pub fn contains(&self, digest: &Digest) -> bool {
        self.size(digest).is_some()
    }

    /// Returns the current size of a blob in bytes. Unlike with [`Store::size`], garbage collection may remove it
    /// afterwards.
    pub(crate) fn size_now(&self, digest: &Digest) -> Option<u64> {
        fs::metadata(self.blob_path(digest)).ok().filter(fs::Metadata::is_file).map(|meta| meta.len())
    }

    /// Keeps garbage collection from removing these, as far as they exist, for the lifetime of this `Store`.
    pub(crate) fn hold(&self, uses: impl IntoIterator<Item = Use>) -> Result<(), Error> {
        self.0.session.hold(uses).map_err(Error::io("recording the used blobs in", self.path()))
    }

    pub(crate) fn session(&self) -> &Session {
        &self.0.session
    }

    pub(crate) fn blobs(&self) -> Utf8PathBuf {
        self.path().join("blobs/sha256")
    }

    pub(crate) fn caches(&self) -> Utf8PathBuf {
        self.path().join("cache")
    }

    pub(crate) fn quarantined(&self) -> Utf8PathBuf {
        self.path().join("quarantine")
    }

    /// Returns this process's folder for temporary files.
    pub(crate) fn tmp(&self) -> Utf8PathBuf {
        self.0.session.folder().to_owned()
    }

    /// Returns the folder of the locks that all processes share.
    pub(crate) fn locks(&self) -> Utf8PathBuf {
        session::locks(self.path())
    }

    pub(crate) fn substituter(&self) -> Option<&Arc<dyn Substituter>> {
        self.1.as_ref()
    }
}

/// Writes `content` to `path` atomically: a reader sees the old or the new file, even after a power failure.
pub(crate) fn replace(tmp: &Utf8Path, path: &Utf8Path, content: &[u8]) -> Result<(), Error> {
    let mut file = tempfile::NamedTempFile::new_in(tmp).map_err(Error::io("creating a file in", tmp))?;
    file.write_all(content).map_err(Error::io("writing", path))?;
    persist(file, path)
}

/// Moves a finished temporary file to its path: syncs it, makes it readable for all, renames it, and syncs the folder.
pub(crate) fn persist(file: tempfile::NamedTempFile, path: &Utf8Path) -> Result<(), Error> {
    sync(&file, path)?;
    file.persist(path).map_err(|error| Error::io("writing", path)(error.error))?;
    sync_folder(path)
}

/// Syncs a temporary file to disk and makes it readable for all; `path` is its future path.
pub(crate) fn sync(file: &tempfile::NamedTempFile, path: &Utf8Path) -> Result<(), Error> {
    let readable = fs::Permissions::from_mode(0o644);
    file.as_file().set_permissions(readable).map_err(Error::io("setting the mode of", path))?;
    file.as_file().sync_all().map_err(Error::io("syncing", path))
}

/// Syncs the directory entry of `path` to disk.
pub(crate) fn sync_folder(path: &Utf8Path) -> Result<(), Error> {
    let folder = path.parent().unwrap_or(Utf8Path::new("/"));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(Error::io("syncing", folder))
}

fn check_layout(path: &Utf8Path, text: &str) -> Result<(), Error> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Layout {
        image_layout_version: String,
    }
    let what = path.join("oci-layout").into_string();
    let layout: Layout = serde_json::from_str(text).map_err(|source| Error::Document { what, source })?;
    if layout.image_layout_version == "1.0.0" {
        Ok(())
    } else {
        Err(Error::LayoutVersion { path: path.to_owned(), found: layout.image_layout_version })
    }
}

/// Creates an empty store. Several processes may do so concurrently: `oci-layout` is written last, and each step may
/// find its work done.
fn create(path: &Utf8Path) -> Result<(), Error> {
    const OURS: [&str; 8] = ["actions", "blobs", "cache", "index.json", "lock", "oci-layout", "roots", "tmp"];
    fs::create_dir_all(path).map_err(Error::io("making", path))?;
    for entry in path.read_dir_utf8().map_err(Error::io("listing", path))? {
        let entry = entry.map_err(Error::io("listing", path))?;
        if !OURS.contains(&entry.file_name()) {
            return Err(Error::NotAStore { path: path.to_owned() });
        }
    }
    for folder in ["blobs/sha256", "actions", "roots", "tmp"] {
        let folder = path.join(folder);
        fs::create_dir_all(&folder).map_err(Error::io("making", &folder))?;
    }
    let tmp = path.join("tmp");
    let index = path.join("index.json");
    if !index.exists() {
        let mut file = tempfile::NamedTempFile::new_in(&tmp).map_err(Error::io("creating a file in", &tmp))?;
        file.write_all(EMPTY_INDEX.as_bytes()).map_err(Error::io("writing", &index))?;
        // Another process may have created the index, and even tagged an image in it, since the check.
        match file.persist_noclobber(&index) {
            Err(error) if error.error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(Error::io("writing", &index)(error.error));
            }
            _ => {}
        }
    }
    replace(&tmp, &path.join("oci-layout"), OCI_LAYOUT.as_bytes())
}

#[cfg(test)]
pub(crate) mod tests {
    use camino::Utf8PathBuf;

    use super::Store;
    use crate::Error;

    /// Creates a store in a temporary folder, which is removed with the first value.
    pub(crate) fn scratch() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&Utf8PathBuf::try_from(folder.path().join("store")).unwrap()).unwrap();
        (folder, store)
    }

    #[test]
    fn a_new_store_is_an_oci_image_layout() {
        let (_folder, store) = scratch();
        let layout = std::fs::read_to_string(store.path().join("oci-layout")).unwrap();
        assert_eq!(layout, r#"{"imageLayoutVersion":"1.0.0"}"#);
        assert!(store.images().unwrap().is_empty());
        assert!(store.path().join("blobs/sha256").is_dir());
    }

    #[test]
    fn a_folder_with_something_else_in_it_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("thesis.txt"), "years of work").unwrap();
        let path = Utf8PathBuf::try_from(folder.path().to_owned()).unwrap();
        assert!(matches!(Store::open(&path), Err(Error::NotAStore { .. })));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_layout_of_another_version_is_refused() {
        let (_folder, store) = scratch();
        std::fs::write(store.path().join("oci-layout"), r#"{"imageLayoutVersion":"2.0.0"}"#).unwrap();
        assert!(matches!(Store::open(store.path()), Err(Error::LayoutVersion { .. })));
    }

    #[test]
    fn many_openers_of_an_absent_store_all_succeed() {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::try_from(folder.path().join("store")).unwrap();
        std::thread::scope(|scope| {
            for i in 0..16u8 {
                let path = &path;
                scope.spawn(move || Store::open(path).unwrap().put(&[i]).unwrap());
            }
        });
        assert_eq!(std::fs::read_dir(path.join("blobs/sha256")).unwrap().count(), 16);
    }
}
