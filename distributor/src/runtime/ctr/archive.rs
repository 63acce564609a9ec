//! The input of a node's `ctr`: each missing blob as it is, then an archive for `ctr images import`, an OCI layout that
//! contains every name but no blob. If the transfer is interrupted, blobs that arrived whole need not be sent again.

use std::io::{self, Write};

use serde_json::json;
use tokio::sync::mpsc;
use vcstore::{Blob, Store, TarWriter};

use crate::images::desired_image::DesiredImage;
use crate::images::plan::Plan;
use crate::runtime::chunks::{ByteCounter, ChunkWriter};
use crate::runtime::script::InputChunk;
use crate::runtime::transfer::SentCounter;

/// The annotation on a descriptor in an index that names an image for containerd.
const NAME: &str = "io.containerd.image.name";

/// The input for a plan: the blobs to send, and the images that are incomplete.
#[derive(Debug, Clone)]
pub(super) struct Archive {
    index: Vec<u8>,
    blobs: Vec<Blob>,
}

impl Archive {
    pub(super) fn of<'a>(plan: &Plan, images: impl Iterator<Item = &'a DesiredImage>) -> Self {
        let named = |image: &DesiredImage| -> Vec<serde_json::Value> {
            let target = &image.target;
            let descriptor = |name: &String| {
                json!({
                    "mediaType": target.media_type, "digest": target.blob.digest, "size": target.blob.size,
                    "annotations": {NAME: name},
                })
            };
            image.names.iter().map(descriptor).collect()
        };
        let manifests: Vec<_> = images.flat_map(named).collect();
        let index = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": manifests,
        });
        Self { index: index.to_string().into_bytes(), blobs: plan.sends().map(|sending| sending.blob).collect() }
    }

    /// The blobs, in the order in which they are sent.
    pub(super) fn blobs(&self) -> &[Blob] {
        &self.blobs
    }

    /// The length of the layout that follows the blobs, in bytes.
    pub(super) fn layout_length(&self) -> io::Result<u64> {
        let mut length = ByteCounter(0);
        self.write_layout(&mut length)?;
        Ok(length.0)
    }

    /// Sends the input in chunks. Blocks the thread. The input is complete only if every blob of the store is intact.
    pub(super) fn send(&self, store: &Store, chunks: &mpsc::Sender<InputChunk>, sent: &SentCounter) -> io::Result<()> {
        let wait = |bytes: usize| sent.wait(bytes);
        let mut output = ChunkWriter::new(chunks, &wait);
        let written = self.write_blobs(store, &mut output, sent).and_then(|()| self.write_layout(&mut output));
        let written = written.and_then(|()| output.flush());
        if written.is_err() {
            output.break_off();
        }
        written
    }

    fn write_blobs(&self, store: &Store, output: &mut impl Write, sent: &SentCounter) -> io::Result<()> {
        for blob in &self.blobs {
            let reader = store.reader(&blob.digest).map_err(io::Error::other)?;
            let copied = io::copy(&mut sent.counting(reader, blob.size), output)?;
            if copied != blob.size {
                let why = format!("{} has {copied} bytes and should have {}", blob.digest, blob.size);
                return Err(io::Error::new(io::ErrorKind::InvalidData, why));
            }
        }
        Ok(())
    }

    fn write_layout(&self, output: impl Write) -> io::Result<()> {
        let mut tar = TarWriter::new(output);
        let layout = br#"{"imageLayoutVersion":"1.0.0"}"#;
        tar.file("oci-layout", layout.len() as u64, layout.as_slice())?;
        tar.file("index.json", self.index.len() as u64, self.index.as_slice())?;
        tar.finish()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::images::desired_image::tests::image;

    #[test]
    fn blobs_go_as_they_are_and_the_layouts_length_is_known_beforehand() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(camino::Utf8Path::from_path(folder.path()).expect("UTF-8")).expect("a store");
        let image = image("docker.io/vc/manager:v1", &["base", "manager"], &["amd64"]);
        for content in ["base", "manager"] {
            store.put(content.as_bytes()).expect("a blob");
        }
        let inventory = crate::images::plan::tests::empty();
        let mut plan = crate::images::plan::plan(&[image], &inventory, &BTreeMap::new()).expect("a plan");
        // The manifest and configuration of the test image are no real blobs.
        plan.images[0].send.truncate(2);
        let archive = Archive::of(&plan, plan.images.iter().map(|image| &image.desired));
        let (chunks, mut queue) = mpsc::channel(64);
        let counted = SentCounter::default();
        archive.send(&store, &chunks, &counted).expect("sound blobs");
        let mut sent = Vec::new();
        while let Ok(Some(chunk)) = queue.try_recv() {
            sent.extend_from_slice(&chunk);
        }
        let (blobs, layout) = sent.split_at("base".len() + "manager".len());
        assert_eq!(blobs, b"basemanager");
        assert_eq!((counted.blobs(), counted.bytes()), (2, blobs.len() as u64));
        assert_eq!(layout.len() as u64, archive.layout_length().expect("a length"));
        let index: serde_json::Value = serde_json::from_slice(&archive.index).expect("JSON");
        assert_eq!(index["manifests"][0]["annotations"][NAME], "docker.io/vc/manager:v1");
        assert_eq!(index["manifests"].as_array().map(Vec::len), Some(2));
    }
}
