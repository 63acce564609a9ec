//! `vcbuild store` and `vcbuild gc`: what a store holds, whether it is sound, and what goes from it.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use camino::Utf8PathBuf;
use serde_json::{Value, json};
use vcstore::Store;

use crate::bench::{Bench, text};

const ONE: &str = "registry.example/hello/one-amd64:v1";
const TWO: &str = "registry.example/hello/two-amd64:v1";

fn built() -> Bench {
    let bench = Bench::with_hello();
    bench.json(&["images", "--source-dir", "hello"]);
    bench
}

fn names(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|one| text(&one["name"])).collect()
}

#[test]
fn a_store_says_what_it_holds() {
    let bench = built();
    let path = bench.path("store");
    assert_eq!(bench.run(&["store", "path"]).stdout, format!("{}\n", path.display()));

    let list = bench.json(&["store", "list"]);
    assert_eq!(names(&list["images"]), [ONE, TWO]);
    let image = &list["images"][0];
    assert_eq!((&image["platforms"], &image["error"]), (&json!(["linux/amd64"]), &Value::Null));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!(image["used"].as_u64().unwrap().abs_diff(now) < 3600, "{image}");
    let kinds = |kind: &str| list["actions"].as_array().unwrap().iter().filter(|one| one["kind"] == kind).count();
    assert_eq!(["scan", "compile", "layer", "image", "archive"].map(kinds), [1, 2, 2, 2, 2]);
    let shown = bench.run(&["store", "list"]).stdout;
    assert!(
        shown.contains(ONE) && shown.contains("9 actions: 2 archive, 2 compile, 2 image, 2 layer, 1 scan"),
        "{shown}"
    );
    assert!(bench.run(&["store", "list", "--actions"]).stdout.contains("one linux/amd64"));

    let du = bench.json(&["store", "du"]);
    let [total, own, shared] = ["total", "own", "shared"].map(|key| du["images"][0][key].as_u64().unwrap());
    assert_eq!((total, own), (own + shared, total), "two programs on nothing share nothing");
    assert_eq!(du["kinds"]["layer"]["count"], 2);
    assert_eq!(du["kinds"]["compile output"]["count"], 2);
    let blobs: u64 = du["kinds"].as_object().unwrap().values().map(|kind| kind["bytes"].as_u64().unwrap()).sum();
    let on_disk =
        fs::read_dir(path.join("blobs/sha256")).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len());
    assert_eq!((blobs, &du["blobs"]["bytes"]), (on_disk.sum(), &json!(blobs)));
    assert!(names(&du["caches"]).contains(&"go-build".to_owned()));
    assert!(bench.run(&["store", "du"]).stdout.contains("blobs: layer"));
}

#[test]
fn damage_is_found_put_aside_and_mended_by_the_next_build() {
    let bench = built();
    let sound = bench.run(&["store", "verify"]);
    assert!(sound.code == Some(0) && sound.stdout.ends_with("actions are sound\n"), "{sound:?}");
    let inspected = bench.json(&["inspect", "one"]);
    let layer = text(&inspected["images"][0]["platforms"][0]["layers"][0]["digest"]);
    let blob = bench.path(&format!("store/blobs/{}", layer.replacen(':', "/", 1)));
    let mut content = fs::read(&blob).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 1;
    fs::write(&blob, &content).unwrap();

    let found = bench.run(&["store", "verify", "--output", "json"]);
    assert_eq!(found.code, Some(3), "{found:?}");
    let found: Value = serde_json::from_str(&found.stdout).unwrap();
    assert_eq!((&found["passed"], &found["damaged_blobs"]), (&json!(false), &json!([layer])));
    assert!(text(&found["broken_images"][ONE]).contains(&layer), "{found}");
    assert!(!blob.exists());
    let listed = bench.json(&["store", "list"]);
    assert!(text(&listed["images"][0]["error"]).contains("the blob is not in the store"), "{listed}");

    assert_eq!(bench.json(&["images", "--source-dir", "hello"])["actions"]["run"], 1, "the layer alone");
    assert_eq!(bench.run(&["store", "verify"]).code, Some(0));
    let collected = bench.json(&["gc"]);
    assert_eq!((&collected["quarantined"]["count"], &collected["actions"]), (&json!(1), &json!(0)));
}

#[test]
fn images_stay_until_they_are_let_go_and_roots_until_they_are_removed() {
    let bench = built();
    bench.run(&["store", "root", "add", "release-1", "one", "two"]).succeeded();
    assert_eq!(names(&bench.json(&["store", "list"])["roots"]), ["release-1"]);
    assert_eq!(bench.run(&["store", "untag", "one"]).stdout, format!("untagged {ONE}\n"));
    let everything = ["gc", "--older-than", "0s"];
    bench.json(&everything);
    let layers = |bench: &Bench| fs::read_dir(bench.path("store/blobs/sha256")).unwrap().count();
    // Of each image a manifest, a configuration and a layer.
    assert_eq!(layers(&bench), 6);
    bench.run(&["store", "root", "remove", "release-1"]).succeeded();
    let plan = bench.json(&[&everything[..], &["--dry-run"]].concat());
    assert_eq!((layers(&bench), &plan["blobs"]["count"]), (6, &json!(3)));
    let done = bench.run(&everything);
    assert!(done.stdout.starts_with("removed 3 blobs, "), "{done:?}");
    assert_eq!(layers(&bench), 3);
    bench.json(&["inspect", "two"]);

    let full = bench.run(&["gc", "--max-size", "1kB"]);
    assert!(full.stderr.contains("images, roots and running builds use "), "{full:?}");
    bench.run(&["store", "root", "remove", "release-1"]).failed(1, &["removing root release-1: the store has none"]);
    bench.run(&["store", "root", "add", "../x", "two"]).failed(1, &["the name is not a valid file name"]);
    bench.run(&["store", "untag", "two", "three"]).failed(1, &["the store has no image with that name"]);
    assert_eq!(names(&bench.json(&["store", "list"])["images"]), [TWO], "all names fit, or nothing is done");
}

#[test]
fn what_only_looks_makes_no_store() {
    let bench = Bench::new();
    for arguments in [&["gc"][..], &["store", "verify"], &["store", "list"], &["store", "du"], &["store", "path"]] {
        let arguments = [arguments, &["--store", "nowhere"]].concat();
        bench.run(&arguments).failed(1, &["opening the store nowhere: there is no store", "VCBUILD_STORE"]);
    }
    assert!(!bench.path("nowhere").exists());
    bench.run(&["gc", "--older-than", "14"]).failed(2, &["not an age such as 12h or 14d"]);
    bench.run(&["gc", "--no-wait"]).failed(2, &["--caches"]);
}

#[test]
fn a_compilers_cache_goes_once_no_build_uses_it() {
    let bench = built();
    let builds = Store::open(&Utf8PathBuf::try_from(bench.path("store")).unwrap()).unwrap();
    fs::write(builds.cache_dir("go-try").unwrap().join("package"), "compiled").unwrap();
    let arguments = ["gc", "--caches", "--older-than", "0s"];
    let left = bench.run(&[&arguments[..], &["--no-wait"]].concat());
    let user = format!("keeping the cache go-try: in use by process {}", std::process::id());
    assert!(left.stderr.contains(&user), "{left:?}");
    assert!(bench.path("store/cache/go-try/package").exists());
    assert!(!bench.path("store/cache/toolchain").exists(), "nobody uses the others");

    let mut waiting = bench.vcbuild(&arguments);
    let mut waiting = waiting.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    BufReader::new(waiting.stderr.take().unwrap()).read_line(&mut said).unwrap();
    assert_eq!(
        said,
        format!("waiting for process {} to finish using the cache go-try (--no-wait skips it)\n", std::process::id())
    );
    assert!(waiting.try_wait().unwrap().is_none());
    drop(builds);
    let done = waiting.wait_with_output().unwrap();
    assert!(String::from_utf8(done.stdout).unwrap().contains("removed the cache go-try, 8 B"));
    assert!(!bench.path("store/cache/go-try").exists());
}

/// The keys that `docs/reference/output.md` gives for a command.
fn documented(command: &str) -> BTreeSet<String> {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/output.md")).unwrap();
    let heading = format!("`vcbuild {command}`");
    let mut lines = page.lines().skip_while(|line| !(line.starts_with("## ") && line.contains(&heading))).skip(1);
    let shape: String =
        lines.by_ref().take_while(|line| !line.starts_with("## ")).filter(|line| line.starts_with("    ")).collect();
    shape.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The keys of all objects in a document but of those that are named by what they hold.
fn keys(value: &Value, named: &[&str]) -> BTreeSet<String> {
    match value {
        Value::Array(list) => list.iter().flat_map(|one| keys(one, named)).collect(),
        Value::Object(object) => {
            let below = object.iter().flat_map(|(key, value)| match value.as_object() {
                Some(entries) if named.contains(&key.as_str()) => {
                    entries.values().flat_map(|one| keys(one, named)).collect()
                }
                _ => keys(value, named),
            });
            below.chain(object.keys().cloned()).collect()
        }
        _ => BTreeSet::new(),
    }
}

#[test]
fn documents_have_the_keys_that_are_documented() {
    let bench = built();
    bench.json(&["store", "root", "add", "kept", "one"]);
    for command in [&["store", "list"][..], &["store", "verify"], &["store", "du"]] {
        let printed = keys(&bench.json(command), &["kinds", "broken_images"]);
        assert_eq!(printed, documented(&command.join(" ")), "{command:?}");
    }
    let shared = documented("store path");
    let mut printed = keys(&bench.json(&["store", "path"]), &[]);
    printed.extend(keys(&bench.json(&["store", "root", "remove", "kept"]), &[]));
    printed.extend(keys(&bench.json(&["store", "untag", "one"]), &[]));
    assert_eq!(printed, shared);
    // No cache goes, and none is in use.
    let caches = ["name", "processes"].map(str::to_owned);
    let documented = &documented("gc") - &BTreeSet::from(caches);
    assert_eq!(keys(&bench.json(&["gc", "--dry-run"]), &[]), documented);
}
