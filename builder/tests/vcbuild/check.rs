//! `vcbuild check`: a build that is repeated elsewhere, and what it finds when something was not made of its inputs alone.

use std::fs;

use rigs::Run;
use serde_json::{Value, json};
use vcstore::Store;

use crate::bench::Bench;

const CHECK: [&str; 4] = ["check", "--source-dir", "hello", "one"];

#[test]
fn what_depends_on_its_inputs_alone_comes_out_the_same_and_what_was_slipped_in_is_found() {
    let bench = Bench::with_hello();
    bench.json(&["images", "--source-dir", "hello", "--components", "one"]);
    let before = actions(&bench);
    assert_eq!(bench.json(&CHECK), json!({"actions": 5, "differences": []}));
    assert_eq!(actions(&bench), before, "records stay as they are");

    let (offset, layer) = poison(&bench);
    let run = Run::of(&mut bench.vcbuild(&CHECK));
    assert_eq!(run.code, Some(3), "{run:?}");
    for messages in [
        "compile one linux/amd64: binary differs\n",
        "\n  file     /usr/local/bin/one in layer sha256:",
        &format!("\n  byte     {offset} ({offset:#x}): "),
        "\n  section  .text\n",
        "ran 5 actions again in another folder with an empty store: 1 outputs differ\n",
    ] {
        assert!(run.stdout.contains(messages), "{messages:?} is not in\n{}", run.stdout);
    }
    assert!(!run.stdout.contains(&layer), "the layer is the one with what was slipped in:\n{}", run.stdout);
    let none = bench.run(&["check", "--source-dir", "hello", "three"]);
    none.failed(2, &["selecting component three: the project has one, two"]);
}

#[test]
fn what_depends_on_time_is_found() {
    let found = impure("date +%s > x");
    assert_eq!(found["action"], "command x linux/amd64");
    assert_eq!(found["files"][0]["path"], "/x");
    // Only the last digits of two times close to each other differ.
    assert!(found["first"]["offset"].as_u64().unwrap() > 3, "{found}");
    let told = found["diffoscope"].as_str().expect("Debian's diffoscope-minimal is installed");
    assert!(told.starts_with("--- ") && told.contains("\n@@ -1 +1 @@\n"), "{told}");
}

#[test]
fn what_depends_on_where_it_was_made_is_found() {
    let found = impure("pwd > x");
    assert_eq!(first(&found), (1, "build/source\n".to_owned(), "elsewhere/to-bui".to_owned()));
}

#[test]
fn what_depends_on_chance_is_found() {
    let found = impure("printf 'fixed '> x; head -c 16 /dev/urandom >> x");
    // One byte of sixteen may be the same twice, all of the first eight not.
    assert!((6..14).contains(&found["first"]["offset"].as_u64().unwrap()), "{found}");
}

#[test]
fn what_depends_on_the_locale_is_found() {
    assert_eq!(first(&impure("echo $LC_ALL > x")), (0, "C\n".to_owned(), "tr_TR.UTF-8\n".to_owned()));
}

#[test]
fn what_depends_on_the_time_zone_is_found() {
    assert_eq!(first(&impure("date -d @0 +%R > x")), (0, "00:00\n".to_owned(), "13:45\n".to_owned()));
}

#[test]
fn what_depends_on_the_host_name_is_found() {
    assert_eq!(first(&impure("uname -n > x")), (0, "vcbuild\n".to_owned(), "elsewhere\n".to_owned()));
}

#[test]
fn what_depends_on_the_umask_is_found() {
    assert_eq!(first(&impure("touch y; stat -c %a y > x; rm y")), (2, "4\n".to_owned(), "0\n".to_owned()));
}

#[test]
fn what_depends_on_the_order_of_files_in_a_folder_is_found() {
    // As it lists them; in the order of their names it is the same everywhere.
    let found = impure("ls -U files > x");
    assert_eq!(found["files"][0]["path"], "/x");
    pure("ls files > x");
}

#[test]
fn what_depends_on_the_number_of_processors_is_found() {
    if std::thread::available_parallelism().unwrap().get() > 1 {
        assert_eq!(first(&impure("nproc > x")).2, "1\n");
    }
}

#[test]
fn what_depends_on_which_of_many_is_ready_first_is_found() {
    // Which is first is left to chance, but not that they are two orders: each run takes another.
    let script = "a() { sleep 0.$((RANDOM % 4))$RANDOM; echo $1 >> x; }; for i in $(seq 12); do a $i & done; wait";
    assert_eq!(impure(script)["files"][0]["path"], "/x");
}

#[test]
fn what_could_have_depended_on_all_that_and_does_not_is_the_same() {
    pure("test -n \"$(date)$(pwd)$(hostname)$(nproc)\" && sort files/* > x");
}

/// Checks a component that a script makes as `x`, and gives the one difference there is.
#[track_caller]
fn impure(script: &str) -> Value {
    let run = check(script);
    assert_eq!(run.code, Some(3), "{run:?}");
    let document: Value = serde_json::from_str(&run.stdout).unwrap();
    let differences = document["differences"].as_array().unwrap();
    assert_eq!(differences.len(), 1, "{document}");
    differences[0].clone()
}

/// The same for a script that makes the same twice.
#[track_caller]
fn pure(script: &str) {
    assert_eq!(check(script).json()["differences"], json!([]));
}

fn check(script: &str) -> Run {
    let bench = Bench::new();
    let project = format!(
        "base = \"scratch\"\n[components.x]\nimage = \"registry.example/x:v1\"\noutputs = {{ \"/x\" = \"x\" }}\n\
         command = [\"bash\", \"-c\", '''{script}''']\n"
    );
    bench.write("vcbuild.toml", &project);
    for name in ["b", "a", "d", "c", "e"] {
        bench.write(&format!("files/{name}"), name);
    }
    bench.run(&["check", "--sandbox", "required", "--output", "json"])
}

/// Where a difference begins, and the bytes from there of both.
fn first(found: &Value) -> (u64, String, String) {
    let text = |name: &str| {
        let hex = found["first"][name].as_str().unwrap();
        let byte = |start| u8::from_str_radix(&hex[start..start + 2], 16).unwrap();
        String::from_utf8((0..hex.len()).step_by(2).map(byte).collect()).unwrap()
    };
    (found["first"]["offset"].as_u64().unwrap(), text("before"), text("after"))
}

/// Puts another binary in the place of what was compiled, as a cache that lies would: one byte of its code is another. Gives
/// the place of that byte, and the layer that has the true binary.
pub(crate) fn poison(bench: &Bench) -> (usize, String) {
    let store = Store::open(bench.path("store").as_path().try_into().unwrap()).unwrap();
    let record = |kind: &str| {
        let mut keys = store.recorded().unwrap().into_iter();
        keys.find_map(|key| store.record(&key).unwrap().filter(|record| record.kind() == kind)).unwrap()
    };
    let layer = record("layer").outputs().blob("layer").unwrap().digest.to_string();
    let compiled = record("compile");
    let mut binary = fs::read(store.blob_path(&compiled.outputs().blob("binary").unwrap().digest)).unwrap();
    // Go's code begins with the second page of what it links.
    let offset = 0x1800;
    binary[offset] ^= 0xff;
    let mut document: Value = serde_json::to_value(&compiled).unwrap();
    document["outputs"]["blobs"]["binary"] = serde_json::to_value(store.put(&binary).unwrap()).unwrap();
    store.put_record(&serde_json::from_value(document).unwrap()).unwrap();
    (offset, layer)
}

/// Every record of the store, as it is written.
fn actions(bench: &Bench) -> Vec<String> {
    let read = |entry: std::io::Result<fs::DirEntry>| fs::read_to_string(entry.unwrap().path()).unwrap();
    let mut all: Vec<_> = fs::read_dir(bench.path("store/actions")).unwrap().map(read).collect();
    all.sort();
    all
}
