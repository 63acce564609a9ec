//! Go module proxies, as `go help goproxy` has them: a list of places that are asked in turn. This is for what is fetched
//! before there is a Go; whatever else is fetched, Go fetches.

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

/// The longest that a proxy may be silent in the middle of an answer.
const SILENCE_LIMIT: Duration = Duration::from_secs(60);

/// How often a place is asked before it is given up.
const ATTEMPTS: u32 = 4;

/// The places that are asked, in turn.
pub(super) struct Proxies {
    entries: Vec<ProxyEntry>,
    /// Whether places that need the network are asked.
    permit: Result<Permit, Offline>,
    /// What they are asked by: made when one is, for it cannot be made on a machine that has no certificates.
    client: OnceLock<Client>,
    runtime: tokio::runtime::Runtime,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct ProxyEntry {
    address: Address,
    /// Whether the next place is asked whatever goes wrong with this one, and not only when this one has not what is asked
    /// for.
    any_failure: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Address {
    Folder(Utf8PathBuf),
    Web(String),
}

/// Why a place did not give something.
enum FetchError {
    Missing,
    /// Asking again may help, after as long as the place says.
    Network(String, Option<Duration>),
    Final(String),
}

impl Proxies {
    /// The proxies of a `GOPROXY`. Offline, folders alone are asked.
    pub(super) fn new(setting: &str, network: &Network) -> Result<Self, crate::Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|why| crate::Error::Internal(format!("setting up the network: {why}")))?;
        let (permit, client) = (network.permit("fetching Go"), OnceLock::new());
        Ok(Self { entries: entries(setting)?, permit, client, runtime })
    }

    /// A small file; nothing when no place has it.
    pub(super) fn get(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>, crate::Error> {
        let mut bytes = Vec::new();
        Ok(self.fetch(path, limit, &mut bytes, Vec::clear)?.then_some(bytes))
    }

    /// The same, from an address that is not a proxy.
    pub(super) fn get_from(&self, address: &str, path: &str, limit: u64) -> Result<Option<Vec<u8>>, crate::Error> {
        let mut bytes = Vec::new();
        let entry = ProxyEntry { address: Address::Web(address.to_owned()), any_failure: false };
        Ok(self.fetch_from(&entry, path, limit, &mut bytes, &Vec::clear)?.then_some(bytes))
    }

    /// A large file, into `file`.
    pub(super) fn download(&self, path: &str, limit: u64, file: &mut File) -> Result<(), crate::Error> {
        let again = |file: &mut File| {
            // What cannot be cut is noticed when its checksum is taken.
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
    /// The place without a login that its address may have.
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

/// Reads a `GOPROXY`. `direct` stands for what Go fetches from the repositories themselves: toolchains are in none.
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
