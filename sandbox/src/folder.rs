//! Programs in a folder of the machine, provided to a step as one folder wherever its parts are: distributions
//! install compilers with links to other folders, and link them dynamically with the machine's C library.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::process::Command;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use object::Endianness;
use object::elf::{FileHeader32, FileHeader64, PT_INTERP};
use object::read::elf::{FileHeader, ProgramHeader};
use walkdir::WalkDir;

use crate::{Error, process};

/// The maximum depth of links to folders that contain links out of them.
const DEEPEST: usize = 8;

/// The size of the part of a program that contains the headers, in bytes.
const HEAD: u64 = 64 << 10;

/// The maximum length of a loader's path, in bytes.
const LONGEST: u64 = 4096;

/// The time limit for a loader to list the libraries that it would load.
const LIMIT: Duration = Duration::from_secs(60);

/// A folder with its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    root: Utf8PathBuf,
    /// The path of each part within the folder and on the machine. If no link leads out of the folder, the whole
    /// folder is the only part.
    parts: Vec<(Utf8PathBuf, Utf8PathBuf)>,
    /// The libraries of its programs, by the path at which the programs look for them.
    libraries: BTreeMap<Utf8PathBuf, Utf8PathBuf>,
}

impl Folder {
    /// Returns the folder at `root` without following its links.
    pub fn plain(root: &Utf8Path) -> Self {
        let (root, parts) = (root.to_owned(), vec![(Utf8PathBuf::new(), root.to_owned())]);
        Self { root, parts, libraries: BTreeMap::new() }
    }

    /// Returns the folder at `root` with the targets of its links, and with the libraries of these programs in it.
    ///
    /// # Errors
    /// Returns an error if it cannot be read, or if a loader cannot list the libraries.
    pub fn of(root: &Utf8Path, programs: &[Utf8PathBuf]) -> Result<Self, Error> {
        let real = root.canonicalize_utf8().map_err(Error::io("finding", root))?;
        let mut parts = Vec::new();
        split(Utf8Path::new(""), &real, 0, &mut parts)?;
        let mut libraries = BTreeMap::new();
        for program in programs {
            libraries.extend(needed(program)?);
        }
        Ok(Self { root: root.to_owned(), parts, libraries })
    }

    /// Its path on the machine.
    pub fn root(&self) -> &Utf8Path {
        &self.root
    }

    pub(super) fn parts(&self) -> &[(Utf8PathBuf, Utf8PathBuf)] {
        &self.parts
    }

    pub(super) fn libraries(&self) -> &BTreeMap<Utf8PathBuf, Utf8PathBuf> {
        &self.libraries
    }
}

/// Adds the parts of the folder `real`, which appears at `place`.
fn split(
    place: &Utf8Path,
    real: &Utf8Path,
    depth: usize,
    parts: &mut Vec<(Utf8PathBuf, Utf8PathBuf)>,
) -> Result<(), Error> {
    // Folders with a link somewhere below them that leads out of `real`; the link itself is not included.
    let mut divided = BTreeSet::new();
    for entry in WalkDir::new(real) {
        let entry = entry.map_err(|error| Error::io("reading", real)(error.into()))?;
        let Some(path) = Utf8Path::from_path(entry.path()).filter(|_| entry.path_is_symlink()) else { continue };
        if path.canonicalize_utf8().is_ok_and(|target| !target.starts_with(real)) {
            divided.extend(path.ancestors().skip(1).take_while(|above| above.starts_with(real)).map(ToOwned::to_owned));
        }
    }
    if divided.is_empty() || depth > DEEPEST {
        parts.push((place.to_owned(), real.to_owned()));
        return Ok(());
    }
    for folder in &divided {
        let inside = place.join(folder.strip_prefix(real).unwrap_or(folder));
        for entry in folder.read_dir_utf8().map_err(Error::io("reading", folder))? {
            let entry = entry.map_err(Error::io("reading", folder))?;
            let (inside, path) = (inside.join(entry.file_name()), entry.path());
            if divided.contains(path) {
                continue;
            }
            // A dangling link does not exist for a reader of the folder either.
            let Ok(target) = path.canonicalize_utf8() else { continue };
            if target.is_dir() && !target.starts_with(real) {
                split(&inside, &target, depth + 1, parts)?;
            } else {
                parts.push((inside, target));
            }
        }
    }
    Ok(())
}

/// Returns the loader of a program and the libraries that it loads, each by the path at which the program looks for it.
/// Returns an empty map for a static program, or one for another architecture.
fn needed(program: &Utf8Path) -> Result<BTreeMap<Utf8PathBuf, Utf8PathBuf>, Error> {
    let Some(loader) = loader(program).map_err(Error::io("reading", program))? else { return Ok(BTreeMap::new()) };
    let mut command = Command::new(&loader);
    // Without the user's environment, as in the sandbox.
    command.env_clear().arg("--list").arg(program);
    let listed = process::run(&mut command, LIMIT).unwrap_or_else(|failure| {
        tracing::warn!("{program} may lack libraries in the sandbox: listing them with {loader}: {failure}");
        process::Output::new()
    });
    let listed = String::from_utf8_lossy(&listed).into_owned();
    let named = listed.split_whitespace().filter(|word| word.starts_with('/')).chain([loader.as_str()]);
    let mut found = BTreeMap::new();
    for path in named.map(Utf8Path::new) {
        // A library is identified by the path at which it is opened; folders in that path may be links.
        let real = path.canonicalize_utf8().map_err(Error::io("finding", path))?;
        found.insert(path.to_owned(), real);
    }
    Ok(found)
}

/// Returns the loader of a program, or `None` if it is static or not an ELF program.
fn loader(program: &Utf8Path) -> io::Result<Option<Utf8PathBuf>> {
    let mut file = File::open(program)?;
    let mut head = Vec::new();
    file.by_ref().take(HEAD).read_to_end(&mut head)?;
    let wide = FileHeader64::<Endianness>::parse(head.as_slice()).map(|header| interpreter(header, &head));
    let narrow = || FileHeader32::<Endianness>::parse(head.as_slice()).map(|header| interpreter(header, &head));
    let Some((start, length)) = wide.or_else(|_| narrow()).ok().flatten() else { return Ok(None) };
    file.seek(SeekFrom::Start(start))?;
    let mut path = Vec::new();
    file.take(length.min(LONGEST)).read_to_end(&mut path)?;
    let path = String::from_utf8(path).map_err(io::Error::other)?;
    Ok(Some(path.trim_end_matches('\0').into()))
}

/// Returns the offset and length of the loader's path in a program.
fn interpreter<H: FileHeader<Endian = Endianness>>(header: &H, head: &[u8]) -> Option<(u64, u64)> {
    let endian = header.endian().ok()?;
    let headers = header.program_headers(endian, head).ok()?;
    let found = headers.iter().find(|one| one.p_type(endian) == PT_INTERP)?;
    Some((found.p_offset(endian).into(), found.p_filesz(endian).into()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use camino::{Utf8Path, Utf8PathBuf};

    use super::{Folder, needed};

    #[test]
    fn parts_behind_links_are_found_where_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let top = Utf8PathBuf::try_from(folder.path().canonicalize().unwrap()).unwrap();
        for file in
            ["lib/go/bin/go", "lib/go/pkg/tool/link", "share/go/src/fmt/fmt.go", "share/more/include/x.h", "far/y"]
        {
            fs::create_dir_all(top.join(file).parent().unwrap()).unwrap();
            fs::write(top.join(file), file).unwrap();
        }
        let root = top.join("lib/go");
        assert_eq!(Folder::of(&root, &[]).unwrap(), Folder::plain(&root), "nothing leads out of it");
        symlink("bin/go", root.join("again")).unwrap();
        symlink("../nowhere", root.join("gone")).unwrap();
        assert_eq!(Folder::of(&root, &[]).unwrap(), Folder::plain(&root), "nor does a link within it");

        symlink("../../share/go/src", root.join("src")).unwrap();
        symlink(top.join("share/more/include"), root.join("pkg/include")).unwrap();
        // A folder behind a link contains a further link.
        symlink(top.join("far"), top.join("share/go/src/far")).unwrap();
        let mut parts = Folder::of(&root, &[]).unwrap().parts;
        parts.sort();
        let real = |path: &str| top.join(path);
        let expected = [
            ("again", real("lib/go/bin/go")),
            ("bin", real("lib/go/bin")),
            ("pkg/include", real("share/more/include")),
            ("pkg/tool", real("lib/go/pkg/tool")),
            ("src/far", real("far")),
            ("src/fmt", real("share/go/src/fmt")),
        ];
        assert_eq!(parts, expected.map(|(place, path)| (Utf8PathBuf::from(place), path)));
    }

    #[test]
    fn a_program_is_loaded_with_its_loader_and_libraries() {
        let shell = Utf8Path::new("/bin/sh").canonicalize_utf8().unwrap();
        let found = needed(&shell).unwrap();
        let has = |name: &str| found.keys().any(|path| path.file_name().is_some_and(|file| file.contains(name)));
        assert!(has("ld-") && has("libc"), "{found:?}");
        assert!(found.values().all(|path| path.is_file()));
        let script = tempfile::NamedTempFile::new().unwrap();
        fs::write(script.path(), "#!/bin/sh\n").unwrap();
        assert!(needed(Utf8Path::from_path(script.path()).unwrap()).unwrap().is_empty());
    }
}
