//! Unpacks the zip file of a toolchain and computes its `h1:` checksum: a hash of the hashes of its files.

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use camino::{Utf8Component, Utf8Path, Utf8PathBuf};
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use zip::ZipArchive;

use crate::error::ToolchainError;

/// Limits of an archive. A toolchain has about 15,000 files with 250 MB in total.
const FILES_LIMIT: usize = 200_000;
const SIZE_LIMIT: u64 = 4 << 30;

/// Unpacks the files of the archive, whose names all start with `prefix`, below `to`, and returns the checksum.
///
/// # Errors
/// When the archive is invalid, or a file cannot be written.
pub(crate) fn unpack(path: &Utf8Path, prefix: &str, to: &Utf8Path) -> Result<String, crate::Error> {
    let names = names(path, prefix)?;
    // A reader has a single position, so each thread opens the archive.
    let part = names.len().div_ceil(rayon::current_num_threads().max(1)).max(1);
    let read = names.par_chunks(part).enumerate().map(|(number, names)| {
        let mut archive = open(path)?;
        let mut lines = Vec::new();
        for (index, name) in names.iter().enumerate() {
            let hash = write(path, &mut archive, number * part + index, &to.join(name))?;
            lines.push((name.as_str(), hash));
        }
        Ok(lines)
    });
    let mut lines = read.collect::<Result<Vec<_>, crate::Error>>()?.concat();
    lines.sort();
    let mut sum = Sha256::new();
    for (name, hash) in lines {
        sum.update(format!("{hash}  {prefix}{name}\n"));
    }
    Ok(format!("h1:{}", STANDARD.encode(sum.finalize())))
}

/// Returns the names of all files without the prefix, in the order of the archive.
fn names(path: &Utf8Path, prefix: &str) -> Result<Vec<Utf8PathBuf>, crate::Error> {
    let bad = |why: String| ToolchainError::Archive { path: path.to_owned(), why };
    let mut archive = open(path)?;
    if archive.len() > FILES_LIMIT {
        return Err(bad(format!("it has {} files", archive.len())).into());
    }
    let (mut names, mut size) = (Vec::new(), 0u64);
    for index in 0..archive.len() {
        let file = archive.by_index_raw(index).map_err(|why| bad(why.to_string()))?;
        size = size.saturating_add(file.size());
        let whole = file.name().map_err(|why| bad(why.to_string()))?;
        let name = whole.strip_prefix(prefix).map(Utf8Path::new);
        let plain = |name: &&Utf8Path| {
            let normal = name.components().all(|part| matches!(part, Utf8Component::Normal(_)));
            // Go writes no paths with redundant separators.
            normal && !name.as_str().is_empty() && name.components().collect::<Utf8PathBuf>().as_str() == name.as_str()
        };
        let name = name.filter(|name| file.is_file() && plain(name));
        names.push(name.ok_or_else(|| bad(format!("{whole:?} is not a valid path in it")))?.to_owned());
    }
    if size > SIZE_LIMIT {
        return Err(bad(format!("it holds {size} bytes")).into());
    }
    Ok(names)
}

/// Writes one file and returns the hash of its content. Sets modes as Go does: only files in its program folders are
/// executable.
fn write(path: &Utf8Path, archive: &mut ZipArchive<File>, index: usize, to: &Utf8Path) -> Result<String, crate::Error> {
    let bad = |why: String| ToolchainError::Archive { path: path.to_owned(), why };
    let mut file = archive.by_index(index).map_err(|why| bad(why.to_string()))?;
    let folder = to.parent().unwrap_or(to);
    fs::create_dir_all(folder).map_err(crate::Error::io("making", folder))?;
    let output = File::create(to).map_err(crate::Error::io("making", to))?;
    let mut hashed = Hashed { output, hash: Sha256::new() };
    let size = file.size();
    let copied = io::copy(&mut file.by_ref().take(size + 1), &mut hashed).map_err(|why| match why.kind() {
        // The disk is at fault, not the archive.
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => crate::Error::io("writing", to)(why),
        _ => bad(format!("{to}: {why}")).into(),
    })?;
    if copied != size {
        return Err(bad(format!("the length of {to} differs from the archive's entry")).into());
    }
    let program = to.components().any(|part| part.as_str() == "bin") || to.as_str().contains("/pkg/tool/");
    let mode = if program { 0o555 } else { 0o444 };
    fs::set_permissions(to, Permissions::from_mode(mode)).map_err(crate::Error::io("writing", to))?;
    // The zip file of a module cannot contain other modules, so Go's own go.mod files are named _go.mod in it.
    if to.file_name() == Some("_go.mod") {
        let named = to.with_file_name("go.mod");
        fs::copy(to, &named).map_err(crate::Error::io("writing", &named))?;
    }
    Ok(hex::encode(hashed.hash.finalize()))
}

fn open(path: &Utf8Path) -> Result<ZipArchive<File>, crate::Error> {
    let file = File::open(path).map_err(crate::Error::io("opening", path))?;
    Ok(ZipArchive::new(file).map_err(|why| ToolchainError::Archive { path: path.to_owned(), why: why.to_string() })?)
}

struct Hashed {
    output: File,
    hash: Sha256,
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.output.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use camino::Utf8PathBuf;
    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::unpack;

    fn archive(files: &[(&str, &str)]) -> (tempfile::TempDir, Utf8PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::try_from(folder.path().join("a.zip")).unwrap();
        let mut zip = ZipWriter::new(fs::File::create(&path).unwrap());
        for (name, content) in files {
            zip.start_file(*name, SimpleFileOptions::default()).unwrap();
            zip.write_all(content.as_bytes()).unwrap();
        }
        zip.finish().unwrap();
        (folder, path)
    }

    #[test]
    fn the_checksum_is_the_one_that_go_takes() {
        let (_folder, path) = archive(&[("m@v1/b", "b"), ("m@v1/src/_go.mod", "module std\n"), ("m@v1/bin/go", "#!")]);
        let to = path.with_file_name("out");
        // Computed with: printf 'HASH  NAME\n' for each file in the order of names | sha256sum | xxd -r -p | base64
        assert_eq!(unpack(&path, "m@v1/", &to).unwrap(), "h1:Lui0nit1zMQgYNALvdJN9vwQOMv0HzcXF0lVUzqjsi4=");
        assert_eq!(fs::read_to_string(to.join("src/go.mod")).unwrap(), "module std\n");
        use std::os::unix::fs::PermissionsExt;
        let mode = |name: &str| fs::metadata(to.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("bin/go"), mode("b")), (0o555, 0o444));
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in ["m@v1/../x", "other/x", "m@v1//x", "m@v1/"] {
            let (_folder, path) = archive(&[(name, "x")]);
            let said = unpack(&path, "m@v1/", &path.with_file_name("out")).unwrap_err().to_string();
            assert!(said.contains("is not a valid path in it"), "{name}: {said}");
            assert!(!path.with_file_name("x").exists());
        }
        // One entry is a file where another requires a folder.
        let (_folder, path) = archive(&[("m@v1/x", "1"), ("m@v1/x/y", "2")]);
        assert!(unpack(&path, "m@v1/", &path.with_file_name("out")).is_err());
        let (_folder, path) = archive(&[("m@v1/x", &"x".repeat(10_000))]);
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        assert!(unpack(&path, "m@v1/", &path.with_file_name("out")).is_err());
    }
}
