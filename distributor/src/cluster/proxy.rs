//! Chooses the proxy for the API server by kubectl's rules, which are those of Go's HTTP client. A kubeconfig's
//! `proxy-url` applies to any server; otherwise HTTPS_PROXY or HTTP_PROXY apply, unless the server is in NO_PROXY or
//! has a loopback address.

use std::fmt;
use std::net::IpAddr;

use http::Uri;
use ipnet::IpNet;

/// A proxy and its source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Proxy {
    /// Its address, including user and password.
    pub(super) url: Uri,
    /// `proxy-url`, or the variable's name.
    said_by: &'static str,
}

/// The proxy variables of this process that are set and not empty.
#[derive(Debug, Clone, Default)]
pub(super) struct Variables {
    http: Option<(&'static str, String)>,
    https: Option<(&'static str, String)>,
    no_proxy: String,
}

/// Why a proxy cannot be used. The message contains no password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{said_by} is not the address of a proxy: {why}")]
pub(super) struct BadProxy {
    said_by: &'static str,
    why: String,
}

impl Variables {
    pub(super) fn of_this_process() -> Self {
        Self::of(|name| std::env::var(name).ok())
    }

    /// Names in capitals take precedence.
    fn of(value: impl Fn(&str) -> Option<String>) -> Self {
        let set = |names: [&'static str; 2]| {
            names.into_iter().find_map(|name| Some((name, value(name).filter(|value| !value.is_empty())?)))
        };
        Self {
            http: set(["HTTP_PROXY", "http_proxy"]),
            https: set(["HTTPS_PROXY", "https_proxy"]),
            no_proxy: set(["NO_PROXY", "no_proxy"]).map(|(_, value)| value).unwrap_or_default(),
        }
    }
}

/// Returns the proxy for `server`, or `None` for a direct connection.
pub(super) fn choose(proxy_url: Option<&str>, server: &Uri, variables: &Variables) -> Result<Option<Proxy>, BadProxy> {
    if let Some(url) = proxy_url.filter(|url| !url.is_empty()) {
        return read("proxy-url", url).map(Some);
    }
    let variable = if server.scheme_str() == Some("http") { &variables.http } else { &variables.https };
    let Some((name, value)) = variable.as_ref().filter(|_| !is_exempt(server, &variables.no_proxy)) else {
        return Ok(None);
    };
    // In a variable, the scheme is optional.
    let url = if value.contains("://") { value.clone() } else { format!("http://{value}") };
    read(name, &url).map(Some)
}

fn read(said_by: &'static str, url: &str) -> Result<Proxy, BadProxy> {
    let bad = |why: &str| BadProxy { said_by, why: why.to_owned() };
    let (scheme, rest) =
        url.split_once("://").ok_or_else(|| bad("it does not begin with http://, https:// or socks5://"))?;
    // The proxy resolves names in either case.
    let scheme = if scheme == "socks5h" { "socks5" } else { scheme };
    if !["http", "https", "socks5"].contains(&scheme) {
        return Err(bad(&format!("its scheme is {scheme}, and http, https and socks5 are supported")));
    }
    let url: Uri =
        format!("{scheme}://{rest}").parse().map_err(|error: http::uri::InvalidUri| bad(&error.to_string()))?;
    let authority = url.authority().map(http::uri::Authority::as_str).unwrap_or_default();
    if scheme == "socks5" && authority.contains('@') {
        return Err(bad("a user and a password for a socks5 proxy are not supported"));
    }
    if url.host().is_none_or(str::is_empty) { Err(bad("it names no host")) } else { Ok(Proxy { url, said_by }) }
}

/// Whether the connection to a server is direct regardless of the proxy variables.
fn is_exempt(server: &Uri, no_proxy: &str) -> bool {
    let host = server.host().unwrap_or_default().trim_matches(['[', ']']).trim_end_matches('.').to_ascii_lowercase();
    let address: Option<IpAddr> = host.parse().ok();
    if host == "localhost" || address.is_some_and(|address| address.is_loopback()) {
        return true;
    }
    let port = server.port_u16().unwrap_or(if server.scheme_str() == Some("http") { 80 } else { 443 });
    let exceptions = no_proxy.split(',').map(str::trim).filter(|exception| !exception.is_empty());
    exceptions.map(str::to_ascii_lowercase).any(|exception| matches(&exception, &host, address, port))
}

/// Whether an entry of NO_PROXY matches this host: `*`, an address range, or an address or name with or without a port.
/// A name also matches its subdomains; with a leading dot, only these.
fn matches(exception: &str, host: &str, address: Option<IpAddr>, port: u16) -> bool {
    if exception == "*" {
        return true;
    }
    if let Ok(range) = exception.parse::<IpNet>() {
        return address.is_some_and(|address| range.contains(&address));
    }
    let (name, its_port) = match exception.rsplit_once(':') {
        Some((name, digits)) if !name.contains(':') || name.ends_with(']') => match digits.parse::<u16>() {
            Ok(port) => (name, Some(port)),
            Err(_) => return false,
        },
        _ => (exception, None),
    };
    if its_port.is_some_and(|its_port| its_port != port) {
        return false;
    }
    let name = name.trim_matches(['[', ']']);
    if let Ok(exempt) = name.parse::<IpAddr>() {
        return address == Some(exempt);
    }
    let below = name.strip_prefix('*').unwrap_or(name);
    match below.strip_prefix('.') {
        Some(_) => host.ends_with(below),
        None => host == name || host.strip_suffix(name).is_some_and(|rest| rest.ends_with('.')),
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = self.url.authority().map(http::uri::Authority::as_str).unwrap_or_default();
        let host = authority.rsplit('@').next().unwrap_or_default();
        write!(f, "{}://{host} ({})", self.url.scheme_str().unwrap_or_default(), self.said_by)
    }
}

#[cfg(test)]
mod tests {
    use super::{Variables, choose};

    fn variables(set: &[(&'static str, &str)]) -> Variables {
        Variables::of(|name| set.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned()))
    }

    fn chosen(proxy_url: Option<&str>, server: &str, set: &[(&'static str, &str)]) -> String {
        match choose(proxy_url, &server.parse().unwrap(), &variables(set)) {
            Ok(None) => "none".to_owned(),
            Ok(Some(proxy)) => proxy.to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_variable_holds_for_its_scheme_and_capitals_come_first() {
        let set = [("HTTPS_PROXY", "http://p:3128"), ("https_proxy", "http://q:1"), ("http_proxy", "r:8080")];
        assert_eq!(chosen(None, "https://api:6443", &set), "http://p:3128 (HTTPS_PROXY)");
        assert_eq!(chosen(None, "http://api:6443", &set), "http://r:8080 (http_proxy)");
        assert_eq!(chosen(None, "https://api:6443", &[("HTTPS_PROXY", ""), ("ALL_PROXY", "http://p:1")]), "none");
    }

    #[test]
    fn loopback_and_what_no_proxy_names_are_asked_directly() {
        let direct = |server: &str, no_proxy: &str| {
            chosen(None, server, &[("HTTPS_PROXY", "http://p:3128"), ("NO_PROXY", no_proxy)]) == "none"
        };
        for server in ["https://localhost:6443", "https://127.0.0.1:6443", "https://127.9.9.9", "https://[::1]:6443"] {
            assert!(direct(server, ""), "{server}");
        }
        for (server, no_proxy) in [
            ("https://api.example.com:6443", "*"),
            ("https://api.example.com:6443", "localhost, example.com"),
            ("https://API.example.com:6443", ".Example.com,,"),
            ("https://api.example.com:6443", "*.example.com"),
            ("https://example.com", "example.com"),
            ("https://api.example.com:6443", "api.example.com:6443"),
            ("https://example.com", "example.com:443"),
            ("https://10.1.2.3:6443", "10.0.0.0/8"),
            ("https://10.1.2.3:6443", "192.168.0.1,10.1.2.3"),
            ("https://10.1.2.3:6443", "10.1.2.3:6443"),
            ("https://[fd00::1]:6443", "fd00::/8"),
            ("https://[fd00::1]:6443", "[fd00::1]:6443"),
            ("https://[fd00::1]:6443", "fd00::1"),
        ] {
            assert!(direct(server, no_proxy), "{server} {no_proxy}");
        }
        for (server, no_proxy) in [
            ("https://api.example.com:6443", ""),
            ("https://example.com", ".example.com"),
            ("https://example.com", "*.example.com"),
            ("https://notexample.com", "example.com"),
            ("https://api.example.com:6443", "api.example.com:443"),
            ("https://10.1.2.3:6443", "10.1.2.4,11.0.0.0/8,10.1.2"),
            // NO_PROXY does not apply to the proxy itself.
            ("https://api:6443", "p"),
        ] {
            assert!(!direct(server, no_proxy), "{server} {no_proxy}");
        }
    }

    #[test]
    fn a_kubeconfigs_proxy_holds_for_any_server_and_says_no_password() {
        let set = [("HTTPS_PROXY", "http://p:3128"), ("NO_PROXY", "*")];
        assert_eq!(
            chosen(Some("socks5://127.0.0.1:1080"), "https://127.0.0.1:6443", &set),
            "socks5://127.0.0.1:1080 (proxy-url)"
        );
        assert_eq!(chosen(Some("https://u:secret@q:1"), "https://api", &set), "https://q:1 (proxy-url)");
        for (url, why) in [
            ("q:1", "it does not begin with http://, https:// or socks5://"),
            ("ftp://u:secret@q:1", "its scheme is ftp, and http, https and socks5 are supported"),
            ("socks5://u:secret@q:1", "a user and a password for a socks5 proxy are not supported"),
        ] {
            assert_eq!(
                chosen(Some(url), "https://api", &[]),
                format!("proxy-url is not the address of a proxy: {why}")
            );
        }
    }
}
