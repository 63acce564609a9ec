//! `vcbuild check ARCHIVE`: somebody else's archive, made again of what it says of itself.

use std::fs;

use rigs::Run;
use serde_json::{Value, json};

use crate::bench::{Actions, Bench, copy, sha256, text, untar};
use crate::check::poison;

/// A bench with an archive, written in a world of its own, and its source; nothing else of that world is there.
fn with_archive(prepare: impl FnOnce(&Bench), arguments: &[&str]) -> Bench {
    let (theirs, ours) = (Bench::with_hello(), Bench::new());
    prepare(&theirs);
    theirs.json(&[&["images", "--source-dir", "hello", "--components", "one"], arguments].concat());
    copy(&theirs.path("hello"), &ours.path("src"));
    fs::remove_file(ours.path("src/vcbuild.toml")).unwrap();
    fs::copy(theirs.path("out/one-amd64.tar"), ours.path("one.tar")).unwrap();
    ours
}

/// A bench with a project of one component that a command makes, and a file that the project adds.
fn with_command() -> Bench {
    let bench = Bench::new();
    let project = "base = \"scratch\"\n[components.one]\nimage = \"registry.example/x:v1\"\nfiles.\"/data\" = { from = \"more\" }\n\
        outputs = { \"/x\" = \"x\" }\ncommand = [\"sh\", \"-c\", \"cat data data > x\"]\n";
    bench.write("app/vcbuild.toml", project);
    bench.write("app/data", "data\n");
    bench.write("app/more", "more\n");
    bench
}

fn check(bench: &Bench) -> Run {
    bench.run(&["check", "one.tar", "--source-dir", "src", "--output", "json"])
}

#[test]
fn an_archive_is_made_again_of_what_it_says_and_is_the_same() {
    let prepare = |bench: &Bench| {
        bench.write("hello/greet.patch", "--- a/cmd/one/main.go\n+++ b/cmd/one/main.go\n@@ -5 +5 @@\n-func main() { println(\"one\", version.String()) }\n+func main() { println(\"won\", version.String()) }\n");
        let toml = bench.read("hello/vcbuild.toml");
        let more = "[[edits]]\npatch = \"greet.patch\"\n[[edits]]\nfile = \"cmd/one/main.go\"\nfind = \"won\"\nreplace = \"1\"\n";
        bench.write("hello/vcbuild.toml", &format!("{toml}{more}[components.one.labels]\na = \"b\"\n"));
    };
    let bench = with_archive(prepare, &["--stamp", "version=v9", "--compression", "gzip"]);
    let checked = check(&bench).json();
    let same = json!({"archive": "one.tar", "actions": checked["actions"], "differences": [], "images": [],
        "not_made": [], "otherwise": []});
    assert_eq!(checked, same);
    // Nothing but what was fetched is kept.
    assert_eq!(fs::read_dir(bench.path("store/actions")).unwrap().count(), 0);
    assert_eq!(bench.json(&["inspect", "one.tar"])["images"][0]["platforms"][0]["provenance"][0]["kind"], "compile");
}

#[test]
fn what_an_archive_says_is_the_same_wherever_it_was_made_and_with_whatever_else() {
    let bench = Bench::with_hello();
    bench.json(&["images", "--source-dir", "hello"]);
    copy(&bench.path("hello"), &bench.path("some/where/else"));
    let there = ["images", "--source-dir", "some/where/else", "--components", "one", "--store", "2", "--out", "out2"];
    bench.json(&[&there[..], &["--sandbox", "off", "--lock", "2.lock"]].concat());
    assert_eq!(sha256(&bench.path("out/one-amd64.tar")), sha256(&bench.path("out2/one-amd64.tar")));
}

#[test]
fn the_revision_that_an_archive_names_is_fetched() {
    let bench = with_command();
    let commit = bench.commit("app");
    let repository = bench.path("app").display().to_string();
    let from = ["--source-repo", &repository, "--source-version", "main", "--project", "app/vcbuild.toml"];
    bench.json(&[&["images"], &from[..]].concat());
    // The branch moves on: what it was then is what counts.
    bench.write("app/data", "other\n");
    bench.commit("app");
    let checked = bench.run(&["check", "out/one-amd64.tar", "--project", "app/vcbuild.toml", "--store", "other"]);
    assert_eq!(checked.code, Some(0), "{checked:?}");
    assert!(checked.stderr.contains(&commit[..12]), "{checked:?}");
}

#[test]
fn a_changed_byte_in_a_layer_is_found() {
    let theirs = Bench::with_hello();
    theirs.json(&["images", "--source-dir", "hello", "--components", "one"]);
    let (offset, true_layer) = poison(&theirs);
    let built = theirs.json(&["images", "--source-dir", "hello", "--components", "one"]);
    let layer = text(&built["images"][0]["platforms"][0]["layers"][0]["digest"]);
    assert_ne!(layer, true_layer);
    let check = |more: &[&str]| {
        theirs.run(&[&["check", "out/one-amd64.tar", "--source-dir", "hello", "--store", "ours"], more].concat())
    };
    let run = check(&[]);
    assert_eq!(run.code, Some(3), "{run:?}");
    for messages in [
        "image registry.example/hello/one-amd64:v1 linux/amd64: /usr/local/bin/one differs\n",
        &format!("\n  file     /usr/local/bin/one in layer {layer}\n"),
        &format!("\n  byte     {offset} ({offset:#x}): "),
        "\n  section  .text\n",
        "actions from its provenance: other images\n",
    ] {
        assert!(run.stdout.contains(messages), "{messages:?} is not in\n{}", run.stdout);
    }
    assert!(!run.stdout.contains("otherwise"), "it was given the same:\n{}", run.stdout);

    // Without the digests that go with it, the byte is damage.
    let archive = theirs.path("out/one-amd64.tar");
    let mut bytes = fs::read(&archive).unwrap();
    let name = format!("blobs/sha256/{}", layer.strip_prefix("sha256:").unwrap());
    let header = bytes.windows(name.len()).rposition(|window| window == name.as_bytes()).unwrap();
    bytes[header + 1024] ^= 1;
    fs::write(&archive, bytes).unwrap();
    check(&[]).failed(1, &["out/one-amd64.tar", "sha256:"]);
}

#[test]
fn another_source_is_refused_by_name_before_anything_is_built() {
    let bench = with_archive(|_| {}, &[]);
    bench.edit("src/cmd/one/main.go", "\"one\"", "\"One\"");
    fs::remove_file(bench.path("src/pkg/version/version.go")).unwrap();
    let run = check(&bench);
    run.failed(1, &["the source differs from the one", "cmd/one/main.go differs, pkg/version/version.go is missing"]);
    assert_eq!(run.ran("compile"), 0);
}

#[test]
fn a_file_that_came_to_a_source_is_told_as_another_input() {
    let bench = with_archive(|_| {}, &[]);
    bench.write("src/README.md", "No part of the program.\n");
    bench.write("src/cmd/one/more.go", "package main\n\nfunc init() { println(\"more\") }\n");
    let run = check(&bench);
    assert_eq!(run.code, Some(3), "{run:?}");
    let document: Value = serde_json::from_str(&run.stdout).unwrap();
    let expected = json!([{"action": "compile one linux/amd64", "inputs": ["files"]}]);
    assert_eq!(document["otherwise"], expected, "the layer and the image follow");
}

#[test]
fn what_a_command_made_is_made_again_of_the_same_files() {
    let theirs = with_command();
    // Its lock and its archives are beside the source.
    theirs.json(&["images", "--source-dir", "app", "--out", "app/out"]);
    copy(&theirs.path("app"), &theirs.path("ours"));
    let check = || theirs.run(&["check", "app/out/one-amd64.tar", "--source-dir", "ours", "--store", "other"]);
    let run = check();
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(
        run.stdout.ends_with("app/out/one-amd64.tar: ran 5 actions from its provenance: identical images\n"),
        "{run:?}"
    );
    theirs.write("ours/new", "");
    check().failed(1, &["the source differs from the one", "its files hash to "]);
}

#[test]
fn what_cannot_be_checked_is_refused_with_why() {
    let bench = with_archive(|_| {}, &[]);
    bench.run(&["check", "one.tar"]).failed(2, &["built from a folder, but no folder is named", "--source-dir"]);
    for option in [["--go", "1.26.3"], ["--compression", "none"], ["--trust-key", "x"], ["--lock", "x"]] {
        let run = bench.run(&[&["check", "one.tar", "--source-dir", "src"], &option[..]].concat());
        run.failed(2, &[&format!("{} cannot be set, because the archive determines it", option[0])]);
    }
    untar(&bench.path("one.tar"), &bench.path("layout"));
    bench.tool("tar", &["-C", "layout", "--exclude=provenance.json", "-cf", "one.tar", "."]);
    check(&bench)
        .failed(1, &["one.tar: it does not contain the provenance of its images", "`vcbuild check COMPONENT`"]);
    bench.write("provenance.json", "{\"format\": 99, \"vcbuild\": \"9.0.0\"}");
    bench.tool("tar", &["--append", "-f", "one.tar", "provenance.json"]);
    check(&bench).failed(1, &["its format is 99", "another version of vcbuild (9.0.0)"]);
}

#[test]
fn an_archive_has_nothing_of_the_machine_read_that_was_not_named() {
    let bench = with_command();
    bench.json(&["images", "--source-dir", "app"]);
    untar(&bench.path("out/one-amd64.tar"), &bench.path("layout"));
    bench.write("secret/key", "not for you\n");
    let secret = bench.path("secret").display().to_string();
    let truth: Value = serde_json::from_str(&bench.read("layout/provenance.json")).unwrap();
    let lie = |change: &dyn Fn(&mut Value)| {
        let mut claimed = truth.clone();
        change(&mut claimed);
        bench.write("layout/provenance.json", &claimed.to_string());
        bench.tool("tar", &["-C", "layout", "-cf", "lie.tar", "."]);
    };
    let check = |more: &[&str]| bench.run(&[&["check", "lie.tar", "--store", "other"], more].concat());
    let named = ["--source-dir", "app"];

    let inputs = |path: &str| json!({ "/key": path });
    for path in [format!("{secret}/key"), "../secret/key".to_owned(), format!("{secret}/absent")] {
        lie(&|claimed| claimed["project"]["components"]["one"]["inputs"] = inputs(&path));
        check(&named).failed(1, &["files of this machine that you did not allow", "secret", "--allow-path PATH"]);
    }
    // A link in what the user names leads elsewhere.
    bench.tool("ln", &["-s", "../secret/key", "app/link"]);
    lie(&|claimed| claimed["project"]["components"]["one"]["inputs"] = inputs("link"));
    check(&named).failed(1, &["did not allow: ", "app/link"]);
    fs::remove_file(bench.path("app/link")).unwrap();
    for base in ["oci", "docker-archive"] {
        lie(&|claimed| claimed["project"]["base"] = json!(format!("{base}:{secret}")));
        check(&named).failed(1, &["did not allow: ", "secret"]);
    }
    for source in [json!({ "dir": secret }), json!({ "repo": secret }), json!({ "repo": format!("file://{secret}") })] {
        lie(&|claimed| claimed["source"] = source.clone());
        check(&[]).failed(1, &["did not allow: ", "secret"]);
    }

    // What the user names is read: the key is then an input, and changes nothing of what comes out.
    lie(&|claimed| claimed["project"]["components"]["one"]["inputs"] = inputs(&format!("{secret}/key")));
    let run = check(&[&named[..], &["--allow-path", &secret]].concat());
    assert!(matches!(run.code, Some(0 | 3)) && !run.stderr.contains("did not allow"), "{run:?}");
}
