//! What Go finds outside of the folder of a package or module: workspaces, and headers of assembly. And what it cannot have: C.

use std::fs;
use std::process::Command;

use rigs::Run;

use crate::bench::{Actions, Bench, digests, untar};

/// Two modules that find each other by `go.work` alone.
fn with_workspace() -> Bench {
    let bench = Bench::new();
    let files = [
        (
            "s/vcbuild.toml",
            "base = \"scratch\"\ncompression = \"gzip\"\n[source]\nsubdir = \"app\"\n[components.app]\npackage = \".\"\n\
             image = \"registry.example/app:v1\"\n",
        ),
        ("s/go.work", "go 1.22\n\nuse (\n\t./app\n\t./lib // both\n)\n"),
        ("s/app/go.mod", "module example.org/app\n\ngo 1.22\n\nrequire example.org/lib v0.0.0\n"),
        ("s/app/main.go", "package main\n\nimport \"example.org/lib\"\n\nfunc main() { print(lib.Word) }\n"),
        ("s/lib/go.mod", "module example.org/lib\n\ngo 1.22\n"),
        ("s/lib/lib.go", "package lib\n\nconst Word = \"hello\"\n"),
        ("s/lib/unused/unused.go", "package unused\n"),
    ];
    for (path, content) in files {
        bench.write(path, content);
    }
    bench
}

/// What the program of the image `app` says.
fn says(bench: &Bench) -> String {
    for folder in ["layout", "bundle"] {
        let _ = fs::remove_dir_all(bench.path(folder));
    }
    untar(&bench.path("out/app-amd64.tar"), &bench.path("layout"));
    bench.tool("umoci", &["unpack", "--rootless", "--image", "layout:v1", "bundle"]);
    Run::of(&mut Command::new(bench.path("bundle/rootfs/usr/local/bin/app"))).stderr
}

#[test]
fn modules_of_a_workspace_find_each_other() {
    let bench = with_workspace();
    let build = || bench.run(&["images", "--project", "s/vcbuild.toml", "--output", "json"]);
    let first = build();
    let digest = digests(&first.json());
    assert_eq!(says(&bench), "hello");
    bench.write("s/lib/unused/unused.go", "package unused // changed\n");
    let unused = build();
    assert_eq!((unused.ran("scan"), unused.ran("compile")), (1, 0), "{unused:?}");
    bench.edit("s/lib/lib.go", "hello", "good day");
    assert_eq!(build().ran("compile"), 1);
    assert_eq!(says(&bench), "good day");
    // It is the source that says so, and no setting of the user's. In git, and in a repository, it is the same.
    bench.edit("s/lib/lib.go", "good day", "hello");
    bench.commit("s");
    let mut off = bench.vcbuild(&["images", "--project", "s/vcbuild.toml", "--output", "json"]);
    assert_eq!(digests(&Run::of(off.env("GOWORK", "off")).json()), digest);
    let url = format!("file://{}", bench.path("s").display());
    bench.run(&["images", "--project", "s/vcbuild.toml", "--source-repo", &url, "--source-subdir", "app"]).succeeded();
    assert_eq!(says(&bench), "hello");

    // A replacement of the workspace's, and modules beside the source.
    bench.write("beside/go.mod", "module example.org/lib\n\ngo 1.22\n");
    bench.write("beside/lib.go", "package lib\n\nconst Word = \"beside\"\n");
    bench.write("s/go.work", "go 1.22\n\nuse ./app\n\nreplace example.org/lib v0.0.0 => ../beside\n");
    build().succeeded();
    assert_eq!(says(&bench), "beside");
    bench.write("s/go.work", "go 1.22\n\nuse ./app\nuse ../beside\n");
    bench.edit("beside/lib.go", "\"beside\"", "\"outside\"");
    build().succeeded();
    assert_eq!(says(&bench), "outside");
}

#[test]
fn a_workspace_that_does_not_count_is_named() {
    let bench = with_workspace();
    let build = |arguments: &[&str]| {
        let command = bench.vcbuild(&[&["images", "--project", "s/vcbuild.toml"], arguments].concat());
        Run::of(bench.with_proxy(command).env("GOPROXY", "off"))
    };
    let above = build(&["--source-dir", "s/app"]);
    above.failed(1, &["go.work is ignored, because it is above the source", "--source-dir", "app", "--source-subdir"]);
    bench.write("s/go.work", "go 1.22\n\nuse ./lib\n");
    build(&[]).failed(1, &["go.work is ignored, because it does not use this module (`go work use` adds it)"]);
    bench.write("s/go.work", "go 1.22\n\nuse (\n\t./app\n\t./lib\n\t./gone\n)\n");
    build(&[]).failed(1, &["reading go.work", "it uses ./gone, which is not part of the source"]);
    bench.write("s/go.work", "go 1.22\n\nuse (\n\t./app\n\t./lib\n)\n");
    bench.write("s/.gitignore", "go.work\n");
    bench.commit("s");
    build(&[]).failed(
        1,
        &["not part of the source, because git ignores them (`git add --force` includes them): ", "go.work"],
    );
    // A module that does not need it is built by itself.
    bench.write("s/app/go.mod", "module example.org/app\n\ngo 1.22\n");
    bench.write("s/app/main.go", "package main\n\nfunc main() { print(\"alone\") }\n");
    build(&[]).succeeded();
    assert_eq!(says(&bench), "alone");
}

#[test]
fn a_workspace_is_checked_by_its_sums_and_may_be_vendored() {
    let bench = with_workspace();
    let word = "package word\n\nconst Word = \"fetched\"\n";
    let sums = bench.publish("example.org/inworkspace", "v1.0.0", &[("word.go", word)]);
    bench.write("s/app/go.mod", "module example.org/app\n\ngo 1.22\n");
    bench.write("s/lib/go.mod", "module example.org/lib\n\ngo 1.22\n\nrequire example.org/inworkspace v1.0.0\n");
    bench.write("s/lib/lib.go", "package lib\n\nimport word \"example.org/inworkspace\"\n\nconst Word = word.Word\n");
    let build = || {
        Run::of(&mut bench.with_proxy(bench.vcbuild(&["images", "--project", "s/vcbuild.toml", "--output", "json"])))
    };
    bench.write("s/go.work.sum", &sums.replace("h1:", "h1:A"));
    build().failed(1, &["example.org/inworkspace"]);
    bench.write("s/go.work.sum", "");
    bench.write("s/lib/go.sum", &sums);
    build().succeeded();
    assert_eq!(says(&bench), "fetched");
    assert!(bench.read("s/vcbuild.lock").contains("example.org/inworkspace v1.0.0 h1:"));

    let vendor = ["-c", "cd s && GOFLAGS=-modcacherw go work vendor"];
    let run = Run::of(&mut bench.with_proxy(bench.around(Command::new("sh"), &vendor)));
    assert_eq!(run.code, Some(0), "{run:?}");
    bench.edit("s/vendor/example.org/inworkspace/word.go", "fetched", "vendored");
    build().succeeded();
    assert_eq!(says(&bench), "vendored");
}

#[test]
fn headers_of_assembly_are_found_wherever_they_are() {
    let bench = Bench::new();
    let files = [
        (
            "vcbuild.toml",
            "base = \"scratch\"\ncompression = \"gzip\"\n[source]\ndir = \"s\"\n[components.app]\npackage = \".\"\n\
             image = \"registry.example/app:v1\"\n",
        ),
        ("s/go.mod", "module example.org/app\n\ngo 1.21\n"),
        (
            "s/main.go",
            "package main\n\nimport \"example.org/app/internal/add\"\n\nfunc main() { print(add.Answer()) }\n",
        ),
        ("s/internal/add/add.go", "package add\n\nfunc Answer() int\n"),
        (
            "s/internal/add/add_amd64.s",
            "#include \"textflag.h\"\n#include \"../include/defs.h\"\n\nTEXT \u{b7}Answer(SB),NOSPLIT,$0-8\n\
             \tMOVQ $ANSWER, AX\n\tMOVQ AX, ret+0(FP)\n\tRET\n",
        ),
        // Go's assembler looks from the folder of the package, in headers, too.
        ("s/internal/include/defs.h", "#include \"../include/more.inc\"\n#include \"own.h\"\n"),
        ("s/internal/include/more.inc", "#define ANSWER OWN+2\n"),
        ("s/internal/include/unused.h", "#define UNUSED 1\n"),
        ("s/internal/add/own.h", "#define OWN 40\n"),
    ];
    for (path, content) in files {
        bench.write(path, content);
    }
    let build = || bench.run(&["images"]);
    build().succeeded();
    assert_eq!(says(&bench), "42");
    bench.write("s/internal/include/unused.h", "#define UNUSED 2\n");
    assert_eq!(build().ran("compile"), 0);
    bench.edit("s/internal/include/more.inc", "OWN+2", "OWN+3");
    assert_eq!(build().ran("compile"), 1);
    assert_eq!(says(&bench), "43");
    fs::remove_file(bench.path("s/internal/include/more.inc")).unwrap();
    build().failed(1, &["more.inc"]);
}

#[test]
fn code_that_needs_c_is_named_as_such() {
    let bench = Bench::with_hello();
    bench.write(
        "hello/pkg/c/c.go",
        "package c\n\n// #include <stdlib.h>\nimport \"C\"\n\nfunc One() int { return int(C.abs(1)) }\n",
    );
    bench.write(
        "hello/cmd/one/main.go",
        "package main\n\nimport \"example.org/hello/pkg/c\"\n\nfunc main() { println(c.One()) }\n",
    );
    let build = || bench.run(&["images", "--source-dir", "hello", "--components", "one"]);
    let why = "vcbuild compiles Go with CGO_ENABLED=0";
    build().failed(1, &["build constraints exclude all Go files", "cgo: pkg/c needs C", why]);
    // With something left of the package it is not found until it is compiled.
    bench.write("hello/pkg/c/other.go", "package c\n");
    build().failed(1, &["undefined: c.One", why]);
}
