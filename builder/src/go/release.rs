//! Go toolchains by version: fetched from a module proxy, verified by checksum and unpacked in the store. This requires
//! no installed Go.

use std::collections::BTreeMap;
use std::{fs, io};

use camino::{Utf8Path, Utf8PathBuf};
use vcnetwork::Network;
use vcstore::utf8;
use vcstore::{Platform, Store};

use super::proxy::Proxies;
use super::sumdb::Database;
use super::toolchain::{Settings, ask, identify};
use super::unpack;
use crate::error::ToolchainError;
use crate::lock::{Lock, PinnedGo};
use crate::offline_inputs::InputsDir;
use crate::progress::Progress;

/// The module whose versions are Go toolchains.
const MODULE: &str = "golang.org/toolchain";

/// The machines for which toolchains are pinned, by Rust's and Go's architecture names: those that vcbuild runs on.
const HOSTS: [(&str, &str); 2] = [("x86_64", "amd64"), ("aarch64", "arm64")];

/// Size limits in bytes. The list of all toolchains has about 100 KB, a toolchain up to 80 MB.
const LIST_LIMIT: u64 = 16 << 20;
const ARCHIVE_LIMIT: u64 = 1 << 30;

/// The content of a toolchain's cache folder: its `GOROOT`, and its identity after verification.
const ROOT: &str = "go";
const IDENTITY: &str = "identity";

/// An unpacked toolchain.
pub(super) struct Release {
    /// The `GOROOT`.
    pub(super) root: Utf8PathBuf,
    /// The `h1:` checksum.
    pub(super) sum: String,
    /// The version, such as `1.26.3`.
    pub(super) version: String,
}

/// Fetches the toolchain that `lock` pins for the requested version into a `store` that lacks it, and writes the
/// archive below the folder `proxy` at its path in a module proxy.
///
/// # Errors
/// When the toolchain is not available or fails verification.
pub(crate) fn copy_toolchain(
    asked: &str,
    proxy: &Utf8Path,
    store: &Store,
    lock: &Lock,
    progress: &Progress,
) -> Result<(), crate::Error> {
    obtain(asked, store, lock, progress, Some(proxy)).map(drop)
}

/// Returns the toolchain that `lock` pins for the requested version, or else the current one, which it pins.
///
/// # Errors
/// When the toolchain is not available or fails verification.
pub(super) fn realise(asked: &str, store: &Store, lock: &Lock, progress: &Progress) -> Result<Release, crate::Error> {
    obtain(asked, store, lock, progress, None)
}

/// Returns the toolchain. If it must be fetched, also writes the archive below the folder `keep`.
fn obtain(
    asked: &str,
    store: &Store,
    lock: &Lock,
    progress: &Progress,
    keep: Option<&Utf8Path>,
) -> Result<Release, crate::Error> {
    let host = host()?;
    let pinned = lock.go(asked)?;
    let cache = store.cache_dir("toolchain")?;
    if let Some(go) = &pinned
        && let Some(sum) = go.sums.get(&host)
        && let Some(root) = at_hand(&cache, &go.version, &host, sum)
    {
        lock.pin_go(asked, go.clone());
        return Ok(Release { root, sum: sum.clone(), version: go.version.clone() });
    }
    let user = match InputsDir::of(lock.network()) {
        Some(folder) => User { proxies: folder.go_proxy()?, downloads: None, database: None, trusts: false },
        None => User::find(asked)?,
    };
    let (version, known) = match pinned {
        Some(PinnedGo { version, sums }) => (version, sums),
        None => (resolve(asked, &host, &user, lock.network())?, BTreeMap::new()),
    };
    let proxies = Proxies::new(&user.places(), lock.network())?;
    let mut sums = known;
    if !sums.contains_key(&host) && !user.trusts {
        let database =
            user.database.as_deref().ok_or_else(|| ToolchainError::NoDatabase { version: version.clone() })?;
        let database = Database::parse(database)?;
        for (_, architecture) in HOSTS {
            let host = Platform::linux(architecture);
            let sum = database.sum(MODULE, &module_version(&version, &host), &proxies)?;
            sums.insert(host, sum);
        }
    }
    progress.say(&format!("fetching Go {version}"));
    let expected = sums.get(&host).map(String::as_str);
    let (root, sum) = fetch(&version, &host, expected, &cache, store, &proxies, keep)?;
    if expected.is_none() {
        tracing::warn!("GOSUMDB is off: trusting and pinning Go {version} as downloaded");
    }
    sums.insert(host, sum.clone());
    lock.pin_go(asked, PinnedGo { version: version.clone(), sums });
    Ok(Release { root, sum, version })
}

/// The user's settings for fetching Go modules: those of the installed Go, or else the environment's.
struct User {
    proxies: String,
    /// The URL of the download cache of the user's Go.
    downloads: Option<String>,
    database: Option<String>,
    /// Whether the user disabled the checksum database.
    trusts: bool,
}

impl User {
    fn find(version: &str) -> Result<Self, crate::Error> {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let (proxies, database, modules) = match ask("go") {
            Ok(Settings { modules, others, .. }) => {
                let other = |name: &str| others.get(name).cloned().filter(|value| !value.is_empty());
                (other("GOPROXY"), other("GOSUMDB"), Some(modules))
            }
            Err(crate::Error::NoGo) => (set("GOPROXY"), set("GOSUMDB"), set("GOMODCACHE").map(Utf8PathBuf::from)),
            Err(error) => return Err(error),
        };
        let proxies = proxies.ok_or_else(|| ToolchainError::NoProxy { version: version.to_owned() })?;
        let downloads = modules.map(|modules| modules.join("cache/download")).filter(|folder| folder.is_dir());
        let downloads = downloads.and_then(|folder| reqwest::Url::from_file_path(folder).ok()).map(String::from);
        let trusts = database.as_deref() == Some("off");
        Ok(Self { proxies, downloads, database, trusts })
    }

    /// Returns the proxies for a known version, starting with the user's download cache.
    fn places(&self) -> String {
        self.downloads.iter().chain([&self.proxies]).map(String::as_str).collect::<Vec<_>>().join(",")
    }
}

/// Returns this machine's platform.
fn host() -> Result<Platform, ToolchainError> {
    let (os, architecture) = (std::env::consts::OS, std::env::consts::ARCH);
    let known = HOSTS.iter().find(|(rust, _)| os == "linux" && *rust == architecture);
    known.map(|(_, go)| Platform::linux(go)).ok_or(ToolchainError::NoHost { os, architecture })
}

/// Returns the version of the toolchain module for a Go version and a machine.
fn module_version(version: &str, host: &Platform) -> String {
    format!("v0.0.1-go{version}.{}-{}", host.os, host.architecture)
}

/// Returns the exact version for the requested one. Online, ignores the user's download cache, which does not list the
/// newest versions.
fn resolve(asked: &str, host: &Platform, user: &User, network: &Network) -> Result<String, crate::Error> {
    let Some(minor) = asked.strip_suffix(".x") else { return Ok(asked.to_owned()) };
    let places = if *network == Network::Open { user.proxies.clone() } else { user.places() };
    let proxies = Proxies::new(&places, network)?;
    let path = format!("{MODULE}/@v/list");
    let list = proxies.get(&path, LIST_LIMIT)?.ok_or(ToolchainError::NotThere { path })?;
    let list = String::from_utf8_lossy(&list).into_owned();
    let newest = newest(&list, minor, host);
    Ok(newest.ok_or_else(|| ToolchainError::NoRelease { version: asked.to_owned(), host: host.clone() })?)
}

fn newest(list: &str, minor: &str, host: &Platform) -> Option<String> {
    let patch = |line: &str| {
        let version =
            line.trim().strip_prefix("v0.0.1-go")?.strip_suffix(&format!(".{}-{}", host.os, host.architecture))?;
        version.strip_prefix(minor)?.strip_prefix('.')?.parse::<u32>().ok()
    };
    list.lines().filter_map(patch).max().map(|patch| format!("{minor}.{patch}"))
}

/// Returns the cache folder of a toolchain, named by its version and checksum.
fn place(cache: &Utf8Path, version: &str, host: &Platform, sum: &str) -> Utf8PathBuf {
    let hash = blake3::hash(sum.as_bytes()).to_hex();
    cache.join(format!("go{version}-{}-{}", host.architecture, &hash[..16]))
}

/// Returns the toolchain if it is unpacked and unmodified.
fn at_hand(cache: &Utf8Path, version: &str, host: &Platform, sum: &str) -> Option<Utf8PathBuf> {
    let place = place(cache, version, host, sum);
    let whole = is_whole(&place, cache);
    if !whole && place.is_dir() {
        tracing::warn!(%place, "the unpacked toolchain was modified: fetching it again");
    }
    whole.then(|| place.join(ROOT))
}

/// Returns whether the folder contains a complete, unmodified toolchain. An unreadable one counts as modified.
fn is_whole(place: &Utf8Path, cache: &Utf8Path) -> bool {
    let recorded = fs::read_to_string(place.join(IDENTITY));
    recorded.is_ok_and(|recorded| identify(&place.join(ROOT), cache).is_ok_and(|found| found == recorded))
}

/// Moves an unpacked, verified toolchain to its cache folder atomically, and replaces an incomplete one. Of several
/// processes the first succeeds; the others use its result.
fn install(unpacked: &Utf8Path, place: &Utf8Path, cache: &Utf8Path) -> Result<(), crate::Error> {
    // The cached identity depends on the paths of the files, so it is stored outside the cache for files that are about
    // to move.
    let identity = identify(&unpacked.join(ROOT), unpacked.parent().unwrap_or(unpacked))?;
    let path = unpacked.join(IDENTITY);
    fs::write(&path, identity).map_err(crate::Error::io("writing", &path))?;
    let guard = cache.join("lock");
    let guard = fs::File::create(&guard).and_then(|file| file.lock().map(|()| file));
    let _guard = guard.map_err(crate::Error::io("locking", cache))?;
    if is_whole(place, cache) {
        return Ok(());
    }
    match fs::remove_dir_all(place) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(crate::Error::io("removing", place)(error)),
        _ => fs::rename(unpacked, place).map_err(crate::Error::io("writing", place)),
    }
}

/// Fetches, verifies and installs a toolchain; returns its root and checksum.
fn fetch(
    version: &str,
    host: &Platform,
    expected: Option<&str>,
    cache: &Utf8Path,
    store: &Store,
    proxies: &Proxies,
    keep: Option<&Utf8Path>,
) -> Result<(Utf8PathBuf, String), crate::Error> {
    let name = module_version(version, host);
    let folder = store.temp_dir()?;
    let folder = utf8("using", folder.path()).map(|path| (path, folder))?;
    let (path, _kept) = &folder;
    let archive = path.join("toolchain.zip");
    let mut file = fs::File::create(&archive).map_err(crate::Error::io("making", &archive))?;
    let served = format!("{MODULE}/@v/{name}.zip");
    proxies.download(&served, ARCHIVE_LIMIT, &mut file)?;
    let unpacked = path.join("unpacked");
    let sum = unpack::unpack(&archive, &format!("{MODULE}@{name}/"), &unpacked.join(ROOT))?;
    if let Some(expected) = expected.filter(|expected| *expected != sum) {
        let (version, expected) = (version.to_owned(), expected.to_owned());
        return Err(ToolchainError::Checksum { version, host: host.clone(), expected, found: sum }.into());
    }
    if let Some(kept) = keep.map(|folder| folder.join(&served)) {
        let parent = kept.parent().unwrap_or(&kept);
        fs::create_dir_all(parent).map_err(crate::Error::io("making", parent))?;
        fs::copy(&archive, &kept).map_err(crate::Error::io("copying", &archive))?;
    }
    let place = place(cache, version, host, &sum);
    install(&unpacked, &place, cache)?;
    Ok((place.join(ROOT), sum))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use camino::Utf8Path;
    use vcstore::Platform;

    use super::{User, at_hand, install, newest, place, resolve};
    use crate::go::toolchain::compilers;
    use vcnetwork::Network;

    #[test]
    fn the_newest_of_a_release_is_the_highest_number_for_the_machine() {
        let list = "v0.0.1-go1.26.9.linux-amd64\nv0.0.1-go1.26.10.linux-amd64\nv0.0.1-go1.26.11.linux-arm64\n\
                    v0.0.1-go1.26rc1.linux-amd64\nv0.0.1-go1.2.99.linux-amd64\nv0.0.1-go1.261.50.linux-amd64\n";
        assert_eq!(newest(list, "1.26", &Platform::linux("amd64")).unwrap(), "1.26.10");
        assert_eq!(newest(list, "1.27", &Platform::linux("amd64")), None);
    }
    #[test]
    fn the_newest_is_what_proxies_have_and_not_what_was_fetched_before() {
        let (host, folder) = (Platform::linux("amd64"), tempfile::tempdir().unwrap());
        let with = |name: &str, patches: &[u32]| {
            let at = folder.path().join(name).join("golang.org/toolchain/@v");
            fs::create_dir_all(&at).unwrap();
            let list: String = patches.iter().map(|patch| format!("v0.0.1-go1.26.{patch}.linux-amd64\n")).collect();
            fs::write(at.join("list"), list).unwrap();
            format!("file://{}", folder.path().join(name).display())
        };
        let (proxies, downloads) = (with("proxy", &[1, 2, 3]), Some(with("downloads", &[2])));
        let user = User { proxies, downloads, database: None, trusts: false };
        assert_eq!(resolve("1.26.x", &host, &user, &Network::Open).unwrap(), "1.26.3");
        assert_eq!(resolve("1.26.x", &host, &user, &Network::Offline).unwrap(), "1.26.2");
    }

    #[test]
    fn a_toolchain_comes_to_its_place_whole_whatever_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let top = Utf8Path::from_path(folder.path()).unwrap();
        let (cache, host) = (top.join("cache"), Platform::linux("amd64"));
        fs::create_dir(&cache).unwrap();
        let unpack = |name: &str| {
            let unpacked = top.join(name).join("unpacked");
            let programs = compilers(&unpacked.join("go"));
            for file in programs.into_iter().chain([unpacked.join("go/VERSION"), unpacked.join("go/bin/go")]) {
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(file, "content").unwrap();
            }
            unpacked
        };
        let place = place(&cache, "1.26.3", &host, "h1:sum");
        let found = || at_hand(&cache, "1.26.3", &host, "h1:sum");
        let whole = Some(place.join("go"));
        assert_eq!(found(), None);

        // A folder that an earlier program left when it was stopped before it recorded the identity.
        fs::create_dir_all(place.join("go/bin")).unwrap();
        assert_eq!(found(), None);
        install(&unpack("first"), &place, &cache).unwrap();
        assert_eq!(found(), whole);

        for change in ["go/bin/go", "identity"] {
            fs::write(place.join(change), "other").unwrap();
            assert_eq!(found(), None, "{change} is another");
            fs::remove_file(place.join(change)).unwrap();
            assert_eq!(found(), None, "{change} is gone");
            install(&unpack(change), &place, &cache).unwrap();
            assert_eq!(found(), whole);
        }

        // With several processes, the result of the first remains.
        fs::remove_dir_all(&place).unwrap();
        let unpacked: Vec<_> = (0..4).map(|name| unpack(&name.to_string())).collect();
        std::thread::scope(|scope| {
            for one in &unpacked {
                scope.spawn(|| install(one, &place, &cache).unwrap());
            }
        });
        assert_eq!(found(), whole);
        assert_eq!(unpacked.iter().filter(|one| one.is_dir()).count(), 3);
    }
}
