//! Errors of paths in an image, each with advice.

/// An error of a file that cannot be added at its path.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub(crate) enum PlacementError {
    #[error("adding /{path} to {component}: its path passes through /{through}, which is a file in {place}")]
    #[diagnostic(help("name a path of the image that passes only through folders"))]
    ThroughFile { component: String, path: String, through: String, place: Location },

    #[error("adding /{path} to {component}: its path passes through too many symbolic links of the base")]
    #[diagnostic(help("name a path that does not pass through a cycle of symbolic links"))]
    Loop { component: String, path: String },

    #[error("adding /{path} to {component}: {place} has a folder at /{at}, whose content would be lost")]
    #[diagnostic(help("name another path in vcbuild.toml, or one within that folder"))]
    OverFolder { component: String, path: String, at: String, place: Location },

    #[error("adding /{path} to {component}: the component already has another file at /{at}")]
    #[diagnostic(help(
        "give each file of `files`, `prebuilt`, `outputs` and the program a different path; paths through symbolic links \
         of the base can lead to the same place"
    ))]
    Twice { component: String, path: String, at: String },
}

/// The location of an entry that conflicts with a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Location {
    Base,
    Component,
}

impl std::fmt::Display for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Base => "the base",
            Self::Component => "the component",
        })
    }
}
