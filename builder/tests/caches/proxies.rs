//! Proxies on the way: which of those in the environment is asked for what, and what is never asked for through one.

use std::process::Command;

use rigs::Run;
use rigs::proxy::ForwardProxy;
use rigs::registry::Registry;
use serde_json::json;

use crate::bench::{digests, text};
use crate::cache_server::{Server, ServerBehaviour};
use crate::fault_proxy::{FaultProxy, ProxyRule};
use crate::fixture::{CacheFixture, Substitution, built, public_key};

/// Has a command find this proxy, and nothing else, in its environment.
fn through<'a>(command: &'a mut Command, variables: &[(&str, String)]) -> &'a mut Command {
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"] {
        command.env_remove(name).env_remove(name.to_lowercase());
    }
    command.envs(variables.iter().map(|(name, value)| (name, value)))
}

/// The same, in every variable that names a proxy.
fn through_all<'a>(command: &'a mut Command, proxy: &ForwardProxy) -> &'a mut Command {
    let address = format!("http://{}", proxy.address);
    let names = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
    through(command, &names.map(|name| (name, address.clone())))
}

#[test]
fn this_machine_is_asked_without_a_proxy() {
    let site = CacheFixture::with_the_built_store();
    let registry = Registry::start(&site.bench);
    let gate = FaultProxy::before(&registry.address, ProxyRule::Token);
    let proxy = ForwardProxy::leading_to("127.0.0.1:1");
    let run = |arguments: &[&str]| Run::of(through_all(&mut site.command(arguments), &proxy));

    // A registry and its token server, with a login that would be sent in clear.
    let logins = json!({"auths": {&gate.address: {"auth": "dXNlcjpzZWNyZXQ="}}});
    site.bench.write("docker/config.json", &logins.to_string());
    let reference = format!("{}/team/one:v1", gate.address);
    run(&["push", "hello/one", "--as", &reference]).succeeded();
    let pulled = run(&["base", &reference, "--output", "json"]).json();
    assert_eq!(text(&pulled["platforms"][0]["digest"]), digests(built())["one"]);
    let by_name = reference.replace("127.0.0.1", "localhost");
    site.bench.write("docker/config.json", &logins.to_string().replace("127.0.0.1", "localhost"));
    run(&["base", &by_name]).succeeded();

    // A cache.
    let server = Server::start(site.cache(), ServerBehaviour::Honest);
    let key = public_key("good-1");
    let other = CacheFixture::new();
    let arguments = ["images", "--source-dir", "hello", "--trust-key", &key, "--substituter", &server.url];
    let mut command = other.command(&[&arguments[..], &["--output", "json"]].concat());
    assert_eq!(Run::of(through_all(&mut command, &proxy)).counts(), (0, 7));

    // A repository that git fetches, and a module proxy that Go and vcbuild itself ask.
    site.bench.commit("hello");
    site.bench.git("hello", &["update-server-info"]);
    let files = Server::start(site.bench.path("hello"), ServerBehaviour::Honest);
    let repository = format!("{}/.git", files.url);
    let project = ["--project", "hello/vcbuild.toml", "--lock", "git.lock", "--components", "one"];
    let clone = ["images", "--source-repo", &repository, "--source-version", "main"];
    run(&[&clone[..], &project].concat()).succeeded();
    assert!(files.requests().iter().any(|request| request.contains("/.git/info/refs")), "{:?}", files.requests());
    let empty = Server::start(site.bench.path("nothing"), ServerBehaviour::Honest);
    let mut command = site.command(&["images", "--source-dir", "hello", "--go", "1.21.13", "--lock", "go.lock"]);
    command.env("GOPROXY", &empty.url).env("GOSUMDB", "off").env("GOMODCACHE", site.bench.path("modules"));
    Run::of(through_all(&mut command, &proxy)).failed(1, &["no proxy in GOPROXY has it"]);
    assert!(!empty.requests().is_empty());

    // A mirror of Debian.
    let mut command = site.command(&["base", "debian", "--lock", "debian.lock"]);
    command.env("VCBUILD_DEBIAN_MIRROR", format!("{}/debian", empty.url));
    Run::of(through_all(&mut command, &proxy)).failed(1, &["the mirror does not have this file"]);
    assert!(empty.requests().iter().any(|request| request.contains("/debian/dists/")), "{:?}", empty.requests());

    assert_eq!(proxy.seen(), [""; 0], "the proxy was asked");
}

#[test]
fn what_is_elsewhere_is_asked_for_through_the_proxy_that_is_named() {
    let origin = CacheFixture::with_the_built_store();
    let registry = Registry::start(&origin.bench);
    origin.run(&["push", "hello/one", "--as", &format!("{}/team/one:v1", registry.address)]).succeeded();
    let proxy = ForwardProxy::leading_to(&registry.address);
    let (http, socks) = (format!("http://{}", proxy.address), format!("socks5h://{}", proxy.address));
    let site = CacheFixture::new();
    site.bench.write("config/vcbuild/config.toml", "[registries.\"registry.invalid\"]\nplain-http = true\n");
    let pull = |variables: &[(&str, String)]| {
        let mut command = site.command(&["base", "registry.invalid/team/one:v1", "--update", "--store", "other"]);
        let run = Run::of(through(&mut command, variables));
        let _ = std::fs::remove_file(site.bench.path("vcbuild.lock"));
        (run, proxy.seen())
    };
    let with_login = http.replace("http://", "http://me:open%20sesame@");
    let named = [
        vec![("HTTP_PROXY", http.clone())],
        vec![("http_proxy", proxy.address.clone())],
        vec![("ALL_PROXY", http.clone()), ("NO_PROXY", "other.invalid,registry.invalid:5000".to_owned())],
        vec![("all_proxy", with_login)],
        vec![("ALL_PROXY", socks)],
    ];
    for variables in &named {
        let (run, seen) = pull(variables);
        run.succeeded();
        assert!(
            seen.iter().all(|head| head.contains("registry.invalid")) && !seen.is_empty(),
            "{variables:?}: {seen:?}"
        );
        let login = seen.iter().all(|head| head.to_lowercase().contains("proxy-authorization: basic "));
        assert_eq!(login, variables[0].0 == "all_proxy", "{variables:?}: {seen:?}");
    }
    let excepted = [
        vec![("HTTP_PROXY", http.clone()), ("NO_PROXY", "*".to_owned())],
        vec![("HTTP_PROXY", http.clone()), ("no_proxy", ".invalid".to_owned())],
        vec![("HTTP_PROXY", http.clone()), ("NO_PROXY", "registry.invalid:80".to_owned())],
        vec![("HTTPS_PROXY", http.clone())],
        // A web server's word for what its client says, where this is a CGI program.
        vec![("HTTP_PROXY", http.clone()), ("REQUEST_METHOD", "GET".to_owned())],
    ];
    for variables in &excepted {
        let (run, seen) = pull(variables);
        run.failed(1, &["registry.invalid"]);
        assert_eq!(seen, [""; 0], "{variables:?}");
    }
    let (run, _) = pull(&[("HTTP_PROXY", "ftp://me:secret@proxy.invalid".to_owned())]);
    run.failed(1, &["using the proxy in HTTP_PROXY: its scheme must be http, https, socks4 or socks5"]);
    assert!(!run.stderr.contains("secret"), "{run:?}");
}
