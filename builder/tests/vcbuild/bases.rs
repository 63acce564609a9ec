//! Bases: pulled from a real registry, read from files, pinned by the lock.

use std::fs;

use rigs::Run;
use rigs::mirror::{BASE, Mirror};
use rigs::registry::Registry;
use serde_json::{Value, json};

use crate::bench::{Bench, digests, text, untar};

/// A bench with an image of its own as a base in a registry: `one` of the small project, on `scratch`.
fn with_registry() -> (Bench, Registry) {
    let bench = Bench::with_hello();
    bench.json(&["images", "--source-dir", "hello", "--compression", "gzip", "--out", "bases"]);
    let registry = Registry::start(&bench);
    (bench, registry)
}

fn push(bench: &Bench, archive: &str, reference: &str, format: &str) {
    let (from, to) = (format!("oci-archive:bases/{archive}"), format!("docker://{reference}"));
    bench.tool("skopeo", &["copy", "--quiet", "--dest-tls-verify=false", "--format", format, &from, &to]);
}

#[test]
fn a_base_is_pulled_once_and_pinned() {
    let (bench, registry) = with_registry();
    let reference = format!("{}/hello/base:v1", registry.address);
    push(&bench, "one-amd64.tar", &reference, "oci");
    let build = ["images", "--source-dir", "hello", "--components", "two", "--base", &reference];
    let first = bench.json(&build);
    let layers = first["images"][0]["platforms"][0]["layers"].as_array().unwrap().clone();
    assert_eq!(layers.len(), 2, "the base's layer and ours");
    let base = bench.json(&["inspect", "bases/one-amd64.tar"])["images"][0].clone();
    assert_eq!(layers[0], base["platforms"][0]["layers"][0], "the base's layer as it is");
    let lock = bench.read("hello/vcbuild.lock");
    let pinned = format!("[image.\"{reference}\".\"linux/amd64\"]\nmanifest = \"{}\"\n", text(&base["digest"]));
    assert!(lock.ends_with(&pinned), "{lock}");
    let manifest = text(&first["images"][0]["digest"]).replacen(':', "/", 1);
    let manifest: Value = serde_json::from_str(&bench.read(&format!("store/blobs/{manifest}"))).unwrap();
    let annotations = json!({
        "org.opencontainers.image.title": "two",
        "org.opencontainers.image.base.digest": base["digest"],
        "org.opencontainers.image.base.name": reference,
    });
    assert_eq!(manifest["annotations"], annotations);

    push(&bench, "two-amd64.tar", &reference, "oci");
    let again = bench.json(&build);
    assert_eq!(
        (digests(&again), &again["actions"]["run"]),
        (digests(&first), &json!(0)),
        "the tag moved; the lock did not"
    );
    let lock_file = ["--lock", "hello/vcbuild.lock"];
    let updated = bench.json(&[&["base", &reference, "--update"][..], &lock_file].concat());
    assert_ne!(updated["platforms"][0]["digest"], base["digest"]);
    assert_ne!(digests(&bench.json(&build)), digests(&first));

    drop(registry);
    assert_eq!(bench.json(&build)["actions"]["run"], 0, "a store that has the base needs no registry");
}

#[test]
fn layers_in_dockers_words_are_named_in_the_ocis() {
    let (bench, registry) = with_registry();
    let reference = format!("{}/hello/docker:v1", registry.address);
    push(&bench, "one-amd64.tar", &reference, "v2s2");
    let build = ["images", "--source-dir", "hello", "--components", "two", "--base", &reference];
    let layers = bench.json(&build)["images"][0]["platforms"][0]["layers"].clone();
    assert_eq!(layers[0]["media_type"], "application/vnd.oci.image.layer.v1.tar+gzip");
    let seen = bench.tool("skopeo", &["inspect", "oci-archive:out/two-amd64.tar"]);
    assert_eq!(serde_json::from_str::<Value>(&seen).unwrap()["Layers"].as_array().unwrap().len(), 2);
}

#[test]
fn an_index_has_a_base_for_each_platform() {
    let bench = Bench::with_hello();
    bench.edit("hello/vcbuild.toml", "{component}-{arch}:v1", "{component}:v1");
    bench.edit("hello/vcbuild.toml", "[components.one]", "[components.one]\narchive = \"one.tar\"");
    let arguments = ["images", "--source-dir", "hello", "--components", "one", "--out", "bases"];
    let both = bench.json(&[&arguments[..], &["--platform", "linux/amd64,linux/arm64"]].concat());
    let registry = Registry::start(&bench);
    let reference = format!("{}/hello/index:v1", registry.address);
    let to = format!("docker://{reference}");
    bench.tool("skopeo", &["copy", "--quiet", "--all", "--dest-tls-verify=false", "oci-archive:bases/one.tar", &to]);
    let base = bench.json(&["base", &reference, "--platform", "linux/arm64,linux/amd64"]);
    let manifests = |platforms: &Value, name: &str| {
        platforms.as_array().unwrap().iter().map(|one| text(&one[name])).collect::<Vec<_>>()
    };
    let expected = manifests(&both["images"][0]["platforms"], "manifest");
    assert_eq!(manifests(&base["platforms"], "digest"), expected);

    bench.json(&[&arguments[..], &["--platform", "linux/arm64"]].concat());
    let lonely = format!("{}/hello/lonely:v1", registry.address);
    let to = format!("docker://{lonely}");
    bench.tool("skopeo", &["copy", "--quiet", "--all", "--dest-tls-verify=false", "oci-archive:bases/one.tar", &to]);
    let messages = [&format!("using base {lonely}: it has no image for linux/amd64 (it has linux/arm64)")[..]];
    bench.run(&["base", &lonely]).failed(1, &messages);
}

#[test]
fn a_base_is_read_from_a_file_or_a_folder_and_watched_by_the_lock() {
    let bench = Bench::with_hello();
    bench.json(&["images", "--source-dir", "hello", "--compression", "gzip", "--out", "bases"]);
    bench.tool(
        "skopeo",
        &["copy", "--quiet", "oci-archive:bases/one-amd64.tar", "docker-archive:bases/docker.tar:a/b:v1"],
    );
    untar(&bench.path("bases/one-amd64.tar"), &bench.path("bases/layout"));
    let build = |base: &str| bench.json(&["images", "--source-dir", "hello", "--components", "two", "--base", base]);
    let from_file = build("oci:bases/one-amd64.tar");
    let layers = from_file["images"][0]["platforms"][0]["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 2);
    assert_eq!(digests(&build("oci:bases/layout")), digests(&from_file));
    let from_docker = build("docker-archive:bases/docker.tar");
    assert_eq!(from_docker["images"][0]["platforms"][0]["layers"][0]["diff_id"], layers[0]["diff_id"]);
    assert_eq!(build("docker-archive:bases/docker.tar")["actions"]["run"], 0);

    fs::copy(bench.path("bases/two-amd64.tar"), bench.path("bases/one-amd64.tar")).unwrap();
    let changed = bench.run(&["images", "--source-dir", "hello", "--base", "oci:bases/one-amd64.tar"]);
    let messages =
        ["using base oci:bases/one-amd64.tar for linux/amd64: hello/vcbuild.lock pins it to sha256:", "--update"];
    changed.failed(1, &messages);
    let arguments = ["images", "--source-dir", "hello", "--base", "oci:bases/one-amd64.tar", "--update"];
    assert_eq!(bench.json(&arguments)["images"].as_array().unwrap().len(), 2);
}

#[test]
fn a_damaged_archive_is_no_base() {
    let bench = Bench::with_hello();
    bench.json(&["images", "--source-dir", "hello", "--components", "one", "--compression", "none", "--out", "bases"]);
    let archive = fs::read(bench.path("bases/one-amd64.tar")).unwrap();
    fs::write(bench.path("cut.tar"), &archive[..archive.len() / 2]).unwrap();
    let middle = archive.len() / 2;
    let damaged = [&archive[..middle], &[archive[middle] ^ 1], &archive[middle + 1..]].concat();
    fs::write(bench.path("damaged.tar"), damaged).unwrap();
    for file in ["cut.tar", "damaged.tar"] {
        let run = bench.run(&["base", &format!("oci:{file}")]);
        run.failed(1, &[&format!("error: checking a blob of {file}: the digest of its content is sha256:"), "help: "]);
    }
    fs::write(bench.path("stub.tar"), &archive[..700]).unwrap();
    bench.run(&["base", "oci:stub.tar"]).failed(1, &["error: reading archive stub.tar: ", "truncated", "help: "]);
    bench.run(&["base", "oci:absent.tar"]).failed(1, &["reading absent.tar", "because: No such file"]);
}

/// An image as Docker builds them: gzip layers of another encoder, a history with steps that made no layer, and words beyond
/// the image specification. A layout in a folder; returns what its layers and configuration are.
fn foreign_base(bench: &Bench) -> (Vec<Value>, Value) {
    let blob = |bytes: &[u8]| {
        let digest = vcstore::Digest::of(bytes).to_string();
        let path = bench.path(&format!("foreign/blobs/{}", digest.replacen(':', "/", 1)));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
        (digest, bytes.len())
    };
    let (mut layers, mut diff_ids) = (Vec::new(), Vec::new());
    for name in ["first", "second"] {
        bench.write(&format!("tree/{name}"), name);
        bench.tool("tar", &["-cf", "layer.tar", "--owner=7", "-C", "tree", name]);
        diff_ids.push(vcstore::Digest::of(&fs::read(bench.path("layer.tar")).unwrap()).to_string());
        bench.tool("gzip", &["-1", "-f", "layer.tar"]);
        let (digest, size) = blob(&fs::read(bench.path("layer.tar.gz")).unwrap());
        let media_type = "application/vnd.oci.image.layer.v1.tar+gzip";
        layers.push(json!({"mediaType": media_type, "digest": digest, "size": size}));
    }
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "created": "2024-01-02T03:04:05.678Z",
        "config": {
            "Env": ["PATH=/bin", "LANG=C"],
            "Cmd": ["bash"],
            "Labels": {"maintainer": "them"},
            "ExposedPorts": {"80/tcp": {}},
            "Healthcheck": {"Test": ["CMD", "/bin/true"]},
        },
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": [
            {"created": "2024-01-02T03:04:05Z", "created_by": "ADD file:1 in /"},
            {"created": "2024-01-02T03:04:05Z", "created_by": "ENV LANG=C", "empty_layer": true},
            {"created": "2024-01-02T03:04:05.678Z", "created_by": "RUN make", "comment": "buildkit", "author": "them"},
        ],
    });
    let (digest, size) = blob(config.to_string().as_bytes());
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": size},
        "layers": layers,
    });
    let (digest, size) = blob(manifest.to_string().as_bytes());
    let target = json!({"mediaType": manifest["mediaType"], "digest": digest, "size": size,
        "annotations": {"org.opencontainers.image.ref.name": "v1"}});
    bench.write("foreign/index.json", &json!({"schemaVersion": 2, "manifests": [target]}).to_string());
    bench.write("foreign/oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#);
    (layers, config)
}

#[test]
fn the_history_and_the_layers_of_a_base_stay_as_they_are() {
    let bench = Bench::with_hello();
    let (layers, config) = foreign_base(&bench);
    let build = ["images", "--source-dir", "hello", "--components", "two", "--base", "oci:foreign"];
    let built = bench.json(&build)["images"][0]["platforms"][0].clone();
    for (number, layer) in layers.iter().enumerate() {
        assert_eq!(
            (&built["layers"][number]["digest"], &built["layers"][number]["size"]),
            (&layer["digest"], &layer["size"])
        );
    }
    let raw = bench.tool("skopeo", &["inspect", "--config", "--raw", "oci-archive:out/two-amd64.tar"]);
    let ours: Value = serde_json::from_str(&raw).unwrap();
    let history = config["history"].as_array().unwrap();
    assert_eq!(&ours["history"].as_array().unwrap()[..3], history.as_slice());
    let last = json!({"created": "1970-01-01T00:00:00Z", "created_by": "vcbuild: /usr/local/bin/two"});
    assert_eq!((ours["history"].as_array().unwrap().len(), &ours["history"][3]), (4, &last));
    let expected = json!({
        "Env": ["PATH=/bin", "LANG=C"],
        "Entrypoint": ["/usr/local/bin/two"],
        "Labels": {"maintainer": "them"},
        "ExposedPorts": {"80/tcp": {}},
        "Healthcheck": {"Test": ["CMD", "/bin/true"]},
    });
    assert_eq!(ours["config"], expected);
}

/// A program that needs what the `static` base has: it checks certificates against the system's, and looks up accounts, zones
/// and services.
const NEEDY: &str = r#"package main

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/user"
	"time"
)

func main() {
	bundle, err := os.ReadFile("/etc/ssl/certs/ca-certificates.crt")
	check(err)
	verified := 0
	for block, rest := pem.Decode(bundle); block != nil; block, rest = pem.Decode(rest) {
		certificate, err := x509.ParseCertificate(block.Bytes)
		check(err)
		// Without roots of its own, this goes by the system's.
		options := x509.VerifyOptions{CurrentTime: certificate.NotBefore.Add(time.Hour), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
		_, err = certificate.Verify(options)
		check(err)
		verified++
	}
	zone, err := time.LoadLocation("Europe/Berlin")
	check(err)
	me, err := user.Current()
	check(err)
	port, err := net.LookupPort("tcp", "https")
	check(err)
	check(os.WriteFile("/tmp/file", nil, 0o600))
	check(os.WriteFile(me.HomeDir+"/file", nil, 0o600))
	_, err = os.ReadDir("/root")
	fmt.Println(verified > 100, time.Unix(0, 0).In(zone).Format("15:04"), me.Username, me.Uid, port, os.IsPermission(err))
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
"#;

#[test]
fn a_static_program_finds_what_it_needs_on_the_static_base() {
    let bench = Bench::with_hello();
    bench.write("hello/cmd/one/main.go", NEEDY);
    bench.edit("hello/vcbuild.toml", "[components.one]", "[components.one]\nuser = \"65532:65532\"");
    let arguments = ["--source-dir", "hello", "--components", "one", "--base", "static", "--compression", "none"];
    let built = bench.json(&[&["images"][..], &arguments].concat());
    let layers = built["images"][0]["platforms"][0]["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 2);
    assert!(layers[0]["size"].as_u64().unwrap() < 4 << 20, "{layers:?}");
    let root = bench.path("root");
    fs::create_dir(&root).unwrap();
    let root = root.to_str().unwrap();
    for layer in layers {
        let blob = bench.path(&format!("store/blobs/{}", text(&layer["digest"]).replacen(':', "/", 1)));
        bench.tool("tar", &["--numeric-owner", "-xpf", blob.to_str().unwrap(), "-C", root]);
    }
    // The program runs as the image says, with nothing of this machine but the processor and the kernel.
    let said = bench.tool(
        "env",
        &["-i", "PATH=/usr/sbin:/usr/bin", "chroot", "--userspec=65532:65532", root, "/usr/local/bin/one"],
    );
    assert_eq!(said, "true 01:00 nonroot 65532 443 true\n");

    let base = bench.json(&["base", "static", "--lock", "hello/vcbuild.lock", "--compression", "none"]);
    assert_eq!(base["platforms"][0]["layers"][0], layers[0]);
    let names: Vec<_> =
        base["platforms"][0]["packages"].as_array().unwrap().iter().map(|one| text(&one["name"])).collect();
    assert_eq!(names, ["base-files", "ca-certificates", "netbase", "tzdata"]);
    assert!(bench.read("hello/vcbuild.lock").contains("[debian.\"bookworm static\".\"linux/amd64\"]"));
    let arm = bench.json(&["base", "static", "--platform", "linux/arm64"]);
    assert_eq!(arm["platforms"][0]["platform"], "linux/arm64");
    let more = bench.run(&["base", "static", "--debian-packages", "curl"]);
    more.failed(2, &["the base static contains a fixed set of packages"]);
}

#[test]
fn what_is_said_of_debian_is_checked_before_anything_is_done() {
    let bench = Bench::with_hello();
    let base = |arguments: &[&str]| {
        let mut command = bench.vcbuild(&[&["base", "debian"], arguments].concat());
        Run::of(command.env_remove("VCBUILD_DEBIAN_MIRROR"))
    };
    base(&["--debian-suite", "../etc"]).failed(2, &["\"../etc\" is not a Debian suite such as \"bookworm\""]);
    base(&["--debian-packages", "a b"]).failed(2, &["\"a b\" is not a package name such as"]);
    base(&["--debian-mirror", "ftp://mirror.example/debian"]).failed(1, &["only http and https are supported"]);
    base(&["--debian-suite", "nonesuch"])
        .failed(1, &["looking for a mirror of Debian nonesuch", "VCBUILD_DEBIAN_MIRROR"]);
    bench.write("own/vcbuild.toml", &format!("{}[debian]\nlayers = \"many\"\n", bench.read("hello/vcbuild.toml")));
    let run = bench.run(&["base", "debian", "--project", "own/vcbuild.toml"]);
    run.failed(2, &["reading project own/vcbuild.toml", "unknown variant `many`", "per-package-set"]);
}

#[test]
fn a_package_that_the_mirror_dropped_comes_from_a_snapshot_of_its_day() {
    let (mirror, archive, bench) = (Mirror::new(&BASE), Mirror::new(&[]), Bench::new());
    let project = format!(
        "base = \"debian\"\n[debian]\nmirror = {:?}\nkeyring = {:?}\nsecurity = false\n\
         [components.none]\nimage = \"none\"\npackage = \"./none\"\n",
        mirror.address(),
        mirror.path("keyring.asc"),
    );
    bench.write("vcbuild.toml", &project);
    let base = |store: &str, snapshot: &str| {
        let mut command = bench.vcbuild(&["base", "--output", "json", "--store", store]);
        let run = Run::of(command.env("VCBUILD_DEBIAN_SNAPSHOT", snapshot));
        (run.code == Some(0), [run.stdout, run.stderr])
    };
    let (done, [first, said]) = base("one", "");
    assert!(done, "{said}");

    // It is asked for what is gone elsewhere, and for nothing else.
    let content = std::fs::read(mirror.path("pool/base-passwd_1.deb")).unwrap();
    archive.write("debian/20260711T101637Z/pool/base-passwd_1.deb", &content);
    std::fs::remove_file(mirror.path("pool/base-passwd_1.deb")).unwrap();
    let (done, [_, said]) = base("two", "");
    assert!(!done && said.contains("the mirror does not have this file"), "{said}");
    let snapshot = format!("{}/{{archive}}/{{timestamp}}", archive.address());
    let (done, [again, said]) = base("two", &snapshot);
    assert!(done, "{said}");
    let manifest =
        |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap()["platforms"][0]["digest"].clone();
    assert!(manifest(&first).is_string() && manifest(&first) == manifest(&again), "{first}{again}");
    // It too is believed by the hash alone.
    archive.write("debian/20260711T101637Z/pool/base-passwd_1.deb", b"something else");
    assert!(!base("three", &snapshot).0);
}

#[test]
fn changed_packages_are_refused_before_all_are_fetched() {
    let (mirror, bench) = (Mirror::new(&BASE), Bench::new());
    let project = |packages: &str| {
        let text = format!(
            "base = \"debian\"\n[debian]\nmirror = {:?}\nkeyring = {:?}\nsecurity = false\npackages = [{packages}]\n\
             [components.none]\nimage = \"none\"\npackage = \"./none\"\n",
            mirror.address(),
            mirror.path("keyring.asc"),
        );
        bench.write("vcbuild.toml", &text);
    };
    project("");
    bench.run(&["base"]).succeeded();
    let asked = mirror.packages_asked();
    let extra = ("extra", "", &[][..]);
    mirror.publish(&[BASE[0], BASE[1], extra], "1");
    project("\"extra\"");
    let refused = bench.run(&["base", "--locked", "--store", "empty"]);
    refused.failed(2, &["using lock file vcbuild.lock: it does not match", "extra"]);
    // The scripts of a package that is new in the request are read before it is pinned.
    assert_eq!(mirror.packages_asked(), asked + 1);
    bench.run(&["base", "--store", "empty"]).succeeded();
    assert!(mirror.packages_asked() > asked + 2);
}
