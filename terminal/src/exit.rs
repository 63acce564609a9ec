//! The exit codes of both tools, which are a documented contract.

use std::process::{ExitCode, Termination};

/// The result of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// 0: everything was done.
    Done,
    /// 1: it could not be done.
    Failed,
    /// 2: the command line or a configuration file cannot be used. Clap exits with the same code.
    Usage,
    /// 3: the command worked, and its check found a difference.
    Difference,
    /// 4: some nodes were served and others failed.
    SomeNodes,
}

impl Exit {
    /// Returns the process exit code.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Difference => 3,
            Self::SomeNodes => 4,
        }
    }
}

impl Termination for Exit {
    fn report(self) -> ExitCode {
        ExitCode::from(self.code())
    }
}
