//! Errors of an archive's provenance, each with advice.

/// An error of an archive's provenance.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub(crate) enum ProvenanceError {
    #[error("checking {archive}: it does not contain the provenance of its images")]
    #[diagnostic(help(
        "archives that `vcbuild images` writes contain a provenance.json; for other archives, check the component in the folder of \
         its source: `vcbuild check COMPONENT`"
    ))]
    None { archive: String },

    #[error("checking {archive}: its provenance.json cannot be read: {why}")]
    #[diagnostic(help("it was written by another version of vcbuild ({made_by}), or modified: this is version {}", env!("CARGO_PKG_VERSION")))]
    Unreadable { archive: String, made_by: String, why: String },

    #[error("checking {archive}: its images were built from a folder, but no folder is named")]
    #[diagnostic(help("name the folder of the source with --source-dir"))]
    NoFolder { archive: String },

    #[error("checking {archive}: it requests files of this machine that you did not allow: {}", paths.join(", "))]
    #[diagnostic(help(
        "check these files first: an archive can name any file, and vcbuild prints differences. --allow-path PATH allows \
         it to read a file, or all files in a folder"
    ))]
    HostPaths { archive: String, paths: Vec<String> },

    #[error("checking {archive}: the source differs from the one that its images were built from: {}", differing.join(", "))]
    #[diagnostic(help("name the folder of the unchanged source with --source-dir"))]
    OtherSource { archive: String, differing: Vec<String> },
}

impl ProvenanceError {
    /// Returns whether a command-line option is missing.
    pub(crate) fn is_usage(&self) -> bool {
        matches!(self, Self::NoFolder { .. })
    }
}
