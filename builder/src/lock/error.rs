//! What can be wrong with a lock, and what to do about it.

use camino::Utf8PathBuf;
use vcterminal::Exit;

/// An error of the lock.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub(crate) enum Error {
    #[error("reading lock {path}")]
    #[diagnostic(help("correct it, or remove it to have everything resolved anew"))]
    Syntax { path: Utf8PathBuf, source: Box<toml::de::Error> },

    #[error("reading lock {path}: its version is {found}, and this program reads versions up to {known}")]
    #[diagnostic(help("use the vcbuild that wrote it, or remove it to have everything resolved anew"))]
    Version { path: Utf8PathBuf, found: u32, known: u32 },

    #[error("using lock {path}: it does not pin {input}")]
    #[diagnostic(help(
        "run `vcbuild lock` and commit the lock; to resolve what it lacks as it is now, give --no-locked (--locked is the \
         default where CI is set)"
    ))]
    Missing { path: Utf8PathBuf, input: String },

    #[error("using lock {path}: it is not what the inputs are now\n{changes}")]
    #[diagnostic(help(
        "if that is meant, run `vcbuild lock` and commit the lock, or give --no-locked (--locked is the default where CI \
         is set)"
    ))]
    Drift { path: Utf8PathBuf, changes: String },

    #[error("using lock {path}: it pins {input} to {pinned}, and what was found is {found}")]
    #[diagnostic(help(
        "the same version never has other content: somebody changed it on the way, or its author published it twice. Find \
         out which before you remove its entry from the lock"
    ))]
    Checksum { path: Utf8PathBuf, input: String, pinned: String, found: String },

    #[error("updating lock {path}: Go module {name} is what the source's go.mod asks for")]
    #[diagnostic(help("move it there (`go get {name}@VERSION`), and run `vcbuild lock`: the lock follows"))]
    Follows { path: Utf8PathBuf, name: String },

    #[error("updating lock {path}: it has no input {name}")]
    #[diagnostic(help("it has {}", known.join(", ")))]
    NoSuchInput { path: Utf8PathBuf, name: String, known: Vec<String> },
}

impl Error {
    /// How the process ends with this error.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Checksum { .. } => Exit::Failed,
            _ => Exit::Usage,
        }
    }
}
