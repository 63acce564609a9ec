//! Makes the requested source available on this machine: a git repository, a Go module, or a local folder.

mod git;
mod submodules;

use camino::Utf8PathBuf;
use vcstore::Store;

use crate::error::SourceError;
use crate::lock::{Lock, PinnedCommit};
use crate::progress::Progress;
use crate::project::SourceTable;
use crate::source::{Local, Revision, Source, SourceSpec};
use crate::{Error, go, go_names};

/// Opens the source that `asked` names: the current folder if it names none. Fetches a repository or module into a
/// folder of the store, at the version that `lock` pins, or else at its current version, which it then pins.
///
/// # Errors
/// When the folder does not exist, git or Go fails, or an edit does not match.
pub(crate) fn open(asked: &SourceSpec, store: &Store, lock: &Lock, progress: &Progress) -> Result<Source, Error> {
    let source = Source::open(asked, fetch(asked, store, lock, progress)?, go::folders_beside, store)?;
    say_edits(&source, progress);
    Ok(source)
}

/// Says which named edits changed the source, and which did not apply.
fn say_edits(source: &Source, progress: &Progress) {
    for (name, why) in &source.skipped_edits {
        tracing::info!("not applying the edit {name}: {why}");
    }
    let list = |names: Vec<&str>| names.join(", ");
    let applied: Vec<&str> = source.applied_edits.iter().map(String::as_str).collect();
    if !applied.is_empty() {
        let skipped: Vec<&str> = source.skipped_edits.keys().map(String::as_str).collect();
        let others = if skipped.is_empty() { String::new() } else { format!("; not applicable: {}", list(skipped)) };
        progress.say(&format!("edited the source: {}{others}", list(applied)));
    }
}

/// A checked-out commit of a repository.
pub(crate) struct Commit {
    /// The address of the repository.
    pub(crate) url: String,
    /// The commit and its tree.
    pub(crate) pinned: PinnedCommit,
    /// The folder with its files, without edits.
    pub(crate) files: Utf8PathBuf,
}

impl Commit {
    /// Returns the requested commit, cloned unless the store has it; `None` if the source is not a repository.
    ///
    /// # Errors
    /// As [`open`].
    pub(crate) fn of(
        asked: &SourceSpec,
        store: &Store,
        lock: &Lock,
        progress: &Progress,
    ) -> Result<Option<Self>, Error> {
        let SourceTable { repo, version, .. } = &asked.table;
        let Some(url) = repo else { return Ok(None) };
        if vcterminal::has_secret(url) {
            return Err(Error::SecretInAddress);
        }
        let version = version.as_deref().unwrap_or(git::NEWEST);
        for (word, what) in [(url.as_str(), "address"), (version, "version")] {
            // git would treat the word as an option, or a control character would hide from the reader what it names.
            if word.is_empty() || word.starts_with('-') || word.contains(char::is_control) {
                return Err(SourceError::Repository { what, word: word.to_owned() }.into());
            }
        }
        let pinned = lock.commit(url, version)?;
        let (files, pinned) = git::clone(url, version, pinned.as_ref(), lock.network(), store, progress)?;
        lock.pin_commit(url, version, pinned.clone());
        Ok(Some(Self { url: url.clone(), pinned, files }))
    }
}

/// Fetches the source, unless it is a local folder.
fn fetch(asked: &SourceSpec, store: &Store, lock: &Lock, progress: &Progress) -> Result<Local, Error> {
    let SourceTable { dir, version, module, .. } = &asked.table;
    if let Some(module) = module {
        let bad = |why: &str| SourceError::Module { module: module.clone(), why: why.to_owned() };
        let (path, version) = module.split_once('@').ok_or_else(|| bad("it has no version"))?;
        if !go_names::is_path(path) {
            return Err(bad("it is not a valid module path").into());
        }
        if !go_names::is_version(version) {
            return Err(bad("it is not a valid module version").into());
        }
        let (folder, version) = go::module_source(path, version, asked.go.as_deref(), store, lock, progress)?;
        return Ok(Local { top: folder, revision: Some(Revision { version, commit: None }) });
    }
    if let Some(Commit { pinned, files, .. }) = Commit::of(asked, store, lock, progress)? {
        let version = version.clone().unwrap_or_else(|| git::NEWEST.to_owned());
        return Ok(Local { top: files, revision: Some(Revision { version, commit: Some(pinned.commit) }) });
    }
    // A project file that is named without a folder is in the current folder; its folder is the empty path.
    let top = dir.clone().filter(|dir| !dir.as_str().is_empty()).unwrap_or_else(|| ".".into());
    Ok(Local { top, revision: None })
}
