//! Why a build host cannot be used. What fails while a step runs there is a failure of the step.

/// An error of a build host.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub(crate) enum Error {
    #[error("using a build host: {0}")]
    #[diagnostic(help("an address is ssh://[USER@]HOST[:PORT][/FOLDER]; the rest is as your ssh has it"))]
    BadAddress(String),

    #[error("reading this program to send it to the build host")]
    #[diagnostic(help("run a vcbuild that its user may read"))]
    OwnProgram(#[source] std::io::Error),

    #[error("connecting to build host {address}: {why}")]
    #[diagnostic(help("`ssh` must reach it without a question: try `ssh {host} true`"))]
    Connect { address: String, host: String, why: String },

    #[error("using build host {address}: it is a {machine}, and this is a {}", this_machine())]
    #[diagnostic(help("compilers and vcbuild itself are sent there: take a host of the same kind"))]
    Machine { address: String, machine: String },

    #[error("using build host {address}: vcbuild does not run there: {why}")]
    #[diagnostic(help(
        "a statically linked vcbuild runs on every Linux; where the folder may not hold programs, name another: \
         ssh://HOST/FOLDER"
    ))]
    CannotRun { address: String, why: String },

    #[error("using build host {address}: its folder is not used: {why}")]
    #[diagnostic(help(
        "neither the folder nor one above it may be another user's or writable for others, and it must hold programs: make \
         it so, or name another folder: ssh://HOST/FOLDER"
    ))]
    Folder { address: String, why: String },

    #[error("using build host {address}: making a sandbox there: {why}")]
    #[diagnostic(help("allow namespaces there, or have it go without, which is recorded: --sandbox auto or off"))]
    Sandbox { address: String, why: String },

    #[error("running {program} on {address}: it needs this machine's own programs, which are not sent")]
    #[diagnostic(help(
        "build without --build-host what Cargo or a command with `system` makes; a command without it takes all that it runs \
         as `inputs`"
    ))]
    System { address: String, program: String },
}

/// This machine in the words of `uname -sm`.
pub(super) fn this_machine() -> String {
    format!("Linux {}", std::env::consts::ARCH)
}
