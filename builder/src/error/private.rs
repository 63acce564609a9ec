//! The error of a private file that a project names, with advice.

use camino::Utf8PathBuf;

/// A path that a project file names and that the project may not read.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("{whose} {path} is private: other users of this machine cannot read {private}")]
#[diagnostic(help(
    "outside its own folder a project may use only files that other users can read, so that it cannot copy your private \
     files. To allow this path: --allow-path {real}, or allow-paths in your settings (vcbuild/config.toml)"
))]
pub(crate) struct PrivateInput {
    /// The role of the path in the project, such as "building x: its input".
    pub(crate) whose: String,
    /// The path in the project file, and the resolved path.
    pub(crate) path: Utf8PathBuf,
    pub(crate) real: Utf8PathBuf,
    /// The file or folder that other users cannot read: the path itself, a folder above it, or an entry below it.
    pub(crate) private: Utf8PathBuf,
}
