//! Sources: a folder, a git repository, or a Go module.

mod edits;
mod git;
mod kept;
mod left_out;
mod pointer;
mod program;
mod stage;
mod submodules;
mod tracked;
mod tree;

use std::collections::BTreeSet;
use std::path::PathBuf;

use camino::{Utf8Path, Utf8PathBuf};
use vcsandbox::process;
use vcstore::Store;

pub(crate) use self::edits::Edit;
pub(crate) use self::kept::{OUT, is_archive, is_source, no_source};
pub(crate) use self::left_out::{LeftOut, Reader};
pub(crate) use self::pointer::is_pointer;
use self::program::Git;
use self::stage::Stage;
pub(crate) use self::stage::plain_temp_dir;
pub(crate) use self::tree::{FileHash, Tree, hash_file, leads_nowhere, real_path};
use crate::error::SourceError;
use crate::go;
use crate::lock::{Lock, PinnedCommit};
use crate::progress::Progress;
use crate::project::SourceTable;

/// A source that is there to be read.
#[derive(Debug)]
pub(crate) struct Source {
    /// The folder with the code; absolute.
    pub(crate) dir: Utf8PathBuf,
    /// The folder that it is in: its repository's, or the one that was named before a subfolder was; absolute.
    pub(crate) top: Utf8PathBuf,
    /// The source's folder as its user names it.
    pub(crate) named: Utf8PathBuf,
    /// The revision it was fetched at.
    pub(crate) revision: Option<Revision>,
    /// Files beside it that are none of the source, because git does not track them.
    pub(crate) left_out: LeftOut,
    /// What vcbuild wrote into it, or will: none of the source. Absolute, and nothing where `dir` is a copy without it.
    pub(crate) outside: Vec<Utf8PathBuf>,
    /// The same, whether `dir` is a copy or not.
    pub(crate) written: Vec<Utf8PathBuf>,
    /// The names of archives that are no part of it, wherever they lie.
    pub(crate) archives: BTreeSet<String>,
    /// Files that an edit changes in the copy and not where they lie. Absolute, as they lie.
    pub(crate) edited: BTreeSet<Utf8PathBuf>,
    /// What `dir` is in, where it is a copy.
    _stage: Option<Stage>,
}

/// What was fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Revision {
    /// The branch, tag, commit or version that was asked for.
    pub(crate) version: String,
    /// The commit, 40 or 64 hexadecimal digits; a Go module has none.
    pub(crate) commit: Option<String>,
}

/// What source is asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asked {
    pub(crate) table: SourceTable,
    pub(crate) edits: Vec<Edit>,
    /// The version of Go that a module is fetched with, where one is asked for.
    pub(crate) go: Option<String>,
    /// Files and folders that vcbuild writes: they are no part of the source.
    pub(crate) outside: Vec<Utf8PathBuf>,
    /// The names of archives that the project is built to: where one lies, it is no part of the source.
    pub(crate) archives: BTreeSet<String>,
}

/// A folder of a source: its top, or one beside it that its modules lead to.
struct Part {
    dir: Utf8PathBuf,
    /// What git tracks of it; none where git does not track the folder, and all of it is source.
    tracked: Option<BTreeSet<PathBuf>>,
    /// What else is there.
    untracked: BTreeSet<PathBuf>,
    /// What git tracks and is not there.
    absent: BTreeSet<PathBuf>,
    /// What vcbuild writes, and nothing else that is source is in it.
    outside: Vec<Utf8PathBuf>,
}

/// A commit of a repository, checked out.
pub(crate) struct Commit {
    /// The address of the repository.
    pub(crate) url: String,
    /// The commit and its tree.
    pub(crate) pinned: PinnedCommit,
    /// The folder with its files, as they are without edits.
    pub(crate) files: Utf8PathBuf,
}

impl Commit {
    /// The requested commit, cloned unless the store has it; `None` if the source is not a repository.
    ///
    /// # Errors
    /// As [`Source::open`].
    pub(crate) fn of(
        asked: &Asked,
        store: &Store,
        lock: &Lock,
        progress: &Progress,
    ) -> Result<Option<Self>, crate::Error> {
        let SourceTable { repo, version, .. } = &asked.table;
        let Some(url) = repo else { return Ok(None) };
        if vcterminal::has_secret(url) {
            return Err(crate::Error::SecretInAddress);
        }
        let version = version.as_deref().unwrap_or(git::NEWEST);
        for (word, what) in [(url.as_str(), "address"), (version, "version")] {
            // git would take it for an option, or for something else than who reads it does.
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

impl Source {
    /// Opens the source that `asked` says: the current folder when it says nothing. What others keep is fetched into the
    /// store's care, as `lock` pins it or as it is now. Of a folder that git knows, what git tracks is the source. Where
    /// that is not all of the folder, something is edited, or compilers do not take the folder's name, the source is a copy.
    ///
    /// # Errors
    /// When the folder is not there, git or Go fails, or an edit does not fit.
    pub(crate) fn open(asked: &Asked, store: &Store, lock: &Lock, progress: &Progress) -> Result<Self, crate::Error> {
        let Asked { table, edits, outside, archives, .. } = asked;
        let (top, revision) = fetch(asked, store, lock, progress)?;
        let named = table.subdir.as_ref().map_or_else(|| top.clone(), |subdir| top.join(subdir));
        let dir = named.canonicalize_utf8().map_err(|source| crate::Error::NoSource { path: named.clone(), source })?;
        let real_top = top.canonicalize_utf8().map_err(crate::Error::io("finding", &top))?;
        if let Some(subdir) = &table.subdir
            && !dir.starts_with(&real_top)
        {
            return Err(crate::Error::SubdirOutside { subdir: subdir.clone(), top });
        }
        let folders: Vec<_> = [real_top.clone()].into_iter().chain(go::folders_beside(&dir, &real_top)).collect();
        let mut without = vec![store.path().to_owned()];
        for path in outside {
            without.push(real_path(path)?);
        }
        // A folder that is the source itself, or holds it, has more in it than what vcbuild writes.
        without.retain(|path| !folders.iter().chain([&dir]).any(|folder| folder.starts_with(path)));
        // Only a folder of the user's own may have archives of builds before, in this folder or in that.
        if revision.is_none() {
            let found: Vec<_> = folders.iter().flat_map(|folder| kept::archives(folder, archives, &without)).collect();
            without.extend(found);
        }
        // Only a folder of the user's own may be known to git; the others are in the store's care.
        let git = Git::new(store)?;
        let mine = revision.is_none().then_some(&git);
        let parts = folders.iter().map(|folder| Part::read(folder.clone(), mine, &without));
        let parts: Vec<Part> = parts.collect::<Result<_, _>>()?;
        let mut left_out = LeftOut::new(git, dir.clone());
        for part in &parts {
            left_out.add(part);
        }
        let written: Vec<_> = parts.iter().flat_map(|part| part.outside.iter().cloned()).collect();
        let as_it_lies = parts.iter().all(|part| part.untracked.is_empty() && stage::is_plain(&part.dir));
        let mut source = Self {
            dir,
            top: real_top.clone(),
            named,
            revision,
            left_out,
            outside: written.clone(),
            written,
            archives: archives.clone(),
            edited: BTreeSet::new(),
            _stage: None,
        };
        if edits.is_empty() && as_it_lies {
            return Ok(source);
        }
        let stage = Stage::new(store)?;
        for Part { dir, tracked, outside, .. } in parts {
            let files = tracked.map_or_else(|| tracked::files(&dir, &outside), Ok)?;
            stage.copy(&dir, &files)?;
            stage.keep_links(&dir, &files, &folders)?;
        }
        source.top = stage.place(&real_top);
        source.dir = stage.place(&source.dir);
        let edited = edits::apply(edits, &source.top)?;
        source.edited = edited.into_iter().map(|file| real_top.join(file)).collect();
        source.outside = Vec::new();
        source._stage = Some(stage);
        Ok(source)
    }

    /// The source's folder where its user keeps it, and the one that it is in; without links. None of one that was fetched.
    pub(crate) fn real_dirs(&self) -> Option<(Utf8PathBuf, Utf8PathBuf)> {
        let real = self.named.canonicalize_utf8().ok().filter(|_| self.revision.is_none())?;
        let up = self.dir.strip_prefix(&self.top).ok()?.components().count();
        let top = real.ancestors().nth(up)?.to_owned();
        Some((real, top))
    }

    /// Checks that the source's folder has this file, by which its kind is known.
    ///
    /// # Errors
    /// When it has not; the message has the folders below it that do.
    pub(crate) fn must_have(&self, file: &'static str) -> Result<(), crate::Error> {
        if self.dir.join(file).is_file() {
            return Ok(());
        }
        let why = self.left_out.why(Utf8Path::new(file));
        Err(crate::Error::NotThere { path: self.named.clone(), file, folders: folders_with(file, &self.dir), why })
    }
}

impl Part {
    fn read(dir: Utf8PathBuf, git: Option<&Git>, without: &[Utf8PathBuf]) -> Result<Self, crate::Error> {
        let mut tracked = git.map(|git| tracked::tracked(git, &dir)).transpose()?.flatten();
        // A lock that is committed is written again all the same.
        if let Some(tracked) = &mut tracked {
            tracked.retain(|file| !without.iter().any(|path| *path == dir.as_std_path().join(file)));
        }
        let has_source = |path: &Utf8Path| {
            let mut tracked = tracked.iter().flatten();
            path.strip_prefix(&dir).is_ok_and(|below| tracked.any(|file| file.starts_with(below)))
        };
        let outside: Vec<_> = without.iter().filter(|path| !has_source(path)).cloned().collect();
        let (mut untracked, mut absent) = (BTreeSet::new(), BTreeSet::new());
        if let Some(tracked) = &tracked {
            let there = tracked::files(&dir, &outside)?;
            untracked = there.difference(tracked).cloned().collect();
            absent = tracked.difference(&there).cloned().collect();
        }
        Ok(Self { dir, tracked, untracked, absent, outside })
    }
}

/// The folder of the source, and the revision it was fetched at when it was.
fn fetch(
    asked: &Asked,
    store: &Store,
    lock: &Lock,
    progress: &Progress,
) -> Result<(Utf8PathBuf, Option<Revision>), crate::Error> {
    let SourceTable { dir, version, module, .. } = &asked.table;
    if let Some(module) = module {
        let bad = |why: &str| SourceError::Module { module: module.clone(), why: why.to_owned() };
        let (path, version) = module.split_once('@').ok_or_else(|| bad("it has no version"))?;
        if !go::is_path(path) {
            return Err(bad("it is not a valid module path").into());
        }
        if !go::is_version(version) {
            return Err(bad("it is not a valid module version").into());
        }
        let (folder, version) = go::module_source(path, version, asked.go.as_deref(), store, lock, progress)?;
        return Ok((folder, Some(Revision { version, commit: None })));
    }
    if let Some(Commit { pinned, files, .. }) = Commit::of(asked, store, lock, progress)? {
        let version = version.clone().unwrap_or_else(|| git::NEWEST.to_owned());
        return Ok((files, Some(Revision { version, commit: Some(pinned.commit) })));
    }
    // The folder of a project file that is named without one is the current folder, and empty.
    Ok((dir.clone().filter(|dir| !dir.as_str().is_empty()).unwrap_or_else(|| ".".into()), None))
}

/// Whether an address has a password or token in it: the lock, which is committed, and messages would carry it on.
/// The folders at most two levels below `dir` that have this file: what the user may have meant.
pub(crate) fn folders_with(file: &str, dir: &Utf8Path) -> Vec<Utf8PathBuf> {
    let mut found: Vec<_> = walkdir::WalkDir::new(dir)
        .min_depth(2)
        .max_depth(3)
        .into_iter()
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name() == file)
        .filter_map(|entry| Some(Utf8Path::from_path(entry.path())?.parent()?.strip_prefix(dir).ok()?.to_owned()))
        .collect();
    found.sort();
    found
}
