//! Pull and push against a real registry: logins, TLS, mirrors, and what is said when they are not right.

use std::fs;

use rigs::Run;
use rigs::files::write_program;
use rigs::registry::Registry;
use serde_json::{Value, json};

use crate::bench::{digests, text};
use crate::fault_proxy::{FaultProxy, ProxyRule};
use crate::fixture::{CacheFixture, Substitution, built};

/// Settings that say how a registry is reached: on this machine TLS is not taken for granted.
fn settings(site: &CacheFixture, registry: &Registry, more: &str) {
    let settings = format!("[registries.\"{}\"]\nplain-http = false\n{more}", registry.address);
    site.bench.write("config/vcbuild/config.toml", &settings);
}

/// A login in Docker's file.
fn log_in(site: &CacheFixture, registry: &Registry, password: &str) {
    use base64::Engine;
    let auth = base64::engine::general_purpose::STANDARD.encode(format!("user:{password}"));
    site.bench.write("docker/config.json", &json!({"auths": {&registry.address: {"auth": auth}}}).to_string());
}

#[test]
fn a_private_registry_with_tls_is_pushed_to_and_pulled_from() {
    let site = CacheFixture::with_the_built_store();
    let private = Registry::private(&site.bench);
    let reference = format!("{}/team/one:v1", private.address);
    let push = ["push", "hello/one", "--as", &reference];

    settings(&site, &private, "");
    let strange = site.run(&push);
    strange.failed(1, &["the TLS connection failed", "UnknownIssuer", "SSL_CERT_FILE", "certs.d"]);
    let ca = format!("ca = {:?}\n", site.bench.path("tls/ca.pem"));
    settings(&site, &private, &ca);
    site.run(&push).failed(1, &["authentication required (401)", "log in first (`docker login 127.0.0.1:"]);
    log_in(&site, &private, "guess");
    site.run(&push).failed(1, &["(401)", "rejects the credentials from ", "docker/config.json: log in again"]);
    log_in(&site, &private, "open sesame");
    let pushed = site.run(&[&push[..], &["--output", "json"]].concat()).json()["images"][0].clone();
    assert_eq!(
        (text(&pushed["reference"]), text(&pushed["digest"])),
        (reference.clone(), digests(built())["one"].clone())
    );
    assert_eq!(pushed["blobs"]["blobs"], 2, "a layer and a configuration: {pushed}");
    let again = site.run(&[&push[..], &["--output", "json"]].concat()).json()["images"][0]["blobs"].clone();
    assert_eq!((&again["blobs"], &again["there"]), (&json!(0), &json!(2)), "{again}");

    // Another program finds the very image there.
    fs::create_dir_all(site.bench.path("certs")).unwrap();
    fs::copy(site.bench.path("tls/ca.pem"), site.bench.path("certs/ca.crt")).unwrap();
    let arguments = ["inspect", "--creds", "user:open sesame", "--cert-dir", "certs"];
    let seen = site.bench.tool("skopeo", &[&arguments[..], &[&format!("docker://{reference}")]].concat());
    let seen: Value = serde_json::from_str(&seen).unwrap();
    assert_eq!(text(&seen["Digest"]), digests(built())["one"]);

    // The authority may come from the environment or from where Podman has it, the login from Podman's file or a helper.
    let other = CacheFixture::new();
    settings(&other, &private, "");
    let pull = ["base", &reference, "--output", "json"];
    let auth = json!({"auths": {format!("{}/team", private.address): {"username": "user", "password": "open sesame"}}});
    other.bench.write("auth.json", &auth.to_string());
    let mut command = other.command(&pull);
    command
        .env("SSL_CERT_FILE", site.bench.path("tls/ca.pem"))
        .env("REGISTRY_AUTH_FILE", other.bench.path("auth.json"));
    assert_eq!(text(&Run::of(&mut command).json()["platforms"][0]["digest"]), digests(built())["one"]);

    let third = CacheFixture::new();
    settings(&third, &private, "");
    let authority = fs::read_to_string(site.bench.path("tls/ca.pem")).unwrap();
    third.bench.write(&format!("config/containers/certs.d/{}/ours.crt", private.address), &authority);
    third.bench.write("docker/config.json", &json!({"credHelpers": {&private.address: "ours"}}).to_string());
    let helper = "#!/bin/sh\nread -r host\nprintf '{\"ServerURL\": \"%s\", \"Username\": \"user\", \"Secret\": \"open sesame\"}' \"$host\"\n";
    write_program(third.bench.path("bin/docker-credential-ours"), helper);
    let path = format!("{}:{}", third.bench.path("bin").display(), std::env::var("PATH").unwrap());
    let mut command = third.command(&pull);
    assert_eq!(text(&Run::of(command.env("PATH", path)).json()["platforms"][0]["digest"]), digests(built())["one"]);
    third.run(&["base", &format!("{}/team/one:v2", private.address)]).failed(
        1,
        &["(401)", "the request had no credentials, because the program docker-credential-ours is not installed"],
    );

    // The same login and authority serve a cache there.
    let cache = format!("oci://{}/cache", private.address);
    site.run(&["push", "--to", &cache, "--sign-key", "good-1.key"]).succeeded();
    let user = CacheFixture::new();
    settings(&user, &private, &ca);
    log_in(&user, &private, "open sesame");
    assert_eq!(user.build(&[&cache]).counts(), (0, 7));
}

/// A registry with the image `team/one:v1`, and a site with its store.
fn with_image() -> (CacheFixture, Registry) {
    let site = CacheFixture::with_the_built_store();
    let registry = Registry::start(&site.bench);
    site.run(&["push", "hello/one", "--as", &format!("{}/team/one:v1", registry.address)]).succeeded();
    (site, registry)
}

#[test]
fn an_image_of_a_registry_is_compared_with_one_that_was_built() {
    let (site, registry) = with_image();
    let there = format!("docker://{}/team/one:v1", registry.address);
    let same = site.run(&["diff", &there, "out/one-amd64.tar", "--output", "json"]).json();
    assert_eq!((&same["identical"], &same["images"][0]["before"]["name"]), (&json!(true), &json!(there[9..])));
    let shown = site.run(&["inspect", &there, "--output", "json"]).json();
    assert_eq!(shown["images"][0]["digest"], same["images"][0]["after"]["digest"]);
    let absent = format!("docker://{}/team/two:v1", registry.address);
    site.run(&["diff", &absent, "out/one-amd64.tar"]).failed(1, &["team/two:v1", &registry.address]);
    site.run(&["diff", "docker://A B", "out/one-amd64.tar"])
        .failed(2, &["docker://A B is not a valid image reference"]);
}

#[test]
fn a_registry_that_gives_tokens_is_answered() {
    let (site, registry) = with_image();
    let gate = FaultProxy::before(&registry.address, ProxyRule::Token);
    let to = format!("{}/team/other:v1", gate.address);
    site.run(&["push", "hello/two", "--as", &to])
        .failed(1, &["logging in for pushing ", "(401): who are you?", "log in first"]);
    let logins = json!({"auths": {&gate.address: {"auth": "dXNlcjpzZWNyZXQ="}}});
    site.bench.write("docker/config.json", &logins.to_string());
    site.run(&["push", "hello/two", "--as", &to]).succeeded();
    let tokens: Vec<_> = gate.requests().into_iter().filter(|request| request.starts_with("GET /token")).collect();
    assert!(tokens[0].contains("service=the+gate&scope=repository%3Ateam%2Fother%3Apull%2Cpush"), "{tokens:?}");

    let empty = CacheFixture::new();
    empty.bench.write("docker/config.json", &logins.to_string());
    let pulled = empty.run(&["base", &to, "--output", "json"]).json();
    assert_eq!(text(&pulled["platforms"][0]["digest"]), digests(built())["two"]);
}

#[test]
fn a_busy_registry_is_asked_again_and_a_cut_blob_goes_on() {
    let (_site, registry) = with_image();
    for rule in [ProxyRule::Busy(3), ProxyRule::Cuts(100_000)] {
        let gate = FaultProxy::before(&registry.address, rule);
        let pulled =
            CacheFixture::new().run(&["base", &format!("{}/team/one:v1", gate.address), "--output", "json"]).json();
        assert_eq!(text(&pulled["platforms"][0]["digest"]), digests(built())["one"], "{rule:?}");
        let resumed = gate.requests().iter().any(|request| request.contains(" bytes="));
        assert_eq!(resumed, rule != ProxyRule::Busy(3), "{:?}", gate.requests());
    }
}

#[test]
fn each_refusal_says_what_to_do() {
    let (_site, registry) = with_image();
    let site = CacheFixture::new();
    let gate = FaultProxy::before(&registry.address, ProxyRule::Denies);
    let denied = site.run(&["base", &format!("{}/team/one:v1", gate.address)]);
    denied.failed(
        1,
        &[
            "pulling base 127.0.0.1:",
            "access denied (403): not for you",
            "ask the owner of the repository for access",
            "--base debian",
        ],
    );
    let absent = site.run(&["base", &format!("{}/team/one:v9", registry.address)]);
    absent.failed(1, &["not found (404): manifest unknown", "check the spelling"]);
    let full = CacheFixture::with_the_built_store();
    full.run(&["push", "hello/one", "hello/two", "--as", "x/y:v1"]).failed(2, &["--as names one image"]);
    full.run(&["push"]).failed(2, &["<IMAGE>"]);
}

#[test]
fn mirrors_are_asked_before_the_registry() {
    let (_site, registry) = with_image();
    let site = CacheFixture::new();
    let settings = format!(
        "[registries.\"registry.invalid\"]\nmirrors = [\"127.0.0.1:1\", {:?}]\n",
        format!("{}/team", registry.address)
    );
    site.bench.write("config/vcbuild/config.toml", &settings);
    let pulled = site.run(&["base", "registry.invalid/one:v1", "--output", "json"]).json();
    assert_eq!(text(&pulled["platforms"][0]["digest"]), digests(built())["one"]);
    let lock = site.bench.read("vcbuild.lock");
    assert!(lock.contains("[image.\"registry.invalid/one:v1\".\"linux/amd64\"]"), "{lock}");
}

#[test]
fn a_base_is_mounted_from_its_own_repository() {
    let (site, registry) = with_image();
    let base = format!("{}/team/one:v1", registry.address);
    site.run(&["images", "--source-dir", "hello", "--components", "two", "--base", &base]).succeeded();
    let to = format!("{}/other/two:v1", registry.address);
    let pushed = site.run(&["push", "hello/two", "--as", &to, "--output", "json"]).json()["images"][0].clone();
    assert_eq!((&pushed["blobs"]["mounted"], &pushed["blobs"]["blobs"]), (&json!(1), &json!(2)), "{pushed}");
    let seen = site.bench.tool("skopeo", &["inspect", "--tls-verify=false", &format!("docker://{to}")]);
    assert_eq!(text(&serde_json::from_str::<Value>(&seen).unwrap()["Digest"]), text(&pushed["digest"]));
}
