//! What can go wrong on the way to a Go toolchain, and what to do about it.

use camino::Utf8PathBuf;
use vcstore::Platform;

/// An error of fetching Go itself.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub(crate) enum Error {
    #[error("fetching Go {version}: nothing says where from")]
    #[diagnostic(help(
        "set GOPROXY to the address of a Go module proxy, as `go env GOPROXY` prints it on a machine that has Go"
    ))]
    NoProxy { version: String },

    #[error("fetching Go {version}: nothing says by which database it is checked")]
    #[diagnostic(help(
        "use a lock that pins it, or set GOSUMDB as `go env GOSUMDB` prints it on a machine that has Go, or GOSUMDB=off to \
         trust what is fetched now: from then on the lock checks it"
    ))]
    NoDatabase { version: String },

    #[error("reading GOPROXY: {place:?} is none of https://…, http://…, file://…, direct and off")]
    #[diagnostic(help("`go help goproxy` says what GOPROXY may be"))]
    BadProxy { place: String },

    #[error("fetching {path}: none of the proxies in GOPROXY has it")]
    #[diagnostic(help("check the version, and that one of the proxies carries golang.org/toolchain"))]
    NotThere { path: String },

    #[error("fetching {path} from {place}: {why}")]
    #[diagnostic(help("check the network and GOPROXY; HTTPS_PROXY is honoured"))]
    Fetch { path: String, place: String, why: String },

    #[error("preparing to ask Go module proxies: {why}")]
    #[diagnostic(help(
        "a machine without certificates can check nobody's: install them (Debian: apt-get install ca-certificates), or name \
         their file with SSL_CERT_FILE"
    ))]
    Client { why: String },

    #[error(transparent)]
    #[diagnostic(transparent)]
    Proxy(#[from] vcnetwork::http::BadProxy),

    #[error("looking for the newest Go {version}: there is none for {host}")]
    #[diagnostic(help("check the version: 1.26.x is the newest of 1.26"))]
    NoRelease { version: String, host: Platform },

    #[error("looking for a Go toolchain: there is none for {os}/{architecture}")]
    #[diagnostic(help("install Go, and leave out the version to compile with"))]
    NoHost { os: &'static str, architecture: &'static str },

    #[error("using the Go that is installed: {go} is a script and not a program")]
    #[diagnostic(help(
        "put the folder of the Go that it runs first on PATH, or name a version to have it fetched (--go 1.26.x)"
    ))]
    Script { go: Utf8PathBuf },

    #[error("checking Go {version} for {host}: its checksum is {found}, and should be {expected}")]
    #[diagnostic(help("nothing of it was used: the proxy is damaged or tampered with; use another"))]
    Checksum { version: String, host: Platform, expected: String, found: String },

    #[error("asking checksum database {database} for {module}: {why}")]
    #[diagnostic(help("nothing of its answer was used: check GOSUMDB and the way to it"))]
    Database { database: String, module: String, why: String },

    #[error("unpacking {path}: {why}")]
    #[diagnostic(help("the proxy is damaged or tampered with: use another"))]
    Archive { path: Utf8PathBuf, why: String },
}
