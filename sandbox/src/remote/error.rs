//! Errors of a build host. A failure of a step that runs on it is reported as a failure of the step.

/// An error of a build host.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// The address is invalid.
    #[error("using a build host: {0}")]
    #[diagnostic(help(
        "an address is ssh://[USER@]HOST[:PORT][/FOLDER]; all other settings come from your SSH configuration"
    ))]
    BadAddress(String),

    /// This program cannot be read.
    #[error("reading this program to send it to the build host")]
    #[diagnostic(help("make the vcbuild executable readable for its user"))]
    OwnProgram(#[source] std::io::Error),

    /// ssh cannot connect to it.
    #[error("connecting to build host {address}: {why}")]
    #[diagnostic(help("`ssh` must connect without a prompt: try `ssh {host} true`"))]
    Connect {
        /// The address of the build host.
        address: String,
        /// Its name, for ssh.
        host: String,
        /// The reason, as a clause.
        why: String,
    },

    /// Its platform differs from this machine's.
    #[error("using build host {address}: its platform is {machine}, but this machine is {}", this_machine())]
    #[diagnostic(help("vcbuild sends itself and the compilers to the build host: use a host of the same platform"))]
    Machine {
        /// The address of the build host.
        address: String,
        /// Its platform, as `uname -sm` prints it.
        machine: String,
    },

    /// vcbuild does not run there.
    #[error("using build host {address}: vcbuild does not run there: {why}")]
    #[diagnostic(help(
        "a statically linked vcbuild runs on every Linux; if the folder is mounted noexec, name another: ssh://HOST/FOLDER"
    ))]
    CannotRun {
        /// The address of the build host.
        address: String,
        /// The reason, as a clause.
        why: String,
    },

    /// Its folder is not safe, or programs cannot be executed from it.
    #[error("using build host {address}: its folder is not safe or not usable: {why}")]
    #[diagnostic(help(
        "the folder and its parents must not belong to or be writable by another user, and the folder must not be mounted \
         noexec: correct that, or name another folder: ssh://HOST/FOLDER"
    ))]
    Folder {
        /// The address of the build host.
        address: String,
        /// The reason, as a clause.
        why: String,
    },

    /// The sandbox cannot be created there.
    #[error("using build host {address}: creating a sandbox on it: {why}")]
    #[diagnostic(help(
        "allow namespaces on the build host, or build without a sandbox, which is recorded: --sandbox auto or off"
    ))]
    Sandbox {
        /// The address of the build host.
        address: String,
        /// The reason, as a clause.
        why: String,
    },

    /// A step needs this machine's own programs.
    #[error("running {program} on {address}: it needs this machine's own programs, which are not sent")]
    #[diagnostic(help(
        "build Cargo programs, and components with `system`, without --build-host; a command without `system` gets all \
         programs that it runs as `inputs`"
    ))]
    System {
        /// The address of the build host.
        address: String,
        /// The program of the step.
        program: String,
    },
}

/// Returns the platform of this machine in the format of `uname -sm`.
pub(super) fn this_machine() -> String {
    format!("Linux {}", std::env::consts::ARCH)
}
