//! `--offline`: everything from the store, or an error that says what is missing; no connection is ever opened.

use std::process::Command;

use rigs::Run;

use crate::bench::{Bench, digests};

/// A command in a network namespace of its own, without a route and with its loopback down.
fn cut_off(bench: &Bench, arguments: &[&str]) -> Run {
    let mut unshare = Command::new("unshare");
    unshare.args(["--net", env!("CARGO_BIN_EXE_vcbuild")]);
    Run::of(&mut bench.around(unshare, arguments))
}

#[test]
fn a_store_that_was_filled_builds_without_a_network() {
    let bench = Bench::new();
    let fixture = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/virtualcluster");
    crate::bench::copy(&fixture, &bench.path("source"));
    let build =
        ["images", "--source-dir", "source", "--base", "debian", "--components", "vn-agent", "--output", "json"];
    let online = bench.json(&build[..build.len() - 2]);
    let offline = cut_off(&bench, &[&build[..], &["--offline", "--locked"]].concat());
    assert_eq!((digests(&offline.json()), &offline.json()["actions"]["run"]), (digests(&online), &0.into()));
    // What is made anew is made of what is there.
    bench.write("source/cmd/vn-agent/more.go", "package main\n\nfunc init() { println(\"more\") }\n");
    std::fs::remove_dir_all(bench.path("store/actions")).unwrap();
    std::fs::create_dir(bench.path("store/actions")).unwrap();
    let changed = cut_off(&bench, &[&build[..], &["--offline"]].concat());
    assert_ne!(digests(&changed.json()), digests(&online));
}

#[test]
fn what_is_not_at_hand_is_named_and_how_to_get_it() {
    let bench = Bench::with_hello();
    bench.commit("hello");
    let url = format!("file://{}", bench.path("hello").display());
    let hello = ["images", "--source-dir", "hello", "--offline"];
    let help = "help: run the command once without --offline";
    let cases: [(&[&str], &str); 3] = [
        (&["--base", "debian"], "choosing the packages of Debian bookworm: it is not available locally"),
        (&["--base", "127.0.0.1:1/a:v1"], "pulling base 127.0.0.1:1/a:v1: it is not available locally"),
        (&["--go", "1.26.0"], "fetching Go: it is not available locally"),
    ];
    for (arguments, why) in cases {
        let run = cut_off(&bench, &[&hello[..], arguments].concat());
        run.failed(1, &[why, "--offline forbids fetching it", help]);
    }
    let clone = ["images", "--project", "hello/vcbuild.toml", "--source-repo", &url];
    cut_off(&bench, &[&clone[..], &["--offline"]].concat())
        .failed(1, &[&format!("cloning {url} at HEAD: it is not"), help]);
    let online = bench.json(&clone);
    let offline = cut_off(&bench, &[&clone[..], &["--offline", "--output", "json"]].concat());
    assert_eq!(digests(&offline.json()), digests(&online));
    cut_off(&bench, &[&clone[..], &["--offline", "--update"]].concat())
        .failed(2, &["--offline, which forbids network access, forbids"]);
}

#[test]
fn caches_that_need_a_network_are_not_asked() {
    let bench = Bench::with_hello();
    let cache = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    cache.set_nonblocking(true).unwrap();
    bench.run(&["key", "generate", "mine"]);
    let (address, key) = (format!("http://{}", cache.local_addr().unwrap()), "mine.pub");
    let hello = ["images", "--source-dir", "hello", "--components", "one", "--cache-timeout", "1"];
    let asking = ["--substituter", &address, "--trust-key", key];
    let offline = bench.run(&[&hello[..], &asking, &["--offline"]].concat());
    assert_eq!(offline.code, Some(0), "{offline:?}");
    assert!(cache.accept().is_err(), "a connection was opened");
    std::fs::remove_dir_all(bench.path("store/actions")).unwrap();
    std::fs::create_dir(bench.path("store/actions")).unwrap();
    bench.run(&[&hello[..], &asking].concat());
    assert!(cache.accept().is_ok(), "online the cache is asked");
}

#[test]
fn modules_that_the_users_go_has_need_no_network() {
    let bench = Bench::new();
    let sums = bench.publish("example.org/far", "v1.0.0", &[("lib.go", "package lib\n\nconst Name = \"lib\"\n")]);
    bench.write("go.mod", "module example.org/app\n\ngo 1.21\n\nrequire example.org/far v1.0.0\n");
    bench.write("go.sum", &sums);
    bench.write("main.go", "package main\n\nimport \"example.org/far\"\n\nfunc main() { println(lib.Name) }\n");
    bench.write(
        "vcbuild.toml",
        "base = \"scratch\"\n[components.app]\npackage = \".\"\nimage = \"registry.example/app:v1\"\n",
    );
    let build = || cut_off_with_proxy(&bench);
    build()
        .failed(1, &["fetching the Go modules of example.org/app: it is not available locally", "without --offline"]);
    users_go(&bench, &["mod", "download", "-modcacherw"]);
    let built = build();
    assert_eq!(built.code, Some(0), "{built:?}");
}

#[test]
fn a_module_that_the_users_go_has_is_a_source_without_a_network() {
    let bench = Bench::new();
    let near = bench.publish("example.org/near", "v1.0.0", &[("lib.go", "package lib\n\nconst Name = \"lib\"\n")]);
    // A folder that is not there beside it: what takes its place is looked up anew.
    let go_mod = "module example.org/made\n\ngo 1.21\n\nrequire example.org/near v1.0.0\n\n\
                  replace example.org/near => ../near\n";
    let main = "package main\n\nimport \"example.org/near\"\n\nfunc main() { println(lib.Name) }\n";
    bench.publish("example.org/made", "v1.0.0", &[("main.go", main), ("go.mod", go_mod), ("go.sum", &near)]);
    bench.write(
        "vcbuild.toml",
        "base = \"scratch\"\n[source]\nmodule = \"example.org/made@v1.0.0\"\n\
         [components.app]\npackage = \".\"\nimage = \"registry.example/app:v1\"\n",
    );
    let build = || cut_off_with_proxy(&bench);
    build().failed(1, &["fetching example.org/made@v1.0.0: it is not available locally", "without --offline"]);
    users_go(&bench, &["mod", "download", "-modcacherw", "example.org/made@v1.0.0"]);
    build().failed(
        1,
        &["fetching the Go modules of example.org/made@v1.0.0: it is not available locally", "without --offline"],
    );
    users_go(&bench, &["mod", "download", "-modcacherw", "example.org/near@v1.0.0"]);
    let built = build();
    assert_eq!(built.code, Some(0), "{built:?}");
    assert!(bench.read("vcbuild.lock").contains("[source.\"example.org/made\".\"v1.0.0\"]"));
}

/// A build in a network namespace of its own, by a user whose Go fetches from a folder.
fn cut_off_with_proxy(bench: &Bench) -> Run {
    let mut unshare = Command::new("unshare");
    unshare.args(["--net", env!("CARGO_BIN_EXE_vcbuild")]);
    Run::of(&mut bench.with_proxy(bench.around(unshare, &["images", "--offline"])))
}

/// Has the user's own Go do something, online.
fn users_go(bench: &Bench, arguments: &[&str]) {
    let run = Run::of(&mut bench.with_proxy(bench.around(Command::new("go"), arguments)));
    assert_eq!(run.code, Some(0), "{run:?}");
}
