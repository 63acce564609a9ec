//! Registries, token servers and caches that would have vcbuild go where it has no business, tell its login to others, or read
//! without an end.

use rigs::Run;
use rigs::registry::Registry;
use serde_json::json;
use vcstore::Digest;

use crate::bench::{digests, text};
use crate::fault_proxy::{CannedResponse, FaultProxy, ProxiedRequest};
use crate::fixture::{CacheFixture, built};

/// `user:secret`, as HTTP has it.
const LOGIN: &str = "Basic dXNlcjpzZWNyZXQ=";

/// A registry with the image `team/one:v1`, and the site with its store.
fn with_image() -> (CacheFixture, Registry) {
    let site = CacheFixture::with_the_built_store();
    let registry = Registry::start(&site.bench);
    site.run(&["push", "hello/one", "--as", &format!("{}/team/one:v1", registry.address)]).succeeded();
    (site, registry)
}

/// A site with a login for a gate.
fn with_login(site: CacheFixture, gate: &FaultProxy) -> CacheFixture {
    let logins = json!({"auths": {&gate.address: {"auth": "dXNlcjpzZWNyZXQ="}}});
    site.bench.write("docker/config.json", &logins.to_string());
    site
}

fn pull(site: &CacheFixture, gate: &FaultProxy) -> Run {
    site.run(&["base", &format!("{}/team/one:v1", gate.address), "--output", "json"])
}

/// Has who asks log in with name and password.
fn with_password(asked: &ProxiedRequest<'_>, answer: impl Fn() -> Option<CannedResponse>) -> Option<CannedResponse> {
    let challenge = "WWW-Authenticate: Basic realm=\"x\"\r\n";
    if asked.authorization == LOGIN { answer() } else { CannedResponse::new("401 Unauthorized", challenge, "") }
}

fn moved(to: &str) -> Option<CannedResponse> {
    CannedResponse::new("307 Temporary Redirect", format!("Location: {to}\r\n"), "")
}

#[test]
fn a_redirect_leads_to_other_servers_and_takes_no_login_there() {
    let (_site, registry) = with_image();
    let storage = std::sync::Arc::new(FaultProxy::answering(&registry.address, |asked| match asked.authorization {
        "" => None,
        _ => CannedResponse::new("400 Bad Request", "", ""),
    }));
    // Another name of this machine is another host.
    let there = storage.address.replace("127.0.0.1", "localhost");
    let gate = FaultProxy::answering(&registry.address, move |asked| {
        let path = asked.line.split(' ').nth(1).unwrap_or_default().to_owned();
        with_password(asked, || if path.contains("/blobs/") { moved(&format!("http://{there}{path}")) } else { None })
    });
    let site = with_login(CacheFixture::new(), &gate);
    let pulled = pull(&site, &gate).json();
    assert_eq!(text(&pulled["platforms"][0]["digest"]), digests(built())["one"]);
    assert!(storage.requests().len() >= 2, "{:?}", storage.requests());
}

#[test]
fn a_redirect_leads_nowhere_else() {
    let (_site, registry) = with_image();
    for (to, why) in [
        ("http://169.254.169.254/latest/meta-data/", "it redirects to http://169.254.169.254, a link-local address"),
        ("http://[fe80::1]/", "it redirects to http://[fe80::1], a link-local address"),
        ("http://0.0.0.0:1/", "which is not a valid server address"),
        ("file:///etc/passwd", ""),
    ] {
        let gate = FaultProxy::answering(&registry.address, move |_| moved(to));
        let run = pull(&CacheFixture::new(), &gate);
        run.failed(1, &["pulling v1 of 127.0.0.1:", why]);
        assert_eq!(gate.requests().len(), 1, "it is asked again: {:?}", gate.requests());
    }
    let gate = FaultProxy::answering(&registry.address, |asked| moved(&format!("http://{}/v2/again", asked.gate)));
    pull(&CacheFixture::new(), &gate).failed(1, &["it redirects more than 10 times"]);
    assert_eq!(gate.requests().len(), 11, "{:?}", gate.requests());

    // A cache that does so is left out, and the build is right all the same.
    let gate = FaultProxy::answering(&registry.address, |_| moved("http://169.254.169.254/latest/meta-data/"));
    let run = CacheFixture::new().build(&[&format!("http://{}", gate.address)]);
    assert!(
        run.stderr.contains("not using it for the rest of this run: ") && run.stderr.contains("a link-local address"),
        "{run:?}"
    );
}

#[test]
fn a_login_goes_to_no_token_server_that_others_can_listen_to() {
    let (_site, registry) = with_image();
    for (realm, why) in [
        (
            "http://registry.invalid/token",
            "requests that the credentials be sent to another server, http://registry.invalid, without TLS",
        ),
        (
            "http://192.0.2.1:80/token",
            "requests that the credentials be sent to another server, http://192.0.2.1, without TLS",
        ),
        ("http://169.254.169.254/token", "its token server is at http://169.254.169.254, a link-local address"),
        ("https://[fe80::1]/token", "a link-local address"),
        ("file:///etc/passwd", "its token server is at file://, which is not an HTTP or HTTPS address"),
        ("no address", "the address of its token server is not a valid URL"),
    ] {
        let gate = FaultProxy::answering(&registry.address, move |_| {
            CannedResponse::new("401 Unauthorized", format!("WWW-Authenticate: Bearer realm=\"{realm}\"\r\n"), "")
        });
        let site = with_login(CacheFixture::new(), &gate);
        pull(&site, &gate).failed(1, &[why]);
        assert_eq!(gate.requests().len(), 1, "{:?}", gate.requests());
    }
    // Nor to the one that a token server names, be it in the address or in what is posted.
    for kind in ["auth", "identitytoken"] {
        let other =
            FaultProxy::answering(&registry.address, |_| CannedResponse::new("200 OK", "", r#"{"token": "stolen"}"#));
        let there = other.address.replace("127.0.0.1", "localhost");
        let gate = FaultProxy::answering(&registry.address, move |asked| match asked.line.contains(" /token") {
            true => moved(&format!("http://{there}/token")),
            false => {
                let realm = format!("WWW-Authenticate: Bearer realm=\"http://{}/token\"\r\n", asked.gate);
                CannedResponse::new("401 Unauthorized", realm, "")
            }
        });
        let site = CacheFixture::new();
        let logins = json!({"auths": {&gate.address: {kind: "dXNlcjpzZWNyZXQ="}}});
        site.bench.write("docker/config.json", &logins.to_string());
        pull(&site, &gate)
            .failed(1, &["it redirects to localhost, a different server, to which credentials are not sent"]);
        assert_eq!(other.requests(), [""; 0]);
    }
}

#[test]
fn an_upload_goes_on_elsewhere_without_the_login() {
    let (site, registry) = with_image();
    let storage = std::sync::Arc::new(FaultProxy::answering(&registry.address, |asked| match asked.authorization {
        "" => CannedResponse::new("201 Created", "", ""),
        _ => CannedResponse::new("400 Bad Request", "", ""),
    }));
    let there = storage.address.replace("127.0.0.1", "localhost");
    let begin = |asked: &ProxiedRequest<'_>, to: &str| match asked.line.starts_with("POST") {
        true => CannedResponse::new("202 Accepted", format!("Location: {to}\r\n"), ""),
        false => None,
    };
    let gate = FaultProxy::answering(&registry.address, move |asked| {
        // What was sent elsewhere is not in this registry: its manifest is taken for good.
        let answer = || match asked.line.starts_with("PUT") {
            true => CannedResponse::new("201 Created", "", ""),
            false => begin(asked, &format!("http://{there}/upload?signature=a%2Fb%3D")),
        };
        with_password(asked, answer)
    });
    let site = with_login(site, &gate);
    site.run(&["push", "hello/two", "--as", &format!("{}/other/two:v1", gate.address)]).succeeded();
    let sent = storage.requests();
    let signed = "PUT /upload?signature=a%2Fb%3D&digest=sha256%3A";
    assert!(sent.len() == 2 && sent.iter().all(|request| request.starts_with(signed)), "{sent:?}");

    for (to, why) in [
        ("http://169.254.169.254/latest/", "its upload location is http://169.254.169.254, a link-local address"),
        ("ftp://registry.invalid/", "which is not an HTTP or HTTPS address"),
        ("http://[", "its response has no upload location"),
    ] {
        let gate = FaultProxy::answering(&registry.address, move |asked| begin(asked, to));
        site.run(&["push", "hello/two", "--as", &format!("{}/other/two:v1", gate.address)]).failed(1, &[why]);
    }
}

#[test]
fn what_a_registry_sends_has_an_end_and_is_what_its_digest_says() {
    let (_site, registry) = with_image();
    let long = "x".repeat(5 << 20);
    let manifests = |answer: fn(&str) -> Option<CannedResponse>| {
        let long = long.clone();
        FaultProxy::answering(&registry.address, move |asked| match asked.line.contains("/manifests/") {
            true => answer(&long),
            false => None,
        })
    };
    let site = CacheFixture::new();
    pull(&site, &manifests(|long| CannedResponse::new("200 OK", "", long)))
        .failed(1, &["its response is longer than 4194304 bytes"]);
    let cut = |_: &str| CannedResponse::new("200 OK", "Content-Length: 4000000\r\n", "{\"manifests\": [");
    pull(&site, &manifests(cut)).failed(1, &["pulling v1 of "]);
    let short = |_: &str| CannedResponse::new("200 OK", "Content-Length: 5\r\n", "{\"manifests\": []}");
    pull(&site, &manifests(short)).failed(1, &["pulling v1 of "]);
    let header = |long: &str| CannedResponse::new("200 OK", format!("X-Long: {}\r\n", &long[..1 << 20]), "{}");
    pull(&site, &manifests(header)).failed(1, &["pulling v1 of "]);

    // An index that names more and more indexes.
    let gate = FaultProxy::answering(&registry.address, |asked| {
        let path = asked.line.split(' ').nth(1)?;
        let index = |number: usize| {
            let kind = "application/vnd.oci.image.index.v1+json";
            let below = |number: usize| json!({"mediaType": kind, "size": 2, "digest": Digest::of(number.to_string().as_bytes())});
            json!({"schemaVersion": 2, "mediaType": kind, "manifests": (0..number).map(below).collect::<Vec<_>>()})
                .to_string()
        };
        if path.ends_with("/v1") { CannedResponse::new("200 OK", "", index(40)) } else { None }
    });
    pull(&site, &gate).failed(1, &["pulling sha256:"]);

    // A manifest by its digest that is another, a blob that is another, and one that goes on.
    let digest = digests(built())["one"].clone();
    let by_digest = |gate: &FaultProxy| site.run(&["base", &format!("{}/team/one@{digest}", gate.address)]);
    let other = manifests(|_| CannedResponse::new("200 OK", "", "{\"manifests\": []}"));
    by_digest(&other).failed(1, &["it returned sha256:", "instead"]);
    let blobs = |body: String| {
        FaultProxy::answering(&registry.address, move |asked| match asked.line.contains("/blobs/") {
            true => CannedResponse::new("200 OK", "", body.clone()),
            false => None,
        })
    };
    by_digest(&blobs(long.clone())).failed(1, &["it is longer than the "]);
    by_digest(&blobs("short".to_owned())).failed(1, &["it ends after 5 of "]);
    assert!(site.nothing_is_half_done());

    // A token larger than any.
    let token = format!("{{\"token\": \"{}\"}}", "t".repeat(2 << 20));
    let gate = FaultProxy::answering(&registry.address, move |asked| match asked.line.contains(" /token") {
        true => CannedResponse::new("200 OK", "", token.clone()),
        false => {
            let realm = format!("WWW-Authenticate: Bearer realm=\"http://{}/token\"\r\n", asked.gate);
            CannedResponse::new("401 Unauthorized", realm, "")
        }
    });
    pull(&site, &gate).failed(1, &["logging in for pulling v1", "its response is longer than 1048576 bytes"]);
}
