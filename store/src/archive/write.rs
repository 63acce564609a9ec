//! Writes archives whose bytes depend only on the images.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read};

use camino::Utf8Path;
use serde_json::json;

use crate::digest::Hashed;
use crate::image::digest_of;
use crate::index::{index_of, named};
use crate::store::persist;
use crate::{Blob, Digest, Error, Hasher, Image, Store, TarWriter, canonical_json};

/// The suffix of a file that is being written.
const PARTIAL: &str = ".partial";

/// Writes `images` as one archive to `path`, atomically. Returns the digest and size of the file.
///
/// `beside` are documents about the images, by name, at the top of the archive. Importers ignore them, and
/// [`super::document`] reads them.
///
/// # Errors
/// When a blob is missing or damaged, or the file cannot be written.
pub fn write(store: &Store, images: &[Image], beside: &[(&str, &[u8])], path: &Utf8Path) -> Result<Blob, Error> {
    let mut blobs: BTreeMap<Digest, u64> = BTreeMap::new();
    for image in images {
        image.check_complete(store)?;
        for blob in image.blobs() {
            blobs.insert(digest_of(&blob, &image.name)?, blob.size());
        }
    }
    let folder = path.parent().filter(|folder| !folder.as_str().is_empty()).unwrap_or(Utf8Path::new("."));
    std::fs::create_dir_all(folder).map_err(Error::io("making", folder))?;
    let file = begin(folder, path)?;
    let mut tar = TarWriter::new(BufWriter::with_capacity(256 << 10, Hashed::new(file)));

    let index = index_of(images.iter().map(|image| named(&image.target, &image.name, tag(&image.name))));
    let documents = [
        ("oci-layout", canonical_json(&json!({"imageLayoutVersion": "1.0.0"}))?),
        ("index.json", canonical_json(&index)?),
        ("manifest.json", canonical_json(&images.iter().map(docker_manifest).collect::<Vec<_>>())?),
    ];
    let documents = documents.iter().map(|(name, content)| (*name, content.as_slice()));
    for (name, content) in documents.chain(beside.iter().copied()) {
        tar.file(name, content.len() as u64, content).map_err(Error::io("writing", path))?;
    }
    for folder in ["blobs", "blobs/sha256"] {
        tar.dir(folder).map_err(Error::io("writing", path))?;
    }
    for (digest, size) in blobs {
        let reader = store.reader(&digest)?;
        tar.file(&format!("blobs/sha256/{}", digest.hex()), size, reader).map_err(Error::io("writing", path))?;
    }
    let Hashed { output: file, hasher } = tar
        .finish()
        .and_then(|buffer| buffer.into_inner().map_err(io::IntoInnerError::into_error))
        .map_err(Error::io("writing", path))?;
    persist(file, path)?;
    Ok(hasher.finish())
}

/// Creates a temporary file next to `path`. The file is locked while it is written; unlocked files of killed processes
/// are removed here.
fn begin(folder: &Utf8Path, path: &Utf8Path) -> Result<tempfile::NamedTempFile, Error> {
    let prefix = format!(".{}.", path.file_name().unwrap_or("archive"));
    let ours = |name: &str| name.starts_with(&prefix) && name.ends_with(PARTIAL);
    for entry in folder.read_dir_utf8().map_err(Error::io("listing", folder))? {
        let entry = entry.map_err(Error::io("listing", folder))?;
        if ours(entry.file_name()) && File::open(entry.path()).is_ok_and(|file| file.try_lock().is_ok()) {
            // A remaining file is harmless, and the next write tries again.
            let _ = fs::remove_file(entry.path());
        }
    }
    loop {
        let file = tempfile::Builder::new()
            .prefix(&prefix)
            .suffix(PARTIAL)
            .tempfile_in(folder)
            .map_err(Error::io("creating a file in", folder))?;
        file.as_file().lock_shared().map_err(Error::io("locking a new file in", folder))?;
        // Another writer of the same archive may have removed it as a leftover before it was locked.
        if file.path().exists() {
            return Ok(file);
        }
    }
}

/// Hashes a file: the result equals that of [`write()`] if the file is unchanged.
///
/// # Errors
/// When the file cannot be read.
pub fn hash(path: &Utf8Path) -> Result<Blob, Error> {
    let mut file = File::open(path).map_err(Error::io("opening", path))?;
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer).map_err(Error::io("reading", path))? {
            0 => return Ok(hasher.finish()),
            count => hasher.update(&buffer[..count]),
        }
    }
}

/// Returns the tag of a full name, which is the OCI reference name.
fn tag(name: &str) -> &str {
    name.rsplit_once(':').map_or("latest", |(_, tag)| tag)
}

/// Returns the image's entry in a docker-archive's `manifest.json`. The format has one platform per image: amd64, if
/// available.
fn docker_manifest(image: &Image) -> serde_json::Value {
    let path = |digest: &str| format!("blobs/{}", digest.replacen(':', "/", 1));
    let one = image.platform(&crate::Platform::default()).unwrap_or(&image.platforms[0]);
    let layers: Vec<_> = one.layers.iter().map(|layer| path(&layer.digest.to_string())).collect();
    json!({"Config": path(one.config.digest().as_ref()), "RepoTags": [image.name], "Layers": layers})
}
