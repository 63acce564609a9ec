//! Why the embedded SSH cannot do what the user's configuration, keys or files ask of it.

use std::io;

use camino::Utf8PathBuf;
use miette::Diagnostic;
use thiserror::Error;

/// Why the embedded SSH does not begin. What goes wrong with the other end is told as for the system's ssh.
#[derive(Debug, Error, Diagnostic)]
#[non_exhaustive]
pub enum Error {
    /// A file of the user's cannot be read.
    #[error("reading {path}")]
    #[diagnostic(help("{help}"))]
    Read {
        /// The file.
        path: Utf8PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
        /// What to do.
        help: &'static str,
    },
    /// A line of the configuration makes no sense.
    #[error("{place}: {why}")]
    #[diagnostic(help("see ssh_config(5)"))]
    Configuration {
        /// The file and line, or the option of ours.
        place: String,
        /// What is wrong with it.
        why: String,
    },
    /// The configuration asks for what only the system's ssh does.
    #[error("{place}: the embedded SSH does not do {what}")]
    #[diagnostic(help(
        "use the system's ssh (--ssh system), or give a configuration without it for these nodes (--ssh-config FILE)"
    ))]
    Unsupported {
        /// The file and line, or the option of ours.
        place: String,
        /// The keyword.
        what: String,
    },
    /// A key would let us in, and its passphrase is not to be had.
    #[error("the key {path} has a passphrase, and there is no terminal to ask for it")]
    #[diagnostic(help("load the key into your agent with `ssh-add {path}`, or run the command on a terminal"))]
    Passphrase {
        /// The key.
        path: Utf8PathBuf,
    },
    /// Nobody knew the passphrase.
    #[error("{attempts} wrong passphrases for the key {path}")]
    #[diagnostic(help("see with `ssh-keygen -yf {path}` whether you remember it, or load it into your agent"))]
    WrongPassphrase {
        /// The key.
        path: Utf8PathBuf,
        /// How many were tried.
        attempts: u32,
    },
    /// A host key that is to be learned cannot be written down.
    #[error("writing the host key of {host} to {path}")]
    #[diagnostic(help("make the file writable for you, or name another one (--ssh-option UserKnownHostsFile=PATH)"))]
    Learn {
        /// The host.
        host: String,
        /// The file.
        path: Utf8PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}
