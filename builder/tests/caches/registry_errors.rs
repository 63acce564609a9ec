//! Registries and their token servers that are busy, refuse a part of what they are asked, or say odd things: what can be done
//! without is done without, and what cannot is named.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use rigs::files::write_program;
use rigs::registry::Registry;
use serde_json::json;

use crate::bench::{digests, text};
use crate::fault_proxy::{CannedResponse, FaultProxy, ProxiedRequest};
use crate::fixture::{CacheFixture, Substitution, built};

/// A registry with the image `team/one:v1`, and the site with its store.
fn with_image() -> (CacheFixture, Registry) {
    let site = CacheFixture::with_the_built_store();
    let registry = Registry::start(&site.bench);
    site.run(&["push", "hello/one", "--as", &format!("{}/team/one:v1", registry.address)]).succeeded();
    (site, registry)
}

/// Has who asks log in at `/token`; what that answers `token` says.
fn with_tokens(
    asked: &ProxiedRequest<'_>,
    token: impl Fn(&ProxiedRequest<'_>) -> Option<CannedResponse>,
) -> Option<CannedResponse> {
    if asked.line.contains(" /token") {
        return token(asked);
    }
    let challenge = format!("WWW-Authenticate: Bearer realm=\"http://{}/token\",service=\"s\"\r\n", asked.gate);
    if asked.authorization == "Bearer good" { None } else { CannedResponse::new("401 Unauthorized", challenge, "") }
}

fn good() -> Option<CannedResponse> {
    CannedResponse::new("200 OK", "", r#"{"token": "good"}"#)
}

/// Pulls `team/one:v1` from a gate into a site of its own.
fn pull(gate: &FaultProxy) -> rigs::Run {
    CacheFixture::new().run(&["base", &format!("{}/team/one:v1", gate.address), "--output", "json"])
}

#[test]
fn a_token_server_that_is_busy_is_asked_again() {
    let (_site, registry) = with_image();
    for status in ["503 Service Unavailable", "429 Too Many Requests", "408 Request Timeout"] {
        let gate = FaultProxy::answering(&registry.address, move |asked| {
            let busy = asked.number <= 3;
            with_tokens(asked, |_| if busy { CannedResponse::new(status, "Retry-After: 0\r\n", "") } else { good() })
        });
        let pulled = pull(&gate).json();
        assert_eq!(text(&pulled["platforms"][0]["digest"]), digests(built())["one"], "{status}");
        let tokens = gate.requests().iter().filter(|request| request.contains(" /token")).count();
        // Two were in vain, and then the reference was resolved and the image pulled.
        assert_eq!(tokens, 4, "{status}: {:?}", gate.requests());
    }
    let gate = FaultProxy::answering(&registry.address, |asked| {
        with_tokens(asked, |_| CannedResponse::new("500 Internal Server Error", "Retry-After: 0\r\n", ""))
    });
    pull(&gate).failed(1, &["logging in for pulling v1", "4 attempts failed", "500 Internal Server Error"]);
}

#[test]
fn a_registry_names_the_time_at_which_to_come_again() {
    let (_site, registry) = with_image();
    let gate = FaultProxy::answering(&registry.address, |asked| {
        let (now, later) = (SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH + Duration::from_secs(2));
        let [now, later] = [now, later].map(httpdate::fmt_http_date);
        let headers = format!("Date: {now}\r\nRetry-After: {later}\r\n");
        if asked.number == 1 { CannedResponse::new("429 Too Many Requests", headers, "") } else { None }
    });
    let start = Instant::now();
    pull(&gate).succeeded();
    assert!(start.elapsed() >= Duration::from_secs(2), "it was asked again after {:?}", start.elapsed());
}

#[test]
fn what_cannot_be_mounted_is_sent() {
    let (_site, registry) = with_image();
    let refusals = [
        "401 Unauthorized",
        "403 Forbidden",
        "404 Not Found",
        "405 Method Not Allowed",
        "400 Bad Request",
        // Which asks for the blob instead, as the specification has it.
        "202 Accepted",
    ];
    let round = std::sync::Arc::new(AtomicUsize::new(0));
    let current = round.clone();
    // The image names a base of this very registry: the gate's name stands for it.
    let gate = FaultProxy::answering(&registry.address, move |asked| {
        let status = *refusals.get(current.load(Ordering::SeqCst))?;
        let mounts = asked.line.starts_with("POST") && asked.line.contains("mount=") && !status.starts_with("202");
        if mounts { CannedResponse::new(status, "", r#"{"errors": [{"code": "DENIED"}]}"#) } else { None }
    });
    let site = with_base(&gate.address);
    for (number, status) in refusals.into_iter().enumerate() {
        round.store(number, Ordering::SeqCst);
        let before = gate.requests().len();
        site.run(&["push", "hello/one", "--as", &format!("{}/other/{number}:v1", gate.address)]).succeeded();
        let requests = gate.requests().split_off(before);
        let asked = requests.iter().filter(|request| request.contains("mount=")).count();
        // Each of its two blobs may be tried at the same time as the other.
        assert!((1..=4).contains(&asked), "{status}: {requests:?}");
    }
    // A token server that refuses all of what it is asked for because of a part.
    let gate = FaultProxy::answering(&registry.address, |asked| {
        with_tokens(asked, |asked| match asked.line.contains("team%2Fone") {
            true => CannedResponse::new("403 Forbidden", "", r#"{"errors": [{"message": "not that one"}]}"#),
            false => good(),
        })
    });
    let site = with_base(&gate.address);
    site.run(&["push", "hello/one", "--as", &format!("{}/other/one:v1", gate.address)]).succeeded();
    let requests = gate.requests();
    assert!(requests.iter().any(|request| request.contains("team%2Fone")), "{requests:?}");
    assert!(!requests.iter().any(|request| request.contains("mount=")), "{requests:?}");
}

/// A site whose image `hello/one` says that its base is `team/one` of this registry.
fn with_base(registry: &str) -> CacheFixture {
    let site = CacheFixture::new();
    let annotation =
        format!("[defaults.annotations]\n\"org.opencontainers.image.base.name\" = \"{registry}/team/one:v1\"\n");
    site.bench.edit("hello/vcbuild.toml", "[defaults.stamps]", &format!("{annotation}[defaults.stamps]"));
    site.run(&["images", "--source-dir", "hello", "--components", "one"]).succeeded();
    site
}

#[test]
fn a_missing_credential_helper_is_named_where_a_login_is_wanted() {
    let (_site, registry) = with_image();
    let site = CacheFixture::new();
    site.bench.write("docker/config.json", r#"{"credsStore": "on-another-machine"}"#);
    let public = site.run(&["base", &format!("{}/team/one:v1", registry.address)]);
    public.succeeded();
    let warning = "without credentials: the program docker-credential-on-another-machine is not installed, which ";
    assert_eq!(public.stderr.matches(warning).count(), 1, "{public:?}");

    for (status, said) in [("401 Unauthorized", "(401)"), ("403 Forbidden", "(403)"), ("404 Not Found", "(404)")] {
        let gate = FaultProxy::answering(&registry.address, move |_| {
            CannedResponse::new(status, "WWW-Authenticate: Basic\r\n", "")
        });
        let private = site.run(&["base", &format!("{}/team/one:v1", gate.address), "--lock", "other.lock"]);
        private.failed(
            1,
            &[said, "without credentials", "the program docker-credential-on-another-machine is not installed"],
        );
    }
    // One that is there and fails.
    let program = "#!/bin/sh\necho the keyring is locked\nexit 1\n";
    write_program(site.bench.path("bin/docker-credential-on-another-machine"), program);
    let path = format!("{}:{}", site.bench.path("bin").display(), std::env::var("PATH").unwrap());
    let mut command = site.command(&["base", &format!("{}/team/one:v1", registry.address), "--update"]);
    let run = rigs::Run::of(command.env("PATH", path));
    run.succeeded();
    assert!(run.stderr.contains("failed (the keyring is locked)"), "{run:?}");
}

#[test]
fn what_is_too_large_is_told_as_that() {
    let (site, registry) = with_image();
    let gate =
        FaultProxy::answering(&registry.address, |asked| match asked.line.starts_with("PUT /v2/other/one/blobs/") {
            true => {
                CannedResponse::new("413 Request Entity Too Large", "Content-Type: text/html\r\n", "<html>413</html>")
            }
            false => None,
        });
    let pushed = site.run(&["push", "hello/one", "--as", &format!("{}/other/one:v1", gate.address)]);
    pushed.failed(1, &["the request is too large (413)", "client_max_body_size"]);
}

#[test]
fn what_is_no_image_is_told_as_that() {
    let (_site, registry) = with_image();
    let answer = |document: String| {
        FaultProxy::answering(&registry.address, move |asked| match asked.line.contains("/manifests/") {
            true => CannedResponse::new("200 OK", "Content-Type: application/json\r\n", document.clone()),
            false => None,
        })
    };
    let old = json!({"schemaVersion": 1, "name": "team/one", "tag": "v1", "fsLayers": [], "history": []});
    pull(&answer(old.to_string())).failed(1, &["its manifest has Docker's schema 1", "pulling and pushing it"]);
    let empty = json!({"mediaType": "application/vnd.oci.empty.v1+json", "size": 2,
        "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"});
    let chart = |kind: &str, artifact: Option<&str>| {
        let mut config = empty.clone();
        config["mediaType"] = json!(kind);
        let layer = json!({"mediaType": "application/vnd.cncf.helm.chart.content.v1.tar+gzip", "size": 2, "digest": empty["digest"]});
        let mut manifest = json!({"schemaVersion": 2, "config": config, "layers": [layer]});
        if let Some(artifact) = artifact {
            manifest["artifactType"] = json!(artifact);
        }
        manifest.to_string()
    };
    let typed = chart("application/vnd.oci.empty.v1+json", Some("application/vnd.example.sbom"));
    pull(&answer(typed)).failed(1, &["it is application/vnd.example.sbom, not an image", "Helm charts, signatures"]);
    let helm = chart("application/vnd.cncf.helm.config.v1+json", None);
    pull(&answer(helm)).failed(1, &["application/vnd.cncf.helm.config.v1+json"]);
    let site = CacheFixture::new();
    for base in ["registry.example/app:feature/x", "app:feature/x"] {
        site.run(&["base", base]).failed(2, &["the tag \"feature/x\" contains '/'", "use, for example, \"feature-x\""]);
    }
}

#[test]
fn a_registry_is_known_by_an_address_of_either_kind() {
    let (site, registry) = with_image();
    let digest = &digests(built())["one"];
    if std::net::TcpListener::bind("[::1]:0").is_ok() {
        let gate = FaultProxy::at("[::1]:0", &registry.address);
        for reference in ["team/one:v1".to_owned(), format!("team/one@{digest}"), format!("team/one:v1@{digest}")] {
            let pulled =
                CacheFixture::new().run(&["base", &format!("{}/{reference}", gate.address), "--output", "json"]).json();
            assert_eq!(text(&pulled["platforms"][0]["digest"]), *digest, "{reference}");
        }
        site.run(&["push", "hello/two", "--as", &format!("{}/team/two:v1", gate.address)]).succeeded();
        let cache = format!("oci://{}/team/cache", gate.address);
        site.run(&["push", "--to", &cache, "--sign-key", "good-1.key"]).succeeded();
        assert_eq!(CacheFixture::new().build(&[&cache]).counts(), (0, 7));
    }
    // What a registry says that a document is counts for nothing.
    let hex = digest.strip_prefix("sha256:").unwrap();
    let manifest = site.bench.read(&format!("store/blobs/sha256/{hex}"));
    for kind in ["text/plain", "application/vnd.docker.distribution.manifest.list.v2+json"] {
        let manifest = manifest.clone();
        let gate = FaultProxy::answering(&registry.address, move |asked| match asked.line.contains("/manifests/") {
            true => CannedResponse::new("200 OK", format!("Content-Type: {kind}\r\n"), manifest.clone()),
            false => None,
        });
        assert_eq!(text(&pull(&gate).json()["platforms"][0]["digest"]), *digest, "{kind}");
    }
}
