//! A build host: another machine that runs the programs of actions. It is sent what they read, as far as it lacks it, and
//! what they make comes back, each file by its hash. The host needs an SSH server and a shell; it reaches no network.

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

/// A build host, and what it did so far.
#[derive(Debug)]
pub struct Host {
    address: Address,
    mode: Mode,
    /// The answer to the first session.
    hello: Hello,
    /// Sessions that no step has now.
    idle: Mutex<Vec<BuildHostSession>>,
    /// One step at a time asks what the host lacks and sends it: the next lacks less.
    sending: Mutex<()>,
    /// The hashes of files that were read already.
    memory: Memory,
    /// What is here already need not come back.
    store: Store,
    steps: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
}

/// What a build host did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Done {
    /// Of the build host.
    pub address: String,
    /// Programs that it ran.
    pub steps: u64,
    /// Bytes of files that it lacked.
    pub sent: u64,
    /// Bytes of files that came back.
    pub received: u64,
}

/// How a step went there.
pub(super) struct Outcome {
    pub(super) report: Report,
    pub(super) output: Vec<u8>,
    pub(super) stderr: String,
    pub(super) undeclared: Vec<UndeclaredAccess>,
}

impl Host {
    /// Connects to the host and finds out how it confines programs.
    ///
    /// # Errors
    /// When it cannot be reached, is another kind of machine, or cannot confine programs and must.
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

    /// What confines programs there, for an action's record.
    pub(super) fn confinement(&self) -> String {
        format!("{}, on {}", self.hello.confinement, self.address)
    }

    /// What it did so far.
    pub fn done(&self) -> Done {
        let [steps, sent, received] = [&self.steps, &self.sent, &self.received].map(|one| one.load(Ordering::Relaxed));
        Done { address: self.address.to_string(), steps, sent, received }
    }

    /// A session for one step.
    pub(super) fn session(&self) -> Result<BuildHostSession, Error> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.map_or_else(|| BuildHostSession::begin(&self.address, self.mode).map(|(session, _)| session), Ok)
    }

    /// Runs a step there. `caches` are the mounts that are caches of the host's own, by where the program finds them.
    ///
    /// # Errors
    /// When the connection ends, or something cannot be read or written here; the text says which.
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

    /// Asks for a step, sends what is lacking for it, and waits for its end.
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

    /// Whether the store has a blob that is what it should be. A damaged one goes into quarantine as it is read.
    fn has(&self, digest: &Digest) -> bool {
        let whole = |mut reader| io::copy(&mut reader, &mut io::sink());
        self.store.contains(digest) && self.store.reader(digest).is_ok_and(|reader| whole(reader).is_ok())
    }

    /// Takes what a program made into the folders that it was given to write to, and what it removed out of them.
    /// All of it together is as large as `largest` at most, whatever the host says that the program made.
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
        // Links come last, so that nothing is written through one.
        let (links, others): (Vec<&WrittenEntry>, Vec<&WrittenEntry>) =
            made.iter().partition(|one| matches!(one.node, Node::Link(_)));
        for one in others.into_iter().chain(links) {
            tree::put(top(one.mount)?, &one.path, &one.node, content)?;
        }
        Ok(())
    }
}

/// Where a file of a tree is; a tree may be one file.
fn place(top: &Utf8Path, path: &str) -> Utf8PathBuf {
    if path.is_empty() { top.to_owned() } else { top.join(path) }
}

impl super::Sandbox {
    /// The same, with programs run on another machine.
    pub fn at(self, host: Arc<Host>) -> Self {
        Self { host: Some(host), ..self }
    }
}

/// Reads what either side of a session may say.
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
