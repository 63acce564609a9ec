//! The `debian` base: what debian:bookworm-slim holds, made as one layer from a mirror's packages. No root, no daemon,
//! and no script of any package is run.
//!
//! [`lock`] goes from a signed release to exact packages; [`realise`] goes from exact packages to a layer, and the same
//! packages always give the same layer. What differs from an installed system, and why, is in `docs/debian-base.md`.

mod accounts;
mod alternatives;
mod deb;
mod dpkg;
mod error;
mod fetch;
mod index;
mod pam;
mod release;
mod signature;
mod slim;
mod snapshot;
mod solve;
mod sources;
mod system;
mod unpack;

use std::collections::BTreeMap;
use std::time::{Instant, SystemTime};

use camino::{Utf8Path, Utf8PathBuf};
use futures::future::try_join_all;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use vcstore::{Blob, Compression, Digest, Layer, Store};

use deb::Package;
pub use error::Error;
use fetch::Mirror;
use index::Index;
use release::Release;
use signature::Keys;
use sources::Archive;

use crate::network::Network;

/// Changes whenever the same packages would give another layer: part of what names the action that makes one.
pub const ASSEMBLY: u32 = 1;

/// The environment of the base's configuration, as debian:bookworm-slim has it.
pub const ENVIRONMENT: [&str; 1] = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"];

/// The command of the base's configuration, as debian:bookworm-slim has it.
pub const COMMAND: [&str; 1] = ["bash"];

/// A release is some hundred kilobytes; one of this size is none.
const RELEASE_LIMIT: u64 = 32 << 20;

/// What base is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The suite: `bookworm`.
    pub suite: String,
    /// The components packages may come from: `main`.
    pub components: Vec<String>,
    /// Debian's name of the architecture: `amd64`, `arm64`.
    pub architecture: String,
    /// The mirror's address. Without one, `VCBUILD_DEBIAN_MIRROR`; without that, the machine's apt sources.
    pub mirror: Option<String>,
    /// The file with the keys that releases must be signed with. Without one, what the apt source says; without that,
    /// Debian's own keys.
    pub keyring: Option<Utf8PathBuf>,
    /// Packages beyond the base.
    pub include: Vec<String>,
    /// Whether security updates are taken.
    pub security: bool,
    /// Whether mirrors may be asked.
    #[serde(skip)]
    pub network: Network,
}

impl Default for Request {
    /// Bookworm for amd64, with security updates.
    fn default() -> Self {
        Self {
            suite: "bookworm".to_owned(),
            components: vec!["main".to_owned()],
            architecture: "amd64".to_owned(),
            mirror: None,
            keyring: None,
            include: Vec::new(),
            security: true,
            network: Network::Open,
        }
    }
}

/// A base pinned by content, as the lock keeps it. It names no mirror: any that has the packages will do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pinned {
    /// The suite asked for.
    pub suite: String,
    /// Debian's name of the architecture.
    pub architecture: String,
    /// The signed releases that the packages were found through.
    pub releases: Vec<PinnedRelease>,
    /// The packages, by name.
    pub packages: Vec<Pin>,
}

/// A release that packages were found through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinnedRelease {
    /// The suite.
    pub suite: String,
    /// The name in the release itself.
    pub codename: String,
    /// When it was made, as it says.
    pub date: String,
    /// The hash of its `InRelease`.
    pub sha256: Digest,
}

/// A package, exactly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its architecture: the base's, or `all`.
    pub architecture: String,
    /// Where it is on a mirror: `pool/…`.
    pub path: String,
    /// The hash of its file.
    pub sha256: Digest,
    /// The size of its file in bytes.
    pub size: u64,
    /// The suite it is from: the mirror of that suite has it.
    pub suite: String,
}

/// A base, made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// Its one layer, in the store.
    pub layer: Layer,
    /// The packages in it, by name.
    pub packages: Vec<Pin>,
}

/// Finds the packages of a base: reads the signed releases and their indexes, and chooses.
///
/// # Errors
/// When no mirror is known or it cannot be reached, a release is not signed by a trusted key, is stale or malformed, or
/// no set of packages satisfies their relations.
pub fn lock(request: &Request) -> Result<Pinned, Error> {
    let permit = request.network.permit(format!("choosing the packages of Debian {}", request.suite))?;
    let archives = sources::archives(request)?;
    let mirror = Mirror::new(permit)?;
    let now = SystemTime::now();
    let read = mirror.run(try_join_all(archives.iter().map(|archive| read(&mirror, archive, request, now))))?;
    let mut index = Index::default();
    let mut releases = Vec::new();
    for (number, found) in read.into_iter().enumerate() {
        let Some((release, indexes)) = found else { continue };
        releases.push(release);
        for (url, bytes) in indexes {
            let text = std::io::BufReader::with_capacity(1 << 20, liblzma::read::XzDecoder::new(bytes.as_slice()));
            index.add(number, &url, text)?;
        }
    }
    let chosen = solve::solve(&index, &request.suite, &request.architecture, &request.include)?;
    let packages = chosen.into_iter().map(|number| {
        let one = &index.candidates[number];
        Pin {
            name: one.name.clone(),
            version: one.version.clone(),
            architecture: one.architecture.clone(),
            path: one.path.clone(),
            sha256: one.blob.digest,
            size: one.blob.size,
            suite: archives[one.archive].suite.clone(),
        }
    });
    let (suite, architecture) = (request.suite.clone(), request.architecture.clone());
    Ok(Pinned { suite, architecture, releases, packages: packages.collect() })
}

/// Indexes of an archive, compressed, by their addresses.
type Indexes = Vec<(String, Vec<u8>)>;

/// The release of an archive and its indexes; nothing when the archive may be missing, and is.
async fn read(
    mirror: &Mirror,
    archive: &Archive,
    request: &Request,
    now: SystemTime,
) -> Result<Option<(PinnedRelease, Indexes)>, Error> {
    let keys = Keys::read(&archive.keyring)?;
    let folder = format!("{}/dists/{}", archive.uri, archive.suite);
    let url = format!("{folder}/InRelease");
    let bytes = match mirror.bytes(&url, RELEASE_LIMIT).await {
        Err(Error::Gone { url, .. }) if archive.optional => {
            tracing::warn!(url, "the mirror has no such suite: its packages are left out");
            return Ok(None);
        }
        bytes => bytes?,
    };
    let refused = |why| Error::Signature { url: url.clone(), why, keyring: keys.origin.clone() };
    let text = std::str::from_utf8(&bytes).map_err(|_| refused("it is not text".to_owned()))?;
    let signed = keys.verify(text, now).map_err(refused)?;
    let release = Release::read(&signed, &url, &archive.suite, now)?;
    let indexes = request.components.iter().map(|component| {
        let (folder, url, release) = (&folder, &url, &release);
        async move {
            let path = format!("{component}/binary-{}", request.architecture);
            let blob = release.indexes.get(&format!("{path}/Packages.xz")).copied();
            let blob = blob.ok_or_else(|| Error::repository(url, format!("it lists no {path}/Packages.xz")))?;
            let name = if release.by_hash {
                format!("by-hash/SHA256/{}", blob.digest.hex())
            } else {
                "Packages.xz".to_owned()
            };
            let url = format!("{folder}/{path}/{name}");
            let bytes = mirror.known_bytes(&url, blob).await?;
            Ok::<_, Error>((url, bytes))
        }
    });
    let indexes = try_join_all(indexes).await?;
    let (suite, sha256) = (archive.suite.clone(), Digest::of(&bytes));
    let release = PinnedRelease { suite, codename: release.codename, date: release.date, sha256 };
    Ok(Some((release, indexes)))
}

/// Makes the layer of a base from its packages, which are fetched unless the store has them.
///
/// The layer depends on the packages, the compression and [`ASSEMBLY`] alone; the request only says where a mirror is.
///
/// # Errors
/// When a package cannot be fetched or is not what the lock says, is malformed, holds a file of another or a script that
/// nothing stands in for, or the store cannot be written.
pub fn realise(store: &Store, pinned: &Pinned, request: &Request, compression: Compression) -> Result<Base, Error> {
    let start = Instant::now();
    for pin in &pinned.packages {
        check(pin, &pinned.architecture)?;
    }
    fetch(store, pinned, request)?;
    tracing::debug!(elapsed = ?start.elapsed(), "packages are in the store");
    let folder = store.temp_dir()?;
    let spools = Utf8Path::from_path(folder.path()).ok_or_else(|| Error::Io {
        attempt: "using",
        path: folder.path().to_string_lossy().into_owned().into(),
        source: std::io::Error::other("its path is not UTF-8"),
    })?;
    let mut pins: Vec<_> = pinned.packages.iter().collect();
    // The largest first, one at a time: the threads then end together.
    pins.sort_by_key(|pin| (std::cmp::Reverse(pin.size), &pin.name));
    let read = pins.into_par_iter().with_max_len(1).map(|pin| {
        let spool = spools.join(&pin.name);
        Ok((pin.name.as_str(), Package::read(store, pin, &spool, slim::keeps)?))
    });
    let packages = read.collect::<Result<BTreeMap<_, _>, Error>>()?;
    tracing::debug!(elapsed = ?start.elapsed(), "packages are unpacked");
    let mut tree = unpack::unpack(&packages)?;
    slim::configure(&mut tree)?;
    dpkg::database(&mut tree, &packages)?;
    system::set_up(&mut tree)?;
    let layer = vcstore::layer::write(store, &tree, compression, 0)?;
    tracing::debug!(elapsed = ?start.elapsed(), "the layer is written");
    Ok(Base { layer, packages: pinned.packages.clone() })
}

/// Refuses a pin that this program would not have made: names become paths, so they must be what Debian calls names.
fn check(pin: &Pin, architecture: &str) -> Result<(), Error> {
    let bad = |why: &str| Err(Error::BadPin { package: pin.name.clone(), why: why.to_owned() });
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte);
    if !pin.name.starts_with(|first: char| first.is_ascii_alphanumeric()) || !pin.name.bytes().all(plain) {
        return bad("that is no name of a package");
    }
    if pin.architecture != architecture && pin.architecture != "all" {
        return bad("it is for another architecture");
    }
    if pin.path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return bad("its path leads out of the mirror");
    }
    Ok(())
}

/// Brings the packages that the store lacks into it.
fn fetch(store: &Store, pinned: &Pinned, request: &Request) -> Result<(), Error> {
    let missing = pinned.packages.iter().filter(|pin| store.size(&pin.sha256) != Some(pin.size));
    let missing: Vec<_> = missing.collect();
    if missing.is_empty() {
        return Ok(());
    }
    let attempt = format!("fetching {} of {} Debian packages", missing.len(), pinned.packages.len());
    let permit = request.network.permit(attempt)?;
    let archives = sources::archives(request)?;
    let wanted = missing.iter().map(|pin| {
        let archive = archives.iter().find(|archive| archive.suite == pin.suite).ok_or_else(|| {
            let why = format!("{} was locked from it, and no source carries it now", pin.name);
            Error::NoMirror { suite: pin.suite.clone(), why }
        })?;
        Ok((format!("{}/{}", archive.uri, pin.path), Blob { digest: pin.sha256, size: pin.size }))
    });
    let mirror = Mirror::new(permit)?;
    match (mirror.blobs(store, &wanted.collect::<Result<Vec<_>, Error>>()?), snapshot::Snapshot::configured()?) {
        (Err(Error::Gone { url, .. }), Some(snapshot)) => {
            tracing::warn!(url, "the mirror has it no more: asking the snapshot");
            let missing = missing.into_iter().filter(|pin| store.size(&pin.sha256) != Some(pin.size));
            let wanted =
                missing.map(|pin| Ok((snapshot.url(pinned, pin)?, Blob { digest: pin.sha256, size: pin.size })));
            mirror.blobs(store, &wanted.collect::<Result<Vec<_>, Error>>()?)
        }
        (result, _) => result,
    }
}
