//! `vcbuild.lock`: pins the resolved versions of mutable inputs, so that the next build uses the same.

mod changes;
mod document;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use camino::{Utf8Path, Utf8PathBuf};
use vcdebian::Pinned;
use vcnetwork::Network;
use vcstore::text;
use vcstore::{Digest, Platform};

pub(crate) use self::changes::Changes;
use self::document::{Document, Input, PinnedFile, PinnedImage, PinnedSource};
pub(crate) use self::document::{PinnedCommit, PinnedCrate, PinnedGo, PinnedModule, PinnedVersion};
use crate::error::LockError;

/// The name of a lock's file.
pub(crate) const FILE_NAME: &str = "vcbuild.lock";

/// A lock file: the content read, and the content to write. Threads that resolve different inputs share it.
#[derive(Debug)]
pub(crate) struct Lock {
    path: Utf8PathBuf,
    on_disk: Document,
    policy: Policy,
    network: Network,
    state: Mutex<State>,
}

/// What may be resolved in this run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Policy {
    /// What is pinned is used; what is not is resolved, and then pinned.
    Fill,
    /// What is pinned is used, and nothing else: a lock that lacks something, or would change, is an error.
    Locked,
    /// Resolve all inputs again.
    Update,
    /// Resolve the inputs with these names again.
    UpdateNamed(BTreeSet<String>),
}

#[derive(Debug)]
struct State {
    now: Document,
    /// What was pinned in this run.
    pinned: BTreeSet<Input>,
    /// What was asked for or pinned in this run.
    used: BTreeSet<Input>,
}

impl Lock {
    /// Reads the lock at `path`; an empty one when there is none.
    ///
    /// # Errors
    /// When the file is there and cannot be read or understood, or an input to be resolved anew is not in it.
    pub(crate) fn open(path: &Utf8Path, policy: Policy, network: Network) -> Result<Self, crate::Error> {
        let on_disk = match text::read(path) {
            Ok(text) => Document::parse(path, &text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Document::empty(),
            Err(error) => return Err(crate::Error::unreadable("lock file", path)(error)),
        };
        let now = on_disk.clone();
        if let Policy::UpdateNamed(names) = &policy {
            check_names(path, &now, names)?;
        }
        let state = Mutex::new(State { now, pinned: BTreeSet::new(), used: BTreeSet::new() });
        Ok(Self { path: path.to_owned(), on_disk, policy, network, state })
    }

    /// A lock that pins what `excerpt` says, and is to be kept at `path`.
    ///
    /// # Errors
    /// When it is not an excerpt of a lock file.
    pub(crate) fn of_excerpt(
        excerpt: serde_json::Value,
        path: &Utf8Path,
        network: Network,
    ) -> Result<Self, serde_json::Error> {
        let now = Document::of_excerpt(excerpt)?;
        let (on_disk, state) = (now.clone(), State { now, pinned: BTreeSet::new(), used: BTreeSet::new() });
        Ok(Self { path: path.to_owned(), on_disk, policy: Policy::Fill, network, state: Mutex::new(state) })
    }

    /// What the lock pins of the source, and of bases for these platforms, that this run had use for; with `go`, of Go's
    /// toolchains too. Modules are left out: the source's own checksums pin them.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub(crate) fn excerpt(&self, platforms: &BTreeSet<&Platform>, go: bool) -> Result<serde_json::Value, crate::Error> {
        let state = self.state();
        let mut excerpt = state.now.clone();
        for input in excerpt.inputs() {
            let wanted = state.used.contains(&input)
                && match &input {
                    Input::Source(..) => true,
                    Input::Go(_) => go,
                    Input::Image(_, platform) | Input::Debian(_, platform) => platforms.contains(platform),
                    Input::Modules(_) | Input::Crates | Input::Prebuilt(_) => false,
                };
            if !wanted {
                excerpt.remove(&input);
            }
        }
        serde_json::to_value(excerpt).map_err(|why| crate::Error::Internal(format!("writing pins: {why}")))
    }

    /// Where the lock is.
    pub(crate) fn path(&self) -> &Utf8Path {
        &self.path
    }

    /// The network, for those who resolve and fetch what is pinned here.
    pub(crate) fn network(&self) -> &Network {
        &self.network
    }

    /// The commit that a version of a repository is pinned to; `None` if it must be resolved.
    ///
    /// # Errors
    /// Here and in all that look something up: when nothing may be resolved, and this is not pinned.
    pub(crate) fn commit(&self, url: &str, version: &str) -> Result<Option<PinnedCommit>, LockError> {
        let input = Input::Source(url.to_owned(), version.to_owned());
        self.find(&input, |now| match now.source.get(url)?.get(version)? {
            PinnedSource::Git(commit) => Some(commit.clone()),
            PinnedSource::Module(_) => None,
        })
    }

    /// Pins a version of a repository.
    pub(crate) fn pin_commit(&self, url: &str, version: &str, commit: PinnedCommit) {
        self.pin_source(url, version, PinnedSource::Git(commit));
    }

    /// The version of a Go module that a version asked for, such as `latest`, is pinned to.
    pub(crate) fn version(&self, module: &str, asked: &str) -> Result<Option<PinnedVersion>, LockError> {
        let input = Input::Source(module.to_owned(), asked.to_owned());
        self.find(&input, |now| match now.source.get(module)?.get(asked)? {
            PinnedSource::Module(version) => Some(version.clone()),
            PinnedSource::Git(_) => None,
        })
    }

    /// Pins a version of a Go module.
    pub(crate) fn pin_version(&self, module: &str, asked: &str, version: PinnedVersion) {
        self.pin_source(module, asked, PinnedSource::Module(version));
    }

    /// The Go toolchain that a version asked for, such as `1.26.x`, is pinned to.
    pub(crate) fn go(&self, asked: &str) -> Result<Option<PinnedGo>, LockError> {
        self.find(&Input::Go(asked.to_owned()), |now| now.go.get(asked).cloned())
    }

    /// Pins a Go toolchain.
    pub(crate) fn pin_go(&self, asked: &str, go: PinnedGo) {
        self.pin(Input::Go(asked.to_owned()), |now| drop(now.go.insert(asked.to_owned(), go)));
    }

    /// The manifest that an image is pinned to.
    pub(crate) fn manifest(&self, image: &str, platform: &Platform) -> Result<Option<Digest>, LockError> {
        let input = Input::Image(image.to_owned(), platform.clone());
        self.find(&input, |now| now.image.get(image)?.get(platform).map(|pinned| pinned.manifest))
    }

    /// Pins an image.
    pub(crate) fn pin_manifest(&self, image: &str, platform: &Platform, manifest: Digest) {
        self.pin(Input::Image(image.to_owned(), platform.clone()), |now| {
            now.image.entry(image.to_owned()).or_default().insert(platform.clone(), PinnedImage { manifest });
        });
    }

    /// The packages that a suite is pinned to.
    pub(crate) fn packages(&self, suite: &str, platform: &Platform) -> Result<Option<Pinned>, LockError> {
        let input = Input::Debian(suite.to_owned(), platform.clone());
        self.find(&input, |now| now.debian.get(suite)?.get(platform).cloned())
    }

    /// Pins the packages of a suite.
    pub(crate) fn pin_packages(&self, suite: &str, platform: &Platform, packages: Pinned) {
        self.pin(Input::Debian(suite.to_owned(), platform.clone()), |now| {
            now.debian.entry(suite.to_owned()).or_default().insert(platform.clone(), packages);
        });
    }

    /// The content that a file of the source is pinned to.
    pub(crate) fn prebuilt(&self, file: &Utf8Path) -> Result<Option<Digest>, LockError> {
        let input = Input::Prebuilt(file.to_string());
        self.find(&input, |now| now.prebuilt.get(file.as_str()).map(|pinned| pinned.content))
    }

    /// Pins a file of the source.
    pub(crate) fn pin_prebuilt(&self, file: &Utf8Path, content: Digest) {
        self.pin(Input::Prebuilt(file.to_string()), |now| {
            now.prebuilt.insert(file.to_string(), PinnedFile { content });
        });
    }

    /// Pins Go modules that programs of the module `main` need: some more of them, or with `all` exactly these. Which
    /// version it is says the source; that the version is what it was says the lock.
    ///
    /// # Errors
    /// When a version that is pinned has another checksum now.
    pub(crate) fn pin_modules(
        &self,
        main: &str,
        needed: impl IntoIterator<Item = PinnedModule>,
        all: bool,
    ) -> Result<(), LockError> {
        let needed: BTreeSet<_> = needed.into_iter().collect();
        let known = self.state().now.modules.get(main).cloned().unwrap_or_default();
        for one in &needed {
            let same = |other: &&PinnedModule| (&other.path, &other.version) == (&one.path, &one.version);
            if let Some(other) = known.iter().find(same).filter(|other| other.sum != one.sum) {
                return Err(LockError::Checksum {
                    path: self.path.clone(),
                    input: format!("Go module {} {}", one.path, one.version),
                    pinned: other.sum.clone(),
                    found: one.sum.clone(),
                });
            }
        }
        let moved = |other: &PinnedModule| needed.iter().any(|one| one.path == other.path);
        let kept = known.into_iter().filter(|other| !all && !moved(other));
        let modules: BTreeSet<_> = kept.chain(needed.iter().cloned()).collect();
        self.pin(Input::Modules(main.to_owned()), |now| {
            if modules.is_empty() {
                now.modules.remove(main);
            } else {
                now.modules.insert(main.to_owned(), modules);
            }
        });
        Ok(())
    }

    /// Pins the crates of a Cargo workspace: exactly these. Which versions they are says the source; that a version is what it
    /// was says the lock.
    ///
    /// # Errors
    /// When a version that is pinned is something else now.
    pub(crate) fn pin_crates(&self, crates: BTreeSet<PinnedCrate>) -> Result<(), LockError> {
        let known = self.state().now.crates.clone();
        for one in &crates {
            let same = |other: &&PinnedCrate| (&other.name, &other.version) == (&one.name, &one.version);
            if let Some(other) = known.iter().find(same).filter(|_| !known.contains(one)) {
                return Err(LockError::Checksum {
                    path: self.path.clone(),
                    input: format!("crate {} {}", one.name, one.version),
                    pinned: other.content.clone(),
                    found: one.content.clone(),
                });
            }
        }
        self.pin(Input::Crates, |now| now.crates = crates);
        Ok(())
    }

    /// Leaves out what this run had no use for.
    pub(crate) fn tidy(&self) {
        let mut state = self.state();
        let State { now, used, .. } = &mut *state;
        for input in now.inputs().difference(used) {
            now.remove(input);
        }
    }

    /// What the lock says otherwise than its file.
    pub(crate) fn changes(&self) -> Changes {
        Changes::between(&self.on_disk, &self.state().now)
    }

    /// Writes the lock if it says something new. Returns whether it did.
    ///
    /// # Errors
    /// When the file cannot be written; or when nothing new may be said, and something is.
    pub(crate) fn save(&self) -> Result<bool, crate::Error> {
        // Held to the end: who writes later writes what was pinned later.
        let state = self.state();
        if self.on_disk == state.now {
            return Ok(false);
        }
        self.check_unchanged(&state.now)?;
        let internal = |why| crate::Error::Internal(format!("writing {}: {why}", self.path));
        let text = state.now.to_text().map_err(internal)?;
        // Equal content is not written again: the file keeps its time.
        if fs::read_to_string(&self.path).is_ok_and(|there| there == text) {
            return Ok(false);
        }
        vcstore::atomic::replace(&self.path, text.as_bytes()).map_err(crate::Error::io("writing", &self.path))?;
        Ok(true)
    }

    /// Fails if the lock must not change and something was pinned that differs from its file. A build calls it before work that
    /// takes long; only the command saves the lock, after its work.
    ///
    /// # Errors
    /// When there is such a difference.
    pub(crate) fn check(&self) -> Result<(), LockError> {
        self.check_unchanged(&self.state().now)
    }

    fn check_unchanged(&self, now: &Document) -> Result<(), LockError> {
        if self.policy != Policy::Locked || self.on_disk == *now {
            return Ok(());
        }
        let changes = Changes::between(&self.on_disk, now).text().to_string();
        Err(LockError::Drift { path: self.path.clone(), changes })
    }

    fn pin_source(&self, address: &str, version: &str, pinned: PinnedSource) {
        self.pin(Input::Source(address.to_owned(), version.to_owned()), |now| {
            now.source.entry(address.to_owned()).or_default().insert(version.to_owned(), pinned);
        });
    }

    fn find<T>(&self, input: &Input, get: impl FnOnce(&Document) -> Option<T>) -> Result<Option<T>, LockError> {
        let mut state = self.state();
        state.used.insert(input.clone());
        let anew = match &self.policy {
            Policy::Fill | Policy::Locked => false,
            Policy::Update => true,
            Policy::UpdateNamed(names) => input.names().iter().any(|name| names.contains(*name)),
        };
        let found = if anew && !state.pinned.contains(input) { None } else { get(&state.now) };
        if found.is_none() && self.policy == Policy::Locked {
            return Err(LockError::Missing { path: self.path.clone(), input: input.to_string() });
        }
        Ok(found)
    }

    fn pin(&self, input: Input, set: impl FnOnce(&mut Document)) {
        let mut state = self.state();
        set(&mut state.now);
        state.pinned.insert(input.clone());
        state.used.insert(input);
    }

    /// The state. Whoever failed while it was held left it whole: every change is one insertion.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Refuses to update what the lock does not have, and what it only follows.
fn check_names(path: &Utf8Path, now: &Document, names: &BTreeSet<String>) -> Result<(), LockError> {
    let inputs = now.inputs();
    let known: BTreeSet<_> = inputs.iter().flat_map(Input::names).collect();
    let Some(name) = names.iter().find(|name| !known.contains(name.as_str())) else { return Ok(()) };
    let (path, name) = (path.to_owned(), name.clone());
    if now.modules.values().flatten().any(|module| module.path == name) {
        return Err(LockError::Follows { path, name });
    }
    Err(LockError::NoSuchInput { path, name, known: known.into_iter().map(str::to_owned).collect() })
}

#[cfg(test)]
mod tests;
