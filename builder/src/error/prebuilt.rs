//! Errors of prebuilt files, each with advice.

use camino::Utf8PathBuf;
use vcstore::{Digest, Platform};

/// An error of a prebuilt file.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub(crate) enum PrebuiltError {
    #[error("using the prebuilt {file} of {component}: it is not in the source {source_dir}")]
    #[diagnostic(help(
        "correct `prebuilt` in vcbuild.toml (paths are relative to the source's folder, {{arch}} is amd64 or arm64), or \
         add the file"
    ))]
    Missing { component: String, file: Utf8PathBuf, source_dir: Utf8PathBuf, source: std::io::Error },

    #[error("using the prebuilt {file} of {component}: an edit changes it, but prebuilt files are used unchanged")]
    #[diagnostic(help(
        "remove the edit, or use the file of the edited source: an entry of `files` with `in = \"source\"`"
    ))]
    Edited { component: String, file: Utf8PathBuf },

    #[error("using the prebuilt {file} of {component}: it is a Git LFS pointer, not the file itself")]
    #[diagnostic(help("fetch the file with `git lfs pull`, and build again"))]
    Pointer { component: String, file: Utf8PathBuf },

    #[error("using the prebuilt {file} of {component}: it {why}")]
    #[diagnostic(help("name a regular file in the source's folder in vcbuild.toml"))]
    Unusable { component: String, file: Utf8PathBuf, why: String },

    #[error("using the prebuilt {file} of {component}: its digest is {found}, but vcbuild.toml requires {declared}")]
    #[diagnostic(help("use the intended file, or correct its `sha256` in vcbuild.toml"))]
    Undeclared { component: String, file: Utf8PathBuf, declared: Digest, found: Digest },

    #[error("using the prebuilt {file} of {component}: {lock} pins it to {pinned}, but it is {found}")]
    #[diagnostic(help("if the new file is intended, pin it with `vcbuild lock --update {file}`"))]
    Drift { component: String, file: Utf8PathBuf, lock: Utf8PathBuf, pinned: Digest, found: Digest },

    #[error("using the prebuilt {file} of {component} for {platform}: it is a program for {found}")]
    #[diagnostic(help(
        "name a program for {} in vcbuild.toml ({{arch}} is the processor architecture), or build for another --platform",
        platform.architecture
    ))]
    Machine { component: String, file: Utf8PathBuf, platform: Platform, found: String },
}
