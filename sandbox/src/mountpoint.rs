//! Mount points in a sandbox: they are found or created without following links. Something that is already mounted may
//! contain links to the machine's own files, which are still reachable while the sandbox is built.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use camino::{Utf8Component, Utf8Path, Utf8PathBuf};
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{Mode, mkdirat};

/// Opens the folder or file `inside` in `root`. Creates it and the folders above it if they do not exist.
pub(super) fn make(root: &Utf8Path, inside: &Utf8Path, is_dir: bool) -> io::Result<File> {
    let mut place = File::from(open(root.as_std_path(), OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?);
    let mut path = Utf8PathBuf::from("/");
    let mut parts = inside.components().peekable();
    while let Some(part) = parts.next() {
        let name = match part {
            Utf8Component::RootDir => continue,
            Utf8Component::Normal(name) => name,
            _ => return Err(io::Error::other(format!("{inside} is not a normalized path"))),
        };
        path.push(name);
        place = match step(&place, name) {
            Err(nix::Error::ENOENT) => {
                new(&place, name, is_dir || parts.peek().is_some())?;
                step(&place, name)?
            }
            there => there?,
        };
        if place.metadata()?.is_symlink() {
            return Err(io::Error::other(format!(
                "{path} is a symbolic link in the sandbox, which could point elsewhere"
            )));
        }
    }
    Ok(place)
}

fn step(folder: impl AsFd, name: &str) -> nix::Result<File> {
    openat(folder, name, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty()).map(File::from)
}

fn new(folder: impl AsFd, name: &str, is_dir: bool) -> nix::Result<()> {
    if is_dir {
        return mkdirat(folder, name, Mode::from_bits_truncate(0o755));
    }
    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(folder, name, flags, Mode::from_bits_truncate(0o644)).map(drop)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    use camino::{Utf8Path, Utf8PathBuf};

    use super::make;

    #[test]
    fn a_place_is_found_or_made_and_no_link_leads_to_another() {
        let folder = tempfile::tempdir().unwrap();
        let top = Utf8PathBuf::try_from(folder.path().to_owned()).unwrap();
        let (root, outside) = (top.join("root"), top.join("outside"));
        fs::create_dir_all(root.join("source")).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("there"), "").unwrap();
        symlink(&outside, root.join("source/link")).unwrap();
        symlink(outside.join("there"), root.join("source/file")).unwrap();
        symlink("nowhere", root.join("source/dangling")).unwrap();

        let make = |inside: &str, is_dir| make(&root, Utf8Path::new(inside), is_dir);
        let inode = |place: &str| fs::metadata(root.join(place)).unwrap().ino();
        let file = make("/source/a/b/file", false).unwrap();
        assert_eq!(
            (file.metadata().unwrap().ino(), fs::read(root.join("source/a/b/file")).unwrap()),
            (inode("source/a/b/file"), vec![])
        );
        assert_eq!(make("/source/a", true).unwrap().metadata().unwrap().ino(), inode("source/a"));
        assert_eq!(make("/source/a/b/file", false).unwrap().metadata().unwrap().ino(), inode("source/a/b/file"));

        for (inside, link) in [
            ("/source/link/new", "/source/link"),
            ("/source/link/deep/er", "/source/link"),
            ("/source/link", "/source/link"),
            ("/source/file", "/source/file"),
            ("/source/dangling", "/source/dangling"),
        ] {
            for is_dir in [true, false] {
                let said = make(inside, is_dir).unwrap_err().to_string();
                assert_eq!(said, format!("{link} is a symbolic link in the sandbox, which could point elsewhere"));
            }
        }
        assert!(make("/source/../../outside/new", false).is_err());
        assert!(make("/source/a/b/file/below", false).is_err());
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    }
}
