//! `vcbuild fetch` and `--inputs`: all that a build needs in one folder, believed in nothing.

use std::fs;
use std::path::Path;
use std::process::Command;

use rigs::Run;
use rigs::registry::Registry;

use crate::bench::{Bench, copy, digests};

/// Caches of compiled packages and of the toolchain unpacked: a build is the same without, and takes longer.
const COMPILED: [&str; 1] = ["go-build"];
const UNPACKED: [&str; 2] = ["go-build", "toolchain"];

/// The Go that other tests fetch too.
const GO: &str = "1.21.13";

/// A commit of a program that needs a module of a proxy, at the address that is returned; the project beside it names them.
fn with_app() -> (Bench, String) {
    let bench = Bench::new();
    let sums =
        bench.publish("example.org/carried", "v1.0.0-rc1", &[("lib.go", "package lib\n\nconst Name = \"lib\"\n")]);
    bench.write("app/go.mod", "module example.org/app\n\ngo 1.21\n\nrequire example.org/carried v1.0.0-rc1\n");
    bench.write("app/go.sum", &sums);
    bench.write("app/main.go", "package main\n\nimport \"example.org/carried\"\n\nfunc main() { println(lib.Name) }\n");
    std::os::unix::fs::symlink("main.go", bench.path("app/link")).unwrap();
    bench.commit("app");
    let url = format!("file://{}", bench.path("app").display());
    bench.write(
        "vcbuild.toml",
        &format!(
            "base = \"static\"\ngo = \"{GO}\"\n[source]\nrepo = \"{url}\"\n[components.app]\npackage = \".\"\n\
             image = \"registry.example/app:v1\"\n"
        ),
    );
    (bench, url)
}

/// A command as one whose user has the bench's proxy, and no checksum database.
fn run(bench: &Bench, arguments: &[&str]) -> Run {
    Run::of(bench.with_proxy(bench.vcbuild(arguments)).env("GOSUMDB", "off").env("GOPROXY", proxies(bench)))
}

/// The bench's proxy, and the modules that the user of the tests has, the toolchain among them.
fn proxies(bench: &Bench) -> String {
    let own = Run::of(Command::new("go").args(["env", "GOMODCACHE", "GOPROXY"])).stdout;
    let (cache, proxy) = own.trim().split_once('\n').unwrap();
    format!("file://{},file://{cache}/cache/download,{proxy}", bench.path("proxy").display())
}

/// A build in a store that has nothing but these caches, from the inputs in the folder `inputs`, in a network namespace of its
/// own without a route, with neither Go nor git at hand.
fn cut_off(bench: &Bench, caches: &[&str], arguments: &[&str]) -> Run {
    let _ = fs::remove_dir_all(bench.path("other"));
    fs::create_dir_all(bench.path("other/cache")).unwrap();
    for cache in caches {
        let shared = bench.path("store/cache").join(cache).canonicalize().unwrap();
        std::os::unix::fs::symlink(shared, bench.path("other/cache").join(cache)).unwrap();
    }
    let mut unshare = Command::new("/usr/bin/unshare");
    unshare.args(["--net", env!("CARGO_BIN_EXE_vcbuild")]);
    let from =
        ["images", "--inputs", "inputs", "--locked", "--output", "json", "--store", "other", "--out", "other-out"];
    Run::of(bench.around(unshare, &[&from, arguments].concat()).env("PATH", bench.path("")))
}

/// Puts another content in the place of the file of the inputs whose path ends so, has `check` look, and puts it back.
fn tampered(bench: &Bench, caches: &[&str], end: &str, content: &[u8], check: impl FnOnce(Run)) {
    let files = walkdir::WalkDir::new(bench.path("inputs")).into_iter().map(Result::unwrap);
    let found: Vec<_> = files.filter(|entry| entry.path().to_str().unwrap().ends_with(end)).collect();
    assert_eq!(found.len(), 1, "{end}: {found:?}");
    let before = fs::read(found[0].path()).unwrap();
    fs::write(found[0].path(), content).unwrap();
    check(cut_off(bench, caches, &[]));
    fs::write(found[0].path(), before).unwrap();
}

#[test]
fn a_folder_of_inputs_builds_the_same_in_an_empty_store_and_is_believed_in_nothing() {
    let (bench, url) = with_app();
    run(&bench, &["lock"]).succeeded();
    let fetched = run(&bench, &["fetch", "--to", "inputs", "--locked", "--output", "json"]).json();
    let lock = bench.read("vcbuild.lock");
    let pinned = |start: &str| {
        let line =
            lock.lines().find_map(|line| line.strip_prefix(start)).unwrap_or_else(|| panic!("{start} in {lock}"));
        line.trim_matches('"').to_owned()
    };
    let commit = pinned("commit = ");
    let deb = pinned("sha256 = \"sha256:");
    let deb = lock
        .split("[[")
        .find(|part| part.contains("name = \"tzdata\""))
        .map_or(deb, |part| part.split("sha256:").nth(1).unwrap().split('"').next().unwrap().to_owned());
    let module = "go/example.org/carried/@v/v1.0.0-rc1";
    let carried = |path: &str| bench.path("inputs").join(path).symlink_metadata().is_ok();
    for path in [
        &format!("blobs/sha256/{deb}"),
        &format!("{module}.zip"),
        &format!("{module}.mod"),
        &format!("git/{commit}/main.go"),
        &format!("git/{commit}/link"),
        &format!("go/golang.org/toolchain/@v/v0.0.1-go{GO}.linux-amd64.zip"),
    ] {
        assert!(carried(path), "{path}");
    }
    assert!(bench.read(&format!("inputs/{module}.info")).contains("v1.0.0-rc1"));
    let count = walkdir::WalkDir::new(bench.path("inputs"))
        .into_iter()
        .filter(|one| one.as_ref().is_ok_and(|one| !one.file_type().is_dir()));
    assert_eq!(fetched["files"], count.count());
    // Equal locks make equal folders, and what is there stays.
    run(&bench, &["fetch", "--to", "again"]).succeeded();
    bench.tool("diff", &["--recursive", "--no-dereference", "inputs", "again"]);
    run(&bench, &["fetch", "--to", "again"]).failed(1, &["writing inputs to again: the folder is not empty"]);
    assert_eq!(bench.path("store/tmp").read_dir().unwrap().count(), 1, "nothing is left but the folder of locks");

    let here = run(&bench, &["images", "--output", "json"]);
    let there = cut_off(&bench, &COMPILED, &[]);
    assert_eq!(digests(&there.json()), digests(&here.json()));

    tampered(&bench, &UNPACKED, &deb, b"!<arch>\n", |run| {
        run.failed(
            1,
            &["taking Debian package tzdata", &format!("{deb} has the wrong content: its digest is sha256:")],
        );
    });
    tampered(&bench, &UNPACKED, &format!("{commit}/main.go"), b"package main\n\nfunc main() {}\n", |run| {
        run.failed(1, &[&format!("cloning {url} at {commit}: the files in inputs/git/{commit} have tree ")]);
    });
    let other = Bench::new();
    other.publish("example.org/carried", "v1.0.0-rc1", &[("lib.go", "package lib\n\nconst Name = \"lie\"\n")]);
    let lie = fs::read(other.path("proxy/example.org/carried/@v/v1.0.0-rc1.zip")).unwrap();
    tampered(&bench, &UNPACKED, &format!("{module}.zip"), &lie, |run| {
        run.failed(1, &["reading Go modules from the inputs in inputs", "example.org/carried", "checksum mismatch"]);
    });
    tampered(&bench, &COMPILED, "linux-amd64.zip", &lie, |run| {
        run.failed(1, &["unpacking ", "the proxy is damaged or tampered with"]);
    });
    tampered(&bench, &UNPACKED, "vcbuild-inputs.json", br#"{"version":2}"#, |run| {
        run.failed(1, &["its version is 2, but this vcbuild supports version 1"]);
    });
    assert_eq!(digests(&cut_off(&bench, &UNPACKED, &[]).json()), digests(&here.json()), "all of it is as it was");

    fs::remove_file(bench.path("inputs").join("blobs/sha256").join(&deb)).unwrap();
    cut_off(&bench, &UNPACKED, &[])
        .failed(1, &["taking Debian package tzdata", "it is not among the inputs in inputs"]);
    cut_off(&bench, &UNPACKED, &["--base", "debian"]).failed(2, &["it does not pin debian bookworm linux/amd64"]);
    fs::remove_dir_all(bench.path("inputs/git")).unwrap();
    cut_off(&bench, &UNPACKED, &[]).failed(1, &["cloning ", "it is not among the inputs in inputs", "`vcbuild fetch`"]);
    fs::remove_file(bench.path("inputs/vcbuild-inputs.json")).unwrap();
    cut_off(&bench, &UNPACKED, &[]).failed(1, &["using the inputs in inputs: it is not a folder of inputs"]);
}

#[test]
fn a_base_of_a_registry_is_carried_in_parts() {
    let bench = Bench::with_hello();
    bench.json(&["images", "--source-dir", "hello", "--components", "two"]);
    let registry = Registry::start(&bench);
    let base = format!("{}/base:v1", registry.address);
    let archive = "oci-archive:out/two-amd64.tar";
    bench.tool("skopeo", &["copy", "--quiet", "--dest-tls-verify=false", archive, &format!("docker://{base}")]);
    let hello = ["--source-dir", "hello", "--base", &base];
    let here = bench.json(&[&["images", "--components", "one"], &hello[..]].concat());
    bench.run(&[&["fetch", "--to", "inputs"], &hello[..]].concat()).succeeded();
    drop(registry);
    let there = || {
        let mut command = bench.vcbuild(&["images", "--components", "one", "--inputs", "inputs", "--output", "json"]);
        Run::of(command.args(hello).arg("--store").arg(bench.path("other")))
    };
    assert_eq!(digests(&there().json()), digests(&here));
    // The largest blob is the layer.
    let size = |path: &Path| fs::metadata(path).unwrap().len();
    let blobs = bench.path("inputs/blobs/sha256").read_dir().unwrap().map(|blob| blob.unwrap().path());
    let layer = blobs.max_by_key(|path| size(path)).unwrap();
    fs::write(&layer, "no layer").unwrap();
    fs::remove_dir_all(bench.path("other")).unwrap();
    there().failed(1, &[&format!("taking base {base}"), "has the wrong content"]);
}

#[test]
fn what_cannot_be_carried_is_named() {
    let bench = Bench::new();
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/cargo"), &bench.path("cargo"));
    bench.write(
        "cargo/vcbuild.toml",
        "base = \"scratch\"\n[components.hello]\nbin = \"hello\"\nimage = \"registry.example/hello:v1\"\n",
    );
    let cargo = bench.run(&["fetch", "--to", "inputs", "--source-dir", "cargo"]);
    cargo.failed(1, &["copying the crates of hello", "vcbuild cannot copy the inputs of Cargo workspaces"]);

    let (bench, url) = with_app();
    bench.edit("app/go.sum", "/go.mod h1:", "/go.mod h1:A");
    bench.git("app", &["commit", "--quiet", "-am", "wrong"]);
    let wrong = run(&bench, &["fetch", "--to", "inputs"]);
    let log = bench.path("store/logs/scan-linux-amd64.log");
    wrong.failed(1, &["fetching the Go modules of the source", "example.org/carried", log.to_str().unwrap()]);
    assert!(fs::read_to_string(log).unwrap().contains("checksum mismatch"));

    bench.edit("app/go.sum", "/go.mod h1:A", "/go.mod h1:");
    bench.write("app/.gitattributes", "*.md ident\n");
    bench.write("app/README.md", "$Id$\n");
    bench.git("app", &["add", "."]);
    bench.git("app", &["commit", "--quiet", "-m", "more"]);
    let attributes = run(&bench, &["fetch", "--to", "inputs"]);
    attributes.failed(1, &[&format!("copying {url} at "), "the checked-out files have tree", "--source-dir instead"]);
    assert!(!bench.path("inputs").exists() && !bench.read("vcbuild.toml").is_empty());
    let left = bench.path("").read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(left.filter(|name| name.starts_with(".vcbuild")).count(), 0);
}

#[test]
fn a_machine_without_certificates_is_told_so_when_it_needs_them() {
    let bench = Bench::with_hello();
    let build = |proxies: &str| {
        let mut command = bench.vcbuild(&["images", "--source-dir", "hello", "--go", "1.26.0"]);
        Run::of(
            command
                .env("GOPROXY", proxies)
                .env("GOSUMDB", "off")
                .env("SSL_CERT_FILE", "/nowhere")
                .env("SSL_CERT_DIR", "/nowhere"),
        )
    };
    let nowhere = format!("file://{}", bench.path("proxy").display());
    build(&nowhere).failed(1, &["no proxy in GOPROXY has it"]);
    let web = format!("{nowhere},https://127.0.0.1:1");
    build(&web).failed(1, &["preparing requests to Go module proxies: ", "SSL_CERT_FILE"]);
}
