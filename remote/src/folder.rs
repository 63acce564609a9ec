//! A folder on this machine that no other user can change; [`crate::script`] does the same checks on a remote
//! machine.

use std::io;
use std::os::fd::OwnedFd;

use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::{Mode, OFlags, Stat, fstat, mkdirat, open, openat};
use rustix::io::Errno;
use rustix::process::geteuid;

/// The maximum depth of a folder; a deeper one indicates a cycle.
const DEEPEST: usize = 1000;

/// Why a folder is not used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unfit {
    /// It, or a parent folder, belongs to another user.
    #[error("{path} belongs to user {owner}")]
    Owner {
        /// The folder.
        path: Utf8PathBuf,
        /// The UID of its owner.
        owner: u32,
    },
    /// Other users can write to it, or replace one of its parent folders.
    #[error("{0} is writable by other users")]
    Writable(Utf8PathBuf),
    /// It cannot be created or examined.
    #[error("{path}: {source}")]
    Io {
        /// The folder.
        path: Utf8PathBuf,
        /// The cause.
        source: io::Error,
    },
}

/// Opens a folder, creates its missing parts for this user only, and checks that nobody but this user and root can
/// change or replace it. Returns its path without links, all parts of which are checked.
///
/// # Errors
/// Returns an error if it cannot be opened, or if another user can change it.
pub fn enter(path: &Utf8Path) -> Result<Utf8PathBuf, Unfit> {
    walk(path, true)
}

/// Does the same for an existing folder, without creating anything.
///
/// # Errors
/// Returns an error if it does not exist or cannot be opened, or if another user can change it.
pub fn enter_existing(path: &Utf8Path) -> Result<Utf8PathBuf, Unfit> {
    walk(path, false)
}

fn walk(path: &Utf8Path, make: bool) -> Result<Utf8PathBuf, Unfit> {
    let failed = |errno: Errno| Unfit::Io { path: path.to_owned(), source: errno.into() };
    let path = &camino::absolute_utf8(path).map_err(|source| Unfit::Io { path: path.to_owned(), source })?;
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let mut here = open("/", flags, Mode::empty()).map_err(failed)?;
    for name in path.as_str().split('/').filter(|name| !name.is_empty()) {
        here = match openat(&here, name, flags, Mode::empty()) {
            Err(Errno::NOENT) if make => {
                // Creates nothing where other users could replace it with a link before it is opened.
                check(&here, false)?;
                match mkdirat(&here, name, Mode::RWXU) {
                    Ok(()) | Err(Errno::EXIST) => openat(&here, name, flags, Mode::empty()).map_err(failed)?,
                    Err(errno) => return Err(failed(errno)),
                }
            }
            entered => entered.map_err(failed)?,
        };
    }
    check(&here, true)
}

/// Checks a folder and its parents. Returns its path. With `alone`, no other user may be able to write to the
/// folder itself; otherwise, and for the parents, a sticky folder is sufficient.
fn check(folder: &OwnedFd, alone: bool) -> Result<Utf8PathBuf, Unfit> {
    let path = path_of(folder)?;
    let failed = |errno: Errno| Unfit::Io { path: path.clone(), source: errno.into() };
    let mut above = path.clone();
    let mut here = folder.try_clone().map_err(|source| Unfit::Io { path: path.clone(), source })?;
    let mut stat = fstat(&here).map_err(failed)?;
    for depth in 0..DEEPEST {
        judge(&stat, &above, alone && depth == 0)?;
        let parent =
            openat(&here, "..", OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(failed)?;
        let next = fstat(&parent).map_err(failed)?;
        if (next.st_dev, next.st_ino) == (stat.st_dev, stat.st_ino) {
            return Ok(path);
        }
        (here, stat) = (parent, next);
        above.pop();
    }
    Err(failed(Errno::LOOP))
}

fn judge(stat: &Stat, path: &Utf8Path, alone: bool) -> Result<(), Unfit> {
    if stat.st_uid != 0 && stat.st_uid != geteuid().as_raw() {
        return Err(Unfit::Owner { path: path.to_owned(), owner: stat.st_uid });
    }
    let (others_write, sticky) = (stat.st_mode & 0o022 != 0, stat.st_mode & 0o1000 != 0);
    if others_write && (alone || !sticky) { Err(Unfit::Writable(path.to_owned())) } else { Ok(()) }
}

fn path_of(folder: &OwnedFd) -> Result<Utf8PathBuf, Unfit> {
    use std::os::fd::AsRawFd;
    let link = format!("/proc/self/fd/{}", folder.as_raw_fd());
    let path = std::fs::read_link(&link).and_then(|path| Utf8PathBuf::try_from(path).map_err(io::Error::other));
    path.map_err(|source| Unfit::Io { path: link.into(), source })
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use camino::Utf8PathBuf;

    use super::{enter, enter_existing};

    fn folder() -> (tempfile::TempDir, Utf8PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().canonicalize().expect("a path");
        (folder, path.try_into().expect("UTF-8"))
    }

    fn set_mode(path: &Utf8PathBuf, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("a mode");
    }

    #[test]
    fn what_is_missing_is_made_for_this_user_alone() {
        let (_folder, path) = folder();
        let deep = path.join("a/b/c");
        assert!(enter_existing(&deep).is_err() && !path.join("a").exists());
        assert_eq!(enter(&deep).expect("entered"), deep);
        assert_eq!(enter_existing(&deep).expect("entered"), deep);
        assert_eq!(fs::metadata(path.join("a")).expect("a folder").permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_folder_that_others_may_change_is_refused_wherever_it_is_on_the_way() {
        let (_folder, path) = folder();
        for (changed, mode) in [("a", 0o777), ("a", 0o770), ("a/b", 0o777), ("a/b", 0o1777), ("a/b", 0o775)] {
            let (changed, target) = (path.join(changed), path.join("a/b"));
            enter(&target).expect("entered");
            set_mode(&changed, mode);
            let refused = enter(&target).expect_err("refused").to_string();
            assert_eq!(refused, format!("{changed} is writable by other users"), "{mode:o}");
            // Nothing is created below it, and its mode is unchanged.
            let below = target.join("c");
            assert!(enter(&below).is_err() || mode & 0o1000 != 0);
            assert_eq!(fs::metadata(&changed).expect("a folder").permissions().mode() & 0o7777, mode);
            set_mode(&changed, 0o700);
            let _ = fs::remove_dir(&below);
        }
        set_mode(&path.join("a"), 0o1777);
        enter(&path.join("a/b")).expect("names there are their owners' alone");
    }

    #[test]
    fn a_link_counts_for_where_it_leads() {
        let (_folder, path) = folder();
        enter(&path.join("real/deep")).expect("entered");
        symlink(path.join("real"), path.join("link")).expect("a link");
        assert_eq!(enter(&path.join("link/deep")).expect("entered"), path.join("real/deep"));
        set_mode(&path.join("real"), 0o777);
        let refused = enter(&path.join("link/deep")).expect_err("refused").to_string();
        assert_eq!(refused, format!("{} is writable by other users", path.join("real")));
        symlink(path.join("nowhere"), path.join("dangling")).expect("a link");
        assert!(enter(&path.join("dangling/x")).is_err() && !path.join("nowhere").exists());
    }

    #[test]
    fn a_folder_of_another_user_is_refused() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let (_folder, path) = folder();
        let theirs = path.join("theirs");
        enter(&theirs.join("ours")).expect("entered");
        std::os::unix::fs::chown(&theirs, Some(12_345), None).expect("another owner");
        for target in [theirs.clone(), theirs.join("ours"), theirs.join("new")] {
            let refused = enter(&target).expect_err("refused").to_string();
            assert_eq!(refused, format!("{theirs} belongs to user 12345"));
        }
        assert!(!theirs.join("new").exists());
    }
}
