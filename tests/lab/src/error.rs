//! The errors of a lab, each with advice. If a component failed, the error contains the end of its log.

use std::io;

use camino::Utf8PathBuf;
use miette::Diagnostic;
use thiserror::Error;

/// Why a lab could not be started, used or removed.
#[derive(Debug, Error, Diagnostic)]
#[non_exhaustive]
pub enum Error {
    /// The process is not root, which network namespaces, mounts and cgroups require.
    #[error("a lab needs root: it makes network namespaces, mounts and cgroups")]
    #[diagnostic(help("run the same command as root, for example through sudo -E"))]
    NotRoot,

    /// A name or folder cannot be used in namespaces, cgroups and mount options.
    #[error("{what} {value:?} cannot be used: {why}")]
    #[diagnostic(help("choose another one"))]
    BadOption {
        /// The option.
        what: &'static str,
        /// The value.
        value: String,
        /// The reason.
        why: &'static str,
    },

    /// The folder contains files that no lab wrote.
    #[error("the folder {path} is not empty and not a lab's")]
    #[diagnostic(help("name an empty folder, or one that does not exist"))]
    ForeignFolder {
        /// The folder.
        path: Utf8PathBuf,
    },

    /// No lab with this name is running.
    #[error("there is no lab named {name}")]
    #[diagnostic(help(
        "`cargo xtask lab up --name {name}` starts one; `cargo xtask lab status` lists those there are"
    ))]
    NoSuchLab {
        /// The requested name.
        name: String,
    },

    /// The lab has no node with this name.
    #[error("the lab {lab} has no node {node}; it has {nodes}")]
    #[diagnostic(help("name one of these"))]
    NoSuchNode {
        /// The lab.
        lab: String,
        /// The requested node.
        node: String,
        /// The existing nodes, separated by commas.
        nodes: String,
    },

    /// Another process is starting or removing the same lab.
    #[error("another process is bringing the lab {name} up or down, and did not finish within {seconds} s")]
    #[diagnostic(help("wait for it, or choose another --name"))]
    Busy {
        /// The lab.
        name: String,
        /// The waiting time, in seconds.
        seconds: u64,
    },

    /// Every subnet for labs is in use.
    #[error("no subnet is free for another lab: all of 198.18.0.0 to 198.18.{last}.0 are taken or routed elsewhere")]
    #[diagnostic(help("take a lab down: `cargo xtask lab status` lists them"))]
    NoSubnet {
        /// The last third octet that was tried.
        last: u8,
    },

    /// Debian packages are missing and cannot be installed.
    #[error("these Debian packages are missing: {packages}")]
    #[diagnostic(help("install them: apt-get install --no-install-recommends {packages}"))]
    MissingPackages {
        /// Their names, separated by spaces.
        packages: String,
    },

    /// There is no Go compiler.
    #[error("the lab's Kubernetes is compiled from Go modules, and there is no go command")]
    #[diagnostic(help("install Go 1.26 or newer and put it on PATH"))]
    NoGo {
        /// The cause.
        #[source]
        source: io::Error,
    },

    /// A Go module does not compile.
    #[error("compiling {programs}: {detail}")]
    #[diagnostic(help("the Go compiler must be at least as new as the module asks for, and a module proxy reachable"))]
    Compile {
        /// The programs, separated by commas.
        programs: String,
        /// The end of the compiler's output.
        detail: String,
    },

    /// A file or folder operation failed.
    #[error("{action} {path}")]
    #[diagnostic(help("check that the path is writable by root and its file system is not full"))]
    File {
        /// The operation, such as "writing".
        action: &'static str,
        /// The path.
        path: Utf8PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },

    /// A program could not be started at all.
    #[error("starting {program}")]
    #[diagnostic(help("check that it is installed and on PATH"))]
    Start {
        /// The program.
        program: String,
        /// The cause.
        #[source]
        source: io::Error,
    },

    /// A program failed.
    #[error("{what}: {detail}")]
    #[diagnostic(help("the words above are the program's own"))]
    Command {
        /// What was attempted.
        what: String,
        /// The exit status and the end of the program's output.
        detail: String,
    },

    /// A component ended prematurely.
    #[error("{component} on {node} ended while the lab was coming up; its log ends with:\n{tail}")]
    #[diagnostic(help("the cause is usually in the last lines above"))]
    Ended {
        /// The component, such as "kubelet".
        component: String,
        /// Its node.
        node: String,
        /// The end of its log.
        tail: String,
    },

    /// Something did not happen in time.
    #[error("{what} did not happen within {seconds} s ({detail}); the log of {component} ends with:\n{tail}")]
    #[diagnostic(help("on a slow or busy machine set VCLAB_PATIENCE=3 to wait three times as long"))]
    Timeout {
        /// What was expected.
        what: String,
        /// The waiting time, in seconds.
        seconds: u64,
        /// The last observation.
        detail: String,
        /// The responsible component.
        component: String,
        /// The end of its log.
        tail: String,
    },

    /// A certificate or key could not be generated.
    #[error("making the certificate of {subject}")]
    #[diagnostic(help("this is a defect of the lab: please report it"))]
    Certificate {
        /// Its subject.
        subject: String,
        /// The cause.
        #[source]
        source: rcgen::Error,
    },

    /// The state file of a lab is invalid.
    #[error("reading the state of the lab in {path}")]
    #[diagnostic(help("take the lab down and bring it up again"))]
    State {
        /// The file.
        path: Utf8PathBuf,
        /// The cause.
        #[source]
        source: serde_json::Error,
    },

    /// Parts of the lab could not be removed.
    #[error("taking the lab {name} down left {left} behind")]
    #[diagnostic(help("run the same command again; if it stays, something outside the lab uses it"))]
    Leftover {
        /// The lab.
        name: String,
        /// The remaining parts.
        left: String,
    },
}

/// Returns a closure that turns an I/O error into [`Error::File`], for `map_err`.
pub(crate) fn file(action: &'static str, path: impl Into<Utf8PathBuf>) -> impl FnOnce(io::Error) -> Error {
    let path = path.into();
    move |source| Error::File { action, path, source }
}
