//! A client of Go module proxies (`go help goproxy`): tries the entries of `GOPROXY` in order. Fetches Go itself; all
//! other modules are fetched by Go.

use std::fs::File;
use std::io::{self, Write};
use std::sync::OnceLock;
use std::time::Duration;

use camino::Utf8PathBuf;
use futures::TryStreamExt;
use reqwest::{Client, StatusCode};
use vcnetwork::http::{self, Moved};
use vcnetwork::{Network, Offline, Permit, causes};

use crate::error::ToolchainError;

const CONNECT_LIMIT: Duration = Duration::from_secs(20);

/// The maximum time without data while a response is received.
const SILENCE_LIMIT: Duration = Duration::from_secs(60);

/// The number of attempts per proxy.
const ATTEMPTS: u32 = 4;

/// The proxies, in the order of requests.
pub(super) struct Proxies {
    entries: Vec<ProxyEntry>,
    /// The permission to use the network; without it, only folders are used.
    permit: Result<Permit, Offline>,
    /// The HTTP client. Created on first use, because its creation fails on a machine without certificates.
    client: OnceLock<Client>,
    runtime: tokio::runtime::Runtime,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct ProxyEntry {
    address: Address,
    /// Whether any failure leads to the next entry (`|`), rather than only a missing file (`,`).
    any_failure: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Address {
    Folder(Utf8PathBuf),
    Web(String),
}

/// The reason why a proxy did not return a file.
enum FetchError {
    Missing,
    /// A failure that may be temporary, with the delay that the server requested.
    Network(String, Option<Duration>),
    Final(String),
}

impl Proxies {
    /// Parses a `GOPROXY` setting. Offline, only folders are used.
    pub(super) fn new(setting: &str, network: &Network) -> Result<Self, crate::Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|why| crate::Error::Internal(format!("setting up the network: {why}")))?;
        let (permit, client) = (network.permit("fetching Go"), OnceLock::new());
        Ok(Self { entries: entries(setting)?, permit, client, runtime })
    }

    /// Fetches a small file; `None` if no proxy has it.
    pub(super) fn get(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>, crate::Error> {
        let mut bytes = Vec::new();
        Ok(self.fetch(path, limit, &mut bytes, Vec::clear)?.then_some(bytes))
    }

    /// Fetches a small file from an address that is not a proxy.
    pub(super) fn get_from(&self, address: &str, path: &str, limit: u64) -> Result<Option<Vec<u8>>, crate::Error> {
        let mut bytes = Vec::new();
        let entry = ProxyEntry { address: Address::Web(address.to_owned()), any_failure: false };
        Ok(self.fetch_from(&entry, path, limit, &mut bytes, &Vec::clear)?.then_some(bytes))
    }

    /// Fetches a large file into `file`.
    pub(super) fn download(&self, path: &str, limit: u64, file: &mut File) -> Result<(), crate::Error> {
        let again = |file: &mut File| {
            // If the file cannot be truncated, its checksum will not match.
            let _ = file.set_len(0).and_then(|()| io::Seek::rewind(file));
        };
        if self.fetch(path, limit, file, again)? {
            return Ok(());
        }
        Err(ToolchainError::NotThere { path: path.to_owned() }.into())
    }

    fn fetch<W: Write>(
        &self,
        path: &str,
        limit: u64,
        to: &mut W,
        again: impl Fn(&mut W),
    ) -> Result<bool, crate::Error> {
        for entry in &self.entries {
            match self.fetch_from(entry, path, limit, to, &again) {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                Err(error) if entry.any_failure => tracing::warn!(%error, "asking the next proxy"),
                Err(error) => return Err(error),
            }
        }
        match &self.permit {
            Err(offline) => Err(offline.clone().into()),
            Ok(_) => Ok(false),
        }
    }

    fn fetch_from<W: Write>(
        &self,
        entry: &ProxyEntry,
        path: &str,
        limit: u64,
        to: &mut W,
        again: &impl Fn(&mut W),
    ) -> Result<bool, crate::Error> {
        let (name, mut attempt) = (entry.address.to_string(), 0);
        loop {
            attempt += 1;
            again(to);
            let error = match (&entry.address, &self.permit) {
                (Address::Folder(folder), _) => copy(&folder.join(path), limit, to),
                (Address::Web(_), Err(_)) => Err(FetchError::Missing),
                (Address::Web(address), Ok(permit)) => {
                    let client = self.client(*permit)?;
                    self.runtime.block_on(answer(client, &format!("{address}/{path}"), limit, to))
                }
            };
            let why = match error {
                Ok(()) => return Ok(true),
                Err(FetchError::Missing) => return Ok(false),
                Err(FetchError::Network(why, wait)) if attempt < ATTEMPTS => {
                    tracing::debug!(path, why, "trying again");
                    std::thread::sleep(wait.unwrap_or_else(|| http::backoff(attempt)));
                    continue;
                }
                Err(FetchError::Network(why, _) | FetchError::Final(why)) => why,
            };
            return Err(ToolchainError::Fetch { path: path.to_owned(), place: name, why }.into());
        }
    }

    fn client(&self, _permit: Permit) -> Result<&Client, ToolchainError> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = http::client()?
            .connect_timeout(CONNECT_LIMIT)
            .build()
            .map_err(|why| ToolchainError::Client { why: causes(&why) })?;
        Ok(self.client.get_or_init(|| client))
    }
}

async fn answer(client: &Client, url: &str, limit: u64, to: &mut impl Write) -> Result<(), FetchError> {
    let response = http::send(client.get(url), SILENCE_LIMIT, &Moved::default()).await;
    let response = response.map_err(|unsent| match unsent.is_final() {
        true => FetchError::Final(unsent.to_string()),
        false => FetchError::Network(unsent.to_string(), None),
    })?;
    match response.status() {
        StatusCode::NOT_FOUND | StatusCode::GONE => return Err(FetchError::Missing),
        status if status.is_success() => {}
        status if http::is_passing(status) => {
            return Err(FetchError::Network(format!("it answered {status}"), http::retry_after(response.headers())));
        }
        status => return Err(FetchError::Final(format!("it answered {status}"))),
    }
    let mut size = 0;
    let mut body = http::paced(response, SILENCE_LIMIT);
    while let Some(piece) = body.try_next().await.map_err(|why| FetchError::Network(why, None))? {
        size += piece.len() as u64;
        if size > limit {
            return Err(FetchError::Final(format!("it is longer than {limit} bytes")));
        }
        to.write_all(&piece).map_err(|why| FetchError::Final(why.to_string()))?;
    }
    Ok(())
}

impl std::fmt::Display for Address {
    /// Writes the address without credentials.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Folder(folder) => f.write_str(folder.as_str()),
            Self::Web(address) => match address.split_once("://").and_then(|(scheme, rest)| {
                let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
                Some((scheme, host.rsplit_once('@')?.1, path))
            }) {
                Some((scheme, host, path)) => write!(f, "{scheme}://{host}/{path}"),
                None => f.write_str(address),
            },
        }
    }
}

/// Parses a `GOPROXY` setting. Ends at `direct`, because no repository contains toolchains.
fn entries(setting: &str) -> Result<Vec<ProxyEntry>, ToolchainError> {
    let mut entries = Vec::new();
    for one in setting.split_inclusive([',', '|']) {
        let entry = one.trim_end_matches([',', '|']).trim().trim_end_matches('/');
        let address = match entry {
            "" => continue,
            "direct" | "off" => break,
            entry if entry.starts_with("https://") || entry.starts_with("http://") => Address::Web(entry.to_owned()),
            entry => {
                let folder = reqwest::Url::parse(entry).ok().filter(|url| url.scheme() == "file");
                let folder = folder.and_then(|url| url.to_file_path().ok()).and_then(|path| path.try_into().ok());
                Address::Folder(folder.ok_or_else(|| ToolchainError::BadProxy { place: entry.to_owned() })?)
            }
        };
        entries.push(ProxyEntry { address, any_failure: one.ends_with('|') });
    }
    Ok(entries)
}

fn copy(path: &Utf8PathBuf, limit: u64, to: &mut impl Write) -> Result<(), FetchError> {
    let other = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => FetchError::Missing,
        _ => FetchError::Final(error.to_string()),
    };
    let file = File::open(path).map_err(other)?;
    if file.metadata().map_err(other)?.len() > limit {
        return Err(FetchError::Final(format!("it is longer than {limit} bytes")));
    }
    io::copy(&mut io::Read::take(file, limit), to).map(|_| ()).map_err(other)
}

#[cfg(test)]
mod tests {
    use super::{Address, Proxies, ProxyEntry, entries};
    use vcnetwork::Network;

    #[test]
    fn a_list_of_proxies_is_read_as_go_reads_it() {
        let web = |address: &str, any_failure| ProxyEntry { address: Address::Web(address.to_owned()), any_failure };
        let found = entries("https://a.example/,http://b.example|file:///c%20d,direct,https://e.example").unwrap();
        let folder = ProxyEntry { address: Address::Folder("/c d".into()), any_failure: false };
        assert_eq!(found, [web("https://a.example", false), web("http://b.example", true), folder]);
        assert_eq!(entries("off").unwrap(), []);
        assert!(entries("a.example").is_err());
        assert_eq!(web("https://me:secret@a.example/x", false).address.to_string(), "https://a.example/x");
    }

    #[test]
    fn offline_folders_alone_are_asked() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("here"), "x").unwrap();
        let setting = format!("http://192.0.2.1|file://{}", folder.path().display());
        let proxies = Proxies::new(&setting, &Network::Offline).unwrap();
        assert_eq!(proxies.get("here", 10).unwrap(), Some(b"x".to_vec()));
        assert!(proxies.get("gone", 10).unwrap_err().to_string().contains("--offline forbids fetching it"));
        let open = Proxies::new(&setting.replace("http://192.0.2.1|", ""), &Network::Open).unwrap();
        assert_eq!(open.get("gone", 10).unwrap(), None);
        std::fs::write(folder.path().join("long"), "x".repeat(11)).unwrap();
        assert!(open.get("long", 10).unwrap_err().to_string().ends_with("it is longer than 10 bytes"));
    }
}
