//! Errors of caches that the user has to correct. Failures of a cache during a build are only warnings.

use std::io;

use camino::Utf8Path;

/// An error of caches.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// A file could not be used.
    #[error(transparent)]
    #[diagnostic(transparent)]
    File(#[from] vcstore::FileError),

    /// The store failed.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Store(#[from] vcstore::Error),

    /// The registry of a cache failed.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Registry(#[from] crate::Error),

    /// The network may not be used.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Offline(#[from] vcnetwork::Offline),

    /// The name of a key is invalid.
    #[error("naming a key {name:?}: {why}")]
    #[diagnostic(help("choose a name that identifies the owner of the key, such as cache.example.org-1"))]
    KeyName {
        /// The name.
        name: String,
        /// The reason, as a clause.
        why: String,
    },

    /// A key cannot be read.
    #[error("reading the key {what}: {why}")]
    #[diagnostic(help(
        "a public key is written NAME:BASE64, as in the .pub file that `vcbuild key generate NAME` makes"
    ))]
    BadKey {
        /// The key or its file.
        what: String,
        /// The reason, as a clause.
        why: String,
    },

    /// An address is invalid.
    #[error("using the cache {0}")]
    #[diagnostic(help("`vcbuild help push` lists the forms of a cache address"))]
    BadAddress(String),

    /// There are caches, but no trusted key.
    #[error("using caches: no key is trusted, so no content of the caches would be accepted")]
    #[diagnostic(help(
        "name the public key that signs their records: --trust-key NAME:BASE64, or trusted-keys under [caches] in \
         vcbuild's config.toml"
    ))]
    NoKey,

    /// The cache cannot be written to.
    #[error("pushing to {cache}: {why}")]
    #[diagnostic(help("check the address, and your write access"))]
    Write {
        /// The address of the cache.
        cache: String,
        /// The reason, as a clause.
        why: String,
    },

    /// The store does not know which actions created the image.
    #[error("pushing {image} to a cache: the store has no record of a build that produced it")]
    #[diagnostic(help("build it with `vcbuild images`, or push every record of the store with --all"))]
    NoClosure {
        /// The name of the image.
        image: String,
    },

    /// The store lacks outputs of an action.
    #[error("pushing {what} to a cache: some of its outputs are no longer in the store")]
    #[diagnostic(help("build it again with `vcbuild images`"))]
    Incomplete {
        /// The action.
        what: String,
    },
}

impl Error {
    /// Wraps an I/O error with the attempted operation and its path.
    pub fn io(attempt: &'static str, path: impl AsRef<Utf8Path>) -> impl FnOnce(io::Error) -> Self {
        vcstore::FileError::wrap(attempt, path)
    }

    /// Whether the command line or a configuration file contains an invalid value.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::KeyName { .. } | Self::BadKey { .. } | Self::BadAddress(_) | Self::NoKey)
    }
}
