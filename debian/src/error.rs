//! Errors of Debian bases, each with advice.

use std::{fmt, io};

use camino::Utf8Path;
use vcstore::Digest;

/// An error of the `debian` base.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[non_exhaustive]
pub enum Error {
    /// No source of packages is configured.
    #[error("looking for a mirror of Debian {suite}: {why}")]
    #[diagnostic(help(
        "set VCBUILD_DEBIAN_MIRROR to the address of a mirror's debian folder, or add the suite to the apt sources"
    ))]
    NoMirror {
        /// The requested suite.
        suite: String,
        /// The reason.
        why: String,
    },
    /// The address of a mirror is invalid.
    #[error("using the mirror {address}: {why}")]
    #[diagnostic(help("a mirror's address looks like http://HOST/debian"))]
    BadMirror {
        /// The address.
        address: String,
        /// The reason.
        why: String,
    },
    /// The keys for verifying releases cannot be read.
    #[error("reading the keyring {path}: {why}")]
    #[diagnostic(help(
        "install the package debian-archive-keyring, or name a file that contains Debian's archive keys"
    ))]
    Keyring {
        /// The file.
        path: String,
        /// The reason.
        why: String,
    },
    /// A release is not signed by a trusted key.
    #[error("checking the signature of {url}: {why}")]
    #[diagnostic(help(
        "vcbuild used nothing from this mirror: it is damaged, tampered with, or signed by keys that the keyring \
         {keyring} lacks"
    ))]
    Signature {
        /// The release.
        url: String,
        /// What is wrong with its signatures.
        why: String,
        /// The keyring that was used.
        keyring: String,
    },
    /// A release has expired.
    #[error("using {url}: it expired {behind} ago (Valid-Until: {until})")]
    #[diagnostic(help(
        "the mirror is out of date, or an attacker withholds updates: use another mirror, and check this machine's clock"
    ))]
    Stale {
        /// The release.
        url: String,
        /// Its `Valid-Until` field.
        until: String,
        /// The time since then.
        behind: String,
    },
    /// A release or index does not conform to its format.
    #[error("reading {url}: {why}")]
    #[diagnostic(help("the mirror does not follow the Debian repository format, or lacks the requested content"))]
    Repository {
        /// The file.
        url: String,
        /// The reason.
        why: String,
    },
    /// The mirror reports that it does not have a file.
    #[error("fetching {url}: the mirror does not have this file")]
    #[diagnostic(help("{help}"))]
    Gone {
        /// The file.
        url: String,
        /// The help text.
        help: &'static str,
    },
    /// The mirror could not be reached, or the connection broke, several times.
    #[error("fetching {url}: {attempts} attempts failed, the last with: {why}")]
    #[diagnostic(help(
        "check the network and the mirror (VCBUILD_DEBIAN_MIRROR or the apt sources); http_proxy sets the proxy"
    ))]
    Unreachable {
        /// The file.
        url: String,
        /// The number of attempts.
        attempts: u32,
        /// The causes of the last failure, from the outermost to the innermost.
        why: String,
    },
    /// A file from the mirror does not match the signed index.
    #[error("fetching {url}: its content is {found}, expected {expected}")]
    #[diagnostic(help("the mirror is being updated, damaged or tampered with: try again, or use another mirror"))]
    Damaged {
        /// The file.
        url: String,
        /// The digest of its content.
        found: String,
        /// The expected digest.
        expected: String,
    },
    /// There is no such package.
    #[error("looking for package {name}: {suite} has no package with that name for {architecture}")]
    #[diagnostic(help("check the name, and whether the package is in the requested components"))]
    NoSuchPackage {
        /// The name.
        name: String,
        /// The suite.
        suite: String,
        /// The architecture.
        architecture: String,
    },
    /// No set of packages satisfies all relations.
    #[error("choosing the packages of {suite}: they cannot be installed together\n{why}")]
    #[diagnostic(help("remove a package, or wait until the mirror's suite is consistent again"))]
    Unsolvable {
        /// The suite.
        suite: String,
        /// The conflict, as the solver explains it.
        why: String,
    },
    /// A package file does not conform to its format.
    #[error("unpacking {package}: {why}")]
    #[diagnostic(help("the package matches the signed index but is malformed: report it to its maintainers"))]
    Package {
        /// Its name.
        package: String,
        /// The reason.
        why: String,
    },
    /// Packages have maintainer scripts without a replacement.
    #[error(
        "installing {}: vcbuild does not run maintainer scripts, and has no replacement for these",
        packages.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    )]
    #[diagnostic(help(
        "remove these packages, or use an image that contains them as the base: `--base IMAGE`, for example \
         docker.io/library/debian:bookworm"
    ))]
    Script {
        /// The packages with their scripts.
        packages: Vec<UnhandledScripts>,
    },
    /// The requested suite is not supported.
    #[error(
        "building a base from Debian {codename}: vcbuild has no replacement for the maintainer scripts of its packages"
    )]
    #[diagnostic(help(
        "use bookworm or trixie, or an image of {codename} as the base: `--base IMAGE`, for example \
         docker.io/library/debian:{codename}"
    ))]
    UnknownSuite {
        /// Its name.
        codename: String,
    },
    /// Two packages contain the same file.
    #[error("unpacking {second}: {first} already contains /{path}")]
    #[diagnostic(help("remove one of the two packages"))]
    Collision {
        /// The path.
        path: String,
        /// The package that came first.
        first: String,
        /// The package that came second.
        second: String,
    },
    /// The packages lack a file that every Debian system needs.
    #[error("setting up {path}: {why}")]
    #[diagnostic(help(
        "vcbuild supports Debian bookworm and later: for a newer suite, use a newer version of vcbuild"
    ))]
    Setup {
        /// The file to be created.
        path: String,
        /// The reason.
        why: String,
    },
    /// The lock contains an entry that this program does not create.
    #[error("using the locked package {package}: {why}")]
    #[diagnostic(help("the lock file was edited or damaged: recreate it with `vcbuild base debian --update`"))]
    BadPin {
        /// Its name.
        package: String,
        /// The reason.
        why: String,
    },
    /// A file could not be used.
    #[error(transparent)]
    #[diagnostic(transparent)]
    File(#[from] vcstore::FileError),
    /// The network client could not be created.
    #[error("setting up the network")]
    #[diagnostic(help(
        "check the machine's limits on threads and open files, its certificates, and the proxy variables (HTTP_PROXY and \
         others)"
    ))]
    Network {
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A download is needed, but the network may not be used.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Offline(#[from] vcnetwork::Offline),
    /// The store failed.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Store(#[from] vcstore::Error),
}

impl Error {
    /// Wraps an I/O error with the attempted operation and its path.
    pub(crate) fn io(attempt: &'static str, path: impl AsRef<Utf8Path>) -> impl FnOnce(io::Error) -> Self {
        vcstore::FileError::wrap(attempt, path)
    }

    /// Returns the error for a file of a mirror that does not conform to its format.
    pub(crate) fn repository(url: &str, why: impl Into<String>) -> Self {
        Self::Repository { url: url.to_owned(), why: why.into() }
    }

    /// Returns the error for a package that does not conform to its format.
    pub(crate) fn package(package: &str, why: impl Into<String>) -> Self {
        Self::Package { package: package.to_owned(), why: why.into() }
    }

    /// Returns the error for a file whose content does not match the expected digest.
    pub(crate) fn damaged(url: &str, found: &Digest, expected: &Digest) -> Self {
        Self::Damaged { url: url.to_owned(), found: found.to_string(), expected: expected.to_string() }
    }
}

/// A package with maintainer scripts that have no replacement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnhandledScripts {
    /// Its name.
    pub package: String,
    /// The scripts: `preinst`, `postinst`.
    pub scripts: Vec<&'static str>,
    /// The requested package that caused it, if that is another.
    pub brought_by: Option<String>,
}

impl fmt::Display for UnhandledScripts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}", self.package, self.scripts.join(", "))?;
        if let Some(by) = &self.brought_by {
            write!(f, "; brought by {by}")?;
        }
        write!(f, ")")
    }
}
