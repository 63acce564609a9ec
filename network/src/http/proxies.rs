//! The proxies of the environment (`HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`, or their names in lower case),
//! and the exceptions. As in Go, a server on this machine is never contacted through a proxy: requests to it, including
//! credentials, would leave the machine in plain text.
//!
//! The HTTP client's own support for these variables is not used: it has no such rule, and does not support ports in
//! `NO_PROXY`.

use std::ffi::OsString;
use std::net::IpAddr;
use std::process::Command;

use ipnet::IpNet;
use reqwest::Url;

use super::redirects::{address, is_loopback};

/// The supported schemes of a proxy.
const SCHEMES: [&str; 6] = ["http", "https", "socks5", "socks5h", "socks4", "socks4a"];

/// The exception for this machine in the environment of programs that vcbuild starts, in the syntax of curl, git and
/// Go.
const THIS_MACHINE: &str = "localhost,127.0.0.1,127.0.0.0/8,::1";

/// The proxies of the environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Proxies {
    http: Option<Url>,
    https: Option<Url>,
    /// The value of `NO_PROXY`.
    no: String,
    exceptions: Vec<NoProxyEntry>,
}

/// A variable names a proxy that cannot be used. The message does not contain its value, which may include a password.
#[derive(Debug, Clone, thiserror::Error, miette::Diagnostic, PartialEq, Eq)]
#[error("using the proxy in {variable}: {why}")]
#[diagnostic(help(
    "set {variable} to an address such as http://proxy.example:3128 or socks5://proxy.example:1080, or unset it"
))]
pub struct BadProxy {
    variable: &'static str,
    why: &'static str,
}

/// An entry of `NO_PROXY`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum NoProxyEntry {
    All,
    Network(IpNet, Option<u16>),
    /// A name and its subdomains.
    Name(String, Option<u16>),
}

impl Proxies {
    /// Reads the proxies from this process's environment.
    ///
    /// # Errors
    /// Returns an error if a variable names a proxy that cannot be used.
    pub(super) fn of_environment() -> Result<Self, BadProxy> {
        Self::of_variables(|name| std::env::var_os(name))
    }

    fn of_variables(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, BadProxy> {
        // A web server sets HTTP_PROXY in the environment of a CGI program to the `Proxy` header of the request.
        let is_cgi = variable("REQUEST_METHOD").is_some();
        let find = |names: &[&'static str]| {
            let set = names.iter().map(|name| (*name, variable(name).unwrap_or_default()));
            set.filter(|(name, _)| !(is_cgi && *name == "HTTP_PROXY")).find(|(_, value)| !value.is_empty())
        };
        let proxy = |names: &[&'static str]| find(names).map(|(name, value)| proxy(name, &value)).transpose();
        let no = find(&["NO_PROXY", "no_proxy"]).map(|(_, value)| value.to_string_lossy().into_owned());
        let no = no.unwrap_or_default();
        Ok(Self {
            http: proxy(&["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])?,
            https: proxy(&["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])?,
            exceptions: no.split([',', ' ', '\t']).filter_map(NoProxyEntry::parse).collect(),
            no,
        })
    }

    /// Returns the proxy for `url`, or `None` for a direct connection.
    pub(super) fn of(&self, url: &Url) -> Option<&Url> {
        let proxy = if url.scheme() == "https" { &self.https } else { &self.http };
        proxy.as_ref().filter(|_| !is_loopback(url) && !self.exceptions.iter().any(|exception| exception.fits(url)))
    }

    /// Returns the variables that make other programs choose the same proxies; those without a value must be unset.
    fn variables(&self) -> impl Iterator<Item = (&'static str, Option<String>)> {
        let no = match self.exceptions.contains(&NoProxyEntry::All) {
            // In combination with other entries, some programs ignore it.
            true => "*".to_owned(),
            false if self.no.is_empty() => THIS_MACHINE.to_owned(),
            false => format!("{},{THIS_MACHINE}", self.no),
        };
        let [http, https] = [&self.http, &self.https].map(|url| url.as_ref().map(Url::to_string));
        [
            ("HTTP_PROXY", http.clone()),
            ("http_proxy", http),
            ("HTTPS_PROXY", https.clone()),
            ("https_proxy", https),
            ("NO_PROXY", Some(no.clone())),
            ("no_proxy", Some(no)),
        ]
        .into_iter()
    }
}

/// Makes a program that downloads something, such as git, Go or Cargo, use the same proxies as vcbuild. If the
/// environment names one that cannot be used, the program itself reports the error.
pub fn of_programs(command: &mut Command) -> &mut Command {
    for (name, value) in Proxies::of_environment().iter().flat_map(Proxies::variables) {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

/// Parses the address of a proxy, in which `http://` is optional.
fn proxy(variable: &'static str, value: &OsString) -> Result<Url, BadProxy> {
    let bad = |why| BadProxy { variable, why };
    let value = value.to_str().ok_or(bad("it is not UTF-8"))?.trim();
    let address = if value.contains("://") { value.to_owned() } else { format!("http://{value}") };
    let url = Url::parse(&address).map_err(|_| bad("it is not a valid URL"))?;
    if !SCHEMES.contains(&url.scheme()) {
        return Err(bad("its scheme must be http, https, socks4 or socks5"));
    }
    if url.host_str().is_none_or(str::is_empty) { Err(bad("it has no host name")) } else { Ok(url) }
}

impl NoProxyEntry {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase();
        if text == "*" {
            return Some(Self::All);
        }
        if let Ok(network) = text.parse::<IpNet>() {
            return Some(Self::Network(network, None));
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Some(Self::Network(address.to_canonical().into(), None));
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port.parse().ok()?)),
            _ => (text.as_str(), None),
        };
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if let Ok(address) = bare.parse::<IpAddr>() {
            return Some(Self::Network(address.to_canonical().into(), port));
        }
        let name = host.strip_prefix('*').unwrap_or(host).trim_matches('.');
        (!name.is_empty()).then(|| Self::Name(name.to_owned(), port))
    }

    fn fits(&self, url: &Url) -> bool {
        let is_at = |port: &Option<u16>| port.is_none() || *port == url.port_or_known_default();
        match self {
            Self::All => true,
            Self::Network(network, port) => {
                is_at(port) && address(url).is_some_and(|address| network.contains(&address))
            }
            Self::Name(name, port) => {
                let host = url.host_str().unwrap_or_default().trim_end_matches('.');
                let above = host.strip_suffix(name.as_str());
                is_at(port) && above.is_some_and(|above| above.is_empty() || above.ends_with('.'))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Proxies;

    fn of(variables: &[(&str, &str)]) -> Proxies {
        let find = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
        Proxies::of_variables(find).unwrap()
    }

    fn asked(proxies: &Proxies, url: &str) -> Option<String> {
        proxies.of(&url.parse().unwrap()).map(ToString::to_string)
    }

    #[test]
    fn each_variable_counts_under_both_of_its_names() {
        let some = |url: &str| Some(url.to_owned());
        for (http, https, no) in [("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"), ("http_proxy", "https_proxy", "no_proxy")]
        {
            let proxies =
                of(&[(http, "proxy.example:3128"), (https, "http://me:pw@secure.example"), (no, "not.example")]);
            assert_eq!(asked(&proxies, "http://a.example"), some("http://proxy.example:3128/"));
            assert_eq!(asked(&proxies, "https://a.example"), some("http://me:pw@secure.example/"));
            assert_eq!(asked(&proxies, "https://not.example"), None);
        }
        for all in ["ALL_PROXY", "all_proxy"] {
            let proxies = of(&[(all, "socks5h://p.example:1080"), ("HTTP_PROXY", "h.example"), ("HTTPS_PROXY", "")]);
            assert_eq!(asked(&proxies, "https://a.example"), some("socks5h://p.example:1080"));
            assert_eq!(asked(&proxies, "http://a.example"), some("http://h.example/"));
        }
        assert_eq!(asked(&of(&[]), "http://a.example"), None);
    }

    #[test]
    fn this_machine_is_reached_without_a_proxy() {
        let proxies = of(&[("ALL_PROXY", "proxy.example:3128")]);
        for url in
            ["http://127.0.0.1:5000", "https://localhost", "http://127.9.9.9", "http://[::1]:5000", "http://LocalHost"]
        {
            assert_eq!(asked(&proxies, url), None, "{url}");
        }
        for url in ["http://127.0.0.1.example", "http://notlocalhost", "http://10.0.0.1", "http://localhost.example"] {
            assert!(asked(&proxies, url).is_some(), "{url}");
        }
    }

    #[test]
    fn exceptions_are_names_numbers_and_networks_with_ports_or_without() {
        let no = "a.example, .b.example *.c.example,10.1.0.0/16,192.0.2.7:5000,[2001:db8::1]:8443,2001:db8:1::/48,D.example:443,";
        let proxies = of(&[("ALL_PROXY", "proxy.example:3128"), ("NO_PROXY", no)]);
        for url in [
            "http://a.example",
            "https://A.EXAMPLE:8443/x",
            "http://x.a.example",
            "http://a.example.",
            "http://b.example",
            "http://x.b.example",
            "http://x.c.example",
            "http://10.1.255.255",
            "http://192.0.2.7:5000",
            "https://[2001:db8::1]:8443",
            "http://[2001:db8:1::9]",
            "http://[::ffff:10.1.2.3]",
            "https://d.example",
            "https://x.d.example:443",
        ] {
            assert_eq!(asked(&proxies, url), None, "{url}");
        }
        for url in [
            "http://nota.example",
            "http://a.example.org",
            "http://10.2.0.0",
            "http://192.0.2.7",
            "http://192.0.2.70:5000",
            "https://[2001:db8::1]",
            "http://d.example",
        ] {
            assert!(asked(&proxies, url).is_some(), "{url}");
        }
        let none = of(&[("ALL_PROXY", "proxy.example:3128"), ("no_proxy", "x.example, *")]);
        assert_eq!((asked(&none, "https://a.example"), asked(&none, "http://10.0.0.1")), (None, None));
    }

    #[test]
    fn who_asks_a_cgi_program_does_not_choose_its_proxy() {
        let cgi = ("REQUEST_METHOD", "GET");
        assert_eq!(asked(&of(&[cgi, ("HTTP_PROXY", "evil.example")]), "http://a.example"), None);
        let both = of(&[cgi, ("HTTP_PROXY", "evil.example"), ("http_proxy", "good.example")]);
        assert_eq!(asked(&both, "http://a.example").unwrap(), "http://good.example/");
        let told = both.variables().find(|(name, _)| *name == "HTTP_PROXY");
        assert_eq!(told.unwrap().1.unwrap(), "http://good.example/", "nor that of what it starts");
    }

    #[test]
    fn what_is_not_a_proxy_is_refused_without_repeating_it() {
        for bad in ["ftp://me:secret@proxy.example", "http://", "http://me:secret@proxy example", "socks5://"] {
            let refusal = Proxies::of_variables(|name| (name == "https_proxy").then(|| bad.into())).unwrap_err();
            assert!(refusal.to_string().starts_with("using the proxy in https_proxy: "), "{bad}: {refusal}");
            assert!(!format!("{refusal:?}").contains("secret"));
        }
    }

    #[test]
    fn programs_are_told_the_same() {
        let of = |no: &str| {
            let proxies = of(&[("ALL_PROXY", "http://p.example:1"), ("no_proxy", no)]);
            proxies.variables().map(|(name, value)| (name, value.unwrap_or_default())).collect::<Vec<_>>()
        };
        let told = of("a.example");
        assert!(told.contains(&("https_proxy", "http://p.example:1/".to_owned())), "{told:?}");
        assert!(told.contains(&("NO_PROXY", "a.example,localhost,127.0.0.1,127.0.0.0/8,::1".to_owned())), "{told:?}");
        assert!(of("a.example,*").contains(&("no_proxy", "*".to_owned())));
    }
}
