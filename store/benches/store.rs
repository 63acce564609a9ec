//! How fast blobs, layers and archives are written and read, beside the programs that do the same: `cargo xtask bench`.
//!
//! The sample is machine code: this very program, as often as it takes. Stores and files are in memory where that is
//! possible, so that programs are measured and not a disk.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot be run is a failed one")]

use std::fs;
use std::io::{self, Write};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use camino::Utf8PathBuf;
use divan::Bencher;
use divan::counter::BytesCount;
use serde_json::json;
use vcstore::{Action, Compression, Content, Error, Image, Keep, Outputs, Store, Tree, archive, layer};

/// The size of the sample: that of one of VirtualCluster's programs.
const SIZE: usize = 32 << 20;

fn main() {
    divan::main();
}

/// A folder in memory, if there is one.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap())
    }

    fn path(&self, name: &str) -> Utf8PathBuf {
        Utf8PathBuf::try_from(self.0.path().join(name)).unwrap()
    }

    fn store(&self) -> Store {
        Store::open(&self.path("store")).unwrap()
    }

    /// A file with the sample.
    fn file(&self) -> Utf8PathBuf {
        let path = self.path("manager");
        fs::write(&path, sample()).unwrap();
        path
    }
}

fn sample() -> &'static [u8] {
    static SAMPLE: OnceLock<Vec<u8>> = OnceLock::new();
    SAMPLE.get_or_init(|| {
        let program = fs::read(std::env::current_exe().unwrap()).unwrap();
        program.into_iter().cycle().take(SIZE).collect()
    })
}

/// Measures another program that reads or writes as many bytes.
fn measure(bencher: Bencher<'_, '_>, mut command: impl FnMut() -> Command) {
    bencher.counter(BytesCount::new(SIZE)).bench_local(|| {
        let status = command().stdout(Stdio::null()).status().unwrap();
        assert!(status.success());
    });
}

#[divan::bench_group(sample_count = 10)]
mod blob {
    use super::{Bencher, BytesCount, Command, Place, SIZE, Write, io, measure, sample};

    #[divan::bench]
    fn write(bencher: Bencher<'_, '_>) {
        bencher.counter(BytesCount::new(SIZE)).with_inputs(Place::new).bench_local_values(|place| {
            let mut writer = place.store().writer().unwrap();
            sample().chunks(128 << 10).for_each(|chunk| writer.write_all(chunk).unwrap());
            writer.commit().unwrap();
            place
        });
    }

    #[divan::bench]
    fn read(bencher: Bencher<'_, '_>) {
        let place = Place::new();
        let store = place.store();
        let blob = store.put(sample()).unwrap();
        bencher.counter(BytesCount::new(SIZE)).bench_local(|| {
            io::copy(&mut store.reader(&blob.digest).unwrap(), &mut io::sink()).unwrap();
        });
    }

    #[divan::bench]
    fn peer_sha256sum(bencher: Bencher<'_, '_>) {
        let place = Place::new();
        let file = place.file();
        measure(bencher, || {
            let mut command = Command::new("sha256sum");
            command.arg(&file);
            command
        });
    }
}

#[divan::bench_group(sample_count = 5)]
mod layers {
    use super::{Bencher, BytesCount, Command, Compression, Content, Place, SIZE, Tree, layer, measure};

    #[divan::bench(args = [Compression::Zstd, Compression::Gzip, Compression::None])]
    fn write(bencher: Bencher<'_, '_>, compression: Compression) {
        let sample = Place::new();
        let mut tree = Tree::new();
        tree.file("usr/local/bin/manager", 0o755, Content::Path(sample.file())).unwrap();
        bencher.counter(BytesCount::new(SIZE)).with_inputs(Place::new).bench_local_values(|place| {
            layer::write(&place.store(), &tree, compression, 0).unwrap();
            place
        });
    }

    #[divan::bench(args = ["zstd -3 -T0", "gzip -6", "cat"])]
    fn peer_tar(bencher: Bencher<'_, '_>, compressor: &str) {
        let place = Place::new();
        place.file();
        let folder = place.path("");
        let script = format!("tar --create --directory '{folder}' manager | {compressor} > '{folder}/layer'");
        measure(bencher, || {
            let mut command = Command::new("sh");
            command.args(["-c", &script]);
            command
        });
    }
}

#[divan::bench_group(sample_count = 5)]
mod archives {
    use super::{Bencher, BytesCount, Command, Compression, Place, SIZE, archive, image, measure};

    #[divan::bench]
    fn write(bencher: Bencher<'_, '_>) {
        let place = Place::new();
        let store = place.store();
        let image = image(&store, Compression::None);
        let path = place.path("archive.tar");
        bencher.counter(BytesCount::new(SIZE)).bench_local(|| {
            archive::write(&store, std::slice::from_ref(&image), &[], &path).unwrap();
        });
    }

    #[divan::bench]
    fn import(bencher: Bencher<'_, '_>) {
        let from = Place::new();
        let store = from.store();
        let path = from.path("archive.tar");
        archive::write(&store, &[image(&store, Compression::None)], &[], &path).unwrap();
        bencher.counter(BytesCount::new(SIZE)).with_inputs(Place::new).bench_local_values(|place| {
            archive::import(&place.store(), &path).unwrap();
            place
        });
    }

    #[divan::bench]
    fn peer_skopeo_copy(bencher: Bencher<'_, '_>) {
        let place = Place::new();
        let name = image(&place.store(), Compression::None).name;
        let from = format!("oci:{}:{name}", place.path("store"));
        let to = format!("oci-archive:{}", place.path("skopeo.tar"));
        measure(bencher, || {
            let _ = std::fs::remove_file(place.path("skopeo.tar"));
            let mut command = Command::new("skopeo");
            command.args(["copy", "--quiet", &from, &to]);
            command
        });
    }
}

#[divan::bench_group(sample_count = 10)]
mod tidying {
    use super::{Action, Bencher, Error, Keep, Outputs, Place, Store};

    const ACTIONS: u32 = 1_000;

    /// A store with many actions of one small output each.
    fn many(place: &Place) -> Store {
        let store = place.store();
        for number in 0..ACTIONS {
            let action = Action::new("compile", number.to_string()).input("number", number).unwrap();
            let content = number.to_le_bytes();
            let run = || Ok::<_, Error>(Outputs::new().with_blob("binary", store.put(&content)?));
            store.realise(&action, run).unwrap();
        }
        store
    }

    #[divan::bench]
    fn gc_of_a_thousand_actions(bencher: Bencher<'_, '_>) {
        let place = Place::new();
        let store = many(&place);
        let keep = Keep { used_within: std::time::Duration::from_secs(3600), max_size: None, caches: false };
        bencher.bench_local(|| store.gc(&keep, true).unwrap());
    }

    #[divan::bench]
    fn recall(bencher: Bencher<'_, '_>) {
        let place = Place::new();
        let store = many(&place);
        let key = Action::new("compile", "7").input("number", 7).unwrap().key().unwrap();
        bencher.bench_local(|| store.recall(&key).unwrap().unwrap());
    }
}

/// An image of one layer with the sample.
fn image(store: &Store, compression: Compression) -> Image {
    let mut tree = Tree::new();
    tree.file("usr/local/bin/manager", 0o755, Content::Bytes(sample().to_vec())).unwrap();
    let layer = layer::write(store, &tree, compression, 0).unwrap();
    let config = json!({"architecture": "amd64", "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id]}});
    let config = store.put_document(&config).unwrap();
    let manifest_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({"schemaVersion": 2, "mediaType": manifest_type, "layers": [layer.descriptor()],
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config.digest, "size": config.size}});
    let manifest = store.put_document(&manifest).unwrap();
    let target = json!({"mediaType": manifest_type, "digest": manifest.digest, "size": manifest.size});
    let name = "docker.io/virtualcluster/manager-amd64:latest";
    store.tag(name, &serde_json::from_value(target).unwrap()).unwrap();
    store.image(name).unwrap()
}
