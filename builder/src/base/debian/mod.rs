//! The `debian` base: what debian:bookworm-slim holds, made as one layer from a mirror's packages. No root, no daemon,
//! and no script of any package is run.
//!
//! [`lock`] goes from a signed release to exact packages; [`realise`] goes from exact packages to a layer, and the same
//! packages always give the same layer. What differs from an installed system, and why, is in `docs/debian-base.md`.

mod error;
mod fetch;
mod index;
mod release;
mod signature;
mod solve;
mod sources;

use std::time::SystemTime;

use camino::Utf8PathBuf;
use futures::future::try_join_all;
use serde::{Deserialize, Serialize};
use vcstore::Digest;

pub use error::Error;
use fetch::Mirror;
use index::Index;
use release::Release;
use signature::Keys;
use sources::Archive;

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

/// Finds the packages of a base: reads the signed releases and their indexes, and chooses.
///
/// # Errors
/// When no mirror is known or it cannot be reached, a release is not signed by a trusted key, is stale or malformed, or
/// no set of packages satisfies their relations.
pub fn lock(request: &Request) -> Result<Pinned, Error> {
    let archives = sources::archives(request)?;
    let mirror = Mirror::new()?;
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
