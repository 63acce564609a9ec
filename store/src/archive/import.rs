//! Imports images from archives that may be damaged or hostile: all content is verified, and no name in an archive
//! becomes a path outside the store.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};

use camino::{Utf8Path, Utf8PathBuf};
use oci_spec::image::{Descriptor, ImageConfiguration, ImageIndex, ImageManifest, ImageManifestBuilder, MediaType};
use serde::Deserialize;

use crate::bounded::Bounded;
use crate::image::{Budget, descriptor, digest_of, is_index, is_manifest};
use crate::index::{bare, index_of, name_of};
use crate::json::DOCUMENT_LIMIT;
use crate::{Blob, Compression, Decoder, Digest, Error, Image, Store};

/// The maximum number of entries; valid archives have fewer.
pub(super) const ENTRY_LIMIT: usize = 100_000;

/// The maximum length of a chain of links; valid archives have shorter ones.
const LINK_LIMIT: usize = 16;

/// The maximum number of images; valid archives have fewer. Each image is read separately, even if it shares blobs with
/// others, within one budget.
const IMAGE_LIMIT: usize = 1_000;

/// Imports the images at `path` into the store: from an OCI image layout folder, or from a tar file (uncompressed, gzip
/// or zstd) that contains a layout or is a docker-archive. Returns the images with their names in the archive, without
/// tagging them: [`Store::tag`] does. Blobs of an invalid archive remain unreferenced until garbage collection.
///
/// # Errors
/// When the archive cannot be read, is not an image archive, lacks a blob, or has content that does not match its
/// digest.
pub fn import(store: &Store, path: &Utf8Path) -> Result<Vec<Image>, Error> {
    let index = if path.is_dir() {
        import_layout(store, path)?
    } else {
        let file = File::open(path).map_err(Error::io("opening", path))?;
        import_tar(store, path, file)?
    };
    if index.manifests().len() > IMAGE_LIMIT {
        return Err(bad(path, &format!("it names more than {IMAGE_LIMIT} images")));
    }
    let mut budget = Budget::default();
    let (mut images, mut artifact) = (Vec::new(), None);
    for target in index.manifests() {
        let name = name_of(target).unwrap_or_else(|| path.file_stem().unwrap_or("image").to_owned());
        match Image::find(&mut budget, store, &name, &bare(target)).map_err(|error| because(path, error))? {
            Ok(image) => {
                image.check_complete(store).map_err(|error| because(path, error))?;
                images.push(image);
            }
            // Tools store artifacts next to images: signatures, attestations, SBOMs.
            Err(kind) => artifact = Some(kind),
        }
    }
    match (images.is_empty(), artifact) {
        (false, _) => Ok(images),
        (true, Some(kind)) => Err(bad(path, &format!("it contains an artifact ({kind}), not an image"))),
        (true, None) => Err(bad(path, "it contains no image")),
    }
}

/// Copies all blobs that are reachable from the index of the layout, and verifies their digests.
fn import_layout(store: &Store, path: &Utf8Path) -> Result<ImageIndex, Error> {
    if !path.join("oci-layout").is_file() {
        return Err(bad(path, "the folder has no oci-layout file"));
    }
    let index_path = path.join("index.json");
    let file = File::open(&index_path).map_err(Error::io("opening", &index_path))?;
    let index: ImageIndex = parse(path, "index.json", &read_document(path, "index.json", file)?)?;
    let mut todo: Vec<Descriptor> = index.manifests().clone();
    let mut seen = BTreeSet::new();
    while let Some(target) = todo.pop() {
        let digest = digest_of(&target, path.as_str())?;
        if !seen.insert(digest) {
            continue;
        }
        let from = path.join("blobs/sha256").join(digest.hex());
        match File::open(&from) {
            Ok(file) => take_blob(store, path, &digest, file)?,
            // A layout may contain only some platforms of an index; completeness is checked after all blobs are read.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(Error::io("opening", &from)(error)),
        };
        if is_index(target.media_type()) {
            todo.extend(store.document::<ImageIndex>(&digest)?.manifests().iter().cloned());
        } else if is_manifest(target.media_type()) {
            let manifest: ImageManifest = store.document(&digest)?;
            todo.extend(manifest.layers().iter().chain([manifest.config()]).cloned());
        }
    }
    Ok(index)
}

/// The members of a tar archive: small documents in memory, other files in the store.
#[derive(Default)]
struct Members {
    documents: BTreeMap<String, Vec<u8>>,
    files: BTreeMap<String, Blob>,
    /// Symbolic and hard links by name: `docker save` links shared layers symbolically, and tools that repack its files
    /// use hard links.
    links: BTreeMap<String, String>,
}

impl Members {
    /// Returns whether there is a member of this name.
    fn has(&self, name: &str) -> bool {
        self.files.contains_key(name) || self.documents.contains_key(name) || self.links.contains_key(name)
    }

    /// Follows links from `name` to the name of a member that is not a link; `None` after too many links.
    fn followed<'a>(&'a self, mut name: &'a str) -> Option<&'a str> {
        for _ in 0..LINK_LIMIT {
            match self.links.get(name) {
                Some(target) => name = target,
                None => return Some(name),
            }
        }
        None
    }

    /// Returns the document with this name.
    fn document(&self, name: &str) -> Option<&Vec<u8>> {
        self.documents.get(self.followed(name)?)
    }
}

fn import_tar(store: &Store, path: &Utf8Path, file: File) -> Result<ImageIndex, Error> {
    let members = read_members(store, path, file)?;
    if let Some(bytes) = members.document("index.json") {
        return parse(path, "index.json", bytes);
    }
    let Some(bytes) = members.document("manifest.json") else {
        return Err(bad(path, "it has neither an index.json (OCI image layout) nor a manifest.json (docker-archive)"));
    };
    let entries: Vec<DockerManifest> = parse(path, "manifest.json", bytes)?;
    if entries.len() > IMAGE_LIMIT {
        return Err(bad(path, &format!("it names more than {IMAGE_LIMIT} images")));
    }
    let mut targets = Vec::new();
    for entry in &entries {
        let target = convert(store, path, &members, entry)?;
        let names = entry.repo_tags.as_deref().unwrap_or_default();
        if names.is_empty() {
            targets.push(target);
        } else {
            targets.extend(names.iter().map(|name| crate::index::named(&target, &full_name(name), name)));
        }
    }
    Ok(index_of(targets))
}

fn read_members(store: &Store, path: &Utf8Path, file: File) -> Result<Members, Error> {
    let unreadable = |error: io::Error| bad(path, &error.to_string());
    let size = file.metadata().map_err(Error::io("reading", path))?.len();
    let (input, headers) = Bounded::new(Decoder::new(file).map_err(unreadable)?, size);
    let mut archive = tar::Archive::new(input);
    let mut members = Members::default();
    let mut entries = archive.entries().map_err(unreadable)?;
    for number in 0.. {
        headers.begin();
        let Some(entry) = entries.next() else { break };
        headers.end();
        let entry = entry.map_err(unreadable)?;
        if number >= ENTRY_LIMIT {
            return Err(bad(path, &format!("it has more than {ENTRY_LIMIT} entries")));
        }
        let name = member_name(path, &entry.path_bytes())?;
        match entry.header().entry_type() {
            tar::EntryType::Directory => {}
            tar::EntryType::Regular | tar::EntryType::Continuous => {
                let known = members.documents.contains_key(&name) || members.files.contains_key(&name);
                if known {
                    return Err(bad(path, &format!("it contains {name} twice")));
                }
                if matches!(name.as_str(), "index.json" | "manifest.json" | "oci-layout" | "repositories") {
                    let document = read_document(path, &name, entry)?;
                    members.documents.insert(name, document);
                } else if let Some(hex) = name.strip_prefix("blobs/sha256/") {
                    let digest = Digest::from_hex(hex).map_err(|error| bad(path, &error.to_string()))?;
                    let blob = take_blob(store, path, &digest, entry)?;
                    members.files.insert(name, blob);
                } else {
                    let blob = take_file(store, path, entry)?;
                    members.files.insert(name, blob);
                }
            }
            kind @ (tar::EntryType::Symlink | tar::EntryType::Link) => {
                let target = entry.link_name_bytes().unwrap_or_default().into_owned();
                let target = String::from_utf8_lossy(&target);
                // A hard link refers to an earlier entry, not to a path relative to its own.
                let target = if kind.is_symlink() { resolve(&name, &target) } else { normalise(&target) };
                let target = target.ok_or_else(|| bad(path, &format!("its link {name} points outside the archive")))?;
                if kind.is_hard_link() && !members.has(&target) {
                    return Err(bad(path, &format!("its link {name} points to {target}, which does not precede it")));
                }
                members.links.insert(name, target);
            }
            other => {
                return Err(bad(path, &format!("{name} has the type {other:?}, which image archives do not contain")));
            }
        }
    }
    Ok(members)
}

/// An image in the `manifest.json` of a docker-archive.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerManifest {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// Creates an OCI manifest, which a docker-archive does not have.
fn convert(store: &Store, path: &Utf8Path, members: &Members, entry: &DockerManifest) -> Result<Descriptor, Error> {
    let find = |name: &str| {
        let followed =
            members.followed(name).ok_or_else(|| bad(path, &format!("its link {name} is part of a cycle")))?;
        members.files.get(followed).copied().ok_or_else(|| bad(path, &format!("it has no {followed}")))
    };
    let config_blob = find(&entry.config)?;
    let config: ImageConfiguration = store.document(&config_blob.digest).map_err(|error| because(path, error))?;
    let (listed, has) = (config.rootfs().diff_ids().len(), entry.layers.len());
    if listed != has {
        return Err(bad(path, &format!("its configuration lists {listed} layers, but its manifest {has}")));
    }
    let mut layers = Vec::new();
    for (i, name) in entry.layers.iter().enumerate() {
        let blob = find(name)?;
        let compression = Decoder::new(store.reader(&blob.digest)?)
            .map_err(Error::io("reading", store.blob_path(&blob.digest)))?
            .compression();
        let diff_id = config.rootfs().diff_ids().get(i);
        if compression == Compression::None && diff_id != Some(&blob.digest.to_string()) {
            return Err(bad(path, &format!("layer {name} is not the one that its configuration lists")));
        }
        layers.push(descriptor(compression.layer_media_type(), blob));
    }
    let config = descriptor("application/vnd.oci.image.config.v1+json", config_blob);
    let manifest = ImageManifestBuilder::default()
        .schema_version(2u32)
        .media_type(MediaType::ImageManifest)
        .config(config)
        .layers(layers)
        .build()
        .map_err(|error| bad(path, &error.to_string()))?;
    Ok(descriptor("application/vnd.oci.image.manifest.v1+json", store.put_document(&manifest)?))
}

/// Stores a blob if its content matches its digest.
fn take_blob(store: &Store, path: &Utf8Path, digest: &Digest, mut content: impl Read) -> Result<Blob, Error> {
    let mut writer = store.writer()?;
    copy(path, &mut content, &mut writer)?;
    writer.commit_expecting(digest).map_err(|error| match error {
        Error::DigestMismatch { expected, found, .. } => {
            Error::DigestMismatch { what: format!("a blob of {path}"), expected, found }
        }
        other => other,
    })
}

fn take_file(store: &Store, path: &Utf8Path, mut content: impl Read) -> Result<Blob, Error> {
    let mut writer = store.writer()?;
    copy(path, &mut content, &mut writer)?;
    writer.commit()
}

/// Copies the content. Distinguishes an unreadable archive from a store that cannot be written.
fn copy(path: &Utf8Path, from: &mut impl Read, to: &mut crate::BlobWriter) -> Result<(), Error> {
    let mut buffer = vec![0; 128 << 10];
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(bad(path, &error.to_string())),
        };
        io::Write::write_all(to, &buffer[..count]).map_err(Error::io("storing the content of", path))?;
    }
}

fn read_document(path: &Utf8Path, name: &str, content: impl Read) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    content.take(DOCUMENT_LIMIT + 1).read_to_end(&mut bytes).map_err(|error| bad(path, &format!("{name}: {error}")))?;
    if bytes.len() as u64 > DOCUMENT_LIMIT {
        return Err(bad(path, &format!("{name} is larger than {DOCUMENT_LIMIT} bytes")));
    }
    Ok(bytes)
}

fn parse<T: serde::de::DeserializeOwned>(path: &Utf8Path, name: &str, bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|error| bad(path, &format!("{name}: {error}")))
}

/// Returns the name of a member without a leading `./`; refuses absolute paths and paths outside the archive.
fn member_name(path: &Utf8Path, bytes: &[u8]) -> Result<String, Error> {
    let name = std::str::from_utf8(bytes).map_err(|_| bad(path, "it has a name that is not UTF-8"))?;
    normalise(name).ok_or_else(|| bad(path, &format!("the name {name:?} points outside the archive")))
}

fn normalise(name: &str) -> Option<String> {
    let mut parts = Vec::new();
    if name.starts_with('/') {
        return None;
    }
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    (name.split('/').all(|part| part != "..") || !parts.is_empty()).then(|| parts.join("/"))
}

/// Resolves a symbolic link at `name` within the archive.
fn resolve(name: &str, target: &str) -> Option<String> {
    let folder = Utf8PathBuf::from(name).parent().map(Utf8Path::to_owned).unwrap_or_default();
    if target.starts_with('/') { None } else { normalise(folder.join(target).as_str()) }
}

/// Adds the registry that Docker omits from names if it is `docker.io`: all names here are full.
fn full_name(name: &str) -> String {
    match name.split_once('/') {
        None => format!("docker.io/library/{name}"),
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => name.to_owned(),
        Some(_) => format!("docker.io/{name}"),
    }
}

pub(super) fn bad(path: &Utf8Path, why: &str) -> Error {
    Error::BadArchive { path: path.to_owned(), why: why.to_owned() }
}

/// Attributes an error to the archive, unless it is an error of the store.
fn because(path: &Utf8Path, error: Error) -> Error {
    match error {
        Error::Io { .. } | Error::DigestMismatch { .. } => error,
        Error::Missing { digest } => bad(path, &format!("it lacks {digest}")),
        other => bad(path, &other.to_string()),
    }
}
