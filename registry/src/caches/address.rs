//! Addresses of caches: the URLs that `--substituter` and `vcbuild push --to` accept.

use std::fmt;
use std::str::FromStr;

use camino::Utf8PathBuf;
use reqwest::Url;
use vcremote::destination::{is_host, is_user};

use vcstore::reference;

/// The address of a cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// `file:///PATH`: a folder.
    File(Utf8PathBuf),
    /// `https://HOST/PATH` or `http://…`: the same folder, served by a web server.
    Http(Url),
    /// `ssh://[USER@]HOST[:PORT]/PATH`: the same folder on another machine.
    Ssh {
        /// The host.
        host: String,
        /// The login user.
        user: Option<String>,
        /// The port, if it is not the default.
        port: Option<u16>,
        /// The folder there.
        path: String,
    },
    /// `oci://HOST/REPOSITORY`: a repository of a registry.
    Oci {
        /// The host of the registry.
        registry: String,
        /// The repository there.
        repository: String,
    },
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let kinds = "file:///PATH, https://HOST/PATH, http://HOST/PATH, ssh://USER@HOST/PATH or oci://HOST/REPOSITORY";
        let (scheme, rest) =
            text.split_once("://").ok_or_else(|| format!("{text:?} is not the address of a cache: use {kinds}"))?;
        match scheme {
            "file" => match rest {
                path if path.starts_with('/') => Ok(Self::File(Utf8PathBuf::from(path))),
                _ => Err(format!("{text:?} has no absolute path: use file:///PATH")),
            },
            "http" | "https" => http(text),
            "ssh" => ssh(text),
            "oci" => oci(text, rest),
            _ => Err(format!("{text:?} is not the address of a cache: use {kinds}")),
        }
    }
}

impl Address {
    /// Whether it is on this machine, so that its use needs no network.
    pub fn is_folder(&self) -> bool {
        matches!(self, Self::File(_))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file://{path}"),
            Self::Http(url) => f.write_str(url.as_str().trim_end_matches('/')),
            Self::Ssh { host, user, port, path } => {
                let user = user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
                let port = port.map(|port| format!(":{port}")).unwrap_or_default();
                write!(f, "ssh://{user}{host}{port}{path}")
            }
            Self::Oci { registry, repository } => write!(f, "oci://{registry}/{repository}"),
        }
    }
}

fn http(text: &str) -> Result<Address, String> {
    let mut url: Url = text.parse().map_err(|why| format!("{text:?} is not a valid URL: {why}"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("the address of a cache contains credentials, which messages would expose: remove them".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(format!("{text:?} has a query or a fragment: remove the part after '?' or '#'"));
    }
    // With the trailing slash, the paths of files are resolved below the folder and not beside it.
    if !url.path().ends_with('/') {
        url.set_path(&format!("{}/", url.path()));
    }
    Ok(Address::Http(url))
}

fn ssh(text: &str) -> Result<Address, String> {
    let url: Url = text.parse().map_err(|why| format!("{text:?} is not a valid URL: {why}"))?;
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
    let user = url.username();
    if !is_host(&host) || !(user.is_empty() || is_user(user)) {
        return Err(format!("{text:?} has no host: use ssh://USER@HOST/PATH"));
    }
    if url.password().is_some() {
        return Err("the address of a cache contains a password: remove it, and use an SSH key".to_owned());
    }
    if url.path().len() < 2 || url.path().contains('%') {
        return Err(format!("{text:?} has no folder, or one with unsupported characters: use ssh://USER@HOST/PATH"));
    }
    let (user, path) = ((!user.is_empty()).then(|| user.to_owned()), url.path().trim_end_matches('/').to_owned());
    Ok(Address::Ssh { host, user, port: url.port(), path })
}

fn oci(text: &str, rest: &str) -> Result<Address, String> {
    let (registry, repository) =
        rest.split_once('/').ok_or_else(|| format!("{text:?} has no repository: use oci://HOST/REPOSITORY"))?;
    let reference =
        reference::parse(rest).map_err(|why| format!("{text:?} is not a repository of a registry: {why}"))?;
    if reference.registry() != registry || reference.repository() != repository {
        return Err(format!("{text:?} is not a repository: use oci://HOST/REPOSITORY, without a tag"));
    }
    Ok(Address::Oci { registry: registry.to_owned(), repository: repository.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::Address;

    #[test]
    fn a_cache_is_named_in_one_of_five_ways() {
        for text in [
            "file:///var/cache/vcbuild",
            "https://cache.example.org/vcbuild",
            "http://127.0.0.1:8080",
            "ssh://builder@cache.example:2222/srv/vcbuild",
            "ssh://cache/srv",
            "oci://registry.example/team/cache",
            "oci://127.0.0.1:5000/cache",
            "oci://[::1]:5000/team/cache",
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        assert_eq!(
            "https://cache.example.org/a/".parse::<Address>(),
            "https://cache.example.org/a".parse::<Address>(),
            "a slash at the end says nothing"
        );
    }

    #[test]
    fn what_is_no_cache_is_refused() {
        for bad in [
            "",
            "/var/cache",
            "ftp://cache.example",
            "file://relative",
            "https://user:secret@cache.example",
            "https://cache.example?a=b",
            "ssh://-oProxyCommand=x/srv",
            "ssh://-l@host/srv",
            "ssh://$(x)/srv",
            "ssh://a;b@host/srv",
            "ssh://a'b/srv",
            "ssh://user:secret@host/srv",
            "ssh://host",
            "ssh://host/a%20b",
            "oci://registry.example",
            "oci://registry.example/a:v1",
            "oci://registry.example/A B",
        ] {
            assert!(bad.parse::<Address>().is_err(), "{bad:?} must be refused");
        }
    }
}
