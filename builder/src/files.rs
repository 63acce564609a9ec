//! The files that a project adds to an image: finds and checks them, and lists them as a layer specification.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use camino::{Utf8Component, Utf8Path, Utf8PathBuf};
use vcstore::Platform;
use vcstore::utf8;
use walkdir::{DirEntry, WalkDir};

use crate::Error;
use crate::error::FilesError;
use crate::layer::{FolderOverrides, LayerSpec};
use crate::project::Owner;
use crate::project::{Added, AddedKind, Component, FileOrigin};
use crate::source::{Source, is_archive, is_lfs_pointer, is_source, why_ignored};

/// The default permissions of a folder.
const FOLDER: u32 = 0o755;

/// The folders from which files are copied.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OriginFolders<'a> {
    /// The folder of the project file.
    pub(crate) project: &'a Utf8Path,
    /// The source.
    pub(crate) source: &'a Source,
    /// The absolute paths of files that vcbuild writes during the build.
    pub(crate) outside: &'a [Utf8PathBuf],
}

/// Returns the files that the project adds to `component` for `platform`. A file keeps only its owner's executable bit,
/// because other permissions depend on the checkout. A symbolic link in a folder remains a link and must stay within
/// the folder. Skips the files in a folder that git keeps or vcbuild writes, folders without files, sockets, pipes and
/// devices.
///
/// # Errors
/// When a file is missing, cannot be read, or is outside its origin folder.
pub(crate) fn layer_spec(
    component: &Component,
    platform: &Platform,
    origins: OriginFolders<'_>,
) -> Result<LayerSpec, Error> {
    let mut spec = LayerSpec::new();
    for (path, added) in &component.files {
        match &added.what {
            AddedKind::Folder => {
                let over = FolderOverrides { mode: added.mode, owner: added.owner };
                spec.folder(path, added.mode.unwrap_or(FOLDER), added.owner.unwrap_or_default(), over);
            }
            AddedKind::Link(target) => spec.link(path, target, added.owner.unwrap_or_default()),
            AddedKind::Copy { from, origin } => {
                let from = from.fill(&[("arch", &platform.architecture)]);
                Copy { component: &component.name, path, added, origins, origin: *origin }.list(&from, &mut spec)?;
            }
        }
    }
    Ok(spec)
}

/// An entry that copies files.
struct Copy<'a> {
    component: &'a str,
    path: &'a str,
    added: &'a Added,
    origins: OriginFolders<'a>,
    origin: FileOrigin,
}

impl Copy<'_> {
    fn list(&self, from: &str, spec: &mut LayerSpec) -> Result<(), Error> {
        let origin = match self.origin {
            FileOrigin::Project => self.origins.project,
            FileOrigin::Source => &self.origins.source.dir,
        };
        // A project file without a folder in its path has an empty folder path: the current folder.
        let origin = if origin.as_str().is_empty() { Utf8Path::new(".") } else { origin };
        let origin = origin.canonicalize_utf8().map_err(Error::io("finding", origin))?;
        let top = origin.join(from).canonicalize_utf8().map_err(|source| FilesError::Missing {
            component: self.component.to_owned(),
            path: self.path.to_owned(),
            from: from.into(),
            // The source may be a temporary copy that the user does not know.
            place: self.source().map_or_else(|| origin.clone(), |source| source.named.clone()),
            why: self.why_missing(from),
            source,
        })?;
        if !top.starts_with(&origin) {
            return Err(self.leads_out(from.into(), &origin));
        }
        let without = self.without(&top);
        if let Some(what) = why_ignored(&origin, &top, &without) {
            let (component, path) = (self.component.to_owned(), self.path.to_owned());
            return Err(FilesError::Kept { component, path, from: from.into(), what }.into());
        }
        let archives = &self.origins.source.archives;
        let is_part = |entry: &DirEntry| is_source(entry, &without) && !is_archive(entry, archives);
        let mut entries = Vec::new();
        let mut folders = BTreeSet::new();
        let walk = WalkDir::new(&top).follow_links(false).sort_by_file_name().into_iter();
        for entry in walk.filter_entry(|entry| entry.depth() == 0 || is_part(entry)) {
            let entry = entry.map_err(|error| Error::io("reading", &top)(error.into()))?;
            let kind = entry.file_type();
            if entry.depth() > 0 && !(kind.is_dir() || kind.is_symlink() || kind.is_file()) {
                continue;
            }
            let from = utf8("reading", entry.path())?;
            if !kind.is_dir() {
                folders.extend(
                    from.ancestors().skip(1).take_while(|folder| folder.starts_with(&top)).map(ToOwned::to_owned),
                );
            }
            entries.push((from, kind));
        }
        if top.is_dir() && folders.is_empty() {
            let (component, path) = (self.component.to_owned(), self.path.to_owned());
            return Err(FilesError::Empty { component, path, from: from.into() }.into());
        }
        for (from, kind) in entries {
            if kind.is_dir() && !folders.contains(&from) {
                continue;
            }
            let below = from.strip_prefix(&top).unwrap_or(Utf8Path::new(""));
            let path = if below.as_str().is_empty() { self.path.to_owned() } else { format!("{}/{below}", self.path) };
            self.put(&path, from, &top, kind, spec)?;
        }
        Ok(())
    }

    /// Explains why a file that the user may see in the source is missing.
    fn why_missing(&self, from: &str) -> String {
        let why = self.source().and_then(|source| source.excluded.why(Utf8Path::new(from)));
        why.map_or_else(String::new, |why| format!("; {why}"))
    }

    /// Returns the source, if it is the origin of the files.
    fn source(&self) -> Option<&Source> {
        (self.origin == FileOrigin::Source).then_some(self.origins.source)
    }

    /// Returns the files that vcbuild writes, to be skipped when `top` is copied. Omits a folder that is or contains
    /// `top`, because the user named its content explicitly; but never omits a store.
    fn without(&self, top: &Utf8Path) -> Vec<Utf8PathBuf> {
        let OriginFolders { source, outside, .. } = self.origins;
        // In the source, folders with files that git tracks are known to contain more than output.
        let known = match self.origin {
            FileOrigin::Project => source.written.as_slice(),
            FileOrigin::Source => &[],
        };
        let written = outside.iter().chain(known);
        written
            .filter(|path| !(top.starts_with(path) && path.is_dir() && !vcstore::Store::is_at(path)))
            .cloned()
            .collect()
    }

    fn put(
        &self,
        path: &str,
        from: Utf8PathBuf,
        top: &Utf8Path,
        kind: fs::FileType,
        spec: &mut LayerSpec,
    ) -> Result<(), Error> {
        let Added { mode, owner, .. } = *self.added;
        let owner = owner.unwrap_or_default();
        if kind.is_dir() {
            spec.folder(path, mode.map_or(FOLDER, searchable), owner, FolderOverrides::default());
        } else if kind.is_symlink() {
            let target = fs::read_link(&from).map_err(Error::io("reading the link", &from))?;
            let target = Utf8PathBuf::from_path_buf(target)
                .map_err(|_| Error::io("reading the link", &from)(std::io::Error::other("its target is not UTF-8")))?;
            if !stays_within(&from, &target, top) {
                return Err(self.leads_out(from, top));
            }
            spec.link(path, target.as_str(), owner);
        } else if kind.is_file() {
            self.file(path, from, owner, spec)?;
        } else {
            let (component, path) = (self.component.to_owned(), self.path.to_owned());
            return Err(FilesError::Special { component, path, from }.into());
        }
        Ok(())
    }

    fn file(&self, path: &str, from: Utf8PathBuf, owner: Owner, spec: &mut LayerSpec) -> Result<(), Error> {
        let names = || (self.component.to_owned(), path.to_owned());
        if self.origin == FileOrigin::Project && self.origins.source.edited.contains(&from) {
            let (component, path) = names();
            return Err(FilesError::Edited { component, path, from }.into());
        }
        let meta = fs::metadata(&from).map_err(Error::io("reading", &from))?;
        if is_lfs_pointer(&from, meta.len()).map_err(Error::io("reading", &from))? {
            let (component, path) = names();
            return Err(FilesError::Pointer { component, path, from }.into());
        }
        let own = if meta.permissions().mode() & 0o100 == 0 { 0o644 } else { 0o755 };
        spec.file(path, self.added.mode.unwrap_or(own), owner, from)
    }

    fn leads_out(&self, link: Utf8PathBuf, folder: &Utf8Path) -> Error {
        let (component, path) = (self.component.to_owned(), self.path.to_owned());
        FilesError::LeadsOut { component, path, link, folder: folder.to_owned() }.into()
    }
}

/// Returns the permissions of a folder whose files have `mode`: users who may read the files may enter it.
fn searchable(mode: u32) -> u32 {
    mode | (mode & 0o444) >> 2
}

/// Returns whether a symbolic link points below `top`, judged by its text alone: the target need not exist.
fn stays_within(link: &Utf8Path, target: &Utf8Path, top: &Utf8Path) -> bool {
    let Some(folder) = link.parent().and_then(|folder| folder.strip_prefix(top).ok()) else { return false };
    let mut depth = folder.components().count();
    for part in target.components() {
        match part {
            Utf8Component::Normal(_) => depth += 1,
            Utf8Component::CurDir => {}
            Utf8Component::ParentDir if depth > 0 => depth -= 1,
            _ => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use camino::Utf8Path;

    use super::{searchable, stays_within};

    #[test]
    fn a_link_stays_within_its_folder_or_is_refused() {
        let within = |link: &str, target: &str| stays_within(Utf8Path::new(link), Utf8Path::new(target), "/top".into());
        for (link, target) in [("/top/a", "b"), ("/top/d/a", "../b"), ("/top/a", "./d/../b"), ("/top/d/a", "..")] {
            assert!(within(link, target), "{link} to {target}");
        }
        for (link, target) in [("/top/a", "/top/b"), ("/top/a", "../b"), ("/top/d/a", "../../b"), ("/top", "b")] {
            assert!(!within(link, target), "{link} to {target}");
        }
    }

    #[test]
    fn who_may_read_files_may_enter_their_folder() {
        for (files, folder) in [(0o644, 0o755), (0o600, 0o700), (0o640, 0o750), (0o755, 0o755)] {
            assert_eq!(searchable(files), folder);
        }
    }
}
