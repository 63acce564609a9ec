//! A folder with the inputs that a lock pins, for builds without network access: `vcbuild fetch` writes it, and a build
//! with `--inputs` reads from it what its store lacks.
//!
//! Its content is not trusted: blobs are verified by their SHA-256, the files of a commit by git's tree hash, Go
//! modules by `go.sum`, and the toolchain by its checksum, each against the lock when it is used. Equal locks produce
//! equal folders.

pub(crate) mod tree;

use std::fs;
use std::io::{self, Read};

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};
use vcnetwork::Network;
use vcsandbox::plain::Plain;
use vcstore::{Digest, Store};

use crate::error::InputsError;
use crate::lock::PinnedCommit;

/// Blobs by SHA-256, in the layout of an OCI image layout: Debian packages, and the manifests, configurations and
/// layers of registry images.
pub(crate) const BLOBS: &str = "blobs/sha256";

/// Go modules and the toolchain, in the layout of a module proxy.
pub(crate) const GO: &str = "go";

/// The files of commits, by commit.
pub(crate) const GIT: &str = "git";

/// The file that identifies a folder of offline inputs.
pub(crate) const MARK: &str = "vcbuild-inputs.json";

/// The version of the folder's format.
pub(crate) const VERSION: u32 = 1;

/// The content of [`MARK`].
#[derive(Serialize, Deserialize)]
pub(crate) struct Mark {
    pub(crate) version: u32,
}

/// Returns whether `vcbuild fetch` created a folder, in any format.
pub(crate) fn is_inputs_dir(path: &Utf8Path) -> bool {
    path.join(MARK).is_file()
}

/// A folder of offline inputs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InputsDir<'a> {
    path: &'a Utf8Path,
}

impl<'a> InputsDir<'a> {
    pub(crate) fn at(path: &'a Utf8Path) -> Self {
        Self { path }
    }

    /// Returns the folder that replaces the network, if there is one.
    pub(crate) fn of(network: &'a Network) -> Option<Self> {
        match network {
            Network::Inputs(path) => Some(Self::at(path)),
            Network::Open | Network::Offline => None,
        }
    }

    /// Checks that `vcbuild fetch` created the folder.
    ///
    /// # Errors
    /// When it did not, or the format is unknown to this version.
    pub(crate) fn check(self) -> Result<(), crate::Error> {
        let path = self.path.join(MARK);
        let text = match fs::read(&path) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Err(InputsError::None { folder: self.path.to_owned() }.into());
            }
            text => text.map_err(crate::Error::io("reading", &path))?,
        };
        match serde_json::from_slice(&text) {
            Ok(Mark { version: VERSION }) => Ok(()),
            Ok(Mark { version }) => {
                Err(InputsError::Version { folder: self.path.to_owned(), found: version, known: VERSION }.into())
            }
            Err(_) => Err(InputsError::None { folder: self.path.to_owned() }.into()),
        }
    }

    /// Copies a blob into the store, unless the store has it. `attempt` describes the purpose.
    ///
    /// # Errors
    /// When the folder lacks the blob, or its content does not match.
    pub(crate) fn take(self, digest: &Digest, store: &Store, attempt: &str) -> Result<(), crate::Error> {
        if store.contains(digest) {
            return Ok(());
        }
        let path = self.blob(digest, attempt)?;
        // The folder may consist of symbolic links; their targets are verified by content.
        let content = Plain::follow(&path).map_err(|why| crate::Error::io("reading", &path)(why.into()))?;
        match content.into_store(store)?.commit_expecting(digest) {
            Err(vcstore::Error::DigestMismatch { found, .. }) => {
                Err(InputsError::Blob { attempt: attempt.to_owned(), path, found }.into())
            }
            committed => Ok(committed.map(drop)?),
        }
    }

    /// Reads a small blob. One with more than `limit` bytes does not match its digest.
    ///
    /// # Errors
    /// As [`InputsDir::take`].
    pub(crate) fn read(self, digest: &Digest, limit: u64, attempt: &str) -> Result<Vec<u8>, crate::Error> {
        let path = self.blob(digest, attempt)?;
        let mut bytes = Vec::new();
        Plain::follow(&path)
            .map_err(io::Error::from)
            .and_then(|file| file.content().take(limit).read_to_end(&mut bytes))
            .map_err(crate::Error::io("reading", &path))?;
        let found = Digest::of(&bytes);
        if found == *digest {
            Ok(bytes)
        } else {
            Err(InputsError::Blob { attempt: attempt.to_owned(), path, found }.into())
        }
    }

    /// Returns the URL of the folder as a Go module proxy.
    ///
    /// # Errors
    /// When the path cannot be resolved or represented as a URL.
    pub(crate) fn go_proxy(self) -> Result<String, crate::Error> {
        let path = self.path.canonicalize_utf8().map_err(crate::Error::io("finding", self.path))?.join(GO);
        let address = reqwest::Url::from_file_path(&path);
        let address = address.map_err(|()| crate::Error::Internal(format!("{path} is not absolute")))?;
        Ok(address.as_str().to_owned())
    }

    /// Returns a folder with the files of a commit of the repository at `url`.
    ///
    /// # Errors
    /// When the folder lacks the files, or they do not match the tree of the commit.
    pub(crate) fn commit(self, url: &str, pinned: &PinnedCommit) -> Result<Utf8PathBuf, crate::Error> {
        let attempt = format!("cloning {url} at {}", pinned.commit);
        let folder = self.path.join(GIT).join(&pinned.commit);
        // Without a tree in the lock, the files cannot be verified.
        let Some(tree) = pinned.tree.as_ref().filter(|_| folder.is_dir()) else { return Err(self.missing(attempt)) };
        let found = tree::hash(&folder, tree)?;
        if found != *tree {
            return Err(InputsError::Tree { attempt, folder, expected: tree.clone(), found }.into());
        }
        Ok(folder)
    }

    /// Returns the error for a failure of Go to use modules from this folder.
    pub(crate) fn modules_failed(self, failure: vcsandbox::process::Failure) -> crate::Error {
        InputsError::Modules { folder: self.path.to_owned(), source: Box::new(failure) }.into()
    }

    /// Returns the path of a blob.
    fn blob(self, digest: &Digest, attempt: &str) -> Result<Utf8PathBuf, crate::Error> {
        let path = self.path.join(BLOBS).join(digest.hex());
        if path.is_file() { Ok(path) } else { Err(self.missing(attempt.to_owned())) }
    }

    fn missing(self, attempt: String) -> crate::Error {
        vcnetwork::Offline::NotInInputs { attempt, folder: self.path.to_owned() }.into()
    }
}
