//! Errors of a folder of offline inputs, each with advice.

use camino::Utf8PathBuf;
use vcstore::Digest;

use vcsandbox::process;

/// An error of a folder of offline inputs.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub(crate) enum InputsError {
    #[error("using the inputs in {folder}: it is not a folder of inputs")]
    #[diagnostic(help("`vcbuild fetch --to DIR` creates one"))]
    None { folder: Utf8PathBuf },

    #[error("using the inputs in {folder}: its version is {found}, but this vcbuild supports version {known}")]
    #[diagnostic(help("recreate the folder with this vcbuild, or use the version of vcbuild that created it"))]
    Version { folder: Utf8PathBuf, found: u32, known: u32 },

    #[error("{attempt}: {path} has the wrong content: its digest is {found}")]
    #[diagnostic(help(
        "vcbuild did not use it: the folder is damaged or tampered with; recreate it with `vcbuild fetch`"
    ))]
    Blob { attempt: String, path: Utf8PathBuf, found: Digest },

    #[error("{attempt}: the files in {folder} have tree {found}, but the lock file pins tree {expected}")]
    #[diagnostic(help(
        "vcbuild did not use it: the folder is damaged or tampered with; recreate it with `vcbuild fetch`"
    ))]
    Tree { attempt: String, folder: Utf8PathBuf, expected: String, found: String },

    #[error("reading Go modules from the inputs in {folder}")]
    #[diagnostic(help(
        "modules must match go.sum, and no required module may be missing: recreate the folder with `vcbuild fetch` for \
         this source and these platforms"
    ))]
    Modules { folder: Utf8PathBuf, source: Box<process::Failure> },

    #[error("writing inputs to {to}: the folder is not empty")]
    #[diagnostic(help("name another folder, or remove this one"))]
    NotEmpty { to: Utf8PathBuf },

    #[error("copying {url} at {commit}: the checked-out files have tree {found}, not {tree}")]
    #[diagnostic(help(
        "vcbuild cannot copy a source with submodules, or whose .gitattributes change files at checkout: name its folder \
         with --source-dir instead"
    ))]
    Attributes { url: String, commit: String, tree: String, found: String },

    #[error("copying the crates of {component}")]
    #[diagnostic(help(
        "vcbuild cannot copy the inputs of Cargo workspaces: build with network access for Cargo, or with --offline from \
         a store that has the crates"
    ))]
    Cargo { component: String },
}
