//! A Go toolchain, installed or pinned: its location, its identity, and the user's settings for fetching modules.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use vcnetwork::Permit;
use vcnetwork::http;
use vcsandbox::Folder;
use vcsandbox::elf::Machine;
use vcsandbox::process;
use vcstore::Store;

use super::release::{self, Release};
use crate::Error;
use crate::lock::Lock;
use crate::progress::Progress;
use crate::source::{FileHash, hash_file};

const LIMIT: Duration = Duration::from_secs(60);

/// The user's settings for finding and verifying modules, which only fetching uses.
const FETCH_SETTINGS: [&str; 8] =
    ["GOPROXY", "GONOPROXY", "GOSUMDB", "GONOSUMDB", "GOPRIVATE", "GOINSECURE", "GOVCS", "GOAUTH"];

/// The variables of the user's environment that fetching needs, to use git and credentials. Proxy variables are added.
const FETCH_ENVIRONMENT: [&str; 10] = [
    "PATH",
    "HOME",
    "USER",
    "NETRC",
    "SSH_AUTH_SOCK",
    "GIT_SSH",
    "GIT_SSH_COMMAND",
    "GIT_CONFIG_GLOBAL",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

/// A Go toolchain.
#[derive(Debug)]
pub(super) struct Toolchain {
    settings: Settings,
    folder: Folder,
    identity: String,
    origin: String,
}

/// The output of `go env -json`.
#[derive(Debug, Deserialize)]
pub(super) struct Settings {
    #[serde(rename = "GOROOT")]
    root: Utf8PathBuf,
    #[serde(rename = "GOVERSION")]
    version: String,
    #[serde(rename = "GOMODCACHE")]
    pub(super) modules: Utf8PathBuf,
    #[serde(flatten)]
    pub(super) others: BTreeMap<String, String>,
}

impl Toolchain {
    /// Finds the installed `go` and computes its identity, which `cache` keeps while its files are unchanged.
    pub(super) fn installed(cache: &Utf8Path) -> Result<Self, Error> {
        let settings = ask("go")?;
        let root = &settings.root;
        let go = root.join("bin/go");
        if File::open(&go).and_then(Machine::read).map_err(Error::io("reading", &go))? == Machine::NoProgram {
            return Err(crate::error::ToolchainError::Script { go }.into());
        }
        let programs: Vec<_> = [go].into_iter().chain(compilers(root)).collect();
        let folder = Folder::of(root, &programs)?;
        let identity = identify(&settings.root, cache)?;
        let origin = format!("{}, as installed", settings.version);
        Ok(Self { settings, folder, identity, origin })
    }

    /// Returns the toolchain of this version, as the lock pins it.
    pub(super) fn pinned(version: &str, store: &Store, lock: &Lock, progress: &Progress) -> Result<Self, Error> {
        let Release { root, sum, version } = release::realise(version, store, lock, progress)?;
        let settings = ask(root.join("bin/go").as_str())?;
        let folder = Folder::plain(&settings.root);
        Ok(Self { settings, folder, identity: sum, origin: format!("go{version}, pinned") })
    }

    pub(super) fn root(&self) -> &Utf8Path {
        &self.settings.root
    }

    /// Returns the root as a folder that can be given to a step.
    pub(super) fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Returns the content identity: the checksum of a pinned toolchain, or a hash of the programs and files of an
    /// installed one that affect binaries.
    pub(super) fn identity(&self) -> &str {
        &self.identity
    }

    /// Returns the version and origin for messages. The content of an installed Go depends on the machine.
    pub(super) fn origin(&self) -> &str {
        &self.origin
    }

    /// Gives `command` network access with the settings of the user's Go.
    pub(super) fn let_resolve(&self, command: &mut Command, _permit: Permit) {
        command.envs(FETCH_ENVIRONMENT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        http::of_programs(command);
        command.envs(&self.settings.others);
    }

    /// Gives `command` network access as [`Toolchain::let_resolve`], and tries the user's module cache first. Not
    /// suitable for a query of the newest version, which the cache does not know.
    pub(super) fn let_fetch(&self, command: &mut Command, permit: Permit) {
        self.let_resolve(command, permit);
        let proxy = self.settings.others.get("GOPROXY").map_or("", String::as_str);
        if let Some(known) = self.downloads() {
            command.env("GOPROXY", [&known, proxy].join(","));
        }
    }

    /// Gives `command` access to the user's module cache; Go verifies the modules against `go.sum`.
    pub(super) fn let_copy(&self, command: &mut Command) {
        if let Some(known) = self.downloads() {
            command.env("GOPROXY", known);
        }
    }

    /// Returns the URL of the download cache of the user's Go.
    fn downloads(&self) -> Option<String> {
        let downloads = self.settings.modules.join("cache/download");
        let known = downloads.is_dir().then(|| reqwest::Url::from_file_path(&downloads).ok()).flatten()?;
        Some(known.as_str().trim_end_matches('/').to_owned())
    }
}

/// The cached identity of a toolchain.
#[derive(Serialize, Deserialize)]
struct CachedIdentity {
    files: BTreeMap<Utf8PathBuf, Stat>,
    identity: String,
}

/// The state by which a file counts as unchanged, as in make and git.
#[derive(PartialEq, Eq, Serialize, Deserialize)]
struct Stat {
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

/// Runs a `go` program to get the user's settings.
pub(super) fn ask(program: &str) -> Result<Settings, Error> {
    let mut command = Command::new(program);
    command
        .env("GOTOOLCHAIN", "local")
        // The program alone determines its root.
        .env_remove("GOROOT")
        .args(["env", "-json", "GOROOT", "GOVERSION", "GOMODCACHE"])
        .args(FETCH_SETTINGS);
    let attempt = format!("asking {program} for its settings");
    let output = process::run(&mut command, LIMIT)
        .map_err(|failure| if failure.is_missing_program() { Error::NoGo } else { Error::go(&attempt)(failure) })?;
    serde_json::from_slice(&output)
        .map_err(|why| Error::go(&attempt)(process::Failure::Other(format!("its output cannot be parsed: {why}"))))
}

/// Returns a hash of the programs and files of a Go toolchain that affect binaries.
pub(super) fn identify(root: &Utf8Path, cache: &Utf8Path) -> Result<String, Error> {
    let paths = [root.join("VERSION"), root.join("bin/go")].into_iter().chain(compilers(root));
    let paths = paths.chain(library(root)?);
    let stat = |path: Utf8PathBuf| {
        let meta = fs::metadata(&path).map_err(Error::io("reading", &path))?;
        Ok((path, Stat { inode: meta.ino(), size: meta.len(), changed: (meta.ctime(), meta.ctime_nsec()) }))
    };
    let files: BTreeMap<_, _> = paths.map(stat).collect::<Result<_, Error>>()?;
    let memory = cache.join(blake3::hash(root.as_str().as_bytes()).to_hex().as_str());
    let known = fs::read(&memory).ok().and_then(|bytes| serde_json::from_slice::<CachedIdentity>(&bytes).ok());
    if let Some(known) = known
        && known.files == files
    {
        return Ok(known.identity);
    }
    let hashes: Vec<FileHash> =
        files.keys().collect::<Vec<_>>().into_par_iter().map(|path| hash_file(path)).collect::<Result<_, _>>()?;
    let content = files.keys().zip(hashes).fold(String::new(), |mut content, (path, hash)| {
        content += path.strip_prefix(root).unwrap_or(path).as_str();
        content += &serde_json::to_string(&hash).unwrap_or_default();
        content
    });
    let known = CachedIdentity { files, identity: FileHash::of(content.as_bytes()).to_string() };
    // If the cache cannot be written, the next run computes the identity again.
    let _ = vcstore::atomic::replace(&memory, &serde_json::to_vec(&known).unwrap_or_default());
    Ok(known.identity)
}

/// Returns the programs of a Go toolchain that compile and link.
pub(super) fn compilers(root: &Utf8Path) -> [Utf8PathBuf; 3] {
    let host = if std::env::consts::ARCH == "aarch64" { "arm64" } else { "amd64" };
    let tools = root.join("pkg/tool").join(format!("{}_{host}", std::env::consts::OS));
    ["compile", "link", "asm"].map(|tool| tools.join(tool))
}

/// Returns the files of the standard library, and the settings that come with the toolchain.
fn library(root: &Utf8Path) -> Result<Vec<Utf8PathBuf>, Error> {
    let keep = |entry: &walkdir::DirEntry| !matches!(entry.file_name().to_str(), Some("testdata" | "cmd"));
    let mut found = Vec::new();
    for folder in [root.join("src"), root.join("pkg/include")].iter().filter(|folder| folder.is_dir()) {
        // Distributions install parts of it elsewhere, behind symbolic links.
        for entry in walkdir::WalkDir::new(folder).follow_links(true).into_iter().filter_entry(keep) {
            let entry = match entry {
                Err(error) if error.depth() > 0 && crate::source::leads_nowhere(&error) => continue,
                entry => entry.map_err(|error| Error::io("reading", folder)(error.into()))?,
            };
            let test = entry.file_name().to_str().is_some_and(|name| name.ends_with("_test.go"));
            if entry.file_type().is_file() && !test {
                found.extend(Utf8PathBuf::from_path_buf(entry.into_path()).ok());
            }
        }
    }
    let settings = root.join("go.env");
    Ok(found.into_iter().chain(settings.is_file().then_some(settings)).collect())
}
