//! What a user may get wrong, and what is then said.

use std::fs;
use std::path::Path;

use rigs::{Run, port};

use crate::bench::Bench;

#[test]
fn a_component_there_is_not_is_refused_with_those_there_are() {
    let run = Bench::new().run(&["images", "--components", "manager,agent"]);
    run.failed(2, &["error: selecting component agent: the project has manager, syncer, vn-agent", "help: "]);
}

#[test]
fn a_project_file_that_cannot_be_used_is_refused_with_the_line() {
    let bench = Bench::with_hello();
    bench.edit("hello/vcbuild.toml", "[components.one]", "[components.one]\nimgae = \"x\"");
    let run = bench.run(&["images", "--source-dir", "hello"]);
    run.failed(2, &["reading project hello/vcbuild.toml", "line 10", "imgae", "help: "]);
}

#[test]
fn a_source_that_is_not_there_is_named() {
    let bench = Bench::new();
    bench.run(&["images", "--source-dir", "nowhere"]).failed(1, &["opening the source nowhere", "--source-dir"]);
    bench.write("empty/file", "");
    let none = bench.run(&["images", "--source-dir", "empty"]);
    none.failed(
        1,
        &["opening the source empty: no vcbuild.toml found", "it has no go.mod", "vcbuild init empty", "--source-dir"],
    );
    bench.write("repository/virtualcluster/go.mod", "module m\n");
    let below = bench.run(&["images", "--source-dir", "repository"]);
    below.failed(1, &["it has no go.mod", "--source-subdir virtualcluster"]);
    bench
        .run(&["images", "--source-dir", "repository", "--source-subdir", "../empty"])
        .failed(1, &["is outside the source"]);
    bench.run(&["images", "--source-version", "v1"]).failed(2, &["add --source-repo"]);
}

#[test]
fn a_program_that_does_not_compile_is_shown_in_the_compilers_words_and_leaves_nothing() {
    let bench = Bench::with_hello();
    bench.edit("hello/cmd/one/main.go", "version.String()", "version.Text()");
    let run = bench.run(&["images", "--source-dir", "hello"]);
    run.failed(1, &["error: compiling one for linux/amd64", "cmd/one/main.go:5:38: undefined: version.Text", "help: "]);
    let (messages, _) = run.stderr.split_once("help: ").unwrap();
    assert!(!messages.contains(bench.path("").to_str().unwrap()), "paths are the source's:\n{messages}");
    let recorded = actions(&bench.path("store"));
    assert!(recorded.contains(&"compile two linux/amd64".to_owned()), "{recorded:?}");
    assert!(!recorded.iter().any(|action| action.contains("one")), "{recorded:?}");
    assert!(!bench.path("out").exists());
    let left = walkdir::WalkDir::new(bench.path("store/tmp")).into_iter().map(Result::unwrap);
    assert_eq!(left.filter(|entry| entry.file_type().is_file()).count(), 0);

    bench.write("hello/cmd/one/main.go", "package main\n\nfunc main() {\n");
    let syntax = bench.run(&["images", "--source-dir", "hello"]);
    syntax.failed(1, &["compiling one for linux/amd64", "cmd/one/main.go:4:1: syntax error: unexpected EOF"]);
    bench.write("hello/cmd/one/main.go", "package main\n\nimport \"example.org/hello/pkg/gone\"\n\nfunc main() {}\n");
    let import = bench.run(&["images", "--source-dir", "hello"]);
    import.failed(1, &["reading the packages of ", "cmd/one/main.go:3:8: ", "example.org/hello/pkg/gone"]);
    bench.write("hello/cmd/one/main.go", "package one\n");
    bench.run(&["images", "--source-dir", "hello"]).failed(1, &["./cmd/one is not a program"]);
}

#[test]
fn without_go_it_says_what_to_install() {
    let bench = Bench::with_hello();
    let run = Run::of(bench.vcbuild(&["images", "--source-dir", "hello"]).env("PATH", bench.path("")));
    run.failed(
        1,
        &[
            "looking for Go: the go command is not installed",
            "help: name a version for vcbuild to fetch (--go 1.26.x",
            "install Go",
        ],
    );
}

#[test]
fn a_registry_out_of_reach_is_named_and_the_ways_around_it() {
    let bench = Bench::new();
    // A port that was free a moment ago: nothing listens there.
    let port = port::free();
    let run = bench.run(&["base", &format!("127.0.0.1:{port}/a/b:v1")]);
    let pulling = format!("pulling base 127.0.0.1:{port}/a/b:v1 from 127.0.0.1:{port}");
    run.failed(1, &[&pulling, "because: ", "Connection refused", "--base debian", "--base oci:PATH"]);
    bench.run(&["base", "oci:"]).failed(2, &["reading base \"oci:\": it names no file", "docker-archive:PATH"]);
}

#[test]
fn a_name_the_store_has_not_is_answered_with_those_it_has() {
    let bench = Bench::with_hello();
    bench.json(&["images", "--source-dir", "hello", "--components", "one"]);
    bench.run(&["inspect", "manager"]).failed(1, &["looking for image manager", "registry.example/hello/one-amd64:v1"]);
    bench.write("text.tar", "no archive at all");
    bench.run(&["inspect", "text.tar"]).failed(1, &["reading archive text.tar", "help: "]);
}

/// The kind and name of every action that a store has recorded.
fn actions(store: &Path) -> Vec<String> {
    let read = |entry: std::io::Result<fs::DirEntry>| {
        let record: serde_json::Value = serde_json::from_slice(&fs::read(entry.unwrap().path()).unwrap()).unwrap();
        format!("{} {}", record["kind"].as_str().unwrap(), record["name"].as_str().unwrap())
    };
    fs::read_dir(store.join("actions")).unwrap().map(read).collect()
}
