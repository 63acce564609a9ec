//! Paths as UTF-8 text.

use std::io;
use std::path::Path;

use camino::Utf8PathBuf;

use crate::Error;

/// Returns a path as text.
///
/// # Errors
/// When it is not UTF-8; `attempt` is the operation for the message, such as "reading".
pub fn utf8(attempt: &'static str, path: &Path) -> Result<Utf8PathBuf, Error> {
    let path = Utf8PathBuf::try_from(path.to_owned());
    path.map_err(|error| Error::io(attempt, lossy(error.as_path()))(io::Error::other("its name is not UTF-8")))
}

/// Returns a path as text for a message, with replacement characters for invalid UTF-8.
#[must_use]
pub fn lossy(path: &Path) -> Utf8PathBuf {
    Utf8PathBuf::from(path.to_string_lossy().into_owned())
}

/// Returns the path in an environment variable; `None` if it is unset or empty.
#[must_use]
pub fn path_variable(name: &str) -> Option<Utf8PathBuf> {
    std::env::var(name).ok().filter(|value| !value.is_empty()).map(Utf8PathBuf::from)
}

/// Returns the folder of the user's settings: `$XDG_CONFIG_HOME`, or else `~/.config`.
#[must_use]
pub fn config_folder() -> Option<Utf8PathBuf> {
    path_variable("XDG_CONFIG_HOME").or_else(|| Some(path_variable("HOME")?.join(".config")))
}
