//! Project files that are written, and the schema they follow.

use std::fs;
use std::path::Path;

use crate::bench::Bench;

#[test]
fn init_writes_a_project_that_builds() {
    let bench = Bench::with_hello();
    fs::remove_file(bench.path("hello/vcbuild.toml")).unwrap();
    let printed = bench.run(&["init", "hello"]);
    assert_eq!(printed.code, Some(0), "{printed:?}");
    assert!(printed.stdout.starts_with("wrote hello/vcbuild.toml: one, two\n"), "{printed:?}");
    let built = bench.json(&["images", "--source-dir", "hello", "--base", "scratch"]);
    assert_eq!(built["images"][0]["reference"], "registry.example/hello/one-amd64:v0.0.0");

    bench.write("hello/vcbuild.toml", "mine");
    let kept = ["writing project hello/vcbuild.toml: the file already exists", "help: ", "--force"];
    bench.run(&["init", "hello"]).failed(2, &kept);
    assert_eq!(bench.read("hello/vcbuild.toml"), "mine");
    assert_eq!(bench.json(&["init", "hello", "--force"])["components"], serde_json::json!(["one", "two"]));
    fs::create_dir(bench.path("empty")).unwrap();
    bench.run(&["init", "empty"]).failed(
        1,
        &["writing a project for empty: found no Go program and no Cargo binary", "--preset virtualcluster"],
    );
    assert!(!bench.path("empty/vcbuild.toml").exists());
    let preset = bench.json(&["init", "empty", "--preset", "virtualcluster"]);
    assert_eq!(preset["components"], serde_json::json!(["manager", "syncer", "vn-agent"]));
}

#[test]
fn init_writes_a_project_of_cargos_binaries() {
    let bench = Bench::new();
    bench.write("Tools/Cargo.toml", "[workspace]\nmembers = [\"a\", \"b\"]\nresolver = \"2\"\n");
    for (package, more) in [("a", "\n[[bin]]\nname = \"tool\"\npath = \"src/tool.rs\"\n"), ("b", "")] {
        let manifest = format!("[package]\nname = \"{package}\"\nversion = \"0.1.0\"\nedition = \"2021\"\n{more}");
        bench.write(&format!("Tools/{package}/Cargo.toml"), &manifest);
        for file in ["main", "tool", "bin/same"] {
            bench.write(&format!("Tools/{package}/src/{file}.rs"), "fn main() { println!(\"hello\"); }\n");
        }
    }
    let printed = bench.run(&["init", "Tools"]);
    assert!(printed.stdout.starts_with("wrote Tools/vcbuild.toml: a, a-same, b, b-same, tool\n"), "{printed:?}");
    bench.tool("cargo", &["generate-lockfile", "--offline", "--manifest-path", "Tools/Cargo.toml"]);
    let built = bench.json(&["images", "--source-dir", "Tools", "--base", "scratch", "--components", "b-same"]);
    assert_eq!(built["images"][0]["reference"], "registry.example/tools/b-same-amd64:v0.0.0");
    bench.write("Tools/Cargo.toml", "[workspace]\nmembers = [\"none\"]\n");
    bench.run(&["init", "Tools", "--force"]).failed(1, &["Tools", "none"]);
}

#[test]
fn the_schema_accepts_what_is_documented_and_refuses_what_is_misspelt() {
    let bench = Bench::with_hello();
    let schema = bench.run(&["schema"]);
    assert_eq!(schema.code, Some(0));
    bench.write("schema.json", &schema.stdout);
    // Read and checked by others: tomllib, and the validator of python3-jsonschema.
    let script = "import json, sys, tomllib\nfrom jsonschema import Draft202012Validator as V\n\
                  schema = json.load(open('schema.json'))\nV.check_schema(schema)\n\
                  for error in V(schema).iter_errors(tomllib.load(open(sys.argv[1], 'rb'))):\n    print(error.message)\n";
    bench.write("check.py", script);
    let complaints = |file: &str| bench.tool("python3", &["-W", "ignore", "check.py", file]);
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/vcbuild.toml.md");
    let docs = fs::read_to_string(docs).unwrap();
    let examples: Vec<_> = docs.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(!examples.is_empty());
    for example in examples {
        bench.write("example.toml", example);
        assert_eq!(complaints("example.toml"), "", "{example}");
    }
    assert_eq!(complaints("hello/vcbuild.toml"), "");
    bench.run(&["init", ".", "--preset", "virtualcluster"]);
    assert_eq!(complaints("vcbuild.toml"), "");
    for wrong in ["bse = \"debian\"", "base = 1", "compression = \"brotli\"", "[components.a]\ntags = \"x\""] {
        bench.write("wrong.toml", wrong);
        assert_ne!(complaints("wrong.toml"), "", "{wrong}");
    }
}

#[test]
fn a_folder_of_another_project_is_told_what_it_was_taken_for() {
    let bench = Bench::with_hello();
    fs::rename(bench.path("hello/vcbuild.toml"), bench.path("kept.toml")).unwrap();
    let taken = "vcbuild.toml found, and the folder is not VirtualCluster, the built-in project";
    for command in ["images", "lock", "check"] {
        let other = bench.run(&[command, "--source-dir", "hello"]);
        other.failed(1, &[taken, ": it has no ./cmd/manager, ./cmd/syncer, ./cmd/vn-agent", "`vcbuild init hello`"]);
    }
    fs::rename(bench.path("kept.toml"), bench.path("hello/vcbuild.toml")).unwrap();
    let inner = bench.run(&["images", "--source-dir", "hello/cmd"]);
    inner.failed(
        1,
        &["opening the source hello/cmd: no ", taken, ": it has no go.mod", "hello/vcbuild.toml, or name that file"],
    );
    assert!(!bench.path("vcbuild.lock").exists());
    // A part of VirtualCluster is still it.
    bench.write("vc/go.mod", "module example.org/vc\n\ngo 1.21\n");
    bench.write("vc/cmd/manager/main.go", "package main\n\nfunc main() {}\n");
    bench.run(&["images", "--source-dir", "vc", "--base", "scratch", "--components", "manager"]).succeeded();
}
