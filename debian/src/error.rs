//! What can go wrong between a Debian mirror and a layer, and what to do about it.

use std::{fmt, io};

use camino::Utf8Path;
use vcstore::Digest;

/// An error of the `debian` base.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[non_exhaustive]
pub enum Error {
    /// Nothing says where packages come from.
    #[error("looking for a mirror of Debian {suite}: {why}")]
    #[diagnostic(help(
        "set VCBUILD_DEBIAN_MIRROR to the address of a mirror's debian folder, or add the suite to the sources of apt"
    ))]
    NoMirror {
        /// The suite wanted.
        suite: String,
        /// Why there is none.
        why: String,
    },
    /// A mirror's address cannot be used.
    #[error("using the mirror {address}: {why}")]
    #[diagnostic(help("a mirror's address looks like http://HOST/debian"))]
    BadMirror {
        /// The address.
        address: String,
        /// What is wrong with it.
        why: String,
    },
    /// The keys that releases are checked with cannot be read.
    #[error("reading the keyring {path}: {why}")]
    #[diagnostic(help("install the package debian-archive-keyring, or name a file that holds Debian's archive keys"))]
    Keyring {
        /// The file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// A release is not signed by a key that is trusted.
    #[error("checking the signature of {url}: {why}")]
    #[diagnostic(help(
        "nothing of this mirror was used: it is damaged, tampered with, or signed by keys that the keyring {keyring} lacks"
    ))]
    Signature {
        /// The release.
        url: String,
        /// What is wrong with its signatures.
        why: String,
        /// The keyring it was checked with.
        keyring: String,
    },
    /// A release is past its time.
    #[error("using {url}: it was valid until {until}, which is {behind} ago")]
    #[diagnostic(help(
        "the mirror is out of date, or an attacker holds updates back: use another mirror, and check this machine's clock"
    ))]
    Stale {
        /// The release.
        url: String,
        /// Its own `Valid-Until`.
        until: String,
        /// How long ago that was.
        behind: String,
    },
    /// A release or index is not as its format has it.
    #[error("reading {url}: {why}")]
    #[diagnostic(help("the mirror does not follow the Debian repository format, or lacks what was asked for"))]
    Repository {
        /// The file.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// The mirror says that it does not have a file.
    #[error("fetching {url}: the mirror does not have it")]
    #[diagnostic(help("{help}"))]
    Gone {
        /// The file.
        url: String,
        /// What to do.
        help: &'static str,
    },
    /// The mirror could not be reached, or broke off, several times.
    #[error("fetching {url}: {attempts} attempts failed, the last because {why}")]
    #[diagnostic(help(
        "check the network and the mirror (VCBUILD_DEBIAN_MIRROR or the sources of apt); http_proxy is honoured"
    ))]
    Unreachable {
        /// The file.
        url: String,
        /// How often it was tried.
        attempts: u32,
        /// Why the last attempt failed, from the outermost cause to the innermost.
        why: String,
    },
    /// What the mirror sent is not what its signed index says.
    #[error("fetching {url}: its content is {found}, and should be {expected}")]
    #[diagnostic(help("the mirror is just being updated, damaged or tampered with: try again, or use another"))]
    Damaged {
        /// The file.
        url: String,
        /// What its content is.
        found: String,
        /// What it should be.
        expected: String,
    },
    /// No such package.
    #[error("looking for package {name}: {suite} has none of that name for {architecture}")]
    #[diagnostic(help("check the name, and whether the package is in the components asked for"))]
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
    #[diagnostic(help("leave out a package, or wait until the mirror's suite is consistent again"))]
    Unsolvable {
        /// The suite.
        suite: String,
        /// The conflict, as the solver explains it.
        why: String,
    },
    /// A package file is not as its format has it.
    #[error("unpacking {package}: {why}")]
    #[diagnostic(help(
        "the package is malformed, although it is what the index promised: report it to its maintainers"
    ))]
    Package {
        /// Its name.
        package: String,
        /// What is wrong with it.
        why: String,
    },
    /// Packages have installation scripts.
    #[error(
        "installing {}: installation scripts are not run here, and what these do is not known",
        packages.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    )]
    #[diagnostic(help(
        "leave these packages out, or use an image that has them as the base: `--base IMAGE`, such as docker.io/library/debian:bookworm"
    ))]
    Script {
        /// The packages, each with its scripts.
        packages: Vec<Unsettled>,
    },
    /// A system of a suite is asked for whose packages nobody looked at.
    #[error("making a base of Debian {codename}: what its packages do when they are installed is not known")]
    #[diagnostic(help(
        "make it of bookworm or trixie, or use an image of {codename} as the base: `--base IMAGE`, such as docker.io/library/debian:{codename}"
    ))]
    UnknownSuite {
        /// Its name.
        codename: String,
    },
    /// Two packages hold the same file.
    #[error("unpacking {second}: /{path} is in {first} already")]
    #[diagnostic(help("leave one of the two packages out"))]
    Collision {
        /// The path.
        path: String,
        /// The package that came first.
        first: String,
        /// The package that came second.
        second: String,
    },
    /// The packages do not hold what every Debian system is made of.
    #[error("setting up {path}: {why}")]
    #[diagnostic(help("this program knows Debian from bookworm on: use a newer version of it for newer suites"))]
    Setup {
        /// The file to be made.
        path: String,
        /// Why it cannot be.
        why: String,
    },
    /// The lock holds something that was not made by this program.
    #[error("using the locked package {package}: {why}")]
    #[diagnostic(help("the lock was edited or damaged: make it anew with `vcbuild base debian --update`"))]
    BadPin {
        /// Its name.
        package: String,
        /// What is wrong with it.
        why: String,
    },
    /// A file could not be used.
    #[error(transparent)]
    #[diagnostic(transparent)]
    File(#[from] vcstore::FileError),
    /// The network could not be set up.
    #[error("setting up the network")]
    #[diagnostic(help(
        "check the machine's limits on threads and files, its certificates, and HTTP_PROXY and the like"
    ))]
    Network {
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Something would have to be fetched, and may not be.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Offline(#[from] vcnetwork::Offline),
    /// The store failed.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Store(#[from] vcstore::Error),
}

impl Error {
    /// Wraps an I/O error with what was attempted and on what.
    pub(crate) fn io(attempt: &'static str, path: impl AsRef<Utf8Path>) -> impl FnOnce(io::Error) -> Self {
        vcstore::FileError::wrap(attempt, path)
    }

    /// A file of a mirror that is not as its format has it.
    pub(crate) fn repository(url: &str, why: impl Into<String>) -> Self {
        Self::Repository { url: url.to_owned(), why: why.into() }
    }

    /// A package that is not as its format has it.
    pub(crate) fn package(package: &str, why: impl Into<String>) -> Self {
        Self::Package { package: package.to_owned(), why: why.into() }
    }

    /// A file whose content is another than was promised.
    pub(crate) fn damaged(url: &str, found: &Digest, expected: &Digest) -> Self {
        Self::Damaged { url: url.to_owned(), found: found.to_string(), expected: expected.to_string() }
    }
}

/// A package that would be set up by scripts whose part nothing does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsettled {
    /// Its name.
    pub package: String,
    /// Which scripts: `preinst`, `postinst`.
    pub scripts: Vec<&'static str>,
    /// The package asked for that brought it, where that is another.
    pub brought_by: Option<String>,
}

impl fmt::Display for Unsettled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}", self.package, self.scripts.join(", "))?;
        if let Some(by) = &self.brought_by {
            write!(f, "; brought by {by}")?;
        }
        write!(f, ")")
    }
}
