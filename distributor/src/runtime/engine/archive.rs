//! The archives that engines load: an OCI layout for skopeo and podman, a combined OCI layout and docker-archive for
//! Docker, and a docker-archive for Docker versions that cannot read zstd layers.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use serde_json::{Value, json};
use tokio::sync::mpsc;
use vcstore::{Blob, Decoder, Digest, Store, TarWriter};

use crate::images::desired_image::DesiredImage;
use crate::runtime::chunks::{ByteCounter, ChunkWriter};
use crate::runtime::script::InputChunk;
use crate::runtime::transfer::SentCounter;

/// The annotation that names an image in an OCI layout.
const REFERENCE: &str = "org.opencontainers.image.ref.name";
/// The annotation that names an image for containerd's importer, which recent Docker versions use.
const NAME: &str = "io.containerd.image.name";

/// The contents of an archive that is yet to be written.
#[derive(Debug, Clone)]
pub(super) struct Archive {
    documents: Vec<(&'static str, Vec<u8>)>,
    files: Vec<File>,
}

/// A blob in the archive.
#[derive(Debug, Clone)]
struct File {
    path: String,
    blob: Blob,
    /// The decompressed size in bytes, if the blob is decompressed on the way.
    decompressed: Option<u64>,
}

impl Archive {
    /// Builds an OCI layout that names `images` by their indexes and contains `blobs`.
    pub(super) fn layout(images: &[DesiredImage], blobs: Vec<Blob>) -> Self {
        let named = |number: usize, image: &DesiredImage| vec![described(image, REFERENCE, &number.to_string())];
        Self { documents: oci(images, named), files: files(blobs) }
    }

    /// Builds an OCI layout that is also a docker-archive of `images`, with these blobs.
    pub(super) fn whole(images: &[DesiredImage], blobs: Vec<Blob>) -> Self {
        let named = |_, image: &DesiredImage| vec![described(image, NAME, image.name())];
        let mut documents = oci(images, named);
        let path = |digest: &Digest| blob_path(digest);
        documents.push(("manifest.json", docker(images, &path)));
        Self { documents, files: files(blobs) }
    }

    /// Builds a docker-archive of `images` for a Docker version that cannot read zstd.
    pub(super) fn for_old_docker(store: &Store, images: &[DesiredImage]) -> io::Result<Self> {
        let mut files: BTreeMap<Digest, File> = BTreeMap::new();
        for image in images {
            for part in &image.blobs {
                let digest = part.blob.digest;
                let is_layer = image.layers.iter().any(|layer| layer.digest == digest);
                if files.contains_key(&digest) || (!is_layer && digest != image.config) {
                    continue;
                }
                let decompressed =
                    if part.media_type.ends_with("+zstd") { Some(decompressed_size(store, &digest)?) } else { None };
                files.insert(digest, File { path: blob_path(&digest), blob: part.blob, decompressed });
            }
        }
        let documents = vec![("manifest.json", docker(images, &blob_path))];
        Ok(Self { documents, files: files.into_values().collect() })
    }

    /// The length of the archive in bytes.
    pub(super) fn length(&self) -> io::Result<u64> {
        let mut length = ByteCounter(0);
        self.write(&mut length, |_, length| Ok(io::repeat(0).take(length)))?;
        Ok(length.0)
    }

    /// Sends the archive in chunks. Blocks the thread. The archive is complete only if every blob of the store is
    /// intact.
    pub(super) fn send(&self, store: &Store, chunks: &mpsc::Sender<InputChunk>, sent: &SentCounter) -> io::Result<()> {
        let wait = |bytes: usize| sent.wait(bytes);
        let mut output = ChunkWriter::new(chunks, &wait);
        let open = |file: &File, length: u64| -> io::Result<Box<dyn Read + '_>> {
            let reader = store.reader(&file.blob.digest).map_err(io::Error::other)?;
            Ok(match file.decompressed {
                Some(_) => Box::new(sent.counting(Decoder::new(reader)?, length)),
                None => Box::new(sent.counting(reader, length)),
            })
        };
        let written = self.write(&mut output, open).and_then(|()| output.flush());
        if written.is_err() {
            output.break_off();
        }
        written
    }

    fn write<R: Read>(&self, output: impl Write, mut open: impl FnMut(&File, u64) -> io::Result<R>) -> io::Result<()> {
        let mut tar = TarWriter::new(output);
        for (name, content) in &self.documents {
            tar.file(name, content.len() as u64, content.as_slice())?;
        }
        for folder in ["blobs", "blobs/sha256"] {
            tar.dir(folder)?;
        }
        for file in &self.files {
            let length = file.decompressed.unwrap_or(file.blob.size);
            tar.file(&file.path, length, open(file, length)?)?;
        }
        tar.finish()?;
        Ok(())
    }
}

fn oci(images: &[DesiredImage], named: impl Fn(usize, &DesiredImage) -> Vec<Value>) -> Vec<(&'static str, Vec<u8>)> {
    let manifests: Vec<Value> = images.iter().enumerate().flat_map(|(number, image)| named(number, image)).collect();
    let index = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": manifests,
    });
    let layout = br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec();
    vec![("oci-layout", layout), ("index.json", index.to_string().into_bytes())]
}

fn described(image: &DesiredImage, key: &str, name: &str) -> Value {
    let target = &image.target;
    json!({
        "mediaType": target.media_type, "digest": target.blob.digest, "size": target.blob.size,
        "annotations": {key: name},
    })
}

fn docker(images: &[DesiredImage], path: &dyn Fn(&Digest) -> String) -> Vec<u8> {
    let entry = |image: &DesiredImage| {
        let layers: Vec<String> = image.layers.iter().map(|layer| path(&layer.digest)).collect();
        json!({"Config": path(&image.config), "RepoTags": [image.name()], "Layers": layers})
    };
    Value::from(images.iter().map(entry).collect::<Vec<_>>()).to_string().into_bytes()
}

fn files(blobs: Vec<Blob>) -> Vec<File> {
    blobs.into_iter().map(|blob| File { path: blob_path(&blob.digest), blob, decompressed: None }).collect()
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn decompressed_size(store: &Store, digest: &Digest) -> io::Result<u64> {
    io::copy(&mut Decoder::new(store.reader(digest).map_err(io::Error::other)?)?, &mut io::sink())
}
