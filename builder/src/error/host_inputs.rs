//! Errors of host inputs, each with advice.

use camino::Utf8PathBuf;

use super::Error;

/// An error of a component's host input.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub(crate) enum HostInputError {
    #[error("building {component}: its input {host} cannot be used")]
    #[diagnostic(help("correct `inputs` in vcbuild.toml: its values must be files or folders of this machine"))]
    Input { component: String, host: Utf8PathBuf, source: Box<Error> },

    #[error(
        "building {component}: its input {host} must appear at {inside}, which requires a sandbox, and commands run \
         without one here"
    )]
    #[diagnostic(help(
        "only a sandbox can show an input at another path: use the input's own path in vcbuild.toml, or let vcbuild \
         confine commands (`--sandbox required` reports what prevents it)"
    ))]
    NeedsSandbox { component: String, host: Utf8PathBuf, inside: String },
}
