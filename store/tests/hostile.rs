//! Archives that nobody should trust: whatever is done to one, reading it ends soon, in an error or in an image, and the
//! store is sound afterwards.
//!
//! Seeds are archives of every shape that is read, and of shapes that are not; each is changed in the ways that find defects
//! in readers of tar files, most often so that its checksums hold again. `VCSTORE_HOSTILE_SECONDS` says for how long
//! (5 by default), and `VCSTORE_HOSTILE_SEED` repeats the run of the number that a failed one printed. Among the seeds is the
//! corpus of the fuzzer (`cargo xtask fuzz`), which is led by what it reaches in the code.

#![expect(clippy::unwrap_used, reason = "test code: a panic is a failed test")]

use std::fs;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::json;
use vcstore::{Compression, Content, Digest, Error, Image, Store, TarWriter, Tree, archive, layer};

const BLOCK: usize = 512;

/// The longest that reading one small archive may take.
const LIMIT: Duration = Duration::from_secs(10);

#[test]
fn any_archive_is_an_image_or_an_error_and_leaves_a_sound_store() {
    let place = Place::new();
    let mut seeds = seeds(&place);
    seeds.extend(corpus());
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = number("VCSTORE_HOSTILE_SEED").unwrap_or_else(rand::random);
    let mut random = StdRng::seed_from_u64(seed);
    let end = Instant::now() + Duration::from_secs(number("VCSTORE_HOSTILE_SECONDS").unwrap_or(5));
    let (mut read, mut refused) = (0u32, 0u32);
    while Instant::now() < end {
        let mut bytes = seeds[random.gen_range(0..seeds.len())].clone();
        for _ in 0..random.gen_range(1..5) {
            change(&mut bytes, &seeds, &mut random);
        }
        let bytes = wrap(bytes, &mut random);
        match place.read(&bytes) {
            Ok(Ok(_)) => read += 1,
            Ok(Err(Error::BadArchive { .. } | Error::DigestMismatch { .. })) => refused += 1,
            other => {
                let kept = Utf8Path::new(env!("CARGO_TARGET_TMPDIR")).join("hostile.tar");
                fs::write(&kept, bytes).unwrap();
                panic!("seed {seed}, kept as {kept}: {other:?}");
            }
        }
    }
    assert!(read > 0 && refused > 0, "{read} were read and {refused} refused: both must be met");
    let verified = place.store.verify().unwrap();
    assert!(verified.passed(), "seed {seed}: {verified:?}");
    assert_eq!(fs::read_dir(place.folder.path()).unwrap().count(), 2, "the store and the archive, and nothing beside");
}

#[test]
fn the_corpus_of_the_fuzzer_is_read_or_refused() {
    let place = Place::new();
    let (mut read, mut refused) = (0, 0);
    for bytes in corpus() {
        match place.read(&bytes) {
            Ok(Ok(_)) => read += 1,
            Ok(Err(Error::BadArchive { .. } | Error::DigestMismatch { .. })) => refused += 1,
            other => panic!("{other:?}"),
        }
        assert!(place.store.verify().unwrap().passed());
    }
    assert!(read > 0 && refused > 0, "{read} were read and {refused} refused: both must be met");
}

fn corpus() -> Vec<Vec<u8>> {
    let folder = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/archive");
    let files = folder.read_dir_utf8().unwrap().map(|file| file.unwrap().into_path());
    files.map(|file| fs::read(file).unwrap()).collect()
}

/// A store and an archive, in memory where that is possible: thousands of blobs are brought to disk.
struct Place {
    folder: tempfile::TempDir,
    store: Store,
    archive: Utf8PathBuf,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let path = |name: &str| Utf8PathBuf::try_from(folder.path().join(name)).unwrap();
        let (store, archive) = (Store::open(&path("store")).unwrap(), path("archive.tar"));
        Self { folder, store, archive }
    }

    /// Reads an archive; the outer error is a panic, or that it took too long.
    fn read(&self, bytes: &[u8]) -> Result<Result<Vec<Image>, Error>, String> {
        fs::write(&self.archive, bytes).unwrap();
        let begun = Instant::now();
        let read = catch_unwind(AssertUnwindSafe(|| archive::import(&self.store, &self.archive)));
        let read = read.map_err(|_| "it panics".to_owned())?;
        let took = begun.elapsed();
        if took < LIMIT { Ok(read) } else { Err(format!("it took {took:?}")) }
    }

    /// The archive with these members.
    fn tarball(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut tar = TarWriter::new(Vec::new());
        for (name, content) in members {
            tar.file(name, content.len() as u64, *content).unwrap();
        }
        tar.finish().unwrap()
    }
}

/// Archives of every shape, each readable or nearly so.
fn seeds(place: &Place) -> Vec<Vec<u8>> {
    let store = &place.store;
    let mut tree = Tree::new();
    tree.file("bin/manager", 0o755, Content::Bytes(b"manager".to_vec())).unwrap();
    tree.symlink("sbin", "bin").unwrap();
    let layer = layer::write(store, &tree, Compression::None, 0).unwrap();
    let config = json!({"architecture": "amd64", "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id]}});
    let config_blob = store.put_document(&config).unwrap();
    let manifest = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config_blob.digest,
            "size": config_blob.size},
        "layers": [layer.descriptor()]});
    let manifest_blob = store.put_document(&manifest).unwrap();
    let target: oci_spec::image::Descriptor = serde_json::from_value(json!({
        "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": manifest_blob.digest,
        "size": manifest_blob.size}))
    .unwrap();
    let name = "docker.io/a/b:v1";
    store.tag(name, &target).unwrap();
    let image = store.image(name).unwrap();
    archive::write(store, std::slice::from_ref(&image), &[], &place.archive).unwrap();
    let ours = fs::read(&place.archive).unwrap();
    assert_eq!(place.read(&ours).unwrap().unwrap(), [image]);

    let bytes = |digest: &Digest| fs::read(store.blob_path(digest)).unwrap();
    let (layer_bytes, config_bytes) = (bytes(&layer.digest), bytes(&config_blob.digest));
    let docker = |layers: &[&str]| {
        serde_json::to_vec(&json!([{"Config": "c.json", "RepoTags": ["a/b:v1"], "Layers": layers}])).unwrap()
    };
    let docker_save = Place::tarball(&[
        ("c.json", &config_bytes),
        ("l/layer.tar", &layer_bytes),
        ("manifest.json", &docker(&["l/layer.tar"])),
    ]);
    assert!(place.read(&docker_save).unwrap().is_ok());
    let long_name = format!("{}/layer.tar", "l".repeat(300));
    let long = Place::tarball(&[
        ("c.json", &config_bytes),
        (&long_name, &layer_bytes),
        ("manifest.json", &docker(&[&long_name])),
    ]);
    assert!(place.read(&long).unwrap().is_ok());
    let index = |digest: &str| {
        let manifest = json!({"mediaType": "application/vnd.oci.image.index.v1+json", "digest": digest, "size": 1});
        serde_json::to_vec(&json!({"schemaVersion": 2, "manifests": [manifest]})).unwrap()
    };
    let of_itself = index(&Digest::of(b"absent").to_string());
    let nested = Place::tarball(&[
        ("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#),
        ("index.json", &index(&Digest::of(&of_itself).to_string())),
        (&format!("blobs/sha256/{}", Digest::of(&of_itself).hex()), &of_itself),
    ]);
    vec![ours, docker_save, long, nested, every_kind(&config_bytes)]
}

/// One entry of every kind that a tar file can hold, by another writer.
fn every_kind(content: &[u8]) -> Vec<u8> {
    use tar::EntryType::{Block, Char, Directory, Fifo, GNUSparse, Link, Regular, Symlink};
    let mut builder = tar::Builder::new(Vec::new());
    for (number, kind) in [Regular, Directory, Symlink, Link, Char, Block, Fifo, GNUSparse].into_iter().enumerate() {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        let name = format!("{number}/{}", "n".repeat(40 * number));
        if matches!(kind, Symlink | Link) {
            header.set_size(0);
            builder.append_link(&mut header, name, "0/x").unwrap();
        } else {
            header.set_size(content.len() as u64);
            builder.append_data(&mut header, name, content).unwrap();
        }
    }
    builder.into_inner().unwrap()
}

/// Changes an archive in one of the ways that readers are known to fall for.
fn change(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut StdRng) {
    if bytes.len() < 2 * BLOCK {
        return bytes.resize(4 * BLOCK, 0);
    }
    let at = random.gen_range(0..bytes.len());
    let block = at / BLOCK * BLOCK;
    match random.gen_range(0..10) {
        0 => bytes[at] ^= 1 << random.gen_range(0..8),
        1 => bytes.truncate(at),
        2 => drop(bytes.splice(block..(block + BLOCK).min(bytes.len()), [])),
        3 => {
            let copy = bytes[block..(block + random.gen_range(1..5) * BLOCK).min(bytes.len())].to_vec();
            drop(bytes.splice(block..block, copy));
        }
        4 => {
            let other = &seeds[random.gen_range(0..seeds.len())];
            let from = random.gen_range(0..other.len()) / BLOCK * BLOCK;
            let to = (from + random.gen_range(1..9) * BLOCK).min(other.len());
            drop(bytes.splice(block..block, other[from..to].iter().copied()));
        }
        _ => header(bytes, random),
    }
}

/// Changes a field of one header, and mends its checksum.
fn header(bytes: &mut [u8], random: &mut StdRng) {
    let headers: Vec<usize> =
        (0..bytes.len() / BLOCK).map(|block| block * BLOCK).filter(|at| is_header(bytes, *at)).collect();
    if headers.is_empty() {
        return;
    }
    let at = headers[random.gen_range(0..headers.len())];
    // Name, mode, owner, group, size, time, kind, link, magic, prefix: offset and length (POSIX.1-2001, ustar).
    let fields =
        [(0, 100), (100, 8), (108, 8), (116, 8), (124, 12), (136, 12), (156, 1), (157, 100), (257, 8), (345, 155)];
    let (offset, length) = fields[random.gen_range(0..fields.len())];
    let names: [&[u8]; 8] = [
        b"../../../../etc/passwd",
        b"/etc/passwd",
        b"index.json",
        b"./manifest.json",
        b"blobs/sha256/..",
        b"blobs/sha256/",
        b"\xff\xfe",
        b"a/../../b",
    ];
    let numbers: [&[u8]; 6] =
        [b"77777777777\0", b"-1", b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff", b"\xff\xff\xff\xff", b"", b"9z"];
    let kinds = b"\x000123456789gxLKSVMDX";
    let value: Vec<u8> = match offset {
        0 | 157 | 345 => names[random.gen_range(0..names.len())].to_vec(),
        156 => vec![kinds[random.gen_range(0..kinds.len())]],
        257 => [&b"ustar\x0000"[..], b"ustar  \0", b""][random.gen_range(0..3)].to_vec(),
        124 if random.gen_bool(0.5) => format!("{:011o}", random.gen_range(0..1_000_000)).into_bytes(),
        _ => numbers[random.gen_range(0..numbers.len())].to_vec(),
    };
    let field = &mut bytes[at + offset..at + offset + length];
    field.fill(0);
    let length = value.len().min(length);
    field[..length].copy_from_slice(&value[..length]);
    bytes[at + 148..at + 156].fill(b' ');
    let sum: u32 = bytes[at..at + BLOCK].iter().map(|byte| u32::from(*byte)).sum();
    bytes[at + 148..at + 156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

fn is_header(bytes: &[u8], at: usize) -> bool {
    bytes[at + 257..].starts_with(b"ustar")
}

/// The archive as it is, or compressed, and then perhaps changed once more.
fn wrap(bytes: Vec<u8>, random: &mut StdRng) -> Vec<u8> {
    let mut bytes = match random.gen_range(0..6) {
        0 => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(&bytes).unwrap();
            encoder.finish().unwrap()
        }
        1 => zstd::encode_all(bytes.as_slice(), 1).unwrap(),
        _ => return bytes,
    };
    if random.gen_bool(0.5) && !bytes.is_empty() {
        let at = random.gen_range(0..bytes.len());
        bytes[at] ^= 1 << random.gen_range(0..8);
    }
    bytes
}
