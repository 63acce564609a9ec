//! `vcbuild.lock`: every input pinned, what moved told, and any drift refused where that is asked for.

use std::process::Command;

use rigs::Run;
use serde_json::{Value, json};

use crate::bench::{Actions, Bench, digests};

/// A program that needs modules of a proxy, one of them on one platform alone.
fn with_modules() -> Bench {
    let bench = Bench::new();
    let greet = "package greet\n\nfunc Hello() string { return \"hello\" }\n";
    let sums: String = [("v1.0.0", ""), ("v1.1.0", "// newer\n")]
        .map(|(version, more)| bench.publish("example.org/words", version, &[("greet.go", &(greet.to_owned() + more))]))
        .concat();
    let arm = bench.publish("example.org/arm", "v0.1.0", &[("arm.go", "package arm\n")]);
    let unused = bench.publish("example.org/unused", "v0.1.0", &[("unused.go", "package unused\n")]);
    bench.write("go.sum", &(sums + &arm + &unused));
    require(&bench, "v1.0.0");
    bench.write(
        "main.go",
        "package main\n\nimport greet \"example.org/words\"\n\nfunc main() { println(greet.Hello()) }\n",
    );
    bench.write("arm_arm64.go", "package main\n\nimport _ \"example.org/arm\"\n");
    bench.write(
        "vcbuild.toml",
        "base = \"scratch\"\nplatforms = [\"linux/amd64\", \"linux/arm64\"]\n[components.app]\npackage = \".\"\n\
         image = \"registry.example/app:v1\"\n",
    );
    bench
}

fn require(bench: &Bench, version: &str) {
    bench.write(
        "go.mod",
        &format!(
            "module example.org/app\n\ngo 1.21\n\nrequire (\n\texample.org/arm v0.1.0\n\texample.org/words {version}\n\t\
             example.org/unused v0.1.0\n)\n"
        ),
    );
}

fn run(bench: &Bench, arguments: &[&str]) -> Run {
    Run::of(&mut bench.with_proxy(bench.vcbuild(arguments)))
}

#[test]
fn the_modules_that_programs_need_are_pinned_and_told_when_they_move() {
    let bench = with_modules();
    let created = run(&bench, &["lock"]);
    assert_eq!(
        (created.code, created.stdout.as_str()),
        (Some(0), "modules of example.org/app\n  + example.org/arm v0.1.0\n  + example.org/words v1.0.0\n"),
        "{created:?}"
    );
    assert!(!bench.path("out").exists() && created.ran("compile") == 0, "nothing is built");
    let lock = bench.read("vcbuild.lock");
    assert!(lock.contains("\"example.org/app\" = [\n    \"example.org/arm v0.1.0 h1:"), "{lock}");
    assert_eq!(run(&bench, &["lock", "--locked"]).stdout, "vcbuild.lock: nothing changed\n");

    require(&bench, "v1.1.0");
    let drift = run(&bench, &["images", "--locked"]);
    drift.failed(
        2,
        &["using lock file vcbuild.lock: it does not match", "  example.org/words v1.0.0 -> v1.1.0", "vcbuild lock"],
    );
    assert_eq!(drift.ran("compile"), 0, "{drift:?}");
    let moved = run(&bench, &["lock", "--output", "json"]).json();
    let change = json!({
        "input": "modules of example.org/app", "name": "example.org/words", "from": "v1.0.0", "to": "v1.1.0", "content": false,
    });
    assert_eq!(moved, json!({"lock": "vcbuild.lock", "written": true, "changes": [change]}));
    // Part of a project needs part of what is pinned, and that is no drift.
    let part = run(&bench, &["images", "--locked", "--platform", "linux/amd64"]);
    assert_eq!(part.code, Some(0), "{part:?}");
    assert_eq!(run(&bench, &["images", "--locked"]).code, Some(0));

    // The same version with another content was changed by somebody.
    bench.edit("vcbuild.lock", "words v1.1.0 h1:", "words v1.1.0 h1:A");
    run(&bench, &["images"]).failed(
        1,
        &["it pins Go module example.org/words v1.1.0 to h1:A", "the content of a version must never change"],
    );
    run(&bench, &["lock", "--update", "example.org/words"])
        .failed(2, &["the source's go.mod determines the version of", "go get"]);
}

#[test]
fn what_a_lock_lacks_is_named_where_nothing_may_be_resolved() {
    let bench = Bench::with_hello();
    let url = format!("file://{}", bench.path("hello").display());
    bench.commit("hello");
    let hello = ["images", "--source-dir", "hello"];
    let cases: [(&[&str], &str); 5] = [
        (&["--base", "debian"], "it does not pin debian bookworm linux/amd64"),
        (&["--base", "127.0.0.1:1/a:v1"], "it does not pin image 127.0.0.1:1/a:v1 linux/amd64"),
        (&["--go", "1.26.x"], "it does not pin go 1.26.x"),
        (&["--source-repo", &url], &format!("it does not pin source {url} HEAD")),
        (&["--project", "module.toml"], "it does not pin source example.org/m latest"),
    ];
    bench.write(
        "module.toml",
        "base = \"scratch\"\n[source]\nmodule = \"example.org/m@latest\"\n[components.m]\npackage = \".\"\nimage = \"x/m\"\n",
    );
    for (arguments, why) in cases {
        let folder =
            if arguments[0].starts_with("--source") || arguments[0] == "--project" { &hello[..1] } else { &hello };
        let run = bench.run(&[folder, arguments, &["--locked"]].concat());
        run.failed(2, &["error: using lock file ", why, "help: run `vcbuild lock`", "--no-locked"]);
    }
    assert!(!bench.path("hello/vcbuild.lock").exists() && !bench.path("vcbuild.lock").exists());

    // Where CI is set nobody would see what a lock came to be.
    let ci = |more: &[&str]| {
        let mut command = bench.vcbuild(&["images", "--project", "hello/vcbuild.toml", "--source-repo", &url]);
        Run::of(command.args(more).env("CI", "true"))
    };
    ci(&[]).failed(2, &["it does not pin source"]);
    assert_eq!(ci(&["--no-locked"]).code, Some(0));
    assert_eq!(ci(&[]).code, Some(0), "now it does");
    ci(&["--locked", "--update"]).failed(2, &["--update changes the lock file, which --locked forbids"]);
}

#[test]
fn an_image_is_not_named_whose_lock_file_cannot_be_saved() {
    let bench = Bench::with_hello();
    bench.commit("hello");
    let url = format!("file://{}", bench.path("hello").display());
    let build = ["images", "--project", "hello/vcbuild.toml", "--source-repo", &url];
    let run = bench.run(&[&build[..], &["--lock", "absent/vcbuild.lock"]].concat());
    run.failed(1, &["absent/vcbuild.lock"]);
    assert!(run.ran("image") > 0, "{run:?}");
    assert_eq!(bench.json(&["store", "list"])["images"], json!([]));
    assert_eq!(bench.run(&build).code, Some(0));
    assert_ne!(bench.json(&["store", "list"])["images"], json!([]));
}

#[test]
fn inputs_are_moved_by_name() {
    let bench = Bench::with_hello();
    let first = bench.commit("hello");
    let url = format!("file://{}", bench.path("hello").display());
    bench.run(&["images", "--source-dir", "hello", "--components", "one", "--out", "bases"]);
    let lock = |more: &[&str]| {
        let arguments = ["lock", "--project", "hello/vcbuild.toml", "--lock", "my.lock", "--source-repo", &url];
        bench.run(&[&arguments[..], &["--base", "oci:bases/one-amd64.tar"], more].concat())
    };
    assert_eq!(lock(&[]).code, Some(0));
    bench.write("hello/README.md", "Changed.\n");
    let second = bench.commit("hello");
    assert_eq!(lock(&[]).stdout, "my.lock: nothing changed\n");
    assert_eq!(lock(&["--update", "image"]).stdout, "my.lock: nothing changed\n");
    let moved = lock(&["--update", "source"]).stdout;
    assert!(moved.starts_with(&format!("source {url} HEAD\n  commit {first} -> {second}\n  tree ")), "{moved}");
    lock(&["--update", "debain"])
        .failed(2, &["it has no input debain", &format!("help: it has {url}, image, oci:bases")]);

    // What nothing asks for any more is left out, and told.
    let without = bench.run(&["lock", "--project", "hello/vcbuild.toml", "--lock", "my.lock", "--source-repo", &url]);
    assert!(
        without.stdout.starts_with("image oci:bases/one-amd64.tar linux/amd64\n  - manifest sha256:"),
        "{without:?}"
    );
}

#[test]
fn one_lock_gives_one_image_to_another_user_elsewhere_without_go() {
    const GO: &str = "1.21.13";
    let bench = Bench::with_hello();
    // The toolchain comes from the user's own proxy, once; then from a folder that is a proxy too.
    let toolchain = format!("golang.org/toolchain@v0.0.1-go{GO}.linux-{}", arch());
    bench.tool("go", &["mod", "download", &toolchain]);
    let downloads =
        bench.tool("go", &["env", "GOMODCACHE"]).trim().to_owned() + "/cache/download/golang.org/toolchain/@v";
    let zip = format!("v0.0.1-go{GO}.linux-{}.zip", arch());
    let proxy = bench.path("proxy/golang.org/toolchain/@v");
    std::fs::create_dir_all(&proxy).unwrap();
    std::fs::copy(format!("{downloads}/{zip}"), proxy.join(&zip)).unwrap();

    let arguments = ["images", "--source-dir", "hello", "--components", "one", "--go", GO, "--output", "json"];
    let mut here = bench.vcbuild(&arguments);
    let unsure =
        Run::of(bench.with_proxy(bench.vcbuild(&arguments)).env("PATH", "/usr/bin:/bin").env_remove("GOSUMDB"));
    unsure.failed(1, &["fetching Go 1.21.13: no checksum database is configured", "GOSUMDB"]);
    here.env("GOPROXY", format!("file://{}", bench.path("proxy").display())).env("GOSUMDB", "off");
    let here = Run::of(&mut here);
    let mine = digests(&here.json());
    assert!(here.stderr.contains("trusting and pinning Go") || here.stderr.contains("fetching Go"), "{here:?}");
    let lock = bench.read("hello/vcbuild.lock");
    assert!(lock.contains("[go.\"1.21.13\"]\nversion = \"1.21.13\"\n"), "{lock}");

    // Another user, home, folder and store, and no Go: the lock says what it has to be.
    let there = bench.path("some where/else");
    crate::bench::copy(&bench.path("hello"), &there.join("source"));
    std::fs::copy(env!("CARGO_BIN_EXE_vcbuild"), there.join("vcbuild")).unwrap();
    open(&bench.path(""));
    bench.tool("chown", &["-R", "65534:65534", there.to_str().unwrap()]);
    let build = |more: &[&str]| {
        let mut nobody = Command::new("setpriv");
        nobody.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(there.join("vcbuild"));
        nobody
            .args(["images", "--source-dir", "source", "--components", "one", "--go", GO, "--output", "json"])
            .args(more);
        nobody.current_dir(&there).env_clear().env("PATH", "/usr/bin:/bin").env("HOME", &there).env("TZ", "Asia/Tokyo");
        nobody.env("GOPROXY", format!("file://{}", bench.path("proxy").display()));
        Run::of(&mut nobody)
    };
    let theirs = build(&["--locked"]);
    assert_eq!(digests(&theirs.json()), mine, "{theirs:?}");
    let image: Value = theirs.json()["images"][0]["platforms"].clone();
    assert_eq!(image, here.json()["images"][0]["platforms"]);

    // A toolchain that is not what the lock pins is not used.
    let lock = there.join("source/vcbuild.lock");
    let text = std::fs::read_to_string(&lock).unwrap().replace("h1:", "h1:A");
    std::fs::write(&lock, text).unwrap();
    build(&["--locked"]).failed(1, &["checking Go 1.21.13 for linux/", "expected h1:A", "vcbuild did not use it"]);
}

/// This machine's processor, as Go names it.
fn arch() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}

/// Lets other users look into a folder that is temporary.
fn open(folder: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
}
