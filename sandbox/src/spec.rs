//! The messages between the processes of a sandbox: what to run, where and within which limits, and the result.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::time::Duration;

use camino::Utf8PathBuf;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Environment;

/// The maximum size of a message in bytes: more than the mounts, arguments and environment of any step.
const MESSAGE_LIMIT: u64 = 64 << 20;

/// A layer of confinement in addition to namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Layer {
    /// A separate session keyring.
    Keyring,
    /// Landlock's rules for files.
    Landlock,
    /// The system call filter.
    Filter,
}

/// A layer that could not be applied, and the reason.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct UnavailableLayer {
    pub(super) layer: Layer,
    pub(super) obstacle: SetupError,
}

/// What to run, with all paths resolved.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Spec {
    /// Whether to run it in separate namespaces.
    pub(super) confined: bool,
    /// `None` to try only the steps before the program.
    pub(super) program: Option<Program>,
    pub(super) mounts: Vec<Mount>,
    pub(super) links: Vec<Link>,
    pub(super) hostname: String,
    pub(super) umask: u32,
    /// The number of processors that the program may use, if limited.
    pub(super) processors: Option<usize>,
    pub(super) limits: Limits,
    /// The maximum size of the program's standard output, which is discarded if this is `None`.
    pub(super) output: Option<usize>,
    /// The limit on the user's tasks (`RLIMIT_NPROC`) if the kernel does not count the program's own: not an exact
    /// limit, but a last resort.
    pub(super) most_tasks: Option<u64>,
    /// The layers that confine it in addition to namespaces.
    pub(super) layers: Vec<Layer>,
}

impl Spec {
    /// Creates a specification without a program or mounts, with the default limits.
    pub(super) fn empty(confined: bool) -> Self {
        Self {
            confined,
            program: None,
            mounts: Vec::new(),
            links: Vec::new(),
            hostname: Environment::FIXED.hostname.to_owned(),
            umask: Environment::FIXED.umask,
            processors: None,
            limits: Limits::default(),
            output: None,
            most_tasks: None,
            layers: Vec::new(),
        }
    }
}

/// The program with its arguments and environment.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Program {
    pub(super) path: Utf8PathBuf,
    pub(super) arguments: Vec<String>,
    pub(super) environment: BTreeMap<String, String>,
    pub(super) dir: Utf8PathBuf,
}

/// A file or folder of the host in the sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mount {
    /// The path on the host, without links.
    pub(super) host: Utf8PathBuf,
    pub(super) inside: Utf8PathBuf,
    pub(super) writable: bool,
}

/// A symbolic link within the sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Link {
    pub(super) inside: Utf8PathBuf,
    pub(super) target: Utf8PathBuf,
}

/// The limits of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// The time from its start to its end.
    pub time: Duration,
    /// The memory of all its processes together, in bytes.
    pub memory: Option<u64>,
    /// The number of concurrent processes and threads.
    pub processes: Option<u64>,
    /// The disk usage in bytes: of all its files together, and of each file by its length.
    pub disk: Option<u64>,
}

/// The result of a run.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Report {
    /// The program was not started.
    Failed(SetupError),
    /// The program ended.
    Ended {
        /// The status in the format of wait(2).
        status: i32,
        /// The limit that it exceeded.
        exceeded: Option<ExceededLimit>,
    },
    /// There was no program to run. Contains the layers that cannot be applied.
    Tried(Vec<UnavailableLayer>),
}

/// A failed step before the program's start.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct SetupError {
    /// The attempt, in a form that fits after "cannot": "mount /proc".
    pub(super) attempt: String,
    /// The kernel's error number.
    pub(super) errno: Option<i32>,
    /// The error message.
    pub(super) why: String,
}

/// A limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum ExceededLimit {
    /// [`Limits::time`]
    Time,
    /// [`Limits::memory`]
    Memory,
    /// [`Limits::processes`]
    Processes,
    /// [`Limits::disk`]
    Disk,
}

impl SetupError {
    /// Returns a function that adds the attempt to an I/O error.
    pub(super) fn on(attempt: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let attempt = attempt.into();
        move |error| Self { attempt, errno: error.raw_os_error(), why: error.to_string() }
    }

    /// Returns a function that adds the attempt to the error of a system call.
    pub(super) fn of(attempt: impl Into<String>) -> impl FnOnce(nix::Error) -> Self {
        let attempt = attempt.into();
        move |error| Self::on(attempt)(error.into())
    }

    /// Converts to an I/O error.
    pub(super) fn error(&self) -> io::Error {
        self.errno.map_or_else(|| io::Error::other(self.why.clone()), io::Error::from_raw_os_error)
    }
}

/// Sends one message, as a line of JSON.
pub(super) fn send<T: Serialize>(mut to: impl Write, message: &T) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    to.write_all(&line)
}

/// Receives one message; no further data may follow it. Returns `None` if the sender is gone.
pub(super) fn receive<T: DeserializeOwned>(from: impl Read) -> io::Result<Option<T>> {
    let mut line = String::new();
    BufReader::new(from.take(MESSAGE_LIMIT)).read_line(&mut line)?;
    if line.ends_with('\n') { Ok(Some(serde_json::from_str(&line)?)) } else { Ok(None) }
}
