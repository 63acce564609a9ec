//! Errors of files that a project adds, each with advice.

use camino::Utf8PathBuf;

/// An error of a file that a project adds.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub(crate) enum FilesError {
    #[error("adding {path} to {component}: there is no {from} in {place}{why}")]
    #[diagnostic(help("correct `from` in vcbuild.toml; `in = \"source\"` reads it from the source"))]
    Missing {
        component: String,
        path: String,
        from: Utf8PathBuf,
        place: Utf8PathBuf,
        why: String,
        source: std::io::Error,
    },

    #[error("adding {path} to {component}: {from} has no files")]
    #[diagnostic(help(
        "vcbuild does not copy folders without files, because git does not track them: add an empty folder by its path \
         alone, for example \"/data\" = {{}}"
    ))]
    Empty { component: String, path: String, from: Utf8PathBuf },

    #[error("adding {path} to {component}: {from} is {what}")]
    #[diagnostic(help(
        "an image may contain files of the source, but not the files that git or vcbuild keep next to them: name another file"
    ))]
    Kept { component: String, path: String, from: Utf8PathBuf, what: &'static str },

    #[error("adding {path} to {component}: {from} is a Git LFS pointer, not the file itself")]
    #[diagnostic(help("fetch the file with `git lfs pull`, and build again"))]
    Pointer { component: String, path: String, from: Utf8PathBuf },

    #[error(
        "adding {path} to {component}: an edit changes {from} only in the source, but the file is read from the folder of \
         vcbuild.toml"
    )]
    #[diagnostic(help("set `in = \"source\"` to use the edited file, or remove the edit"))]
    Edited { component: String, path: String, from: Utf8PathBuf },

    #[error("adding {path} to {component}: {link} points outside {folder}")]
    #[diagnostic(help(
        "an image cannot contain a link to a path of this machine: copy the file, or use `link` in vcbuild.toml for a \
         link within the image"
    ))]
    LeadsOut { component: String, path: String, link: Utf8PathBuf, folder: Utf8PathBuf },

    #[error("adding {path} to {component}: {from} is not a file, folder or symbolic link")]
    #[diagnostic(help("an image cannot contain sockets, pipes or devices: name a file or a folder"))]
    Special { component: String, path: String, from: Utf8PathBuf },
}
