//! Writes images to single files, and imports them.
//!
//! [`write()`] writes a tar file that is both an OCI image layout (image-layout.md) and a docker-archive (`docker
//! save`), with the same blobs, so that containerd, Docker, Podman and skopeo can all read it.

mod document;
mod import;
mod write;

pub use document::document;
pub use import::import;
pub use write::{hash, write};

#[cfg(test)]
mod tests {
    use std::io::Write;

    use camino::Utf8PathBuf;
    use proptest::prelude::*;
    use serde_json::json;

    use super::{document, hash, import, write};
    use crate::image::tests::{NAME, image};
    use crate::store::tests::scratch;
    use crate::{Compression, Error, TarWriter};

    fn archive_path(folder: &tempfile::TempDir) -> Utf8PathBuf {
        Utf8PathBuf::try_from(folder.path().join("vc_manager-amd64.tar")).unwrap()
    }

    #[test]
    fn an_archive_read_into_another_store_is_the_same_image_and_archive() {
        for compression in [Compression::Zstd, Compression::Gzip, Compression::None] {
            let (folder, store) = scratch();
            let (other_folder, other) = scratch();
            let image = image(&store, compression, b"manager");
            let written = write(&store, std::slice::from_ref(&image), &[], &archive_path(&folder)).unwrap();
            assert_eq!(hash(&archive_path(&folder)).unwrap(), written);
            assert_eq!(import(&other, &archive_path(&folder)).unwrap(), std::slice::from_ref(&image));
            let again = write(&other, &[image], &[], &archive_path(&other_folder)).unwrap();
            assert_eq!(again, written);
        }
    }

    #[test]
    fn a_document_beside_the_images_is_read_back_and_changes_no_image() {
        let (folder, store) = scratch();
        let image = image(&store, Compression::Zstd, b"manager");
        let path = archive_path(&folder);
        let beside: &[(&str, &[u8])] = &[("about.json", br#"{"a":1}"#)];
        write(&store, std::slice::from_ref(&image), beside, &path).unwrap();
        assert_eq!(document(&path, "about.json", 100).unwrap().unwrap(), br#"{"a":1}"#);
        assert_eq!(document(&path, "other.json", 100).unwrap(), None);
        let (_other_folder, other) = scratch();
        assert_eq!(import(&other, &path).unwrap(), std::slice::from_ref(&image));

        let layout = Utf8PathBuf::try_from(folder.path().join("layout")).unwrap();
        tar::Archive::new(std::fs::File::open(&path).unwrap()).unpack(&layout).unwrap();
        assert_eq!(document(&layout, "about.json", 100).unwrap().unwrap(), br#"{"a":1}"#);
        assert_eq!(document(&layout, "other.json", 100).unwrap(), None);
        for name in ["../about.json", "blobs/sha256/x"] {
            assert_eq!(document(&layout, name, 100).unwrap(), None, "{name} is no document at the top");
        }
    }

    #[test]
    fn a_document_behind_others_is_found() {
        let (folder, _store) = scratch();
        let path = archive_path(&folder);
        tarball(&path, &[("layer.tar".to_owned(), vec![b' '; 3 << 20]), ("about.json".to_owned(), b"{}".to_vec())]);
        assert_eq!(document(&path, "about.json", 100).unwrap().unwrap(), b"{}");
    }

    #[test]
    fn a_document_that_fills_memory_is_refused() {
        let (folder, _store) = scratch();
        let path = archive_path(&folder);
        tarball(&path, &[("about.json".to_owned(), vec![b' '; 101])]);
        let error = document(&path, "about.json", 100).unwrap_err().to_string();
        assert!(error.contains("about.json is larger than 100 bytes"), "{error}");
    }

    #[test]
    fn a_layout_folder_and_compressed_archives_are_read() {
        let (folder, store) = scratch();
        let image = image(&store, Compression::Zstd, b"manager");
        let (_other_folder, other) = scratch();
        assert_eq!(import(&other, store.path()).unwrap(), std::slice::from_ref(&image));
        write(&store, std::slice::from_ref(&image), &[], &archive_path(&folder)).unwrap();
        let plain = std::fs::read(archive_path(&folder)).unwrap();
        for compression in [Compression::Zstd, Compression::Gzip] {
            let mut encoder = compression.encoder(Vec::new()).unwrap();
            encoder.write_all(&plain).unwrap();
            std::fs::write(archive_path(&folder), encoder.finish().unwrap()).unwrap();
            let (_other_folder, other) = scratch();
            assert_eq!(import(&other, &archive_path(&folder)).unwrap(), std::slice::from_ref(&image));
        }
    }

    #[test]
    fn what_docker_save_writes_becomes_an_oci_image() {
        let (folder, store) = scratch();
        let image = image(&store, Compression::None, b"manager");
        let bytes = |digest| std::fs::read(store.blob_path(&digest)).unwrap();
        let one = &image.platforms[0];
        let config: crate::Digest = one.config.digest().as_ref().parse().unwrap();
        let manifest = json!([{"Config": "config.json", "RepoTags": ["virtualcluster/manager-amd64:latest"],
            "Layers": ["0/layer.tar", "1/layer.tar"]}]);
        let members = [
            ("config.json".to_owned(), bytes(config)),
            ("0/layer.tar".to_owned(), bytes(one.layers[0].digest)),
            ("1/layer.tar".to_owned(), bytes(one.layers[1].digest)),
            ("manifest.json".to_owned(), serde_json::to_vec(&manifest).unwrap()),
        ];
        tarball(&archive_path(&folder), &members);
        let (_other_folder, other) = scratch();
        let read = import(&other, &archive_path(&folder)).unwrap();
        assert_eq!((read[0].name.as_str(), &read[0].platforms[0].layers), (NAME, &one.layers));
    }

    /// Writes a docker-archive with one layer under several names, which `links` connects: name, target, and whether it
    /// is a hard link.
    fn linked(path: &camino::Utf8Path, layers: &[&str], links: &[(&str, &str, bool)]) -> crate::Digest {
        let (_folder, store) = scratch();
        let image = image(&store, Compression::None, b"manager");
        let one = &image.platforms[0];
        let layer = std::fs::read(store.blob_path(&one.layers[0].digest)).unwrap();
        let mut config: serde_json::Value = store.document(&one.config_digest()).unwrap();
        config["rootfs"]["diff_ids"] = json!(vec![one.layers[0].digest; layers.len()]);
        config.as_object_mut().unwrap().remove("history");
        let manifest = json!([{"Config": "config.json", "RepoTags": ["a/b:c"], "Layers": layers}]);
        let mut tar = tar::Builder::new(std::fs::File::create(path).unwrap());
        let mut add = |name: &str, content: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            tar.append_data(&mut header, name, content).unwrap();
        };
        add("config.json", &serde_json::to_vec(&config).unwrap());
        add("./manifest.json", &serde_json::to_vec(&manifest).unwrap());
        add("one/layer.tar", &layer);
        for (name, target, hard) in links {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(if *hard { tar::EntryType::Link } else { tar::EntryType::Symlink });
            header.set_size(0);
            tar.append_link(&mut header, name, target).unwrap();
        }
        tar.finish().unwrap();
        one.layers[0].digest
    }

    #[test]
    fn links_of_either_kind_stand_for_what_they_lead_to() {
        let (folder, _store) = scratch();
        let path = archive_path(&folder);
        let layers = ["one/layer.tar", "two/layer.tar", "three/layer.tar"];
        for links in [
            [("two/layer.tar", "one/layer.tar", true), ("three/layer.tar", "./one/layer.tar", true)],
            [("two/layer.tar", "one/layer.tar", true), ("three/layer.tar", "two/layer.tar", true)],
            [("two/layer.tar", "../one/layer.tar", false), ("three/layer.tar", "../two/layer.tar", false)],
            [("two/layer.tar", "../three/layer.tar", false), ("three/layer.tar", "one/layer.tar", true)],
        ] {
            let layer = linked(&path, &layers, &links);
            let (_other_folder, other) = scratch();
            let read = import(&other, &path).unwrap();
            assert!(read[0].platforms[0].layers.iter().all(|one| one.digest == layer), "{links:?}");
        }
        for (links, why) in [
            ([("two/layer.tar", "/etc/passwd", true), ("x", "y", false)], "points outside the archive"),
            ([("two/layer.tar", "../one/layer.tar", true), ("x", "y", false)], "points outside the archive"),
            ([("two/layer.tar", "three/layer.tar", true), ("x", "y", false)], "which does not precede it"),
            (
                [("two/layer.tar", "../three/layer.tar", false), ("three/layer.tar", "../two/layer.tar", false)],
                "part of a cycle",
            ),
        ] {
            linked(&path, &layers[..2], &links);
            let (_other_folder, other) = scratch();
            let error = import(&other, &path).unwrap_err().to_string();
            assert!(error.contains(why), "{links:?}: {error}");
        }
    }

    #[test]
    fn an_artifact_beside_an_image_is_passed_over() {
        let (folder, store) = scratch();
        let image = image(&store, Compression::Zstd, b"manager");
        let path = archive_path(&folder);
        write(&store, std::slice::from_ref(&image), &[], &path).unwrap();
        let layout = Utf8PathBuf::try_from(folder.path().join("layout")).unwrap();
        tar::Archive::new(std::fs::File::open(&path).unwrap()).unpack(&layout).unwrap();
        let put = |content: &[u8]| {
            let digest = crate::Digest::of(content);
            std::fs::write(layout.join("blobs/sha256").join(digest.hex()), content).unwrap();
            digest
        };
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let empty = json!({"mediaType": "application/vnd.oci.empty.v1+json", "digest": put(b"{}"), "size": 2});
        let signature = json!({"schemaVersion": 2, "mediaType": kind, "artifactType": "application/vnd.example.signature",
            "config": empty, "layers": [empty]});
        let signature = serde_json::to_vec(&signature).unwrap();
        let beside = json!({"mediaType": kind, "digest": put(&signature), "size": signature.len()});
        let index: serde_json::Value =
            serde_json::from_slice(&std::fs::read(layout.join("index.json")).unwrap()).unwrap();
        for (manifests, images) in [(json!([beside, index["manifests"][0]]), 1), (json!([beside]), 0)] {
            let mut index = index.clone();
            index["manifests"] = manifests;
            std::fs::write(layout.join("index.json"), index.to_string()).unwrap();
            let (_other_folder, other) = scratch();
            match import(&other, &layout) {
                Ok(read) => assert_eq!(read, std::slice::from_ref(&image)),
                Err(error) => {
                    assert_eq!(images, 0, "{error}");
                    assert!(
                        error
                            .to_string()
                            .contains("it contains an artifact (application/vnd.example.signature), not an image")
                    );
                }
            }
        }
    }

    fn tarball(path: &camino::Utf8Path, members: &[(String, Vec<u8>)]) {
        let mut tar = TarWriter::new(std::fs::File::create(path).unwrap());
        for (name, content) in members {
            tar.file(name, content.len() as u64, content.as_slice()).unwrap();
        }
        tar.finish().unwrap();
    }

    #[test]
    fn hostile_and_broken_archives_are_refused_in_words() {
        let (folder, store) = scratch();
        let path = archive_path(&folder);
        let member = |name: &str, content: &[u8]| (name.to_owned(), content.to_vec());
        let missing = json!({"schemaVersion": 2, "manifests": [{"size": 3, "mediaType":
            "application/vnd.oci.image.manifest.v1+json", "digest": crate::Digest::of(b"absent")}]});
        let missing = serde_json::to_vec(&missing).unwrap();
        let many = serde_json::to_vec(&json!([{"Config": "c", "Layers": vec!["l"; 500_000]}])).unwrap();
        let config = br#"{"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}"#;
        let names: Vec<_> = (0..1_001).map(|number| format!("a/b:{number}")).collect();
        let named = serde_json::to_vec(&json!([{"Config": "c", "Layers": [], "RepoTags": names}])).unwrap();
        let empty = crate::store::EMPTY_INDEX.as_bytes();
        let cases = [
            (vec![member("../../etc/passwd", b"root")], "points outside the archive"),
            (vec![member("/etc/passwd", b"root")], "points outside the archive"),
            (vec![member("readme", b"hello")], "neither an index.json"),
            (vec![member("index.json", b"{")], "index.json:"),
            (vec![member("index.json", empty), member("./index.json", empty)], "twice"),
            (vec![member("index.json", empty)], "contains no image"),
            (vec![member("index.json", &missing)], "it lacks sha256:"),
            (vec![member("blobs/sha256/nothex", b"")], "hexadecimal"),
            (vec![member(&format!("blobs/sha256/{}", "0".repeat(64)), b"a lie")], "a blob of"),
            (vec![member("manifest.json", br#"[{"Config":"c","Layers":[]}]"#)], "it has no c"),
            (vec![member("c", config), member("manifest.json", &many)], "lists 0 layers, but its manifest 500000"),
            (vec![member("c", config), member("manifest.json", &named)], "more than 1000 images"),
        ];
        for (members, words) in cases {
            tarball(&path, &members);
            let error = import(&store, &path).unwrap_err().to_string();
            assert!(error.contains(words), "{error:?} should say {words:?}");
        }
        std::fs::write(&path, vec![b'x'; 2000]).unwrap();
        assert!(matches!(import(&store, &path), Err(Error::BadArchive { .. })));
    }

    #[test]
    fn one_large_manifest_under_many_names_does_not_fill_memory() {
        let (folder, store) = scratch();
        let config =
            br#"{"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}"#.to_vec();
        let descriptor = |kind: &str, content: &[u8]| {
            json!({"mediaType": format!("application/vnd.oci.image.{kind}.v1+json"), "digest": crate::Digest::of(content),
                   "size": content.len()})
        };
        let manifest = json!({"schemaVersion": 2, "config": descriptor("config", &config), "layers": [],
            "annotations": {"padding": " ".repeat(3 << 20)}});
        let manifest = serde_json::to_vec(&manifest).unwrap();
        let index = json!({"schemaVersion": 2, "manifests": vec![descriptor("manifest", &manifest); 30]});
        let blob = |content: &[u8]| (format!("blobs/sha256/{}", crate::Digest::of(content).hex()), content.to_vec());
        let index = ("index.json".to_owned(), serde_json::to_vec(&index).unwrap());
        tarball(&archive_path(&folder), &[blob(&config), blob(&manifest), index]);
        let error = import(&store, &archive_path(&folder)).unwrap_err().to_string();
        assert!(error.contains("the total size of its manifests exceeds 67108864 bytes"), "{error}");
    }

    #[test]
    fn a_link_out_of_the_archive_is_refused() {
        let (folder, store) = scratch();
        for target in ["/etc/passwd", "../../etc/passwd", ".."] {
            let mut builder = tar::Builder::new(std::fs::File::create(archive_path(&folder)).unwrap());
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            builder.append_link(&mut header, "1/layer.tar", target).unwrap();
            builder.into_inner().unwrap();
            let error = import(&store, &archive_path(&folder)).unwrap_err().to_string();
            assert!(error.contains("points outside the archive"), "{target}: {error}");
        }
    }

    #[test]
    fn a_name_that_fills_memory_is_stopped() {
        let (folder, store) = scratch();
        let file = std::fs::File::create(archive_path(&folder)).unwrap();
        let mut output = Compression::Zstd.encoder(file).unwrap();
        let size = 64 << 20;
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::GNULongName);
        header.set_size(size);
        header.set_cksum();
        output.write_all(header.as_bytes()).unwrap();
        std::io::copy(&mut std::io::Read::take(std::io::repeat(b'x'), size), &mut output).unwrap();
        TarWriter::new(output).file("y", 0, &[][..]).unwrap();
        let error = import(&store, &archive_path(&folder)).unwrap_err().to_string();
        assert!(error.contains("longer than those of any valid archive"), "{error}");
    }

    #[test]
    fn a_small_file_that_unpacks_to_a_full_disk_is_stopped() {
        let (folder, store) = scratch();
        let file = std::fs::File::create(archive_path(&folder)).unwrap();
        let mut tar = TarWriter::new(Compression::Zstd.encoder(file).unwrap());
        let size = crate::bounded::BOMB_FLOOR + 1;
        tar.file("bomb", size, std::io::Read::take(std::io::repeat(0), size)).unwrap();
        tar.finish().unwrap().finish().unwrap();
        let error = import(&store, &archive_path(&folder)).unwrap_err().to_string();
        assert!(error.contains("far more data than an image"), "{error}");
        assert_eq!(store.verify().unwrap().blobs.bytes, 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn a_truncated_or_altered_archive_is_refused_or_still_the_same_image(cut in any::<prop::sample::Index>(), flip in any::<bool>()) {
            let (folder, store) = scratch();
            let image = image(&store, Compression::Zstd, b"manager");
            write(&store, std::slice::from_ref(&image), &[], &archive_path(&folder)).unwrap();
            let mut bytes = std::fs::read(archive_path(&folder)).unwrap();
            let at = cut.index(bytes.len());
            if flip { bytes[at] ^= 0x40 } else { bytes.truncate(at) }
            std::fs::write(archive_path(&folder), bytes).unwrap();
            let (_other_folder, other) = scratch();
            if let Ok(read) = import(&other, &archive_path(&folder)) {
                // Changes of padding, and of names outside the content, are harmless.
                prop_assert_eq!(read[0].digest(), image.digest());
            }
            prop_assert!(other.verify().unwrap().passed());
        }
    }
}
