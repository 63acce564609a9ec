//! Errors of Debian bases, each with advice.

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
        "set VCBUILD_DEBIAN_MIRROR to the address of a mirror's debian folder, or add the suite to the apt sources"
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
    #[diagnostic(help(
        "install the package debian-archive-keyring, or name a file that contains Debian's archive keys"
    ))]
    Keyring {
        /// The file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// A release is not signed by a key that is trusted.
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
        /// The keyring it was checked with.
        keyring: String,
    },
    /// A release is past its time.
    #[error("using {url}: it expired {behind} ago (Valid-Until: {until})")]
    #[diagnostic(help(
        "the mirror is out of date, or an attacker withholds updates: use another mirror, and check this machine's clock"
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
    #[diagnostic(help("the mirror does not follow the Debian repository format, or lacks the requested content"))]
    Repository {
        /// The file.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// The mirror says that it does not have a file.
    #[error("fetching {url}: the mirror does not have this file")]
    #[diagnostic(help("{help}"))]
    Gone {
        /// The file.
        url: String,
        /// What to do.
        help: &'static str,
    },
    /// The mirror could not be reached, or broke off, several times.
    #[error("fetching {url}: {attempts} attempts failed, the last with: {why}")]
    #[diagnostic(help(
        "check the network and the mirror (VCBUILD_DEBIAN_MIRROR or the apt sources); http_proxy sets the proxy"
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
    #[error("fetching {url}: its content is {found}, expected {expected}")]
    #[diagnostic(help("the mirror is being updated, damaged or tampered with: try again, or use another mirror"))]
    Damaged {
        /// The file.
        url: String,
        /// What its content is.
        found: String,
        /// What it should be.
        expected: String,
    },
    /// No such package.
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
    /// A package file is not as its format has it.
    #[error("unpacking {package}: {why}")]
    #[diagnostic(help("the package matches the signed index but is malformed: report it to its maintainers"))]
    Package {
        /// Its name.
        package: String,
        /// What is wrong with it.
        why: String,
    },
    /// Packages have installation scripts.
    #[error(
        "installing {}: vcbuild does not run maintainer scripts, and has no replacement for these",
        packages.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    )]
    #[diagnostic(help(
        "remove these packages, or use an image that contains them as the base: `--base IMAGE`, for example \
         docker.io/library/debian:bookworm"
    ))]
    Script {
        /// The packages, each with its scripts.
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
    /// Two packages hold the same file.
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
    /// The packages do not hold what every Debian system is made of.
    #[error("setting up {path}: {why}")]
    #[diagnostic(help(
        "vcbuild supports Debian bookworm and later: for a newer suite, use a newer version of vcbuild"
    ))]
    Setup {
        /// The file to be made.
        path: String,
        /// Why it cannot be.
        why: String,
    },
    /// The lock holds something that was not made by this program.
    #[error("using the locked package {package}: {why}")]
    #[diagnostic(help("the lock file was edited or damaged: recreate it with `vcbuild base debian --update`"))]
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
        "check the machine's limits on threads and open files, its certificates, and the proxy variables (HTTP_PROXY and \
         others)"
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
pub struct UnhandledScripts {
    /// Its name.
    pub package: String,
    /// Which scripts: `preinst`, `postinst`.
    pub scripts: Vec<&'static str>,
    /// The package asked for that brought it, where that is another.
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
