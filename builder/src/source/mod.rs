//! The source of a build on this machine: which files of a folder are part of it, edits, and the copy that is built.

mod edits;
mod excluded;
mod ignored;
mod lfs;
mod program;
mod stage;
mod tracked;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use camino::{Utf8Path, Utf8PathBuf};
use vcsandbox::process;
use vcstore::Store;

pub(crate) use self::excluded::{ExcludedFiles, Reader};
pub(crate) use self::ignored::{OUT, is_archive, is_source, why_ignored};
pub(crate) use self::lfs::is_lfs_pointer;
pub(crate) use self::program::Git;
use self::stage::Stage;
pub(crate) use self::stage::plain_temp_dir;
pub(crate) use self::tree::{FileHash, Tree, hash_file, leads_nowhere, real_path};
use crate::project::{Edit, SourceTable};

/// An opened source.
#[derive(Debug)]
pub(crate) struct Source {
    /// The folder with the code; absolute.
    pub(crate) dir: Utf8PathBuf,
    /// The folder that contains it: the repository, or the named folder without its subfolder; absolute.
    pub(crate) top: Utf8PathBuf,
    /// The source's folder as the user named it.
    pub(crate) named: Utf8PathBuf,
    /// The fetched revision; `None` for a local folder.
    pub(crate) revision: Option<Revision>,
    /// The files next to the source that are not part of it.
    pub(crate) excluded: ExcludedFiles,
    /// The files in its folders that vcbuild wrote or will write, which are not part of the source. Absolute paths;
    /// empty if `dir` is a copy, which does not contain them.
    pub(crate) outside: Vec<Utf8PathBuf>,
    /// Like `outside`, also if `dir` is a copy.
    pub(crate) written: Vec<Utf8PathBuf>,
    /// The names of archives, which are not part of the source in any folder.
    pub(crate) archives: BTreeSet<String>,
    /// The absolute paths of original files that edits change in the copy only.
    pub(crate) edited: BTreeSet<Utf8PathBuf>,
    /// The names of the edits that were applied.
    pub(crate) applied_edits: BTreeSet<String>,
    /// The names of the edits that do not apply to this source, and why.
    pub(crate) skipped_edits: BTreeMap<String, String>,
    /// The stage that contains `dir`, if it is a copy.
    _stage: Option<Stage>,
}

/// A local source folder, before it is opened.
#[derive(Debug)]
pub(crate) struct Local {
    /// The folder: the user's own, or one in the store.
    pub(crate) top: Utf8PathBuf,
    /// The fetched revision; `None` for the user's own folder.
    pub(crate) revision: Option<Revision>,
}

/// A fetched revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Revision {
    /// The requested branch, tag, commit or version.
    pub(crate) version: String,
    /// The commit, 40 or 64 hexadecimal digits; `None` for a Go module.
    pub(crate) commit: Option<String>,
}

/// The requested source.
#[derive(Debug, Clone, Default)]
pub(crate) struct SourceSpec {
    pub(crate) table: SourceTable,
    pub(crate) edits: Vec<Edit>,
    /// The version of Go that fetches a module; the installed Go if `None`.
    pub(crate) go: Option<String>,
    /// Files and folders that vcbuild writes, which are not part of the source.
    pub(crate) outside: Vec<Utf8PathBuf>,
    /// The names of the project's archives, which are not part of the source in any folder.
    pub(crate) archives: BTreeSet<String>,
}

/// A folder of a source: its top, or a neighbouring folder that its modules refer to.
struct SourceFolder {
    dir: Utf8PathBuf,
    /// The files that git tracks; `None` if git does not track the folder, and all of it is source.
    tracked: Option<BTreeSet<PathBuf>>,
    /// The existing files that git does not track.
    untracked: BTreeSet<PathBuf>,
    /// The tracked files that do not exist.
    absent: BTreeSet<PathBuf>,
    /// The paths that vcbuild writes and that contain no source files.
    outside: Vec<Utf8PathBuf>,
}

impl Source {
    /// Opens a local source. In a git repository, the source consists of the tracked files. The source is a copy if the
    /// folder contains other files, if there are edits, or if compilers do not accept the folder's path. `beside` finds
    /// the folders outside the source that its modules refer to.
    ///
    /// # Errors
    /// When the folder does not exist, git fails, or an edit does not match.
    pub(crate) fn open(
        asked: &SourceSpec,
        Local { top, revision }: Local,
        beside: impl FnOnce(&Utf8Path, &Utf8Path) -> BTreeSet<Utf8PathBuf>,
        store: &Store,
    ) -> Result<Self, crate::Error> {
        let SourceSpec { table, edits, outside, archives, .. } = asked;
        let named = table.subdir.as_ref().map_or_else(|| top.clone(), |subdir| top.join(subdir));
        let dir = named.canonicalize_utf8().map_err(|source| crate::Error::NoSource { path: named.clone(), source })?;
        let real_top = top.canonicalize_utf8().map_err(crate::Error::io("finding", &top))?;
        if let Some(subdir) = &table.subdir
            && !dir.starts_with(&real_top)
        {
            return Err(crate::Error::SubdirOutside { subdir: subdir.clone(), top });
        }
        let folders: Vec<_> = [real_top.clone()].into_iter().chain(beside(&dir, &real_top)).collect();
        let mut without = vec![store.path().to_owned()];
        for path in outside {
            without.push(real_path(path)?);
        }
        // A folder that is or contains the source does not contain only output of vcbuild.
        without.retain(|path| !folders.iter().chain([&dir]).any(|folder| folder.starts_with(path)));
        // Only the user's own folder may contain archives of earlier builds, in any subfolder.
        if revision.is_none() {
            let found: Vec<_> =
                folders.iter().flat_map(|folder| ignored::archives(folder, archives, &without)).collect();
            without.extend(found);
        }
        // Only the user's own folder may be in a git repository; fetched sources are in the store.
        let git = Git::new(store)?;
        let mine = revision.is_none().then_some(&git);
        let parts = folders.iter().map(|folder| SourceFolder::read(folder.clone(), mine, &without));
        let parts: Vec<SourceFolder> = parts.collect::<Result<_, _>>()?;
        let mut excluded = ExcludedFiles::new(git, dir.clone());
        for part in &parts {
            excluded.add(part);
        }
        let written: Vec<_> = parts.iter().flat_map(|part| part.outside.iter().cloned()).collect();
        let as_it_lies = parts.iter().all(|part| part.untracked.is_empty() && stage::is_plain(&part.dir));
        let (edits, skipped_edits) = edits::applicable(edits, &dir)?;
        let applied_edits = edits.iter().filter_map(|edit| edit.name.clone()).collect();
        let mut source = Self {
            dir,
            top: real_top.clone(),
            named,
            revision,
            excluded,
            outside: written.clone(),
            written,
            archives: archives.clone(),
            edited: BTreeSet::new(),
            applied_edits,
            skipped_edits,
            _stage: None,
        };
        if edits.is_empty() && as_it_lies {
            return Ok(source);
        }
        let stage = Stage::new(store)?;
        for SourceFolder { dir, tracked, outside, .. } in parts {
            let files = tracked.map_or_else(|| tracked::files(&dir, &outside), Ok)?;
            stage.copy(&dir, &files)?;
            stage.keep_links(&dir, &files, &folders)?;
        }
        source.top = stage.place(&real_top);
        let below = source.dir.strip_prefix(&real_top).unwrap_or(Utf8Path::new("")).to_owned();
        source.dir = stage.place(&source.dir);
        let edited = edits::apply(&edits, &source.top, &below)?;
        source.edited = edited.into_iter().map(|file| real_top.join(file)).collect();
        source.outside = Vec::new();
        source._stage = Some(stage);
        Ok(source)
    }

    /// Returns the user's folder of the source, and the folder that contains it, with resolved links; `None` for a
    /// fetched source.
    pub(crate) fn real_dirs(&self) -> Option<(Utf8PathBuf, Utf8PathBuf)> {
        let real = self.named.canonicalize_utf8().ok().filter(|_| self.revision.is_none())?;
        let up = self.dir.strip_prefix(&self.top).ok()?.components().count();
        let top = real.ancestors().nth(up)?.to_owned();
        Some((real, top))
    }

    /// Checks that the source's folder has this file, which its kind requires.
    ///
    /// # Errors
    /// When the file is missing; the error lists the folders below that contain it.
    pub(crate) fn must_have(&self, file: &'static str) -> Result<(), crate::Error> {
        if self.dir.join(file).is_file() {
            return Ok(());
        }
        let why = self.excluded.why(Utf8Path::new(file));
        Err(crate::Error::NotThere { path: self.named.clone(), file, folders: folders_with(file, &self.dir), why })
    }
}

impl SourceFolder {
    fn read(dir: Utf8PathBuf, git: Option<&Git>, without: &[Utf8PathBuf]) -> Result<Self, crate::Error> {
        let mut tracked = git.map(|git| tracked::tracked(git, &dir)).transpose()?.flatten();
        // Exclude a committed lock: vcbuild writes it.
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

/// Returns the folders one or two levels below `dir` that contain this file, as suggestions for the user.
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
