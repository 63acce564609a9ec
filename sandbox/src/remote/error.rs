//! Why a build host cannot be used. What fails while a step runs there is a failure of the step.

/// An error of a build host.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// The address cannot be understood.
    #[error("using a build host: {0}")]
    #[diagnostic(help("an address is ssh://[USER@]HOST[:PORT][/FOLDER]; the rest is as your ssh has it"))]
    BadAddress(String),

    /// This program cannot be read.
    #[error("reading this program to send it to the build host")]
    #[diagnostic(help("run a vcbuild that its user may read"))]
    OwnProgram(#[source] std::io::Error),

    /// ssh does not reach it.
    #[error("connecting to build host {address}: {why}")]
    #[diagnostic(help("`ssh` must reach it without a question: try `ssh {host} true`"))]
    Connect {
        /// Of the build host.
        address: String,
        /// Its name, for ssh.
        host: String,
        /// Why, as a clause.
        why: String,
    },

    /// It is of another kind than this machine.
    #[error("using build host {address}: it is a {machine}, and this is a {}", this_machine())]
    #[diagnostic(help("compilers and vcbuild itself are sent there: take a host of the same kind"))]
    Machine {
        /// Of the build host.
        address: String,
        /// What it is, as `uname -sm` prints it.
        machine: String,
    },

    /// vcbuild does not run there.
    #[error("using build host {address}: vcbuild does not run there: {why}")]
    #[diagnostic(help(
        "a statically linked vcbuild runs on every Linux; where the folder may not hold programs, name another: \
         ssh://HOST/FOLDER"
    ))]
    CannotRun {
        /// Of the build host.
        address: String,
        /// Why, as a clause.
        why: String,
    },

    /// Its folder is not safe, or cannot hold programs.
    #[error("using build host {address}: its folder is not used: {why}")]
    #[diagnostic(help(
        "neither the folder nor one above it may be another user's or writable for others, and it must hold programs: make \
         it so, or name another folder: ssh://HOST/FOLDER"
    ))]
    Folder {
        /// Of the build host.
        address: String,
        /// Why, as a clause.
        why: String,
    },

    /// No sandbox can be made there.
    #[error("using build host {address}: making a sandbox there: {why}")]
    #[diagnostic(help("allow namespaces there, or have it go without, which is recorded: --sandbox auto or off"))]
    Sandbox {
        /// Of the build host.
        address: String,
        /// Why, as a clause.
        why: String,
    },

    /// A step needs this machine's own programs.
    #[error("running {program} on {address}: it needs this machine's own programs, which are not sent")]
    #[diagnostic(help(
        "build without --build-host what Cargo or a command with `system` makes; a command without it takes all that it runs \
         as `inputs`"
    ))]
    System {
        /// Of the build host.
        address: String,
        /// The program of the step.
        program: String,
    },
}

/// This machine in the words of `uname -sm`.
pub(super) fn this_machine() -> String {
    format!("Linux {}", std::env::consts::ARCH)
}
