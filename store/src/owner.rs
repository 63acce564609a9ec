//! The owner of a store. A user who can write to a store controls the content of later builds, because recorded outputs
//! are reused without verification.

use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::{Mutex, PoisonError};

use camino::{Utf8Path, Utf8PathBuf};
use rustix::process::geteuid;

use crate::Error;

/// The variable that lists stores to use regardless of their owner: paths separated by colons, or `*`.
const SAFE: &str = "VCBUILD_SAFE_STORES";

/// The variable in which sudo passes the ID of the user who invoked it.
const SUDO: &str = "SUDO_UID";

/// The parts of a store whose content is trusted.
const PARTS: [&str; 9] = ["", "actions", "blobs", "blobs/sha256", "roots", "tmp", "cache", "index.json", "lock"];

/// The root user, who can write everywhere anyway.
const ROOT: u32 = 0;

/// The mode bit that lets other users write, and the sticky bit.
const OTHERS_WRITE: u32 = 0o002;
const STICKY: u32 = 0o1000;

/// The users who may control the content of this user's stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct User {
    id: u32,
    /// The ID of the user who became root with sudo.
    sudo: Option<u32>,
}

/// Refuses a store that another user may change, unless this user's environment declares it safe. Warns of a parent
/// folder that another user may change.
pub(crate) fn check(store: &Utf8Path) -> Result<(), Error> {
    // This user will create and own a store that does not exist.
    let Ok(store) = store.canonicalize_utf8() else { return Ok(()) };
    if is_safe(&store, &std::env::var(SAFE).unwrap_or_default()) {
        return Ok(());
    }
    let sudo = std::env::var(SUDO).ok().and_then(|id| id.parse().ok());
    let id = geteuid().as_raw();
    let user = User { id, sudo: sudo.filter(|_| id == ROOT) };
    check_for(user, &store)
}

fn check_for(user: User, store: &Utf8Path) -> Result<(), Error> {
    for part in PARTS {
        let path = if part.is_empty() { store.to_owned() } else { store.join(part) };
        match fs::metadata(&path) {
            Ok(meta) => {
                if let Some(why) = user.mistrusts(&meta) {
                    return Err(Error::NotYours { store: store.to_owned(), path, why });
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io("reading", &path)(error)),
        }
    }
    for folder in store.ancestors().skip(1) {
        let meta = fs::metadata(folder).map_err(Error::io("reading", folder))?;
        if let Some(why) = user.mistrusts(&meta).filter(|_| meta.mode() & STICKY == 0) {
            warn(store, folder, &why);
        }
    }
    Ok(())
}

impl User {
    /// Returns the reason why this user should not trust the content of the folder.
    fn mistrusts(self, meta: &Metadata) -> Option<String> {
        let owner = meta.uid();
        if ![self.id, ROOT].contains(&owner) && self.sudo != Some(owner) {
            return Some(format!("belongs to user {owner}, but you are user {}", self.id));
        }
        (meta.mode() & OTHERS_WRITE != 0)
            .then(|| format!("is writable by all users (mode {:04o})", meta.mode() & 0o7777))
    }
}

fn is_safe(store: &Utf8Path, listed: &str) -> bool {
    let is = |safe: &str| safe == "*" || Utf8Path::new(safe).canonicalize_utf8().is_ok_and(|safe| safe == store);
    listed.split(':').filter(|safe| !safe.is_empty()).any(is)
}

/// Prints the warning once per folder, because a program opens its store several times.
fn warn(store: &Utf8Path, folder: &Utf8Path, why: &str) {
    static SAID: Mutex<BTreeSet<Utf8PathBuf>> = Mutex::new(BTreeSet::new());
    if SAID.lock().unwrap_or_else(PoisonError::into_inner).insert(folder.to_owned()) {
        tracing::warn!("another user could replace the store {store}: {folder} {why}");
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, chown};

    use camino::Utf8PathBuf;

    use super::{ROOT, User, check, check_for, is_safe};
    use crate::store::tests::scratch;
    use crate::{Error, Store};

    fn me() -> User {
        User { id: rustix::process::geteuid().as_raw(), sudo: None }
    }

    #[test]
    fn a_store_of_this_user_or_of_root_is_used() {
        let (_folder, store) = scratch();
        check(store.path()).unwrap();
        check_for(me(), store.path()).unwrap();
        // This user will own one that does not exist yet.
        check(&store.path().join("new")).unwrap();
    }

    #[test]
    fn a_store_that_is_or_can_become_anothers_is_refused_with_the_part_and_the_way() {
        let (_folder, store) = scratch();
        for part in ["", "actions", "blobs/sha256", "tmp", "roots", "index.json"] {
            let path = if part.is_empty() { store.path().to_owned() } else { store.path().join(part) };
            let before = fs::metadata(&path).unwrap().permissions();
            fs::set_permissions(&path, Permissions::from_mode(0o1777)).unwrap();
            let refused = check_for(me(), store.path()).unwrap_err();
            let said = refused.to_string();
            assert!(said.contains(&format!("{path} is writable by all users (mode 1777)")), "{said}");
            let help = miette::Diagnostic::help(&refused).unwrap().to_string();
            assert!(help.contains("VCBUILD_SAFE_STORES"), "{help}");
            fs::set_permissions(&path, before).unwrap();
        }
        // The same store is refused for another user, unless root owns it.
        let other = User { id: me().id + 1, sudo: None };
        let expected = me().id == ROOT;
        assert_eq!(check_for(other, store.path()).is_ok(), expected);
    }

    #[test]
    fn root_uses_the_store_of_whom_it_works_for_and_of_nobody_else() {
        if me().id != ROOT {
            return;
        }
        let (_folder, store) = scratch();
        let path = store.path().to_owned();
        chown(&path, Some(65534), None).unwrap();
        let refused = Store::open(&path).unwrap_err();
        assert!(matches!(&refused, Error::NotYours { path: part, .. } if *part == path), "{refused}");
        let root = |sudo| User { id: ROOT, sudo };
        assert!(check_for(root(Some(65533)), &path).is_err());
        check_for(root(Some(65534)), &path).unwrap();
        check_for(User { id: 65534, sudo: None }, &path).unwrap();
    }

    #[test]
    fn a_store_is_safe_where_its_user_says_so_by_whatever_path() {
        let (folder, store) = scratch();
        let link = Utf8PathBuf::try_from(folder.path().join("link")).unwrap();
        std::os::unix::fs::symlink(store.path(), &link).unwrap();
        let path = store.path().canonicalize_utf8().unwrap();
        for listed in ["*", path.as_str(), link.as_str(), &format!("/nowhere:{path}")] {
            assert!(is_safe(&path, listed), "{listed}");
        }
        for listed in ["", ":", "/", "/nowhere", path.parent().unwrap().as_str(), &format!("{path}/blobs")] {
            assert!(!is_safe(&path, listed), "{listed}");
        }
    }
}
