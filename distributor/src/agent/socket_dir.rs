//! The folder with the socket for further connections to a process. It is new, accessible only to this user, and
//! contains one socket. It is removed with the process; the folder of a process that was killed is removed when the
//! next one starts.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};

use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::OFlags;
use tempfile::TempDir;
use tokio::net::UnixListener;
use vcremote::folder;

/// The prefix of the names of these folders.
const PREFIX: &str = "join-";

/// The name of the socket in the folder.
const SOCKET: &str = "s";

/// The number of attempts to create a folder: another process may mistake a new one for a leftover and remove it.
const ATTEMPTS: usize = 4;

/// The maximum number of folders that are examined when a process starts.
const SWEPT: usize = 64;

/// A folder that exists as long as this value.
pub(super) struct SocketDir {
    socket: Utf8PathBuf,
    // Declared before the lock, so that the folder is removed before the lock is released.
    _folder: TempDir,
    /// Locked as long as this process runs.
    _held: File,
}

impl SocketDir {
    /// Creates a folder and listens there.
    pub(super) fn open() -> io::Result<(Self, UnixListener)> {
        let mut why = io::Error::from(io::ErrorKind::NotFound);
        for place in places() {
            let place = match folder::enter(&place) {
                Ok(place) => place,
                Err(error) => {
                    why = io::Error::other(error);
                    continue;
                }
            };
            for _ in 0..ATTEMPTS {
                match Self::open_in(&place) {
                    Ok(opened) => return Ok(opened),
                    Err(error) => why = error,
                }
            }
        }
        Err(why)
    }

    fn open_in(place: &Utf8Path) -> io::Result<(Self, UnixListener)> {
        let mut builder = tempfile::Builder::new();
        let folder = builder.prefix(PREFIX).permissions(Permissions::from_mode(0o700)).tempdir_in(place)?;
        let held = open(Utf8Path::from_path(folder.path()).ok_or(io::ErrorKind::InvalidFilename)?)?;
        held.try_lock().map_err(io::Error::from)?;
        let socket = Utf8PathBuf::try_from(folder.path().join(SOCKET)).map_err(io::Error::other)?;
        let listener = UnixListener::bind(&socket)?;
        Ok((Self { socket, _folder: folder, _held: held }, listener))
    }

    /// The path of the socket.
    pub(super) fn socket(&self) -> &Utf8Path {
        &self.socket
    }
}

/// Removes the folders of processes that were killed.
pub(super) fn sweep() {
    for place in places() {
        // If the folder does not exist or belongs to another user, there is nothing to remove.
        if let Ok(place) = folder::enter_existing(&place) {
            // The next process retries what cannot be removed now.
            let _ = sweep_in(&place);
        }
    }
}

fn sweep_in(place: &Utf8Path) -> io::Result<()> {
    let entries = place.read_dir_utf8()?.flatten().filter(|entry| entry.file_name().starts_with(PREFIX));
    for entry in entries.take(SWEPT) {
        if open(entry.path()).is_ok_and(|folder| folder.try_lock().is_ok()) {
            std::fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

fn open(folder: &Utf8Path) -> io::Result<File> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW;
    File::options().read(true).custom_flags(flags.bits().cast_signed()).open(folder)
}

/// Returns the parent folders to try, best first: for root, one where only root can write; for another user, the
/// runtime folder that the system provides, or else the folder of this program.
fn places() -> Vec<Utf8PathBuf> {
    let user = rustix::process::geteuid();
    if user.is_root() {
        return ["/run/vcdist", "/var/lib/vcdist"].map(Utf8PathBuf::from).to_vec();
    }
    let own = std::fs::read_link("/proc/self/exe").ok().and_then(|path| Utf8PathBuf::try_from(path).ok());
    let own = own.as_deref().and_then(Utf8Path::parent).map(Utf8Path::to_owned);
    [Utf8PathBuf::from(format!("/run/user/{}/vcdist", user.as_raw()))].into_iter().chain(own).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[tokio::test]
    async fn what_a_killed_process_left_goes_and_what_is_in_use_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = Utf8Path::from_path(folder.path()).expect("UTF-8");
        let (held, _listener) = SocketDir::open_in(place).expect("a folder");
        for name in ["join-left", "join-empty", "other"] {
            fs::create_dir(place.join(name)).expect("a folder");
        }
        fs::write(place.join("join-left").join(SOCKET), "").expect("a socket");
        fs::write(place.join("join-file"), "").expect("a file");
        symlink(place.join("other"), place.join("join-link")).expect("a link");
        sweep_in(place).expect("swept");
        let left = |name: &str| place.join(name).symlink_metadata().is_ok();
        assert!(!left("join-left") && !left("join-empty"));
        assert!(left("other") && left("join-file") && left("join-link") && held.socket().exists());
        let mode = fs::metadata(held.socket().parent().expect("a folder")).expect("a folder").permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        let path = held.socket().parent().expect("a folder").to_owned();
        drop(held);
        assert!(!path.exists());
    }
}
