//! How a registry's host is reached: with or without TLS, the accepted certificates, and the mirrors that are tried
//! first.

use std::fs;
use std::io;
use std::time::Duration;

use camino::Utf8PathBuf;
use reqwest::{Certificate, Client, Identity};
use vcnetwork::causes;
use vcnetwork::http;
use vcstore::config_folder;

use super::Error;
use super::error::Cause;
use crate::settings::{Registries, Registry};

/// The limits of a client for time and attempts.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// The time limit for establishing a connection.
    pub connect: Duration,
    /// How long a server may be silent in the middle of a response.
    pub silence: Duration,
    /// The number of attempts.
    pub attempts: u32,
}

impl Patience {
    /// Sufficient for required content.
    pub const MUCH: Self = Self { connect: Duration::from_secs(20), silence: Duration::from_secs(60), attempts: 4 };
}

/// A host and how it is reached.
#[derive(Debug, Clone)]
pub(crate) struct Host {
    /// Its name in an image's reference.
    pub name: String,
    /// The prefix of the repository there, such as `prefix/`.
    pub prefix: String,
    pub scheme: &'static str,
    ca: Option<Utf8PathBuf>,
}

impl Host {
    /// Returns the hosts with the content of `registry`: first its mirrors, then the registry itself.
    pub(crate) fn all(registry: &str, registries: &Registries) -> Vec<Self> {
        let settings = |name: &str| registries.get(name).cloned().unwrap_or_default();
        let mirrors = settings(registry).mirrors;
        let mirrors = mirrors.iter().map(|mirror| {
            let (name, prefix) = mirror.split_once('/').unwrap_or((mirror, ""));
            let prefix = prefix.trim_matches('/');
            let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
            Self::new(name, prefix, &settings(name))
        });
        mirrors.chain([Self::new(registry, String::new(), &settings(registry))]).collect()
    }

    fn new(name: &str, prefix: String, settings: &Registry) -> Self {
        let plain = settings.plain_http.unwrap_or_else(|| is_loopback(name));
        let scheme = if plain { "http" } else { "https" };
        Self { name: name.to_owned(), prefix, scheme, ca: settings.ca.clone() }
    }

    /// Returns the URL of its API (distribution specification, "Endpoints").
    pub(crate) fn api(&self) -> String {
        let host = if self.name == "docker.io" { "index.docker.io" } else { &self.name };
        format!("{}://{host}/v2/", self.scheme)
    }

    /// Creates a client for this host only, because the certificates of one registry do not apply to another. A client
    /// `for_logins` follows no redirect to another host.
    pub(crate) fn client(&self, patience: Patience, for_logins: bool) -> Result<Client, Error> {
        let mut client = http::client()?.connect_timeout(patience.connect);
        if for_logins {
            client = client.redirect(http::within_its_host());
        }
        if self.scheme == "https" {
            let (authorities, identity) = self.certificates()?;
            if !authorities.is_empty() {
                client = client.tls_certs_merge(authorities);
            }
            if let Some(identity) = identity {
                client = client.identity(identity);
            }
        }
        client.build().map_err(|error| Error::Start(Box::new(Cause(causes(&error)))))
    }

    /// Reads the certificates for the host from the settings and folders of Docker, Podman and the user: `*.crt`
    /// are authorities; `NAME.cert` with `NAME.key` is the client certificate.
    fn certificates(&self) -> Result<(Vec<Certificate>, Option<Identity>), Error> {
        let mut authorities = Vec::new();
        let mut identity = None;
        if let Some(path) = &self.ca {
            authorities.extend(read_authorities(path)?);
        }
        let folders = [
            config_folder().map(|folder| folder.join("containers/certs.d")),
            Some("/etc/containers/certs.d".into()),
            Some("/etc/docker/certs.d".into()),
        ];
        for folder in folders.into_iter().flatten().map(|folder| folder.join(&self.name)) {
            let Ok(entries) = folder.read_dir_utf8() else { continue };
            for entry in entries {
                let path = entry.map_err(unreadable(&folder))?.into_path();
                match path.extension() {
                    Some("crt") => authorities.extend(read_authorities(&path)?),
                    Some("cert") if identity.is_none() => {
                        let pair = [read(&path)?, read(&path.with_extension("key"))?].concat();
                        identity = Some(Identity::from_pem(&pair).map_err(|why| bad(&path, &why.to_string()))?);
                    }
                    _ => {}
                }
            }
        }
        Ok((authorities, identity))
    }
}

fn read_authorities(path: &Utf8PathBuf) -> Result<Vec<Certificate>, Error> {
    match Certificate::from_pem_bundle(&read(path)?) {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(bad(path, "it contains no certificate")),
        Err(why) => Err(bad(path, &why.to_string())),
    }
}

fn read(path: &Utf8PathBuf) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(unreadable(path))
}

fn unreadable(path: &Utf8PathBuf) -> impl Fn(io::Error) -> Error {
    move |error| bad(path, &error.to_string())
}

fn bad(path: &Utf8PathBuf, why: &str) -> Error {
    Error::Certificates { path: path.clone(), why: why.to_owned() }
}

/// Whether a registry's address is a loopback address, where nobody can eavesdrop. Only then is plain HTTP the default.
fn is_loopback(registry: &str) -> bool {
    format!("http://{registry}/").parse().is_ok_and(|url| http::is_loopback(&url))
}

#[cfg(test)]
mod tests {
    use super::{Host, is_loopback};
    use crate::settings::Registries;

    #[test]
    fn plain_http_is_spoken_to_this_machine_only() {
        for registry in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.1.2.3", "[::1]:5000"] {
            assert!(is_loopback(registry), "{registry}");
        }
        for registry in ["index.docker.io", "localhost.example:5000", "10.0.0.1:5000", "[2001:db8::1]:5000"] {
            assert!(!is_loopback(registry), "{registry}");
        }
    }

    #[test]
    fn mirrors_are_asked_first_and_each_in_its_own_way() {
        let registries: Registries = toml::from_str(
            "[\"docker.io\"]\nmirrors = [\"mirror.example/hub\", \"10.0.0.1:5000\"]\n\
             [\"10.0.0.1:5000\"]\nplain-http = true\n[localhost]\nplain-http = false\n",
        )
        .unwrap();
        let apis = |registry: &str| {
            let hosts = Host::all(registry, &registries);
            hosts.iter().map(|host| host.api() + &host.prefix).collect::<Vec<_>>()
        };
        let expected = ["https://mirror.example/v2/hub/", "http://10.0.0.1:5000/v2/", "https://index.docker.io/v2/"];
        assert_eq!(apis("docker.io"), expected);
        assert_eq!(apis("localhost"), ["https://localhost/v2/"]);
    }
}
