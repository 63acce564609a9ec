//! The protocol of the two sides: documents of one line, and between them the bytes of files with known sizes and
//! hashes. Both sides are the same program, so there is only one version.

use std::io::{self, BufRead, Read, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::super::Mode;
use super::super::explain::UndeclaredAccess;
use super::super::spec::{Report, Spec};
use super::tree::{Node, Tree};

/// The maximum size of a document in bytes: a tree of a million files.
const LIMIT: u64 = 256 << 20;

/// The first message of a session.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Open {
    pub(super) mode: Mode,
}

/// The answer to the first message.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Hello {
    pub(super) confined: bool,
    /// A description of the confinement there.
    pub(super) confinement: String,
    /// Why programs are not confined although the mode is `auto`.
    pub(super) warning: Option<String>,
    /// Why the required sandbox is not available; the session then ends.
    pub(super) refusal: Option<String>,
    /// The folder that serves as `/` for unconfined programs.
    pub(super) place: String,
}

/// A request to run a step. The host then requests the files that it lacks, as a list of digests, and they are sent in
/// that order.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    /// The name for display.
    pub(super) program: String,
    /// The paths of its mounts are those of the requesting machine.
    pub(super) spec: Spec,
    /// The contents of the mounts, in their order.
    pub(super) given: Vec<MountContents>,
}

/// The contents of a mount.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum MountContents {
    Tree(Tree),
    /// A cache of the host itself, by its name.
    Cache(String),
}

/// The result of a step; `output` bytes of the program's standard output follow. The needed new files are then
/// requested, as a list of digests, and sent in that order.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StepResult {
    pub(super) report: Report,
    #[serde(rename = "words")]
    pub(super) stderr: String,
    #[serde(rename = "wanted")]
    pub(super) undeclared: Vec<UndeclaredAccess>,
    pub(super) output: u64,
    pub(super) changed: TreeChanges,
}

/// The changes of a program to the writable mounts.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct TreeChanges {
    /// Entries that were removed, or replaced by an entry of another kind; the entries in a folder come before the
    /// folder.
    pub(super) gone: Vec<RemovedEntry>,
    pub(super) made: Vec<WrittenEntry>,
}

/// A file, link or folder that was removed.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RemovedEntry {
    /// The index of the mount.
    pub(super) mount: usize,
    pub(super) path: String,
}

/// A file, link or folder that is new or changed.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct WrittenEntry {
    /// The index of the mount.
    pub(super) mount: usize,
    pub(super) path: String,
    pub(super) node: Node,
}

/// Sends a document and flushes the stream.
pub(super) fn send<T: Serialize>(mut to: impl Write, document: &T) -> io::Result<()> {
    serde_json::to_writer(&mut to, document)?;
    to.write_all(b"\n")?;
    to.flush()
}

/// Receives a document.
pub(super) fn receive<T: DeserializeOwned>(from: &mut impl BufRead) -> io::Result<T> {
    let mut line = Vec::new();
    from.take(LIMIT).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the connection ended"));
    }
    Ok(serde_json::from_slice(&line)?)
}
