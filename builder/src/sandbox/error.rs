//! Why an action cannot be confined.

/// An error of the sandbox itself; what a program in it does is a [`crate::process::Failure`].
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub(crate) enum Error {
    /// The machine forbids what the sandbox is made of.
    #[error("making a sandbox: cannot {attempt}")]
    #[diagnostic(help("{}", super::probe::advice()))]
    Forbidden { attempt: String, source: std::io::Error },

    /// The machine does not let us filter system calls.
    #[error("making a sandbox: cannot {attempt}")]
    #[diagnostic(help("{}; --sandbox auto goes on without, which is recorded", super::probe::FILTER_ADVICE))]
    Unfiltered { attempt: String, source: std::io::Error },

    /// It cannot be known what the machine forbids.
    #[error("making a sandbox: {why}")]
    #[diagnostic(help("run the command again; if it stays so, --sandbox off goes without, which is recorded"))]
    Broken { why: String },
}
