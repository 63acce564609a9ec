//! Computes git's tree hash of a folder without git: the hash of a commit's files that a lock pins.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;

use crate::Error;
use camino::Utf8Path;
use vcstore::utf8;

/// The hash algorithm of git objects.
#[derive(Debug, Clone, Copy)]
enum Format {
    Sha1,
    Sha256,
}

/// A hash computation.
enum Hasher {
    Sha1(sha1::Sha1),
    Sha256(sha2::Sha256),
}

/// Returns the hash of the tree of this folder in hexadecimal, with the algorithm of the git hash `like`. Git ignores
/// folders without files.
///
/// # Errors
/// When a file cannot be read.
pub(crate) fn hash(folder: &Utf8Path, like: &str) -> Result<String, Error> {
    let format = if like.len() == 64 { Format::Sha256 } else { Format::Sha1 };
    Ok(hex::encode(format.tree(folder)?.unwrap_or_else(|| format.object("tree", b""))))
}

impl Format {
    /// Returns the hash of a folder; `None` if it contains no files.
    fn tree(self, folder: &Utf8Path) -> Result<Option<Vec<u8>>, Error> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(folder).map_err(Error::io("listing", folder))? {
            let entry = entry.map_err(Error::io("listing", folder))?;
            let path = utf8("reading", &entry.path())?;
            let kind = entry.file_type().map_err(Error::io("reading", &path))?;
            let name = entry.file_name().as_bytes().to_vec();
            if kind.is_dir() {
                entries.extend(self.tree(&path)?.map(|hash| ("40000", name, hash)));
            } else if kind.is_symlink() {
                let target = fs::read_link(&path).map_err(Error::io("reading the link", &path))?;
                entries.push(("120000", name, self.object("blob", target.as_os_str().as_bytes())));
            } else {
                let (mode, hash) = self.file(&path).map_err(Error::io("reading", &path))?;
                entries.push((mode, name, hash));
            }
        }
        if entries.is_empty() {
            return Ok(None);
        }
        // Git sorts a folder as if its name ended with a slash.
        let key = |(mode, name, _): &(&str, Vec<u8>, _)| match *mode {
            "40000" => [name.as_slice(), b"/"].concat(),
            _ => name.clone(),
        };
        entries.sort_by_key(key);
        let content: Vec<u8> = entries
            .into_iter()
            .flat_map(|(mode, name, hash)| [mode.as_bytes(), b" ", &name, b"\0", &hash].concat())
            .collect();
        Ok(Some(self.object("tree", &content)))
    }

    fn object(self, kind: &str, content: &[u8]) -> Vec<u8> {
        let mut hash = self.begin(kind, content.len() as u64);
        hash.update(content);
        hash.finish()
    }

    /// Returns the mode and hash of a file, read in pieces.
    fn file(self, path: &Utf8Path) -> io::Result<(&'static str, Vec<u8>)> {
        let mut file = File::open(path)?;
        let meta = file.metadata()?;
        let mut hash = self.begin("blob", meta.len());
        let mut piece = vec![0; 64 << 10];
        loop {
            match file.read(&mut piece)? {
                0 => break,
                count => hash.update(&piece[..count]),
            }
        }
        let mode = if meta.permissions().mode() & 0o100 == 0 { "100644" } else { "100755" };
        Ok((mode, hash.finish()))
    }

    fn begin(self, kind: &str, length: u64) -> Hasher {
        let mut hash = match self {
            Self::Sha1 => Hasher::Sha1(sha1::Digest::new()),
            Self::Sha256 => Hasher::Sha256(sha2::Digest::new()),
        };
        hash.update(format!("{kind} {length}\0").as_bytes());
        hash
    }
}

impl Hasher {
    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha1(hash) => sha1::Digest::update(hash, bytes),
            Self::Sha256(hash) => sha2::Digest::update(hash, bytes),
        }
    }

    fn finish(self) -> Vec<u8> {
        match self {
            Self::Sha1(hash) => sha1::Digest::finalize(hash).to_vec(),
            Self::Sha256(hash) => sha2::Digest::finalize(hash).to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::process::Command;

    use camino::Utf8Path;

    #[test]
    fn a_folder_has_the_hash_that_git_gives_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(folder.path()).unwrap();
        let git = |arguments: &[&str]| {
            let output = Command::new("git").arg("-C").arg(path).args(arguments).output().unwrap();
            assert!(output.status.success(), "{output:?}");
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        };
        fs::create_dir_all(path.join("files/a/b")).unwrap();
        fs::create_dir_all(path.join("files/empty/inner")).unwrap();
        // Git sorts `a.go` before the folder `a`, and `a0` after it.
        for name in ["a.go", "a0", "a/b/c", "z"] {
            fs::write(path.join("files").join(name), name.repeat(30_000)).unwrap();
        }
        fs::set_permissions(path.join("files/z"), fs::Permissions::from_mode(0o755)).unwrap();
        symlink("../nowhere", path.join("files/a/link")).unwrap();
        for format in ["sha1", "sha256"] {
            git(&["init", "--quiet", &format!("--object-format={format}")]);
            git(&["add", "files"]);
            let tree = || git(&["write-tree", "--prefix=files/"]);
            let hash = |folder: &str| super::hash(&path.join(folder), &tree()).unwrap();
            assert_eq!(hash("files"), tree(), "{format}");
            fs::write(path.join("files/a/b/c"), format).unwrap();
            assert_ne!(hash("files"), tree(), "{format}");
            assert_eq!(hash("files/empty"), git(&["hash-object", "-t", "tree", "/dev/null"]));
            fs::remove_dir_all(path.join(".git")).unwrap();
        }
    }
}
