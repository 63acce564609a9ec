//! The messages between the processes of a sandbox: what to run, where and within which limits, and how it ended.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::time::Duration;

use camino::Utf8PathBuf;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Environment;

/// The longest message: more than any step has mounts, arguments and environment.
const MESSAGE_LIMIT: u64 = 64 << 20;

/// A layer of confinement beside namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Layer {
    /// A session keyring of its own.
    Keyring,
    /// Landlock's rules for files.
    Landlock,
    /// The filter of system calls.
    Filter,
}

/// A layer that could not be applied, and why.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct UnavailableLayer {
    pub(super) layer: Layer,
    pub(super) obstacle: SetupError,
}

/// What to run, all paths resolved.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Spec {
    /// Whether in namespaces of its own.
    pub(super) confined: bool,
    /// None only tries whether everything up to the program can be had.
    pub(super) program: Option<Program>,
    pub(super) mounts: Vec<Mount>,
    pub(super) links: Vec<Link>,
    pub(super) hostname: String,
    pub(super) umask: u32,
    /// How many processors the program may use, where that is limited.
    pub(super) processors: Option<usize>,
    pub(super) limits: Limits,
    /// How much the program may write to standard output; where there is none, that is not kept.
    pub(super) output: Option<usize>,
    /// What the kernel is to keep the user's tasks to where it does not count the program's own: no limit, a last resort.
    pub(super) most_tasks: Option<u64>,
    /// What confines it beside namespaces.
    pub(super) layers: Vec<Layer>,
}

impl Spec {
    /// One that runs nothing and has nothing, within the usual limits.
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

/// The program and what is given to it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Program {
    pub(super) path: Utf8PathBuf,
    pub(super) arguments: Vec<String>,
    pub(super) environment: BTreeMap<String, String>,
    pub(super) dir: Utf8PathBuf,
}

/// A file or folder of the host within the sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mount {
    /// On the host; without links.
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

/// What a program may use at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// From its start to its end.
    pub time: Duration,
    /// Of all its processes together, in bytes.
    pub memory: Option<u64>,
    /// Processes and threads at once.
    pub processes: Option<u64>,
    /// Of the disk, in bytes: of all its files together, and of each by its length.
    pub disk: Option<u64>,
}

/// How it went.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Report {
    /// The program was not reached.
    Failed(SetupError),
    /// The program ended.
    Ended {
        /// As wait(2) has it.
        status: i32,
        /// Which limit it went over.
        exceeded: Option<ExceededLimit>,
    },
    /// There was no program to run, and these layers cannot be applied.
    Tried(Vec<UnavailableLayer>),
}

/// What could not be done on the way to the program.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct SetupError {
    /// Fits after "cannot": "mount /proc".
    pub(super) attempt: String,
    /// The kernel's error number.
    pub(super) errno: Option<i32>,
    /// Its text.
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
    /// Says what was attempted when an error came.
    pub(super) fn on(attempt: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let attempt = attempt.into();
        move |error| Self { attempt, errno: error.raw_os_error(), why: error.to_string() }
    }

    /// The same for the errors of system calls.
    pub(super) fn of(attempt: impl Into<String>) -> impl FnOnce(nix::Error) -> Self {
        let attempt = attempt.into();
        move |error| Self::on(attempt)(error.into())
    }

    /// Its error.
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

/// Receives one message; nothing may follow that others are to read. `None` when the sender has gone.
pub(super) fn receive<T: DeserializeOwned>(from: impl Read) -> io::Result<Option<T>> {
    let mut line = String::new();
    BufReader::new(from.take(MESSAGE_LIMIT)).read_line(&mut line)?;
    if line.ends_with('\n') { Ok(Some(serde_json::from_str(&line)?)) } else { Ok(None) }
}
