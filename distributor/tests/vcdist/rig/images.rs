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
        "architecture": "amd64", "os": "linux", "config": {},
        "history": [{"created_by": "base"}, {"created_by": name}],
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

/// A program for Linux on x86_64 that prints these words and ends; it needs nothing beside it.
pub(crate) fn program(words: &str) -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    let length = u32::try_from(words.len()).expect("few words");
    let code = [
        b"\xb8\x01\x00\x00\x00\xbf\x01\x00\x00\x00".as_slice(), // mov eax, 1 (write); mov edi, 1 (stdout)
        b"\x48\x8d\x35\x10\x00\x00\x00\xba",                    // lea rsi, [rip + 16]; mov edx, …
        &length.to_le_bytes(),
        b"\x0f\x05\xb8\x3c\x00\x00\x00\x31\xff\x0f\x05", // syscall; mov eax, 60 (exit); xor edi, edi; syscall
        words.as_bytes(),
    ]
    .concat();
    let size = HEADERS + code.len() as u64;
    let halves = |halves: &[u16]| halves.iter().flat_map(|half| half.to_le_bytes()).collect::<Vec<u8>>();
    let longs = |longs: &[u64]| longs.iter().flat_map(|long| long.to_le_bytes()).collect::<Vec<u8>>();
    [
        b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec(),
        // An executable for x86_64 in version 1 of the format: where it begins, where its one program header is.
        halves(&[2, 62, 1, 0]),
        longs(&[BASE + HEADERS, 64, 0]),
        halves(&[0, 0, 64, 56, 1, 0, 0, 0]),
        // To be loaded as it is, to be read and run.
        halves(&[1, 0, 5, 0]),
        longs(&[0, BASE, BASE, size, size, 0x1000]),
        code,
    ]
    .concat()
}
