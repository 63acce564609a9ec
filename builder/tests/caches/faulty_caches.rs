//! Caches that lie, hang or break: each is passed over, and the build is right all the same.

use std::fs;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use serde_json::Value;
use vcstore::Digest;

use crate::cache_server::{Server, ServerBehaviour};
use crate::fixture::{CacheFixture, Substitution, flip, public_key};

#[test]
fn a_tampered_blob_never_enters_a_store() {
    let site = CacheFixture::new();
    for blob in site.files("blobs/sha256") {
        flip(&blob);
    }
    let run = site.build(&[&site.cache_url()]);
    assert_eq!(run.counts(), (9, 0), "who lies once is not asked again: {run:?}");
    assert!(run.stderr.contains("a blob does not match its record: its content is sha256:"), "{run:?}");
    assert!(run.stderr.contains("not using it for the rest of this run"), "{run:?}");
    for blob in fs::read_dir(site.bench.path("store/blobs/sha256")).unwrap() {
        let path = blob.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        assert_eq!(Digest::of(&fs::read(path).unwrap()).hex(), name);
    }
    assert!(site.nothing_is_half_done());
}

/// Changes every record of a cache.
fn change_records(site: &CacheFixture, change: impl Fn(&mut Value)) {
    for path in site.files("records") {
        let mut record: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        change(&mut record);
        fs::write(&path, serde_json::to_vec(&record).unwrap()).unwrap();
    }
}

#[test]
fn a_tampered_record_is_refused() {
    let site = CacheFixture::new();
    // The blob that a record is bent to exists: only the signature tells.
    let evil = b"#!/bin/sh\necho owned\n";
    let digest = Digest::of(evil);
    fs::write(site.cache().join("blobs/sha256").join(digest.hex()), evil).unwrap();
    change_records(&site, |record| {
        if record["kind"] == "compile" {
            let blobs = record["outputs"]["blobs"].as_object_mut().unwrap();
            for blob in blobs.values_mut() {
                *blob = serde_json::json!({"digest": digest, "size": evil.len()});
            }
        }
    });
    let run = site.build(&[&site.cache_url()]);
    assert_eq!(run.counts(), (2, 5), "the two compiles run: {run:?}");
    assert!(run.stderr.contains("its signature does not match the trusted key good-1"), "{run:?}");
    assert!(!site.bench.path("store/blobs/sha256").join(digest.hex()).exists());
}

#[test]
fn a_record_of_another_action_is_refused() {
    let site = CacheFixture::new();
    let records = site.files("records");
    let compile = |path: &&std::path::PathBuf| fs::read_to_string(path).unwrap().contains(r#""kind":"compile""#);
    let [one, two] = records.iter().filter(compile).collect::<Vec<_>>()[..] else { panic!("two programs") };
    let (first, second) = (fs::read(one).unwrap(), fs::read(two).unwrap());
    fs::write(one, second).unwrap();
    fs::write(two, first).unwrap();
    let run = site.build(&[&site.cache_url()]);
    assert_eq!(run.counts(), (2, 5), "{run:?}");
    assert!(run.stderr.contains("it belongs to a different action than requested"), "{run:?}");
}

#[test]
fn unsigned_records_and_those_of_unknown_keys_are_refused() {
    let site = CacheFixture::new();
    change_records(&site, |record| {
        record.as_object_mut().unwrap().remove("signatures");
    });
    let run = site.build(&[&site.cache_url()]);
    assert_eq!(run.counts().1, 0, "{run:?}");
    assert!(
        run.stderr.contains(&format!("cache {}: ignoring a record: it is not signed", site.cache_url())),
        "{run:?}"
    );

    let site = CacheFixture::new();
    let (url, key) = (site.cache_url(), public_key("other-1"));
    let arguments = ["images", "--source-dir", "hello", "--substituter", &url, "--trust-key", &key, "--output", "json"];
    let run = site.run(&arguments);
    assert_eq!(run.counts().1, 0, "{run:?}");
    let warning = format!("cache {url}: ignoring a record: it is signed by \"good-1\", which is not a trusted key");
    assert_eq!(run.stderr.matches(&warning).count(), 1, "said once: {run:?}");

    // A second signature makes the same records trusted; the first one stays.
    let full = CacheFixture::with_the_built_store();
    full.run(&["push", "--to", &url, "--sign-key", "other-1.key"]).succeeded();
    let third = CacheFixture::new();
    let arguments = ["images", "--source-dir", "hello", "--substituter", &url, "--trust-key", &key, "--output", "json"];
    assert_eq!(third.run(&arguments).counts(), (0, 7));
    assert_eq!(CacheFixture::new().build(&[&url]).counts(), (0, 7));
}

#[test]
fn a_cache_that_hangs_costs_its_timeout_once() {
    let site = CacheFixture::new();
    let server = Server::start(site.cache(), ServerBehaviour::Hangs);
    // One that takes connections and reads nothing, and one where nobody listens.
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let key = public_key("good-1");
    let (deaf, nobody) = (format!("http://{}", deaf.local_addr().unwrap()), format!("http://{nobody}"));
    let mut arguments = vec!["images", "--source-dir", "hello", "--trust-key", &key, "--cache-timeout", "2"];
    arguments.extend(["--output", "json", "--substituter", &server.url, "--substituter", &deaf]);
    arguments.extend(["--substituter", &nobody]);
    let warm = CacheFixture::new();
    let start = Instant::now();
    warm.run(&["images", "--source-dir", "hello", "--output", "json"]).succeeded();
    let without = start.elapsed();
    let start = Instant::now();
    let run = site.run(&arguments);
    let took = start.elapsed();
    assert_eq!(run.counts().1, 0, "{run:?}");
    assert!(took < without * 3 + Duration::from_secs(6), "{took:?}, and {without:?} without caches");
    assert_eq!(run.stderr.matches("not using it for the rest of this run").count(), 3, "{run:?}");
    assert!(run.stderr.contains("no response within 2 s") && run.stderr.contains("Connection refused"), "{run:?}");
    assert!(server.requests().len() <= 2, "it is not asked again: {:?}", server.requests());

    // Beside a good one they cost no more than that.
    let good = site.cache_url();
    let other = CacheFixture::new();
    let run = other.run(&[&arguments[..], &["--substituter", &good]].concat());
    assert_eq!(run.counts(), (0, 7), "{run:?}");
}

#[test]
fn a_cache_that_hangs_in_the_middle_of_a_blob_is_left() {
    let site = CacheFixture::new();
    let server = Server::start(site.cache(), ServerBehaviour::HangsInBlobs);
    let key = public_key("good-1");
    let start = Instant::now();
    let run = site.run(&[
        "images",
        "--source-dir",
        "hello",
        "--trust-key",
        &key,
        "--cache-timeout",
        "2",
        "--output",
        "json",
        "--substituter",
        &server.url,
    ]);
    assert!(run.counts().0 >= 7 && start.elapsed() < Duration::from_secs(60), "{run:?}");
    assert!(run.stderr.contains("no data arrived for 2 s"), "{run:?}");
    assert!(site.nothing_is_half_done());
}

#[test]
fn a_cache_that_sends_a_byte_now_and_then_is_left() {
    let site = CacheFixture::new();
    let server = Server::start(site.cache(), ServerBehaviour::Drips);
    let key = public_key("good-1");
    let arguments =
        ["images", "--source-dir", "hello", "--trust-key", &key, "--cache-timeout", "1", "--output", "json"];
    let start = Instant::now();
    let run = site.run(&[&arguments[..], &["--substituter", &server.url]].concat());
    assert!(run.counts().0 >= 7 && start.elapsed() < Duration::from_secs(60), "{run:?}");
    assert!(
        run.stderr.contains("not using it for the rest of this run: ") && run.stderr.contains("bytes took more than"),
        "{run:?}"
    );
    assert!(server.sent() < 2_000, "{} bytes were waited for", server.sent());
    assert!(site.nothing_is_half_done());
}

#[test]
fn a_blob_without_an_end_fills_no_disk() {
    let site = CacheFixture::new();
    let server = Server::start(site.cache(), ServerBehaviour::Endless);
    let run = site.build(&[&server.url]);
    assert_eq!(run.counts(), (9, 0), "{run:?}");
    assert!(run.stderr.contains("a blob does not match its record"), "{run:?}");
    let whole: u64 = site.files("blobs/sha256").iter().map(|blob| fs::metadata(blob).unwrap().len()).sum();
    // What is in flight when the client hangs up was sent, too.
    assert!(server.sent() < whole + (64 << 20), "{} bytes were sent", server.sent());
}

#[test]
fn a_blob_that_is_cut_goes_on_where_it_was_cut() {
    let site = CacheFixture::new();
    let server = Server::start(site.cache(), ServerBehaviour::Cuts(100));
    let run = site.build(&[&server.url]);
    assert_eq!(run.counts(), (0, 7), "{run:?}");
    let requests = server.requests();
    assert!(
        requests.iter().any(|request| request.starts_with("GET /blobs/") && request.ends_with(" 100")),
        "{requests:?}"
    );
}

#[test]
fn what_a_store_has_is_not_fetched() {
    let site = CacheFixture::new();
    let server = Server::start(site.cache(), ServerBehaviour::Honest);
    assert_eq!(site.build(&[&server.url]).counts(), (0, 7));
    let before = server.requests().len();
    assert_eq!(site.build(&[&server.url]).counts(), (0, 0));
    assert_eq!(server.requests().len(), before, "nothing is asked for what is there");
    for record in fs::read_dir(site.bench.path("store/actions")).unwrap() {
        fs::remove_file(record.unwrap().path()).unwrap();
    }
    assert_eq!(site.build(&[&server.url]).counts(), (0, 7));
    let blobs = server.requests()[before..].iter().filter(|request| request.contains("/blobs/")).count();
    assert_eq!(blobs, 0, "records come again, and no blob");
}
