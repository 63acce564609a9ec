//! Errors of Go toolchains, each with advice.

use camino::Utf8PathBuf;
use vcstore::Platform;

/// An error of finding or fetching Go.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub(crate) enum ToolchainError {
    #[error("fetching Go {version}: GOPROXY is not set")]
    #[diagnostic(help(
        "set GOPROXY to the address of a Go module proxy, as `go env GOPROXY` prints it on a machine that has Go"
    ))]
    NoProxy { version: String },

    #[error("fetching Go {version}: no checksum database is configured")]
    #[diagnostic(help(
        "use a lock file that pins it, or set GOSUMDB as `go env GOSUMDB` prints it on a machine that has Go, or \
         GOSUMDB=off to trust the first download, which the lock file then pins"
    ))]
    NoDatabase { version: String },

    #[error("reading GOPROXY: {place:?} is not one of https://…, http://…, file://…, direct and off")]
    #[diagnostic(help("`go help goproxy` describes the values of GOPROXY"))]
    BadProxy { place: String },

    #[error("fetching {path}: no proxy in GOPROXY has it")]
    #[diagnostic(help("check the version, and that one of the proxies serves golang.org/toolchain"))]
    NotThere { path: String },

    #[error("fetching {path} from {place}: {why}")]
    #[diagnostic(help("check the network and GOPROXY; HTTPS_PROXY sets the proxy"))]
    Fetch { path: String, place: String, why: String },

    #[error("preparing requests to Go module proxies: {why}")]
    #[diagnostic(help(
        "the machine may have no CA certificates: install them (Debian: apt-get install ca-certificates), or name their \
         file with SSL_CERT_FILE"
    ))]
    Client { why: String },

    #[error(transparent)]
    #[diagnostic(transparent)]
    Proxy(#[from] vcnetwork::http::BadProxy),

    #[error("looking for the newest Go {version}: there is none for {host}")]
    #[diagnostic(help("check the version: 1.26.x selects the newest release of 1.26"))]
    NoRelease { version: String, host: Platform },

    #[error("looking for a Go toolchain: Go has none for {os}/{architecture}")]
    #[diagnostic(help("install Go, and remove the Go version from the options and the project"))]
    NoHost { os: &'static str, architecture: &'static str },

    #[error("using the installed Go: {go} is a script, not a program")]
    #[diagnostic(help(
        "put the folder of the Go that the script runs first in PATH, or name a version for vcbuild to fetch (--go 1.26.x)"
    ))]
    Script { go: Utf8PathBuf },

    #[error("checking Go {version} for {host}: its checksum is {found}, expected {expected}")]
    #[diagnostic(help("vcbuild did not use it: the proxy is damaged or tampered with; use another proxy"))]
    Checksum { version: String, host: Platform, expected: String, found: String },

    #[error("querying checksum database {database} for {module}: {why}")]
    #[diagnostic(help("vcbuild did not use its answer: check GOSUMDB and the network connection to it"))]
    Database { database: String, module: String, why: String },

    #[error("unpacking {path}: {why}")]
    #[diagnostic(help("the proxy is damaged or tampered with: use another proxy"))]
    Archive { path: Utf8PathBuf, why: String },
}
