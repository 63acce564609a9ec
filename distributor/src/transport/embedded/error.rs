//! Why the embedded SSH cannot use the user's configuration, keys or files.

use std::io;

use camino::Utf8PathBuf;
use miette::Diagnostic;
use thiserror::Error;

/// Why the embedded SSH cannot start. Errors of the other end are reported as for the system's ssh.
#[derive(Debug, Error, Diagnostic)]
#[non_exhaustive]
pub enum Error {
    /// A file of the user cannot be read.
    #[error("reading {path}")]
    #[diagnostic(help("{help}"))]
    Read {
        /// The file.
        path: Utf8PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
        /// The help text.
        help: &'static str,
    },
    /// A line of the configuration is invalid.
    #[error("{place}: {why}")]
    #[diagnostic(help("see ssh_config(5)"))]
    Configuration {
        /// The file and line, or the option of vcdist.
        place: String,
        /// The reason.
        why: String,
    },
    /// The configuration uses an option that only the system's ssh supports.
    #[error("{place}: the embedded SSH does not do {what}")]
    #[diagnostic(help(
        "use the system's ssh (--ssh system), or give a configuration without it for these nodes (--ssh-config FILE)"
    ))]
    Unsupported {
        /// The file and line, or the option of vcdist.
        place: String,
        /// The keyword.
        what: String,
    },
    /// The server accepts a key whose passphrase cannot be obtained.
    #[error("the key {path} has a passphrase, and there is no terminal to ask for it")]
    #[diagnostic(help("load the key into your agent with `ssh-add {path}`, or run the command on a terminal"))]
    Passphrase {
        /// The key.
        path: Utf8PathBuf,
    },
    /// No passphrase was correct.
    #[error("{attempts} wrong passphrases for the key {path}")]
    #[diagnostic(help("see with `ssh-keygen -yf {path}` whether you remember it, or load it into your agent"))]
    WrongPassphrase {
        /// The key.
        path: Utf8PathBuf,
        /// The number of attempts.
        attempts: u32,
    },
    /// A new host key cannot be saved.
    #[error("writing the host key of {host} to {path}")]
    #[diagnostic(help("make the file writable for you, or name another one (--ssh-option UserKnownHostsFile=PATH)"))]
    Learn {
        /// The host.
        host: String,
        /// The file.
        path: Utf8PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
}
