//! The image of the sandbox container of every pod: a static program of this project in an OCI archive.

use camino::Utf8Path;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::error::{Error, file};

/// The image's name on every node. It holds a pod's namespaces open until it is stopped, and can also be the only
/// container of a test's pod (command `/pause`).
pub const IMAGE: &str = "localhost/vclab/pause:1";

/// Returns the image as a tar of an OCI image layout, for `ctr images import`.
pub(crate) fn archive(program: &Utf8Path) -> Result<Vec<u8>, Error> {
    let program_bytes = std::fs::read(program).map_err(file("reading", program))?;
    build(&program_bytes).map_err(file("archiving", program))
}

fn build(program: &[u8]) -> std::io::Result<Vec<u8>> {
    let layer = tar_of(&[("pause".to_owned(), 0o755, program.to_vec())])?;
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let config = json!({
        "architecture": architecture, "os": "linux",
        "config": {"Entrypoint": ["/pause"], "User": "65535:65535"},
        "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
    });
    let config = config.to_string().into_bytes();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
    });
    let manifest = manifest.to_string().into_bytes();
    let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
    entry["annotations"] = json!({"io.containerd.image.name": IMAGE, "org.opencontainers.image.ref.name": "1"});
    let index = json!({"schemaVersion": 2, "manifests": [entry]}).to_string().into_bytes();
    let blob = |bytes: Vec<u8>| (format!("blobs/sha256/{}", hex::encode(Sha256::digest(&bytes))), 0o644, bytes);
    tar_of(&[
        ("oci-layout".to_owned(), 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
        ("index.json".to_owned(), 0o644, index),
        blob(layer),
        blob(config),
        blob(manifest),
    ])
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": digest(bytes), "size": bytes.len()})
}

fn tar_of(files: &[(String, u32, Vec<u8>)]) -> std::io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, mode, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(*mode);
        header.set_mtime(0);
        tar.append_data(&mut header, path, bytes.as_slice())?;
    }
    tar.into_inner()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_blob_is_named_by_its_digest_and_equal_programs_give_equal_images() {
        let image = build(b"program").unwrap();
        assert_eq!(image, build(b"program").unwrap());
        let mut blobs = 0;
        for entry in tar::Archive::new(image.as_slice()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().to_string_lossy().into_owned();
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
            if let Some(name) = path.strip_prefix("blobs/sha256/") {
                assert_eq!(name, hex::encode(Sha256::digest(&bytes)));
                blobs += 1;
            }
        }
        assert_eq!(blobs, 3);
    }
}
