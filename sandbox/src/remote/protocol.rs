//! What the two sides say to each other: documents of one line, and between them the bytes of files whose sizes and hashes
//! are known. Both sides are the same program, so there is one version.

use std::io::{self, BufRead, Read, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::super::Mode;
use super::super::explain::UndeclaredAccess;
use super::super::spec::{Report, Spec};
use super::tree::{Node, Tree};

/// The longest document: a tree of a million files.
const LIMIT: u64 = 256 << 20;

/// What a session begins with.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Open {
    pub(super) mode: Mode,
}

/// What it is answered.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Hello {
    pub(super) confined: bool,
    /// What confines programs there.
    pub(super) confinement: String,
    /// Why nothing confines them, where something should.
    pub(super) warning: Option<String>,
    /// Why there is no sandbox where there must be one: then the session is over.
    pub(super) refusal: Option<String>,
    /// The folder that stands for `/` where programs are not confined.
    pub(super) place: String,
}

/// A step to be run. What it lacks is then asked for, as a list of digests, and sent in that order.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    /// For people.
    pub(super) program: String,
    /// Its mounts are where they are on the machine that asks.
    pub(super) spec: Spec,
    /// What is mounted, in the order of the mounts.
    pub(super) given: Vec<MountContents>,
}

/// What is mounted.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum MountContents {
    Tree(Tree),
    /// A cache of the host's own, by its name.
    Cache(String),
}

/// How it went; so many bytes of the program's standard output follow. What is wanted of what was made is then asked for, as
/// a list of digests, and sent in that order.
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

/// What a program changed where it may write.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct TreeChanges {
    /// What is there no more, or gave way to something of another kind: what is in a folder before the folder.
    pub(super) gone: Vec<RemovedEntry>,
    pub(super) made: Vec<WrittenEntry>,
}

/// A file, link or folder that was there.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RemovedEntry {
    /// The number of the mount.
    pub(super) mount: usize,
    pub(super) path: String,
}

/// A file, link or folder that is new or other than it was.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct WrittenEntry {
    /// The number of the mount.
    pub(super) mount: usize,
    pub(super) path: String,
    pub(super) node: Node,
}

/// Sends a document; the caller flushes.
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
