//! Decides which files of this machine a project may read as inputs and source. The project may come from an untrusted
//! author, so outside its folder it may read only files that every user of the machine can read, and files that the
//! user allows.
//!
//! Two exceptions make the rule practical where other users cannot enter home folders, the default of many
//! distributions. For files next to the project, in its parent folder, the permissions of the folders above do not
//! matter; a home folder contains private files, so this exception does not apply to a project directly in one. And
//! bases are not checked: vcbuild can read only an image as a base.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use camino::{Utf8Path, Utf8PathBuf};
use rayon::prelude::*;
use vcstore::lossy;
use walkdir::{DirEntry, WalkDir};

use crate::Error;
use crate::error::PrivateInput;

/// The permission bits of other users: to read a file, and to enter a folder, which access to its entries requires.
const READ: u32 = 0o004;
const ENTER: u32 = 0o001;

/// The files and folders of this machine that a project may read.
#[derive(Debug, Default)]
pub(crate) struct Allowed {
    /// Paths that are allowed with their contents, whatever their permissions.
    paths: Vec<Utf8PathBuf>,
    /// The parent folder of the project: its contents are checked as if all users could enter it.
    beside: Option<Utf8PathBuf>,
}

impl Allowed {
    /// Adds a path that the user allows.
    ///
    /// # Errors
    /// When the path cannot be resolved.
    pub(crate) fn and(mut self, path: &Utf8Path) -> Result<Self, Error> {
        self.paths.push(resolved(path)?);
        Ok(self)
    }

    /// Adds the folder of a project, or the top of the git repository that contains it. `home` is the user's home
    /// folder.
    ///
    /// # Errors
    /// As [`Allowed::and`].
    pub(crate) fn and_project(self, dir: &Utf8Path, home: Option<&Utf8Path>) -> Result<Self, Error> {
        let dir = resolved(if dir.as_str().is_empty() { Utf8Path::new(".") } else { dir })?;
        let home = home.map(resolved).transpose()?;
        let top = dir.ancestors().find(|folder| is_repository(folder)).unwrap_or(&dir);
        // The exception does not apply to a folder that contains the home folder.
        let holds_home = |folder: &Utf8Path| home.as_ref().is_some_and(|home| home.starts_with(folder));
        let beside = top.parent().filter(|folder| !holds_home(folder)).map(ToOwned::to_owned);
        Self { beside, ..self }.and(top)
    }

    /// Returns whether a path, with its links resolved, is an allowed path or below one.
    ///
    /// # Errors
    /// As [`Allowed::and`].
    pub(crate) fn holds(&self, path: &Utf8Path) -> Result<bool, Error> {
        let real = resolved(path)?;
        Ok(self.paths.iter().any(|allowed| real.starts_with(allowed)))
    }

    /// Checks a path that a project file names: it is allowed, or other users can read it and all entries in it that
    /// `keep` accepts. `whose` describes the path in the error. A missing path passes; its reader reports it.
    ///
    /// # Errors
    /// When the path is private, or cannot be read.
    pub(crate) fn check(
        &self,
        whose: impl FnOnce() -> String,
        path: &Utf8Path,
        keep: impl FnMut(&DirEntry) -> bool,
    ) -> Result<(), Error> {
        let Ok(real) = path.canonicalize_utf8() else { return Ok(()) };
        if self.holds(&real)? {
            return Ok(());
        }
        let beside = self.beside.as_deref().filter(|folder| real.starts_with(folder) && real != *folder);
        match private(&real, beside, keep).map_err(Error::io("reading", &real))? {
            None => Ok(()),
            Some(private) => Err(PrivateInput { whose: whose(), path: path.to_owned(), real, private }.into()),
        }
    }
}

/// Resolves a path to an absolute one without `..`, and without links as far as it exists.
fn resolved(path: &Utf8Path) -> Result<Utf8PathBuf, Error> {
    if let Ok(real) = path.canonicalize_utf8() {
        return Ok(real);
    }
    let absolute = camino::absolute_utf8(path).map_err(Error::io("finding", path))?;
    let leads_up = absolute.components().any(|part| part.as_str() == "..");
    let name = absolute.file_name().filter(|_| !leads_up);
    match (absolute.parent().map(Utf8Path::canonicalize_utf8), name) {
        (Some(Ok(parent)), Some(name)) => Ok(parent.join(name)),
        _ if leads_up => Err(Error::Usage(format!("{path} contains '..', and its folder does not exist"))),
        _ => Ok(absolute),
    }
}

/// Returns whether a folder is the top of a git repository that the current user or root owns: any user can turn `/tmp`
/// into one. Does not ask git, because the settings of a repository can name any folder as its top.
fn is_repository(folder: &Utf8Path) -> bool {
    let me = rustix::process::geteuid().as_raw();
    folder.join(".git").symlink_metadata().is_ok_and(|meta| [0, me].contains(&meta.uid()))
}

/// Returns the first path that other users cannot read: a folder above `path` (below `beside`, if given), or an entry
/// that `keep` accepts at or below `path`. `path` is absolute and has no links. Does not follow links in a folder,
/// because no consumer of a folder follows them out of it.
fn private(
    path: &Utf8Path,
    beside: Option<&Utf8Path>,
    keep: impl FnMut(&DirEntry) -> bool,
) -> io::Result<Option<Utf8PathBuf>> {
    let above = path.ancestors().skip(1).take_while(|folder| Some(*folder) != beside);
    for folder in above.collect::<Vec<_>>().into_iter().rev() {
        if folder.metadata()?.permissions().mode() & ENTER == 0 {
            return Ok(Some(folder.to_owned()));
        }
    }
    let mut entries = Vec::new();
    for entry in WalkDir::new(path).sort_by_file_name().into_iter().filter_entry(keep) {
        match entry.map_err(io::Error::from) {
            Ok(entry) => entries.push(entry),
            // A program that vcbuild starts cannot enter a folder that this user cannot enter.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            Err(error) => return Err(error),
        }
    }
    let is_private = |entry: &DirEntry| entry.metadata().is_ok_and(|meta| !is_public(&meta));
    Ok(entries.par_iter().find_first(|entry| is_private(entry)).map(|entry| lossy(entry.path())))
}

fn is_public(meta: &Metadata) -> bool {
    let needed = if meta.is_dir() { READ | ENTER } else { READ };
    meta.is_symlink() || meta.permissions().mode() & needed == needed
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use camino::{Utf8Path, Utf8PathBuf};

    use super::Allowed;
    use crate::Error;

    /// Creates a folder that other users may enter, with `project/` and the given paths and permissions; a name that
    /// ends with a slash is a folder.
    fn folder(entries: &[(&str, u32)]) -> (tempfile::TempDir, Utf8PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let top = Utf8PathBuf::try_from(folder.path().canonicalize().unwrap()).unwrap();
        for (name, mode) in [("", 0o755), ("project/", 0o755)].iter().chain(entries) {
            let path = top.join(name);
            if name.is_empty() || name.ends_with('/') {
                fs::create_dir_all(&path).unwrap();
            } else {
                fs::write(&path, "x").unwrap();
            }
            fs::set_permissions(&path, Permissions::from_mode(*mode)).unwrap();
        }
        (folder, top)
    }

    /// Returns the private path that `check` reports.
    #[track_caller]
    fn private(allowed: &Allowed, path: &Utf8Path) -> Option<Utf8PathBuf> {
        match allowed.check(|| "its input".to_owned(), path, |entry| entry.file_name() != ".git") {
            Ok(()) => None,
            Err(Error::Private(error)) => Some(error.private),
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn a_project_has_read_what_everybody_may_read() {
        let (_folder, top) = folder(&[
            ("project/own", 0o600),
            ("public", 0o644),
            ("written", 0o622),
            ("group", 0o640),
            ("key", 0o600),
            ("home/", 0o700),
            ("home/readable", 0o644),
            ("listed/", 0o754),
            ("listed/readable", 0o644),
            ("entered/", 0o751),
            ("entered/readable", 0o644),
            ("tools/", 0o755),
            ("tools/.git/", 0o700),
            ("tools/bin/", 0o755),
            ("tools/bin/run", 0o755),
            ("mixed/", 0o755),
            ("mixed/in/", 0o755),
            ("mixed/in/run", 0o755),
            ("mixed/in/secret", 0o600),
        ]);
        symlink("../key", top.join("project/link")).unwrap();
        symlink("../home", top.join("project/home")).unwrap();
        symlink("../../key", top.join("tools/bin/key")).unwrap();
        // The project is directly in the user's home folder, so the exception for its parent folder does not apply.
        let allowed = Allowed::default().and_project(&top.join("project"), Some(&top)).unwrap();
        let cases = [
            ("project/own", None),
            ("project/../project/own", None),
            ("public", None),
            ("written", Some("written")),
            ("group", Some("group")),
            ("key", Some("key")),
            ("project/../key", Some("key")),
            ("project/link", Some("key")),
            ("home", Some("home")),
            ("home/readable", Some("home")),
            ("project/home/readable", Some("home")),
            ("listed/readable", Some("listed")),
            ("entered/readable", None),
            ("entered", Some("entered")),
            ("tools", None),
            ("mixed/in/run", None),
            ("mixed", Some("mixed/in/secret")),
            ("absent", None),
        ];
        for (path, found) in cases {
            assert_eq!(private(&allowed, &top.join(path)), found.map(|found| top.join(found)), "{path}");
        }
        assert_eq!(private(&allowed, Utf8Path::new("/usr/bin/env")), None);
        assert_eq!(private(&allowed, Utf8Path::new("/etc/shadow")), Some("/etc/shadow".into()));
    }

    #[test]
    fn the_folders_above_do_not_count_for_what_lies_beside_a_project() {
        let (_folder, top) = folder(&[
            ("home/", 0o755),
            ("home/src/", 0o755),
            ("home/src/project/", 0o755),
            ("home/src/shared/", 0o755),
            ("home/src/shared/file", 0o644),
            ("home/src/key", 0o600),
            ("home/src/closed/", 0o700),
            ("home/src/closed/file", 0o644),
            ("home/notes", 0o644),
            ("home/project/", 0o755),
        ]);
        let home = top.join("home");
        fs::set_permissions(&home, Permissions::from_mode(0o700)).unwrap();
        fs::set_permissions(home.join("src"), Permissions::from_mode(0o700)).unwrap();
        let of = |project: &str| Allowed::default().and_project(&home.join(project), Some(&home)).unwrap();
        let cases = [
            ("src/project", "src/shared", None),
            ("src/project", "src/shared/file", None),
            ("src/project", "src/project/../shared/file", None),
            ("src/project", "src/key", Some("src/key")),
            ("src/project", "src/closed/file", Some("src/closed")),
            ("src/project", "src", Some("")),
            ("src/project", "notes", Some("")),
            ("project", "notes", Some("")),
            ("project", "src/shared/file", Some("")),
        ];
        for (project, path, found) in cases {
            let found = found.map(|found| if found.is_empty() { home.clone() } else { home.join(found) });
            assert_eq!(private(&of(project), &home.join(path)), found, "{path} for {project}");
        }
        // The folder that contains the home folder holds other secrets of the user.
        fs::set_permissions(&top, Permissions::from_mode(0o700)).unwrap();
        let beside_home = Allowed::default().and_project(&top.join("project"), Some(&home)).unwrap();
        assert_eq!(private(&beside_home, &home.join("notes")), Some(top.clone()));
        // If the home folder is unknown (the account has none), the exception applies to the parent folder.
        let nobody = Allowed::default().and_project(&home.join("project"), None).unwrap();
        assert_eq!(private(&nobody, &home.join("notes")), None);
    }

    #[test]
    fn the_user_allows_more_and_a_repository_is_one_folder() {
        let (_folder, top) =
            folder(&[("key", 0o600), ("keys/", 0o700), ("keys/one", 0o600), ("keys-of-others", 0o600)]);
        symlink("keys", top.join("link")).unwrap();
        let project = || Allowed::default().and_project(&top.join("project"), None).unwrap();
        let allowed = project().and(&top.join("link")).unwrap();
        assert_eq!(private(&allowed, &top.join("keys/one")), None);
        assert_eq!(private(&allowed, &top.join("link")), None);
        assert_eq!(private(&allowed, &top.join("keys-of-others")), Some(top.join("keys-of-others")));
        assert_eq!(private(&allowed, &top.join("key")), Some(top.join("key")));

        fs::create_dir(top.join(".git")).unwrap();
        assert_eq!(private(&project(), &top.join("key")), None);
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(top.join(".git"), Some(65534), None).unwrap();
            assert_eq!(
                private(&project(), &top.join("key")),
                Some(top.join("key")),
                "somebody else made it a repository"
            );
        }
        // The repository of the project claims that its top is elsewhere.
        fs::create_dir(top.join("project/.git")).unwrap();
        fs::write(top.join("project/.git/config"), "[core]\n\tworktree = /\n").unwrap();
        assert_eq!(private(&project(), &top.join("key")), Some(top.join("key")));
    }
}
