//! Images to push.

use serde_json::json;
use vcstore::{Blob, Compression, Content, Layer, Store, Tree};

/// An image of a layer that others may share and one of its own, under `docker.io/virtualcluster/NAME-amd64:latest`.
pub(crate) fn image(store: &Store, name: &str, base: &[u8], own: &[u8]) -> String {
    let layers: Vec<Layer> = [("base", base), (name, own)]
        .iter()
        .map(|(file, bytes)| {
            let mut tree = Tree::new();
            tree.file(&format!("usr/local/bin/{file}"), 0o755, Content::Bytes(bytes.to_vec())).expect("a file");
            vcstore::layer::write(store, &tree, Compression::Zstd, 0).expect("a layer")
        })
        .collect();
    let diff_ids: Vec<_> = layers.iter().map(|layer| layer.diff_id).collect();
    let descriptor = |kind: &str, blob: Blob| json!({"mediaType": kind, "digest": blob.digest, "size": blob.size});
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {}, "history": [],
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let config = store.put_document(&config).expect("a config");
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", config),
        "layers": layers.iter().map(Layer::descriptor).collect::<Vec<_>>(),
    });
    let manifest = store.put_document(&manifest).expect("a manifest");
    let full = format!("docker.io/virtualcluster/{name}-amd64:latest");
    let target = descriptor("application/vnd.oci.image.manifest.v1+json", manifest);
    store.tag(&full, &serde_json::from_value(target).expect("a descriptor")).expect("a name");
    full
}

/// `count` bytes that no encoder makes smaller, the same for the same `seed`.
pub(crate) fn noise(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..count.div_ceil(8)).flat_map(|_| next()).take(count).collect()
}
