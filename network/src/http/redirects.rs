//! Checks the URLs to which a server directs its client: redirects, upload locations and token servers.

use std::net::{IpAddr, Ipv6Addr};

use reqwest::Url;

/// Checks that a server at `from` may direct its client to `to`: with TLS if `from` has TLS, and neither to this
/// machine nor to link-local addresses from elsewhere.
///
/// # Errors
/// Returns the destination, without parts that may be secret, and the reason if it is not permitted.
pub fn check_redirect(from: &Url, to: &Url) -> Result<(), String> {
    let place = format!("{}://{}", to.scheme(), to.host_str().unwrap_or_default());
    if !matches!(to.scheme(), "http" | "https") {
        return Err(format!("{place}, which is not an HTTP or HTTPS address"));
    }
    if from.scheme() == "https" && to.scheme() == "http" {
        return Err(format!("{place}, without TLS: anyone on the network path could read and change the data"));
    }
    if to.host_str() == from.host_str() {
        return Ok(());
    }
    let refused = "a server must not direct its clients there";
    match address(to) {
        _ if is_loopback(to) && !is_loopback(from) => Err(format!("{place}, which is this machine: {refused}")),
        Some(address) if is_link_local(address) => Err(format!("{place}, a link-local address: {refused}")),
        Some(address) if address.is_unspecified() || address.is_multicast() => {
            Err(format!("{place}, which is not a valid server address"))
        }
        _ => Ok(()),
    }
}

/// Whether a URL refers to a loopback address, where nobody else can eavesdrop.
pub fn is_loopback(url: &Url) -> bool {
    url.host_str() == Some("localhost") || address(url).is_some_and(|address| address.is_loopback())
}

/// Whether an address is link-local (RFC 3927; RFC 4291, section 2.5.6), or another one at which a cloud provides
/// secrets to its machines.
pub(super) fn is_link_local(address: IpAddr) -> bool {
    /// The IPv6 address of a cloud's metadata service.
    const METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    match address.to_canonical() {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local() || address == METADATA,
    }
}

/// Returns the host if it is an IP address, which the URL parser has normalized.
pub(super) fn address(url: &Url) -> Option<IpAddr> {
    let host = url.host_str()?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Some(host.parse::<IpAddr>().ok()?.to_canonical())
}

#[cfg(test)]
mod tests {
    use reqwest::Url;

    use super::{check_redirect, is_loopback};

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    #[test]
    fn a_server_leads_to_other_servers_only() {
        for (from, to) in [
            ("https://registry.example/a", "https://storage.example/b?signature=c"),
            ("http://registry.example/a", "http://storage.example/b"),
            ("http://registry.example/a", "https://registry.example/a"),
            ("http://10.0.0.1:5000/", "http://10.0.0.2:9000/"),
            ("http://127.0.0.1:5000/", "http://localhost:5001/"),
            ("http://localhost:5000/", "http://[::1]:5001/"),
            ("http://169.254.7.7:5000/", "http://169.254.7.7:5001/"),
        ] {
            assert_eq!(check_redirect(&url(from), &url(to)), Ok(()), "{from} → {to}");
        }
        for (from, to, why) in [
            ("https://registry.example/", "http://registry.example/", "without TLS"),
            ("https://127.0.0.1:5000/", "http://127.0.0.1:5001/", "without TLS"),
            ("http://registry.example/", "file:///etc/passwd", "not an HTTP or HTTPS address"),
            ("http://registry.example/", "http://169.254.169.254/latest/", "link-local"),
            ("http://127.0.0.1:5000/", "http://169.254.169.254/latest/", "link-local"),
            ("http://registry.example/", "http://0xa9fea9fe/", "link-local"),
            ("http://registry.example/", "http://2852039166/", "link-local"),
            ("http://registry.example/", "http://[::ffff:169.254.169.254]/", "link-local"),
            ("http://registry.example/", "http://[fe80::1]/", "link-local"),
            ("http://registry.example/", "http://[fd00:ec2::254]/", "link-local"),
            ("http://169.254.7.7:5000/", "http://169.254.169.254/", "link-local"),
            ("http://registry.example/", "http://127.0.0.1:8080/", "this machine"),
            ("http://registry.example/", "http://127.1:8080/", "this machine"),
            ("http://registry.example/", "http://LOCALHOST:8080/", "this machine"),
            ("http://registry.example/", "http://[::ffff:127.0.0.1]/", "this machine"),
            ("http://registry.example/", "http://0.0.0.0:8080/", "not a valid server address"),
            ("http://registry.example/", "http://[::]:8080/", "not a valid server address"),
        ] {
            let refusal = check_redirect(&url(from), &url(to)).unwrap_err();
            assert!(refusal.contains(why), "{from} → {to}: {refusal}");
        }
        let refusal =
            check_redirect(&url("https://a.example"), &url("http://me:secret@b.example/c?token=secret")).unwrap_err();
        assert!(!refusal.contains("secret"), "{refusal}");
    }

    #[test]
    fn only_this_machine_is_loopback() {
        for this in ["http://localhost:5000", "http://127.1.2.3", "http://[::1]:5000", "http://[::ffff:127.0.0.1]"] {
            assert!(is_loopback(&url(this)), "{this}");
        }
        for other in ["http://localhost.example", "http://10.0.0.1", "http://[2001:db8::1]", "http://0.0.0.0"] {
            assert!(!is_loopback(&url(other)), "{other}");
        }
    }
}
