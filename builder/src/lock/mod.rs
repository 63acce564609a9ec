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

/// The name of a lock file.
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

/// The inputs that a run may resolve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Policy {
    /// Use pins, and resolve and pin other inputs.
    Fill,
    /// Use pins only: a missing pin, or a change of the lock, is an error.
    Locked,
    /// Resolve all inputs again.
    Update,
    /// Resolve the inputs with these names again.
    UpdateNamed(BTreeSet<String>),
}

#[derive(Debug)]
struct State {
    now: Document,
    /// The inputs that this run pinned.
    pinned: BTreeSet<Input>,
    /// The inputs that this run looked up or pinned.
    used: BTreeSet<Input>,
}

impl Lock {
    /// Reads the lock at `path`; a missing file counts as empty.
    ///
    /// # Errors
    /// When the file cannot be read or parsed, or lacks an input that the policy resolves again.
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

    /// Creates a lock from an excerpt, with the file path `path`.
    ///
    /// # Errors
    /// When `excerpt` is not an excerpt of a lock file.
    pub(crate) fn of_excerpt(
        excerpt: serde_json::Value,
        path: &Utf8Path,
        network: Network,
    ) -> Result<Self, serde_json::Error> {
        let now = Document::of_excerpt(excerpt)?;
        let (on_disk, state) = (now.clone(), State { now, pinned: BTreeSet::new(), used: BTreeSet::new() });
        Ok(Self { path: path.to_owned(), on_disk, policy: Policy::Fill, network, state: Mutex::new(state) })
    }

    /// Returns the pins that this run used: of the source, of bases for these platforms, and with `go` of Go
    /// toolchains. Omits modules, which the source's own checksums pin.
    ///
    /// # Errors
    /// When the excerpt cannot be serialised as JSON.
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

    /// Returns the path of the lock file.
    pub(crate) fn path(&self) -> &Utf8Path {
        &self.path
    }

    /// Returns the network access for resolving and fetching pinned inputs.
    pub(crate) fn network(&self) -> &Network {
        &self.network
    }

    /// Returns the pinned commit of a version of a repository; `None` if it must be resolved.
    ///
    /// # Errors
    /// In this and all other lookups: when the input is not pinned and the policy permits only pins.
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

    /// Returns the pinned version of a Go module for a requested version, such as `latest`.
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

    /// Returns the pinned Go toolchain for a requested version, such as `1.26.x`.
    pub(crate) fn go(&self, asked: &str) -> Result<Option<PinnedGo>, LockError> {
        self.find(&Input::Go(asked.to_owned()), |now| now.go.get(asked).cloned())
    }

    /// Pins a Go toolchain.
    pub(crate) fn pin_go(&self, asked: &str, go: PinnedGo) {
        self.pin(Input::Go(asked.to_owned()), |now| drop(now.go.insert(asked.to_owned(), go)));
    }

    /// Returns the pinned manifest of an image.
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

    /// Returns the pinned packages of a suite.
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

    /// Returns the pinned content of a prebuilt file.
    pub(crate) fn prebuilt(&self, file: &Utf8Path) -> Result<Option<Digest>, LockError> {
        let input = Input::Prebuilt(file.to_string());
        self.find(&input, |now| now.prebuilt.get(file.as_str()).map(|pinned| pinned.content))
    }

    /// Pins a prebuilt file.
    pub(crate) fn pin_prebuilt(&self, file: &Utf8Path, content: Digest) {
        self.pin(Input::Prebuilt(file.to_string()), |now| {
            now.prebuilt.insert(file.to_string(), PinnedFile { content });
        });
    }

    /// Pins Go modules that programs of the module `main` require: adds these, or with `all` pins exactly these. The
    /// source determines the versions; the lock verifies that the content of a version does not change.
    ///
    /// # Errors
    /// When a pinned version has a different checksum now.
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

    /// Pins exactly these dependencies of a Cargo workspace. The source determines the versions; the lock verifies that
    /// the content of a version does not change.
    ///
    /// # Errors
    /// When a pinned version has different content now.
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

    /// Removes the pins that this run did not use.
    pub(crate) fn tidy(&self) {
        let mut state = self.state();
        let State { now, used, .. } = &mut *state;
        for input in now.inputs().difference(used) {
            now.remove(input);
        }
    }

    /// Returns the differences between the lock and its file.
    pub(crate) fn changes(&self) -> Changes {
        Changes::between(&self.on_disk, &self.state().now)
    }

    /// Writes the lock if it changed. Returns whether it did.
    ///
    /// # Errors
    /// When the file cannot be written, or the lock changed and the policy permits no changes.
    pub(crate) fn save(&self) -> Result<bool, crate::Error> {
        // Held until the end of the function, so that a later writer writes the later pins.
        let state = self.state();
        if self.on_disk == state.now {
            return Ok(false);
        }
        self.check_unchanged(&state.now)?;
        let internal = |why| crate::Error::Internal(format!("writing {}: {why}", self.path));
        let text = state.now.to_text().map_err(internal)?;
        // Do not rewrite equal content, so that the file keeps its modification time.
        if fs::read_to_string(&self.path).is_ok_and(|there| there == text) {
            return Ok(false);
        }
        vcstore::atomic::replace(&self.path, text.as_bytes()).map_err(crate::Error::io("writing", &self.path))?;
        Ok(true)
    }

    /// Fails if the policy permits no changes and a pin differs from the lock file. A build calls it before long work,
    /// because the lock is saved only after the work.
    ///
    /// # Errors
    /// When a pin differs from the lock file.
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

    /// Locks the state. A panic cannot have left it inconsistent, because every change is a single insertion.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Refuses names that the lock does not have, and names of inputs that follow the source.
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
