//! Prebuilt files: taken as they are, when they are what they should be.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use crate::bench::{Actions, Bench, digests, sha256, text, untar};

/// A project of one program for two platforms, and a text beside it.
fn with_programs() -> Bench {
    let bench = Bench::new();
    bench.write(
        "vcbuild.toml",
        "base = \"scratch\"\ncompression = \"gzip\"\n[components.true]\nimage = \"registry.example/true-{arch}:v1\"\n\
         [components.true.prebuilt]\n\"/usr/local/bin/true\" = \"bin/true-{arch}\"\n\"/etc/motd\" = \"motd\"\n",
    );
    bench.write("motd", "Hello.\n");
    fs::create_dir(bench.path("bin")).unwrap();
    let mut program = fs::read("/bin/true").unwrap();
    fs::write(bench.path("bin/true-amd64"), &program).unwrap();
    // The machine of the header alone makes it another processor's.
    program[18] = 183;
    fs::write(bench.path("bin/true-arm64"), &program).unwrap();
    bench
}

#[test]
fn prebuilt_files_become_images_and_are_pinned() {
    let bench = with_programs();
    let build = |more: &[&str]| bench.run(&[&["images", "--output", "json"], more].concat());
    let platforms = ["--platform", "linux/amd64,linux/arm64"];
    let first = build(&platforms);
    assert_eq!(first.json()["images"].as_array().unwrap().len(), 2);
    assert_eq!((first.ran("prebuilt"), first.ran("layer")), (2, 2), "{first:?}");
    let again = build(&platforms);
    assert_eq!(again.json()["actions"]["run"], 0, "{again:?}");
    let sum = sha256(&bench.path("bin/true-arm64"));
    let lock = bench.read("vcbuild.lock");
    assert!(lock.contains(&format!("[prebuilt.\"bin/true-arm64\"]\ncontent = \"{sum}\"\n")), "{lock}");

    let archive = text(&build(&[]).json()["images"][0]["archive"]);
    let inspected = bench.json(&["inspect", &archive]);
    let config = &inspected["images"][0]["platforms"][0]["config"]["config"];
    assert_eq!(config["Entrypoint"], json!(["/usr/local/bin/true"]));
    untar(&bench.path(&archive), &bench.path("layout"));
    bench.tool("umoci", &["unpack", "--rootless", "--image", "layout:v1", "bundle"]);
    let mode = |path: &str| fs::metadata(bench.path(path)).unwrap().permissions().mode() & 0o777;
    // The file has lost the permission to run, and is a program.
    assert_eq!((mode("bin/true-amd64"), mode("bundle/rootfs/usr/local/bin/true")), (0o644, 0o755));
    assert_eq!(mode("bundle/rootfs/etc/motd"), 0o644);
    assert_eq!(fs::read(bench.path("bundle/rootfs/usr/local/bin/true")).unwrap(), fs::read("/bin/true").unwrap());

    bench.write("motd", "Changed.\n");
    let drift = build(&[]);
    drift.failed(
        1,
        &["using the prebuilt motd of true: vcbuild.lock pins it to sha256:", "`vcbuild lock --update motd`"],
    );
    let updated = build(&["--update"]);
    assert_ne!(digests(&updated.json())["true"], digests(&again.json())["true"]);
    assert_eq!(build(&[]).json()["actions"]["run"], 0);
}

#[test]
fn what_was_declared_goes_before_what_is_pinned() {
    let bench = with_programs();
    let sum = |path: &str| sha256(&bench.path(path)).replace("sha256:", "");
    let declare = |motd: &str| {
        let project = bench.read("vcbuild.toml");
        let project = project.split("[components.true.sha256]").next().unwrap().to_owned();
        bench.write("vcbuild.toml", &format!("{project}[components.true.sha256]\nmotd = \"{motd}\"\n"));
    };
    declare(&sum("motd"));
    bench.json(&["images"]);
    assert!(!bench.read("vcbuild.lock").contains("motd"), "what is declared needs no pin");
    bench.write("motd", "Changed.\n");
    let other = bench.run(&["images"]);
    other.failed(1, &["but vcbuild.toml requires sha256:", "correct its `sha256`"]);
    declare(&sum("motd"));
    bench.json(&["images"]);
}

#[test]
fn a_file_that_cannot_be_used_is_named() {
    let bench = with_programs();
    fs::copy(bench.path("bin/true-amd64"), bench.path("bin/true-arm64")).unwrap();
    let wrong = bench.run(&["images", "--platform", "linux/arm64"]);
    let messages = "using the prebuilt bin/true-arm64 of true for linux/arm64: it is a program for amd64";
    wrong.failed(1, &[messages, "name a program for arm64 in vcbuild.toml"]);

    fs::remove_file(bench.path("motd")).unwrap();
    bench.run(&["images"]).failed(1, &["using the prebuilt motd of true: it is not in the source ", "No such file"]);
    std::os::unix::fs::symlink("/etc/hostname", bench.path("motd")).unwrap();
    bench.run(&["images"]).failed(1, &["using the prebuilt motd of true: it points outside the source"]);
    fs::remove_file(bench.path("motd")).unwrap();
    fs::create_dir(bench.path("motd")).unwrap();
    bench.run(&["images"]).failed(1, &["using the prebuilt motd of true: it is not a regular file"]);
}
