//! The inputs that a lock pins, in a folder for where there is no network: `vcbuild fetch` writes it, and a build with
//! `--inputs` takes from it what its store lacks.
//!
//! Nothing in it is believed. Blobs go by their SHA-256, files of a commit by git's hash of its tree, Go modules by `go.sum`,
//! the toolchain by its checksum: each is checked by what the lock pins when it is used. Equal locks make equal folders.

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

/// Blobs by their SHA-256, as an OCI image layout has them: Debian packages, and images of registries in parts.
pub(crate) const BLOBS: &str = "blobs/sha256";

/// Go modules and the toolchain, as a module proxy serves them.
pub(crate) const GO: &str = "go";

/// The files of commits.
pub(crate) const GIT: &str = "git";

/// The file that says what the folder is.
pub(crate) const MARK: &str = "vcbuild-inputs.json";

/// The version of the folder's form.
pub(crate) const VERSION: u32 = 1;

/// What [`MARK`] says.
#[derive(Serialize, Deserialize)]
pub(crate) struct Mark {
    pub(crate) version: u32,
}

/// Whether a folder is one that `vcbuild fetch` made, of whatever form.
pub(crate) fn is_inputs_dir(path: &Utf8Path) -> bool {
    path.join(MARK).is_file()
}

/// A folder of inputs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InputsDir<'a> {
    path: &'a Utf8Path,
}

impl<'a> InputsDir<'a> {
    pub(crate) fn at(path: &'a Utf8Path) -> Self {
        Self { path }
    }

    /// The folder that inputs come from in place of the network.
    pub(crate) fn of(network: &'a Network) -> Option<Self> {
        match network {
            Network::Inputs(path) => Some(Self::at(path)),
            Network::Open | Network::Offline => None,
        }
    }

    /// Checks that the folder is one that `vcbuild fetch` made.
    ///
    /// # Errors
    /// When it is another, or of a form that this program does not know.
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

    /// Brings a blob into the store, unless the store has it. `attempt` says what for.
    ///
    /// # Errors
    /// When the folder lacks it, or has something else in its place.
    pub(crate) fn take(self, digest: &Digest, store: &Store, attempt: &str) -> Result<(), crate::Error> {
        if store.contains(digest) {
            return Ok(());
        }
        let path = self.blob(digest, attempt)?;
        // A folder of inputs may be one of links. What they lead to counts by its content.
        let content = Plain::follow(&path).map_err(|why| crate::Error::io("reading", &path)(why.into()))?;
        match content.into_store(store)?.commit_expecting(digest) {
            Err(vcstore::Error::DigestMismatch { found, .. }) => {
                Err(InputsError::Blob { attempt: attempt.to_owned(), path, found }.into())
            }
            committed => Ok(committed.map(drop)?),
        }
    }

    /// A small blob: one of more than `limit` bytes is not what it is taken for.
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

    /// The address of the Go module proxy that it is.
    ///
    /// # Errors
    /// When its path cannot be an address.
    pub(crate) fn go_proxy(self) -> Result<String, crate::Error> {
        let path = self.path.canonicalize_utf8().map_err(crate::Error::io("finding", self.path))?.join(GO);
        let address = reqwest::Url::from_file_path(&path);
        let address = address.map_err(|()| crate::Error::Internal(format!("{path} is not absolute")))?;
        Ok(address.as_str().to_owned())
    }

    /// The files of a commit of the repository at `url`.
    ///
    /// # Errors
    /// When it lacks them, or they are not those of the commit.
    pub(crate) fn commit(self, url: &str, pinned: &PinnedCommit) -> Result<Utf8PathBuf, crate::Error> {
        let attempt = format!("cloning {url} at {}", pinned.commit);
        let folder = self.path.join(GIT).join(&pinned.commit);
        // Of a lock that has no tree nothing says what the files should be.
        let Some(tree) = pinned.tree.as_ref().filter(|_| folder.is_dir()) else { return Err(self.missing(attempt)) };
        let found = tree::hash(&folder, tree)?;
        if found != *tree {
            return Err(InputsError::Tree { attempt, folder, expected: tree.clone(), found }.into());
        }
        Ok(folder)
    }

    /// What Go said when modules were to come from here.
    pub(crate) fn modules_failed(self, failure: vcsandbox::process::Failure) -> crate::Error {
        InputsError::Modules { folder: self.path.to_owned(), source: Box::new(failure) }.into()
    }

    /// Where a blob is.
    fn blob(self, digest: &Digest, attempt: &str) -> Result<Utf8PathBuf, crate::Error> {
        let path = self.path.join(BLOBS).join(digest.hex());
        if path.is_file() { Ok(path) } else { Err(self.missing(attempt.to_owned())) }
    }

    fn missing(self, attempt: String) -> crate::Error {
        vcnetwork::Offline::NotInInputs { attempt, folder: self.path.to_owned() }.into()
    }
}
