//! Caches of every kind: filled from one store, they spare another one every action.

use std::fs;
use std::process::Command;

use rigs::Run;
use rigs::registry::Registry;
use rigs::sshd::Sshd;
use serde_json::{Value, json};

use crate::bench::text;
use crate::cache_server::{Server, ServerBehaviour};
use crate::fixture::{CacheFixture, Substitution, built, public_key};

/// Fills the cache at `url` from a store that has everything, twice, and builds from it in a store that has nothing.
fn fill_and_use(url: &str, change: impl Fn(&mut Command)) -> CacheFixture {
    let full = CacheFixture::with_the_built_store();
    let push = || {
        let arguments = ["push", "--to", url, "--sign-key", "good-1.key", "--output", "json"];
        let mut command = full.command(&arguments);
        change(&mut command);
        Run::of(&mut command).json()
    };
    let (first, again) = (push(), push());
    assert_eq!((&first["records_there"], &first["blobs"]["there"]), (&json!(0), &json!(0)), "{first}");
    assert!(first["records"].as_u64().unwrap() >= 9 && first["blobs"]["blobs"].as_u64().unwrap() >= 8, "{first}");
    assert_eq!((&again["records"], &again["blobs"]["blobs"]), (&json!(0), &json!(0)), "{again}");
    assert_eq!(again["blobs"]["there"], first["blobs"]["blobs"]);

    let empty = CacheFixture::new();
    let key = public_key("good-1");
    let arguments = ["images", "--source-dir", "hello", "--substituter", url, "--trust-key", &key, "--output", "json"];
    let mut command = empty.command(&arguments);
    change(&mut command);
    let built_again = Run::of(&mut command);
    assert_eq!(built_again.counts(), (0, 7), "{built_again:?}");
    assert_eq!(crate::bench::digests(&built_again.json()), crate::bench::digests(built()));
    let from_store = empty.run(&["images", "--source-dir", "hello", "--output", "json"]);
    assert_eq!(from_store.json()["actions"]["reused"], 9, "what was substituted is there from now on");
    empty
}

#[test]
fn a_folder_spares_another_store_every_action() {
    let site = CacheFixture::new();
    let folder = format!("file://{}", site.bench.path("somewhere/new").display());
    let filled = fill_and_use(&folder, |_| {});
    let records = fs::read_dir(filled.bench.path("store/actions")).unwrap();
    for record in records {
        let record: Value = serde_json::from_slice(&fs::read(record.unwrap().path()).unwrap()).unwrap();
        assert!(record["signatures"]["good-1"].is_string(), "signatures are kept: {record}");
    }
}

#[test]
fn a_web_server_spares_another_store_every_action() {
    let site = CacheFixture::new();
    let server = Server::start(site.bench.path("www"), ServerBehaviour::Honest);
    fill_and_use(&format!("{}/team", server.url), |_| {});
    assert!(site.bench.path("www/team/blobs/sha256").is_dir(), "the folder is laid out as others are");
    let read_only = Server::start(site.bench.path("nothing"), ServerBehaviour::Broken);
    let full = CacheFixture::with_the_built_store();
    full.run(&["push", "--to", &read_only.url])
        .failed(1, &["pushing to http://127.0.0.1:", "it answered 500", "help: "]);
}

#[test]
fn another_machine_spares_a_store_every_action() {
    let sshd = Sshd::start();
    let place = tempfile::tempdir().unwrap();
    let url = format!("ssh://root@127.0.0.1:{}{}/it's a cache", sshd.port, place.path().display()).replace(' ', "-");
    fill_and_use(&url, |command| {
        command.env("VCBUILD_SSH_CONFIG", sshd.client_config());
    });
    assert_eq!(fs::read_dir(place.path().join("it's-a-cache/records")).unwrap().count(), 9);

    // A host key that changed is nobody's to overlook: nothing comes from there, and the build goes on.
    sshd.know_host(false);
    let site = CacheFixture::new();
    let key = public_key("good-1");
    let arguments = ["images", "--source-dir", "hello", "--substituter", &url, "--trust-key", &key, "--output", "json"];
    let run = Run::of(site.command(&arguments).env("VCBUILD_SSH_CONFIG", sshd.client_config()));
    assert_eq!(run.counts().1, 0);
    assert!(
        run.stderr.contains("HOST IDENTIFICATION HAS CHANGED") || run.stderr.contains("Host key verification"),
        "{run:?}"
    );
}

#[test]
fn what_a_login_script_prints_does_not_matter() {
    let sshd = Sshd::noisy();
    let place = tempfile::tempdir().unwrap();
    let url = format!("ssh://root@127.0.0.1:{}{}/cache", sshd.port, place.path().display());
    fill_and_use(&url, |command| {
        command.env("VCBUILD_SSH_CONFIG", sshd.client_config());
    });
}

#[test]
fn a_registry_spares_another_store_every_action() {
    let site = CacheFixture::new();
    let registry = Registry::start(&site.bench);
    fill_and_use(&format!("oci://{}/team/cache", registry.address), |_| {});
    let tags = site
        .bench
        .tool("skopeo", &["list-tags", "--tls-verify=false", &format!("docker://{}/team/cache", registry.address)]);
    let tags: Value = serde_json::from_str(&tags).unwrap();
    let tags = tags["Tags"].as_array().unwrap();
    assert!(tags.len() == 9 && tags.iter().all(|tag| text(tag).starts_with("rec-")), "{tags:?}");
}

#[test]
fn one_image_is_pushed_with_what_it_was_built_of_alone() {
    let full = CacheFixture::with_the_built_store();
    let folder = format!("file://{}", full.bench.path("one").display());
    let arguments = ["push", "--to", &folder, "hello/one", "--sign-key", "good-1.key", "--output", "json"];
    let pushed = full.run(&arguments).json();
    // The scan, and one component's compile, layer and image; archives are on nobody's way and go along.
    assert_eq!(pushed["records"], 6, "{pushed}");
    let other = CacheFixture::new();
    let run = other.build(&[&folder]);
    assert_eq!(run.counts(), (3, 4), "the other component is built: {run:?}");

    let all = full.run(&["push", "--to", &folder, "--all", "--sign-key", "good-1.key", "--output", "json"]).json();
    assert_eq!((&all["records"], &all["records_there"]), (&json!(3), &json!(6)));
    full.run(&["push", "--to", &folder, "absent"]).failed(1, &["looking for image absent"]);
}

#[test]
fn a_project_names_caches_and_its_user_whom_to_believe() {
    let site = CacheFixture::new();
    let url = site.cache_url();
    let project = site.bench.read("hello/vcbuild.toml");
    site.bench.write("hello/vcbuild.toml", &format!("{project}[caches]\nsubstituters = [{url:?}]\n"));
    let build = ["images", "--source-dir", "hello", "--output", "json"];
    assert_eq!(site.run(&build).counts().1, 0, "no key is trusted, so nothing is asked");

    let other = CacheFixture::new();
    other.bench.write("hello/vcbuild.toml", &format!("{project}[caches]\nsubstituters = [{url:?}]\n"));
    let settings = format!("[caches]\ntrusted-keys = [{:?}]\n", public_key("good-1"));
    other.bench.write("config/vcbuild/config.toml", &settings);
    assert_eq!(other.run(&build).counts(), (0, 7));
    let untrusted = [&build[..], &["--substituter", &url]].concat();
    site.run(&untrusted).failed(2, &["using caches: no key is trusted", "--trust-key"]);
    site.run(&[&build[..], &["--substituter", "ftp://x"]].concat())
        .failed(2, &["\"ftp://x\" is not the address of a cache"]);
    other.bench.write("config/vcbuild/config.toml", "[caches]\ntrust = []\n");
    other.run(&build).failed(2, &["reading the settings ", "config/vcbuild/config.toml", "line 2", "trust"]);
}

#[test]
fn offline_only_folders_are_asked() {
    let site = CacheFixture::new();
    let server = Server::start(site.cache(), ServerBehaviour::Honest);
    let (url, key) = (site.cache_url(), public_key("good-1"));
    let arguments = ["images", "--source-dir", "hello", "--offline", "--trust-key", &key, "--output", "json"];
    let run = site.run(&[&arguments[..], &["--substituter", &server.url]].concat());
    assert_eq!((run.counts().1, server.requests().len()), (0, 0), "{run:?}");
    let run =
        CacheFixture::new().run(&[&arguments[..], &["--substituter", &server.url, "--substituter", &url]].concat());
    assert_eq!((run.counts(), server.requests().len()), ((0, 7), 0), "{run:?}");
}

#[test]
fn keys_are_made_shown_and_kept() {
    let site = CacheFixture::new();
    let made = site.run(&["key", "generate", "mine-1", "--output", "json"]).json();
    assert_eq!(
        (text(&made["name"]), made["files"].clone()),
        ("mine-1".into(), json!(["./mine-1.key", "./mine-1.pub"]))
    );
    let public = text(&made["public_key"]);
    assert_eq!(site.bench.read("mine-1.pub"), format!("{public}\n"));
    assert_eq!(site.run(&["key", "public", "mine-1.key"]).stdout, format!("{public}\n"));
    site.run(&["key", "generate", "mine-1"]).failed(1, &["writing ./mine-1.key", "File exists"]);
    site.run(&["key", "generate", "../mine"]).failed(2, &["naming a key \"../mine\""]);
    site.run(&["push", "--to", &site.cache_url(), "--sign-key", "mine-1.pub"]).failed(2, &["it is not a secret key"]);
}
