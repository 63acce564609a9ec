//! `vcbuild.lock`: what inputs that can move were resolved to, so that the next build uses the same.

use std::collections::BTreeMap;
use std::fs;
use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};
use vcstore::{Digest, Platform};

use crate::Error;
use crate::base::debian::Pinned;

/// The name of a lock's file.
pub(crate) const FILE_NAME: &str = "vcbuild.lock";

const VERSION: u32 = 1;

const HEADER: &str = "\
# What the inputs of this project's images were resolved to. vcbuild writes this file and builds from what it pins:
# commit it. To resolve an input anew, remove its entry, or run `vcbuild base --update`.
";

/// A lock file, as read and as it is to be written.
#[derive(Debug)]
pub(crate) struct Lock {
    path: Utf8PathBuf,
    on_disk: Option<Document>,
    now: Document,
    /// Whether pins are passed over, and so made anew.
    update: bool,
}

/// The file, in the order it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u32,
    /// Commits by address and version.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    source: BTreeMap<String, BTreeMap<String, PinnedCommit>>,
    /// Images by reference or file, and platform.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    image: BTreeMap<String, BTreeMap<Platform, PinnedImage>>,
    /// Debian packages by suite and platform.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    debian: BTreeMap<String, BTreeMap<Platform, Pinned>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PinnedCommit {
    commit: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PinnedImage {
    manifest: Digest,
}

impl Lock {
    /// Reads the lock at `path`; an empty one when there is none. With `update`, what it pins is not used and what is
    /// resolved takes its place.
    ///
    /// # Errors
    /// When the file is there and cannot be read or understood.
    pub(crate) fn open(path: &Utf8Path, update: bool) -> Result<Self, Error> {
        let on_disk = match fs::read_to_string(path) {
            Ok(text) => Some(parse(path, &text)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(Error::io("reading", path)(error)),
        };
        let now = on_disk.clone().unwrap_or_else(Document::empty);
        Ok(Self { path: path.to_owned(), on_disk, now, update })
    }

    /// Where the lock is.
    pub(crate) fn path(&self) -> &Utf8Path {
        &self.path
    }

    /// The commit that a version of a repository is pinned to.
    pub(crate) fn commit(&self, url: &str, version: &str) -> Option<&str> {
        let pinned = self.now.source.get(url)?.get(version)?;
        (!self.update).then_some(pinned.commit.as_str())
    }

    /// Pins a version of a repository.
    pub(crate) fn pin_commit(&mut self, url: &str, version: &str, commit: &str) {
        let pinned = PinnedCommit { commit: commit.to_owned() };
        self.now.source.entry(url.to_owned()).or_default().insert(version.to_owned(), pinned);
    }

    /// The manifest that an image is pinned to.
    pub(crate) fn manifest(&self, image: &str, platform: &Platform) -> Option<Digest> {
        let pinned = self.now.image.get(image)?.get(platform)?;
        (!self.update).then_some(pinned.manifest)
    }

    /// Pins an image.
    pub(crate) fn pin_manifest(&mut self, image: &str, platform: &Platform, manifest: Digest) {
        self.now.image.entry(image.to_owned()).or_default().insert(platform.clone(), PinnedImage { manifest });
    }

    /// The packages that a suite is pinned to.
    pub(crate) fn packages(&self, suite: &str, platform: &Platform) -> Option<&Pinned> {
        let pinned = self.now.debian.get(suite)?.get(platform)?;
        (!self.update).then_some(pinned)
    }

    /// Pins the packages of a suite.
    pub(crate) fn pin_packages(&mut self, suite: &str, platform: &Platform, packages: Pinned) {
        self.now.debian.entry(suite.to_owned()).or_default().insert(platform.clone(), packages);
    }

    /// Writes the lock if it says something new.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn save(&mut self) -> Result<(), Error> {
        let nothing_new = match &self.on_disk {
            Some(document) => *document == self.now,
            None => self.now == Document::empty(),
        };
        if nothing_new {
            return Ok(());
        }
        let text = self.now.to_text().map_err(|why| Error::Internal(format!("writing {}: {why}", self.path)))?;
        crate::atomic::replace(&self.path, text.as_bytes()).map_err(Error::io("writing", &self.path))?;
        self.on_disk = Some(self.now.clone());
        Ok(())
    }
}

impl Document {
    fn empty() -> Self {
        Self { version: VERSION, source: BTreeMap::new(), image: BTreeMap::new(), debian: BTreeMap::new() }
    }

    fn to_text(&self) -> Result<String, toml::ser::Error> {
        Ok(format!("{HEADER}{}", toml::to_string_pretty(self)?))
    }
}

fn parse(path: &Utf8Path, text: &str) -> Result<Document, Error> {
    /// The version, whatever else the file has.
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let syntax = |source| Error::LockSyntax { path: path.to_owned(), source: Box::new(source) };
    let found = toml::from_str::<Versioned>(text).map_err(syntax)?.version;
    if found != VERSION {
        return Err(Error::LockVersion { path: path.to_owned(), found, known: VERSION });
    }
    toml::from_str(text).map_err(syntax)
}

#[cfg(test)]
mod tests {
    use camino::Utf8PathBuf;
    use vcstore::{Digest, Platform};

    use super::Lock;
    use crate::Error;

    fn scratch() -> (tempfile::TempDir, Utf8PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::try_from(folder.path().join("vcbuild.lock")).unwrap();
        (folder, path)
    }

    #[test]
    fn what_is_pinned_is_written_for_people_and_read_back() {
        let (_folder, path) = scratch();
        let mut lock = Lock::open(&path, false).unwrap();
        lock.pin_manifest("docker.io/library/debian:bookworm-slim", &Platform::linux("arm64"), Digest::of(b"2"));
        lock.pin_manifest("docker.io/library/debian:bookworm-slim", &Platform::linux("amd64"), Digest::of(b"1"));
        lock.pin_commit("https://example.org/a.git", "v1", "4b825dc642cb6eb9a060e54bf8d69288fbee4904");
        lock.save().unwrap();
        insta::assert_snapshot!(std::fs::read_to_string(&path).unwrap(), @r#"
        # What the inputs of this project's images were resolved to. vcbuild writes this file and builds from what it pins:
        # commit it. To resolve an input anew, remove its entry, or run `vcbuild base --update`.
        version = 1

        [source."https://example.org/a.git".v1]
        commit = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"

        [image."docker.io/library/debian:bookworm-slim"."linux/amd64"]
        manifest = "sha256:6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"

        [image."docker.io/library/debian:bookworm-slim"."linux/arm64"]
        manifest = "sha256:d4735e3a265e16eee03f59718b9b5d03019c07d8b6c51f90da3a666eec13ab35"
        "#);
        let read = Lock::open(&path, false).unwrap();
        let image = "docker.io/library/debian:bookworm-slim";
        assert_eq!(read.manifest(image, &Platform::linux("amd64")), Some(Digest::of(b"1")));
        assert_eq!(read.commit("https://example.org/a.git", "v1").map(str::len), Some(40));
        let updating = Lock::open(&path, true).unwrap();
        assert_eq!(updating.manifest(image, &Platform::linux("amd64")), None);
    }

    #[test]
    fn a_lock_without_news_is_not_written() {
        let (_folder, path) = scratch();
        Lock::open(&path, false).unwrap().save().unwrap();
        assert!(!path.exists(), "nothing pinned, nothing written");
        let mut lock = Lock::open(&path, false).unwrap();
        lock.pin_commit("u", "v", "c");
        lock.save().unwrap();
        let written = std::fs::metadata(&path).unwrap().modified().unwrap();
        let mut again = Lock::open(&path, true).unwrap();
        again.pin_commit("u", "v", "c");
        again.save().unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().modified().unwrap(), written);
    }

    #[test]
    fn a_lock_that_is_not_understood_is_refused() {
        let (_folder, path) = scratch();
        std::fs::write(&path, "version = 9\nnew = 1\n").unwrap();
        assert!(matches!(Lock::open(&path, false), Err(Error::LockVersion { found: 9, .. })));
        std::fs::write(&path, "version = 1\nnew = 1\n").unwrap();
        assert!(matches!(Lock::open(&path, false), Err(Error::LockSyntax { .. })));
    }
}
