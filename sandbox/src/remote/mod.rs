//! A build host: another machine that runs the programs of actions. It receives the inputs that it lacks, and their
//! outputs are sent back, each file by its hash. The host needs an SSH server and a shell, but no network access.

mod address;
mod error;
mod place;
mod protocol;
mod serve;
mod session;
mod tree;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use camino::{Utf8Path, Utf8PathBuf};
use serde::Serialize;
use vcnetwork::Permit;
use vcstore::{Digest, Store};

pub use self::address::Address;
pub use self::error::Error;
use self::protocol::{Hello, MountContents, Request, TreeChanges, WrittenEntry};
pub use self::serve::serve;
pub(crate) use self::session::BuildHostSession;
use self::tree::{Memory, Node, Tree};
use super::Mode;
use super::explain::UndeclaredAccess;
use super::spec::{Report, Spec};
use crate::process;

/// A build host and its statistics.
#[derive(Debug)]
pub struct Host {
    address: Address,
    mode: Mode,
    /// The answer in the first session.
    hello: Hello,
    /// Sessions that no step is using.
    idle: Mutex<Vec<BuildHostSession>>,
    /// Only one step at a time queries what the host lacks and sends it, so that the next step finds it there.
    sending: Mutex<()>,
    /// The hashes of files that were already read.
    memory: Memory,
    /// Blobs in this store need not be sent back.
    store: Store,
    steps: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
}

/// The statistics of a build host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Done {
    /// The address of the build host.
    pub address: String,
    /// The number of programs that it ran.
    pub steps: u64,
    /// The number of bytes of files that were sent.
    pub sent: u64,
    /// The number of bytes of files that were received.
    pub received: u64,
}

/// The result of a step on the build host.
pub(super) struct Outcome {
    pub(super) report: Report,
    pub(super) output: Vec<u8>,
    pub(super) stderr: String,
    pub(super) undeclared: Vec<UndeclaredAccess>,
}

impl Host {
    /// Connects to the host and queries how it confines programs.
    ///
    /// # Errors
    /// Returns an error if it cannot be reached, has another platform, or cannot confine programs but must.
    pub fn connect(address: Address, mode: Mode, store: &Store, _permit: Permit) -> Result<Self, Error> {
        let (session, hello) = BuildHostSession::begin(&address, mode)?;
        if let Some(why) = &hello.warning {
            tracing::warn!("{address} runs programs without a sandbox: {why} (recorded with each action)");
        }
        Ok(Self {
            address,
            mode,
            hello,
            idle: Mutex::new(vec![session]),
            sending: Mutex::default(),
            memory: Memory::default(),
            store: store.clone(),
            steps: AtomicU64::default(),
            sent: AtomicU64::default(),
            received: AtomicU64::default(),
        })
    }

    /// Whether it confines programs.
    pub(super) fn is_confined(&self) -> bool {
        self.hello.confined
    }

    /// Describes the confinement there for an action's record.
    pub(super) fn confinement(&self) -> String {
        format!("{}, on {}", self.hello.confinement, self.address)
    }

    /// Its statistics so far.
    pub fn done(&self) -> Done {
        let [steps, sent, received] = [&self.steps, &self.sent, &self.received].map(|one| one.load(Ordering::Relaxed));
        Done { address: self.address.to_string(), steps, sent, received }
    }

    /// Returns a session for one step.
    pub(super) fn session(&self) -> Result<BuildHostSession, Error> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.map_or_else(|| BuildHostSession::begin(&self.address, self.mode).map(|(session, _)| session), Ok)
    }

    /// Runs a step there. `caches` are the mounts that are caches of the host itself, by their path in the sandbox.
    ///
    /// # Errors
    /// Returns a message if the connection ends, or if a file here cannot be read or written.
    pub(super) fn run(
        &self,
        mut session: BuildHostSession,
        spec: Spec,
        program: &str,
        caches: &BTreeMap<Utf8PathBuf, String>,
    ) -> Result<Outcome, String> {
        let (mounts, largest) = (spec.mounts.clone(), spec.limits.disk.unwrap_or(u64::MAX));
        let mut given = Vec::new();
        let mut places: BTreeMap<Digest, Utf8PathBuf> = BTreeMap::new();
        for mount in &mounts {
            given.push(match caches.get(&mount.inside) {
                Some(name) => MountContents::Cache(name.clone()),
                None => {
                    let tree = Tree::read(&mount.host, &self.memory)
                        .map_err(|error| format!("reading {}: {error}", mount.host))?;
                    places.extend(tree.files().map(|(path, digest, _)| (digest, place(&mount.host, path))));
                    MountContents::Tree(tree)
                }
            });
        }
        let sizes = |given: &MountContents| match given {
            MountContents::Tree(tree) => tree.files().map(|(_, digest, size)| (digest, size)).collect::<Vec<_>>(),
            MountContents::Cache(_) => Vec::new(),
        };
        let sizes: BTreeMap<Digest, u64> = given.iter().flat_map(sizes).collect();
        let outcome = self.talk(&mut session, Request { program: program.to_owned(), spec, given }, &places, &sizes);
        let (changed, outcome) = outcome.map_err(|error| session.failed(&self.address, &error.to_string()))?;
        let taken = self.take(&mut session, &changed, &mounts, largest);
        taken.map_err(|error| session.failed(&self.address, &error.to_string()))?;
        self.steps.fetch_add(1, Ordering::Relaxed);
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(session);
        Ok(outcome)
    }

    /// Requests a step, sends the inputs that the host lacks, and waits for the result.
    fn talk(
        &self,
        session: &mut BuildHostSession,
        request: Request,
        places: &BTreeMap<Digest, Utf8PathBuf>,
        sizes: &BTreeMap<Digest, u64>,
    ) -> io::Result<(TreeChanges, Outcome)> {
        let sending = self.sending.lock().unwrap_or_else(PoisonError::into_inner);
        protocol::send(&mut session.to, &request)?;
        drop(request);
        let lacking: Vec<Digest> = protocol::receive(&mut session.from)?;
        for digest in lacking {
            let (Some(path), Some(size)) = (places.get(&digest), sizes.get(&digest)) else {
                return Err(io::Error::other(format!("it requests {digest}, which is not an input")));
            };
            let copied = io::copy(&mut File::open(path)?.take(*size), &mut session.to)?;
            if copied != *size {
                return Err(io::Error::other(format!("{path} changed while it was sent")));
            }
            self.sent.fetch_add(copied, Ordering::Relaxed);
        }
        session.to.flush()?;
        drop(sending);
        let result: protocol::StepResult = protocol::receive(&mut session.from)?;
        let protocol::StepResult { report, stderr, undeclared, output, changed } = result;
        if output > process::OUTPUT_LIMIT as u64 {
            return Err(io::Error::other(format!("its output has {output} bytes, more than a program may write")));
        }
        let mut bytes = Vec::new();
        (&mut session.from).take(output).read_to_end(&mut bytes)?;
        Ok((changed, Outcome { report, output: bytes, stderr, undeclared }))
    }

    /// Whether the store has an intact copy of a blob. Reading a damaged one moves it to quarantine.
    fn has(&self, digest: &Digest) -> bool {
        let whole = |mut reader| io::copy(&mut reader, &mut io::sink());
        self.store.contains(digest) && self.store.reader(digest).is_ok_and(|reader| whole(reader).is_ok())
    }

    /// Applies the changes of a program to the writable folders: new and removed files. Their total size may be at
    /// most `largest` bytes, whatever the host claims.
    fn take(
        &self,
        session: &mut BuildHostSession,
        changed: &TreeChanges,
        mounts: &[super::spec::Mount],
        largest: u64,
    ) -> io::Result<()> {
        let TreeChanges { gone, made } = changed;
        let folder = self.store.temp_dir().map_err(io::Error::other)?;
        let mut lacking: BTreeMap<Digest, u64> = BTreeMap::new();
        for one in made {
            if let Node::File { digest, size, .. } = &one.node
                && !self.has(digest)
            {
                lacking.insert(*digest, *size);
            }
        }
        let total = lacking.values().fold(0_u64, |total, size| total.saturating_add(*size));
        if total > largest {
            let why = format!("what it made has {total} bytes, more than the allowed {largest} (--max-disk)");
            return Err(io::Error::other(why));
        }
        protocol::send(&mut session.to, &lacking.keys().collect::<Vec<_>>())?;
        session.to.flush()?;
        let arrived = |digest: &Digest| folder.path().join(digest.hex());
        for (digest, size) in &lacking {
            tree::receive(&mut session.from, digest, *size, &arrived(digest))?;
            self.received.fetch_add(*size, Ordering::Relaxed);
        }
        let content = |digest: &Digest| match lacking.contains_key(digest) {
            true => Utf8PathBuf::try_from(arrived(digest)).map_err(io::Error::other),
            false => Ok(self.store.blob_path(digest)),
        };
        let top = |number: usize| {
            let mount = mounts.get(number).filter(|mount| mount.writable);
            mount.map(|mount| &mount.host).ok_or_else(|| io::Error::other("it wrote to a path outside its outputs"))
        };
        for one in gone {
            tree::remove(top(one.mount)?, &one.path)?;
        }
        // Links are created last, so that nothing is written through one.
        let (links, others): (Vec<&WrittenEntry>, Vec<&WrittenEntry>) =
            made.iter().partition(|one| matches!(one.node, Node::Link(_)));
        for one in others.into_iter().chain(links) {
            tree::put(top(one.mount)?, &one.path, &one.node, content)?;
        }
        Ok(())
    }
}

/// Returns the path of a file in a tree; the tree itself may be one file.
fn place(top: &Utf8Path, path: &str) -> Utf8PathBuf {
    if path.is_empty() { top.to_owned() } else { top.join(path) }
}

impl super::Sandbox {
    /// Returns the same sandbox with programs run on a build host.
    pub fn at(self, host: Arc<Host>) -> Self {
        Self { host: Some(host), ..self }
    }
}

/// Parses the messages of both sides of a session.
#[cfg(any(test, fuzzing))]
pub fn hostile(bytes: &[u8]) {
    use protocol::{Hello, Open, Request, StepResult, receive};
    let _ = receive::<Open>(&mut &*bytes);
    let _ = receive::<Hello>(&mut &*bytes);
    let _ = receive::<Request>(&mut &*bytes);
    let _ = receive::<StepResult>(&mut &*bytes);
}

#[cfg(test)]
mod tests {
    #[test]
    fn either_side_of_a_session_is_read_or_refused() {
        mutate::hostile("build-host", super::hostile);
    }
}
