//! The hash that git gives the files of a folder: what a lock pins of a commit, taken without git.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;

use camino::Utf8Path;
use sha1::{Digest, Sha1};

use crate::Error;
use crate::source::utf8;

/// The hash of the tree of this folder, in hexadecimal digits. Folders without files are none to git.
///
/// # Errors
/// When a file cannot be read.
pub(super) fn hash(folder: &Utf8Path) -> Result<String, Error> {
    Ok(hex::encode(tree(folder)?.unwrap_or_else(|| object("tree", b""))))
}

/// The hash of a folder; none of one that holds no file.
fn tree(folder: &Utf8Path) -> Result<Option<[u8; 20]>, Error> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io("listing", folder))? {
        let entry = entry.map_err(Error::io("listing", folder))?;
        let path = utf8("reading", &entry.path())?;
        let kind = entry.file_type().map_err(Error::io("reading", &path))?;
        let name = entry.file_name().as_bytes().to_vec();
        if kind.is_dir() {
            entries.extend(tree(&path)?.map(|hash| ("40000", name, hash)));
        } else if kind.is_symlink() {
            let target = fs::read_link(&path).map_err(Error::io("reading the link", &path))?;
            entries.push(("120000", name, object("blob", target.as_os_str().as_bytes())));
        } else {
            let (mode, hash) = file(&path).map_err(Error::io("reading", &path))?;
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
    Ok(Some(object("tree", &content)))
}

fn object(kind: &str, content: &[u8]) -> [u8; 20] {
    let mut hash = Sha1::new_with_prefix(format!("{kind} {}\0", content.len()));
    hash.update(content);
    hash.finalize().into()
}

/// The mode and hash of a file, which is not held in memory.
fn file(path: &Utf8Path) -> io::Result<(&'static str, [u8; 20])> {
    let mut file = File::open(path)?;
    let meta = file.metadata()?;
    let mut hash = Sha1::new_with_prefix(format!("blob {}\0", meta.len()));
    let mut piece = vec![0; 64 << 10];
    loop {
        match file.read(&mut piece)? {
            0 => break,
            count => hash.update(&piece[..count]),
        }
    }
    let mode = if meta.permissions().mode() & 0o100 == 0 { "100644" } else { "100755" };
    Ok((mode, hash.finalize().into()))
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
        // `a.go` is before the folder `a` to git, and `a0` after it.
        for name in ["a.go", "a0", "a/b/c", "z"] {
            fs::write(path.join("files").join(name), name.repeat(30_000)).unwrap();
        }
        fs::set_permissions(path.join("files/z"), fs::Permissions::from_mode(0o755)).unwrap();
        symlink("../nowhere", path.join("files/a/link")).unwrap();
        git(&["init", "--quiet"]);
        git(&["add", "files"]);
        assert_eq!(super::hash(&path.join("files")).unwrap(), git(&["write-tree", "--prefix=files/"]));
        fs::write(path.join("files/a/b/c"), "other").unwrap();
        assert_ne!(super::hash(&path.join("files")).unwrap(), git(&["write-tree", "--prefix=files/"]));
        assert_eq!(super::hash(&path.join("files/empty")).unwrap(), git(&["hash-object", "-t", "tree", "/dev/null"]));
    }
}
