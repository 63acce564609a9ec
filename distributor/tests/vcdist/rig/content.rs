//! What a node has, read from containerd's own files and tables and not from what vcdist says of it.

use std::collections::BTreeMap;
use std::fs;

use camino::Utf8PathBuf;
use vcstore::{Blob, Digest};

use super::Rig;

impl Rig {
    /// The file behind a blob on the node.
    pub(crate) fn blob_file(&self, digest: &Digest) -> Utf8PathBuf {
        self.content().join("blobs/sha256").join(digest.hex())
    }

    /// How many bytes of the store's images the node lacks: of each blob all, or what an unfinished one still lacks.
    pub(crate) fn missing(&self) -> u64 {
        // Not by their files: one that containerd had no time to write down counts for nothing.
        let (whole, begun) = (self.ctr(&["content", "ls", "-q"]), self.begun());
        let lacks = |blob: &Blob| match begun.get(&blob.digest) {
            _ if whole.contains(&blob.digest.to_string()) => 0,
            Some(there) => blob.size - there,
            None => blob.size,
        };
        self.blobs().values().map(lacks).sum()
    }

    /// Asserts that every name on the node that is one of ours stands for an image that is whole and unpacked.
    pub(crate) fn assert_names_are_whole(&self) {
        let checked = self.ctr(&["images", "check"]);
        for line in checked.lines().filter(|line| line.starts_with("docker.io/virtualcluster/")) {
            assert!(line.contains("complete (3/3)") && line.trim_end().ends_with("true"), "{line}");
        }
    }

    /// Asserts that pushes gave their leases back: the one that keeps what arrived of unfinished images may be left.
    pub(crate) fn assert_leases_are_given_back(&self) {
        let leases = self.leases();
        let expires = |lease: &String| lease.contains("containerd.io/gc.expire=");
        assert!(leases.iter().all(|lease| lease.starts_with("vcdist-unfinished ") && expires(lease)), "{leases:?}");
    }

    /// The leases that there are, with their labels, but for the header.
    pub(crate) fn leases(&self) -> Vec<String> {
        self.ctr(&["leases", "ls"]).lines().skip(1).map(str::to_owned).collect()
    }

    fn content(&self) -> Utf8PathBuf {
        self.path().join("root/io.containerd.content.v1.content")
    }

    /// The blobs that vcdist began to write and that are not whole: how many bytes of each are there.
    fn begun(&self) -> BTreeMap<Digest, u64> {
        let entries = fs::read_dir(self.content().join("ingest")).into_iter().flatten().flatten();
        let read = |entry: fs::DirEntry| {
            let name = fs::read_to_string(entry.path().join("ref")).ok()?;
            let digest = name.rsplit_once("/vcdist-")?.1.parse().ok()?;
            Some((digest, fs::metadata(entry.path().join("data")).ok()?.len()))
        };
        entries.filter_map(read).collect()
    }

    /// The blobs of the store's images.
    fn blobs(&self) -> BTreeMap<Digest, Blob> {
        let store = self.store();
        let names = store.images().expect("the store's images").into_keys();
        let platforms = names.flat_map(|name| store.image(&name).expect("an image").platforms);
        let blobs = platforms.flat_map(|this| {
            let descriptors = [&this.manifest, &this.config].map(|descriptor| Blob {
                digest: Digest::try_from(descriptor.digest()).expect("a digest"),
                size: descriptor.size(),
            });
            let layers = this.layers.into_iter().map(|layer| Blob { digest: layer.digest, size: layer.size });
            descriptors.into_iter().chain(layers)
        });
        blobs.map(|blob| (blob.digest, blob)).collect()
    }
}
