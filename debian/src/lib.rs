//! The `debian` base: the contents of debian:bookworm-slim, created from a mirror's packages; and the `static` base:
//! the few files that a static program needs. Neither needs root or a daemon, and no maintainer script is run.
//!
//! [`lock`] resolves a signed release to exact packages; [`realise`] turns exact packages into layers, and the same
//! packages always result in the same layers. `docs/reference/debian-base.md` describes the differences from an installed system,
//! and the reasons.

mod accounts;
mod alternatives;
mod apt;
mod certificates;
mod choose;
mod deb;
mod dpkg;
mod error;
mod fetch;
#[cfg(any(test, fuzzing))]
pub mod hostile;
mod index;
mod layers;
mod minimal;
mod options;
mod pam;
mod programs;
mod release;
mod scripts;
mod setup;
mod signature;
mod slim;
mod snapshot;
mod solve;
mod sources;
mod suite;
mod system;
mod unpack;

use std::collections::BTreeMap;
use std::io::{self, BufReader};
use std::sync::LazyLock;
use std::time::{Instant, SystemTime};

use futures::future::try_join_all;
use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};
use serde::{Deserialize, Serialize};
use vcnetwork::Network;
use vcstore::{Blob, Compression, Digest, Layer, Store, Tree};

use deb::Package;
pub use error::{Error, UnhandledScripts};
use fetch::Mirror;
use index::Index;
pub use options::{Layering, Options};
use release::Release;
use signature::Keys;
use sources::Archive;
use suite::Suite;

/// Must change whenever the same packages would result in another layer: it is part of the key of the action that
/// creates one.
pub const ASSEMBLY: u32 = 2;

/// The environment in the base's configuration, as in debian:bookworm-slim.
pub const ENVIRONMENT: [&str; 1] = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"];

/// An additional variable in the environment of `static`, for programs that look for certificates only in OpenSSL's
/// default paths.
pub const CERTIFICATES: &str = "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt";

/// The command in the base's configuration, as in debian:bookworm-slim.
pub const COMMAND: [&str; 1] = ["bash"];

/// The maximum size of a release in bytes; real ones have a few hundred kilobytes.
const RELEASE_LIMIT: u64 = 32 << 20;

/// The requested base.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The options from the user.
    pub options: Options,
    /// The kind of base.
    pub selection: Selection,
    /// Debian's name of the architecture: `amd64`, `arm64`, `armhf`.
    pub architecture: String,
    /// Whether mirrors may be contacted.
    pub network: Network,
}

/// The kind of a base.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Selection {
    /// A system: the packages of every installation, the requested ones and their dependencies, configured.
    System,
    /// The files that a static program needs: certificates, time zones, accounts. It contains no program and no
    /// installed package.
    Static,
}

impl Default for Request {
    /// Bookworm for amd64, with security updates.
    fn default() -> Self {
        Self {
            options: Options::default(),
            selection: Selection::System,
            architecture: "amd64".to_owned(),
            network: Network::Open,
        }
    }
}

/// A base that is pinned by content, as stored in the lock. It contains no mirror: any mirror with the packages can be
/// used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pinned {
    /// The requested suite.
    pub suite: String,
    /// Debian's name of the architecture.
    pub architecture: String,
    /// The components of the packages.
    #[serde(default = "main_alone")]
    pub components: Vec<String>,
    /// The packages requested in addition to the base, in the order of the request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub include: Vec<String>,
    /// Whether security updates were considered.
    #[serde(default = "yes")]
    pub security: bool,
    /// Whether the updates between point releases were considered.
    #[serde(default = "yes")]
    pub updates: bool,
    /// The signed releases in which the packages were found.
    pub releases: Vec<PinnedRelease>,
    /// The packages, by name.
    pub packages: Vec<Pin>,
}

/// A release in which packages were found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinnedRelease {
    /// The suite.
    pub suite: String,
    /// The codename in the release.
    pub codename: String,
    /// The date in the release.
    pub date: String,
    /// The hash of its `InRelease`.
    pub sha256: Digest,
}

/// An exact package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its architecture: the base's, or `all`.
    pub architecture: String,
    /// Its path on a mirror: `pool/…`.
    pub path: String,
    /// The hash of its file.
    pub sha256: Digest,
    /// The size of its file in bytes.
    pub size: u64,
    /// The suite whose mirror has it.
    pub suite: String,
    /// The requested package that caused it; `None` for packages of the base.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set: Option<String>,
}

fn main_alone() -> Vec<String> {
    Options::default().components
}

fn yes() -> bool {
    true
}

impl Pinned {
    /// Whether this lock matches `request`.
    pub fn answers(&self, request: &Request) -> bool {
        self.include == request.options.packages && self.is_from_where(request)
    }

    /// Whether `request` uses the same suites and components.
    fn is_from_where(&self, request: &Request) -> bool {
        let Options { suite, components, security, updates, .. } = &request.options;
        (&self.suite, &self.architecture, &self.components) == (suite, &request.architecture, components)
            && (self.security, self.updates) == (*security, *updates)
    }
}

/// The result of [`realise`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// Its layers in the store, the lowest first.
    pub layers: Vec<Layer>,
    /// Its packages, by name.
    pub packages: Vec<Pin>,
}

/// Finds the packages of a base: reads the signed releases and their indexes, and selects packages. If `before` is from
/// the same suites, its packages keep their versions, and only newly requested packages are new.
///
/// # Errors
/// Returns an error if no mirror is configured or reachable, if a release is not signed by a trusted key, expired or
/// malformed, or if no set of packages satisfies their relations.
pub fn lock(store: &Store, request: &Request, before: Option<&Pinned>) -> Result<Pinned, Error> {
    let options = &request.options;
    let permit = request.network.permit(format!("choosing the packages of Debian {}", options.suite))?;
    let archives = sources::archives(request)?;
    let mirror = Mirror::new(permit)?;
    let now = SystemTime::now();
    let read = mirror.run(try_join_all(archives.iter().map(|archive| read(store, &mirror, archive, request, now))))?;
    let pinned = two_at_once(|| pin(store, request, &archives, read, before))?;
    if request.selection == Selection::System {
        scripts::look_ahead(store, &mirror, &archives, &pinned)?;
    }
    Ok(pinned)
}

/// Runs work that reads indexes and packages on two threads, regardless of the number of CPUs, because each uses a
/// decoder of nine MiB. The same two threads are reused, because the allocator returns a thread's former memory to it.
fn two_at_once<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    static THREADS: LazyLock<Result<ThreadPool, ThreadPoolBuildError>> =
        LazyLock::new(|| ThreadPoolBuilder::new().num_threads(2).thread_name(|_| "packages".to_owned()).build());
    match &*THREADS {
        Ok(threads) => threads.install(work),
        Err(_) => work(),
    }
}

/// Selects packages from the releases and indexes of `archives`.
fn pin(
    store: &Store,
    request: &Request,
    archives: &[Archive],
    read: Vec<Option<(PinnedRelease, Indexes)>>,
    before: Option<&Pinned>,
) -> Result<Pinned, Error> {
    let options = &request.options;
    let folder = store.temp_dir()?;
    let mut index = Index::new(&vcstore::utf8("using", folder.path())?)?;
    let mut releases = Vec::new();
    for (number, found) in read.into_iter().enumerate() {
        let Some((release, indexes)) = found else { continue };
        if releases.is_empty() && request.selection == Selection::System {
            Suite::named(&release.codename)?;
        }
        releases.push(release);
        for (url, digest) in indexes {
            let unpacked =
                deb::unxz(store.reader(&digest)?).map_err(|error| Error::repository(&url, error.to_string()))?;
            let mut text = BufReader::with_capacity(256 << 10, unpacked);
            index.add(number, &url, &mut text)?;
            // The store verifies the hash when the end is read.
            let rest = io::copy(&mut text.into_inner().into_inner(), &mut io::sink());
            rest.map_err(|error| Error::repository(&url, error.to_string()))?;
        }
    }
    let unreadable = |why| Error::Unsolvable { suite: options.suite.clone(), why };
    let mut held = BTreeMap::new();
    for pin in before.into_iter().filter(|before| before.is_from_where(request)).flat_map(|before| &before.packages) {
        if let Some(archive) = archives.iter().position(|archive| archive.suite == pin.suite)
            && let Some(number) = index.hold(pin, archive).map_err(unreadable)?
        {
            held.insert(pin.name.clone(), number);
        }
    }
    let chosen = choose::choose(&index, request, &held)?;
    let packages = chosen.into_iter().map(|choice| {
        let one = index.candidate(choice.number).map_err(unreadable)?;
        Ok(Pin {
            name: one.name.clone(),
            version: one.version.clone(),
            architecture: one.architecture.clone(),
            path: one.path.clone(),
            sha256: one.blob.digest,
            size: one.blob.size,
            suite: archives[one.archive].suite.clone(),
            set: choice.set,
        })
    });
    Ok(Pinned {
        suite: options.suite.clone(),
        architecture: request.architecture.clone(),
        components: options.components.clone(),
        include: options.packages.clone(),
        security: options.security,
        updates: options.updates,
        releases,
        packages: packages.collect::<Result<_, Error>>()?,
    })
}

/// The URLs and digests of an archive's compressed indexes, which are in the store.
type Indexes = Vec<(String, Digest)>;

/// Reads the release of an archive and its indexes. Returns `None` if an optional archive is missing.
async fn read(
    store: &Store,
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
            tracing::warn!(url, "the mirror does not have this suite: ignoring its packages");
            return Ok(None);
        }
        bytes => bytes?,
    };
    let refused = |why| Error::Signature { url: url.clone(), why, keyring: keys.origin.clone() };
    let text = std::str::from_utf8(&bytes).map_err(|_| refused("it is not valid UTF-8".to_owned()))?;
    let signed = keys.verify(text, now).map_err(refused)?;
    let release = Release::read(&signed, &url, &archive.suite, now)?;
    let indexes = request.options.components.iter().map(|component| {
        let (folder, url, release) = (&folder, &url, &release);
        async move {
            let path = format!("{component}/binary-{}", request.architecture);
            let blob = release.indexes.get(&format!("{path}/Packages.xz")).copied();
            let blob = blob.ok_or_else(|| Error::repository(url, format!("it lists no {path}/Packages.xz")))?;
            let url = format!("{folder}/{path}/Packages.xz");
            if release.by_hash {
                let url = format!("{folder}/{path}/by-hash/SHA256/{}", blob.digest.hex());
                match mirror.blob(store, &url, blob).await {
                    // Like apt, falls back to the index's path, because some mirrors do not keep it by hash.
                    Err(Error::Gone { .. }) => {}
                    fetched => return fetched.map(|()| (url, blob.digest)),
                }
            }
            mirror.blob(store, &url, blob).await?;
            Ok::<_, Error>((url, blob.digest))
        }
    });
    let indexes = try_join_all(indexes).await?;
    let (suite, sha256) = (archive.suite.clone(), Digest::of(&bytes));
    let release = PinnedRelease { suite, codename: release.codename, date: release.date, sha256 };
    Ok(Some((release, indexes)))
}

/// Creates the layers of a base from its packages, and fetches those that the store lacks.
///
/// The layers depend only on the packages, the selection and layering, the compression and [`ASSEMBLY`]; the rest of
/// the request only determines the mirror.
///
/// # Errors
/// Returns an error if a package cannot be fetched or does not match the lock, is malformed, or contains a file of
/// another package or a maintainer script without a replacement, or if the store cannot be written.
pub fn realise(store: &Store, pinned: &Pinned, request: &Request, compression: Compression) -> Result<Base, Error> {
    let start = Instant::now();
    for pin in &pinned.packages {
        check(pin, &pinned.architecture)?;
    }
    fetch(store, pinned, request)?;
    tracing::debug!(elapsed = ?start.elapsed(), "packages are in the store");
    let folder = store.temp_dir()?;
    let spools = &vcstore::utf8("using", folder.path())?;
    let keep = match request.selection {
        Selection::System => slim::keeps,
        Selection::Static => minimal::keeps,
    };
    let mut pins: Vec<_> = pinned.packages.iter().collect();
    // The largest first, one at a time, so that the threads finish at about the same time.
    pins.sort_by_key(|pin| (std::cmp::Reverse(pin.size), &pin.name));
    let read = pins.into_par_iter().with_max_len(1).map(|pin| {
        let spool = spools.join(&pin.name);
        Ok((pin.name.as_str(), Package::read(store, pin, &spool, keep)?))
    });
    let packages = two_at_once(|| read.collect::<Result<BTreeMap<_, _>, Error>>())?;
    tracing::debug!(elapsed = ?start.elapsed(), "packages are unpacked");
    if request.selection == Selection::System {
        scripts::check(&packages)?;
    }
    let trees = match (request.selection, request.options.layers) {
        (Selection::Static, _) => vec![minimal::tree(&packages)?],
        (Selection::System, Layering::One) => vec![system_of(&packages)?],
        (Selection::System, Layering::PerPackageSet) => layers::per_set(pinned, packages, system_of)?,
    };
    let layers = trees.par_iter().map(|tree| Ok(vcstore::layer::write(store, tree, compression, 0)?));
    let layers = layers.collect::<Result<_, Error>>()?;
    tracing::debug!(elapsed = ?start.elapsed(), "the layers are written");
    Ok(Base { layers, packages: pinned.packages.clone() })
}

/// Creates the configured files of a system from these packages.
fn system_of(packages: &BTreeMap<&str, Package>) -> Result<Tree, Error> {
    let mut tree = unpack::unpack(packages)?;
    slim::configure(&mut tree)?;
    dpkg::database(&mut tree, packages)?;
    setup::set_up(&mut tree)?;
    Ok(tree)
}

/// Rejects a pin that this program would not have created: names become paths, so they must be valid package names.
fn check(pin: &Pin, architecture: &str) -> Result<(), Error> {
    let bad = |why: &str| Err(Error::BadPin { package: pin.name.clone(), why: why.to_owned() });
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte);
    if !pin.name.starts_with(|first: char| first.is_ascii_alphanumeric()) || !pin.name.bytes().all(plain) {
        return bad("it is not a valid package name");
    }
    if pin.architecture != architecture && pin.architecture != "all" {
        return bad("it is for another architecture");
    }
    if pin.path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return bad("its path points outside the mirror");
    }
    Ok(())
}

/// Fetches the packages that the store lacks.
///
/// # Errors
/// Returns an error if a package cannot be fetched or does not match the lock.
pub fn fetch(store: &Store, pinned: &Pinned, request: &Request) -> Result<(), Error> {
    let missing = pinned.packages.iter().filter(|pin| store.size(&pin.sha256) != Some(pin.size));
    let missing: Vec<_> = missing.collect();
    let of = |pin: &Pin| Blob { digest: pin.sha256, size: pin.size };
    if missing.is_empty() {
        return Ok(());
    }
    let attempt = format!("fetching {} of {} Debian packages", missing.len(), pinned.packages.len());
    let permit = request.network.permit(attempt)?;
    let archives = sources::archives(request)?;
    let wanted = missing.iter().map(|pin| {
        let archive = archives.iter().find(|archive| archive.suite == pin.suite).ok_or_else(|| {
            let why = format!("{} was locked from this suite, which no source carries now", pin.name);
            Error::NoMirror { suite: pin.suite.clone(), why }
        })?;
        Ok((format!("{}/{}", archive.uri, pin.path), of(pin)))
    });
    let mirror = Mirror::new(permit)?;
    let mut gone = mirror.blobs(store, &wanted.collect::<Result<Vec<_>, Error>>()?)?;
    if let (false, Some(snapshot)) = (gone.is_empty(), snapshot::Snapshot::configured()?) {
        let lost: Vec<&Pin> = gone.keys().map(|place| missing[*place]).collect();
        let names: Vec<_> = lost.iter().map(|pin| pin.name.as_str()).collect();
        tracing::warn!("the mirror no longer has {}: asking the snapshot archive", names.join(", "));
        let wanted = lost.iter().map(|pin| Ok((snapshot.url(pinned, pin)?, of(pin))));
        gone = mirror.blobs(store, &wanted.collect::<Result<Vec<_>, Error>>()?)?;
    }
    gone.into_values().next().map_or(Ok(()), Err)
}
