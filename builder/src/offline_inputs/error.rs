//! What can be wrong with a folder of inputs, and what to do about it.

use camino::Utf8PathBuf;
use vcstore::Digest;

use vcsandbox::process;

/// An error of a folder of inputs.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub(crate) enum Error {
    #[error("using the inputs in {folder}: it is no folder of inputs")]
    #[diagnostic(help("`vcbuild fetch --to DIR` makes one"))]
    None { folder: Utf8PathBuf },

    #[error("using the inputs in {folder}: it is of version {found}, and this vcbuild knows version {known}")]
    #[diagnostic(help("make the folder anew with this vcbuild, or use the vcbuild that made it"))]
    Version { folder: Utf8PathBuf, found: u32, known: u32 },

    #[error("{attempt}: {path} is something else: its content is {found}")]
    #[diagnostic(help(
        "nothing of it was used: the folder is damaged or tampered with; make it anew with `vcbuild fetch`"
    ))]
    Blob { attempt: String, path: Utf8PathBuf, found: Digest },

    #[error("{attempt}: the files in {folder} are of tree {found}, and the lock pins tree {expected}")]
    #[diagnostic(help(
        "nothing of it was used: the folder is damaged or tampered with; make it anew with `vcbuild fetch`"
    ))]
    Tree { attempt: String, folder: Utf8PathBuf, expected: String, found: String },

    #[error("taking Go modules from the inputs in {folder}")]
    #[diagnostic(help(
        "modules must be what go.sum says, and all that the programs need must be there: make the folder anew with \
         `vcbuild fetch`, for this source and these platforms"
    ))]
    Modules { folder: Utf8PathBuf, source: Box<process::Failure> },

    #[error("writing inputs to {to}: the folder is not empty")]
    #[diagnostic(help("name another folder, or remove this one"))]
    NotEmpty { to: Utf8PathBuf },

    #[error("carrying {url} at {commit}: checked out, its files are of tree {found}, and not {tree}")]
    #[diagnostic(help(
        "a source with submodules, or whose .gitattributes change files as they are checked out, cannot be carried: give its \
         folder with --source-dir instead"
    ))]
    Attributes { url: String, commit: String, tree: String, found: String },

    #[error("carrying the crates of {component}")]
    #[diagnostic(help(
        "inputs of Cargo workspaces are not carried: build where Cargo may fetch, or from a store that has the crates, with \
         --offline"
    ))]
    Cargo { component: String },
}
