//! Private files of the machine: a project reads none of them unless its user allows it.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};

use rigs::Run;

use crate::bench::{Bench, digests};

/// A project in the folder `app` with these further lines, whose command copies its input, and a private key beside it.
fn with_key(lines: &str) -> Bench {
    let bench = Bench::new();
    let project = "base = \"scratch\"\n[components.x]\nimage = \"registry.example/x:v1\"\noutputs = { \"/x\" = \"x\" }\n\
                   command = [\"sh\", \"-c\", \"cp -r /in x\"]\n";
    bench.write("app/vcbuild.toml", &format!("{project}{lines}\n"));
    bench.write("key", "a private key");
    mode(&bench, "key", 0o600);
    bench
}

fn mode(bench: &Bench, path: &str, mode: u32) {
    fs::set_permissions(bench.path(path), Permissions::from_mode(mode)).unwrap();
}

/// Checks that the project's images are not made, because of this path, and that nothing is.
#[track_caller]
fn refused(bench: &Bench, whose: &str, private: &str) {
    let private = bench.path(private).canonicalize().unwrap();
    let why = format!("is private: other users of this machine cannot read {}", private.display());
    bench
        .run(&["images", "--project", "app/vcbuild.toml"])
        .failed(1, &[whose, &why, "--allow-path ", "allow-paths in"]);
    assert!(!bench.path("app/vcbuild.lock").exists() && !bench.path("out").exists());
    assert_eq!(fs::read_dir(bench.path("store/actions")).map_or(0, Iterator::count), 0);
}

#[test]
fn an_input_that_other_users_cannot_read_takes_the_users_word() {
    let bench = with_key("inputs = { \"/in\" = \"../key\" }");
    let whose = "building x: its input app/../key";
    refused(&bench, whose, "key");
    let build = |more: &[&str]| bench.run(&[&["images", "--project", "app/vcbuild.toml"], more].concat());
    build(&["--allow-path", "app"]).failed(1, &[whose]);
    let allowed = digests(&build(&["--allow-path", "none", "--allow-path", "key", "--output", "json"]).json());
    build(&[]).failed(1, &[whose]);

    // So it is with what the user's settings allow, of paths beside them or from `/`.
    bench.write("config/vcbuild/config.toml", "allow-paths = [\"/none\", \"../../key\"]\n");
    build(&[]).succeeded();
    bench.write("config/vcbuild/config.toml", "allow-paths = [\"/none\"]\n");
    build(&[]).failed(1, &[whose]);

    // What everybody may read is nobody's secret, and a repository is one folder.
    mode(&bench, "key", 0o644);
    assert_eq!(digests(&build(&["--output", "json"]).json()), allowed);
    mode(&bench, "key", 0o600);
    bench.git(".", &["init", "--quiet"]);
    build(&[]).succeeded();
}

#[test]
fn private_files_are_found_behind_links_and_in_folders() {
    let bench = with_key("inputs = { \"/in\" = \"in\" }");
    symlink("../key", bench.path("app/in")).unwrap();
    refused(&bench, "building x: its input app/in", "key");

    // A folder that others may not enter, and a private file deep in one that they may.
    bench.write("home/file", "a file");
    bench.write("tools/bin/tool", "a tool");
    bench.write("tools/etc/key", "a private key");
    mode(&bench, "home", 0o700);
    mode(&bench, "tools/etc/key", 0o640);
    for (leads, private) in [("../home/file", "home"), ("../home", "home"), ("../tools", "tools/etc/key")] {
        fs::remove_file(bench.path("app/in")).unwrap();
        symlink(leads, bench.path("app/in")).unwrap();
        refused(&bench, "building x: its input app/in", private);
    }

    // Nor is what a link of the source leads to taken for one of its files.
    fs::remove_file(bench.path("app/in")).unwrap();
    symlink("../key", bench.path("app/in")).unwrap();
    let kinds =
        ["prebuilt = { \"/x\" = \"in\" }", "prebuilt = { \"/x\" = \"y\" }\nfiles = { \"/in\" = { from = \"in\" } }"];
    bench.write("app/y", "y");
    for kind in kinds {
        let project = format!("base = \"scratch\"\n[components.x]\nimage = \"registry.example/x:v1\"\n{kind}\n");
        bench.write("app/vcbuild.toml", &project);
        let run = bench.run(&["images", "--project", "app/vcbuild.toml"]);
        assert_eq!(run.code, Some(1), "{kind}: {run:?}");
    }
}

#[test]
fn a_source_that_other_users_cannot_read_takes_the_users_word() {
    let bench = with_key("[source]\ndir = \"../mine\"");
    bench.edit("app/vcbuild.toml", "cp -r /in x", "cp note x");
    bench.write("mine/note", "a private note");
    mode(&bench, "mine/note", 0o600);
    refused(&bench, "the project's [source] dir app/../mine", "mine/note");
    let build = |more: &[&str]| bench.run(&[&["images", "--project", "app/vcbuild.toml"], more].concat());
    build(&["--allow-path", "mine"]).succeeded();
    // A source that the command line names is the user's word.
    build(&["--source-dir", "mine"]).succeeded();
    bench.run(&["lock", "--project", "app/vcbuild.toml"]).failed(1, &["the project's [source] dir app/../mine"]);
}

#[test]
fn what_lies_beside_a_project_needs_no_word_where_the_folders_above_are_closed() {
    let bench = with_key("inputs = { \"/in\" = \"../tools\" }\n[source]\ndir = \"../mine\"");
    bench.write("tools/tool", "a tool");
    bench.write("mine/note", "a note");
    bench.write("config/vcbuild/config.toml", "");
    mode(&bench, ".", 0o700);
    let build = |more: &[&str]| bench.run(&[&["images", "--project", "app/vcbuild.toml"], more].concat());
    build(&[]).succeeded();
    // A file that is private itself, and a project that is in its user's home folder.
    mode(&bench, "tools/tool", 0o600);
    build(&[]).failed(1, &["building x: its input app/../tools is private"]);
    mode(&bench, "tools/tool", 0o644);
    let at_home = Run::of(bench.vcbuild(&["images", "--project", "app/vcbuild.toml"]).env("HOME", bench.path(".")));
    at_home.failed(1, &["its input app/../tools is private: other users of this machine cannot read "]);
}

#[test]
fn a_base_is_read_whatever_its_permissions_and_nothing_but_an_image_is_a_base() {
    let bench = with_key("");
    let project =
        "base = \"scratch\"\n[components.x]\nimage = \"registry.example/x:v1\"\nprebuilt = { \"/x\" = \"x\" }\n";
    bench.write("app/vcbuild.toml", project);
    bench.write("app/x", "x");
    bench.run(&["images", "--project", "app/vcbuild.toml", "--out", "images"]).succeeded();
    bench.write("home/note", "a note");
    fs::rename(bench.path("images/x-amd64.tar"), bench.path("home/base.tar")).unwrap();
    mode(&bench, "home/base.tar", 0o600);
    mode(&bench, "home", 0o700);
    bench.edit("app/vcbuild.toml", "base = \"scratch\"", "base = \"oci:home/base.tar\"");
    bench.run(&["images", "--project", "app/vcbuild.toml"]).succeeded();
    for base in ["oci:key", "docker-archive:key"] {
        bench.edit("app/vcbuild.toml", "oci:home/base.tar", base);
        let run = bench.run(&["images", "--project", "app/vcbuild.toml", "--update"]);
        run.failed(1, &["key"]);
        assert!(!run.stderr.contains("a private key"), "{run:?}");
        bench.edit("app/vcbuild.toml", base, "oci:home/base.tar");
    }
}
