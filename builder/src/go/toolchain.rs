//! The Go that is installed: where it is, what it is, and how its user has it fetch modules.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::network::Permit;
use crate::source::{FileHash, hash_file};
use crate::{Error, process};

const LIMIT: Duration = Duration::from_secs(60);

/// How the user's Go finds modules and checks them: what fetching, and nothing else, takes from the user.
const FETCH_SETTINGS: [&str; 8] =
    ["GOPROXY", "GONOPROXY", "GOSUMDB", "GONOSUMDB", "GOPRIVATE", "GOINSECURE", "GOVCS", "GOAUTH"];

/// What else fetching needs of the user's environment: the way to git, to keys and through proxies.
const FETCH_ENVIRONMENT: [&str; 16] = [
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
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];

/// An installed Go.
#[derive(Debug)]
pub(super) struct Toolchain {
    settings: Settings,
    identity: FileHash,
}

/// What `go env` tells.
#[derive(Debug, Deserialize)]
struct Settings {
    #[serde(rename = "GOROOT")]
    root: Utf8PathBuf,
    #[serde(rename = "GOTOOLDIR")]
    tools: Utf8PathBuf,
    #[serde(rename = "GOMODCACHE")]
    modules: Utf8PathBuf,
    #[serde(flatten)]
    others: BTreeMap<String, String>,
}

impl Toolchain {
    /// Finds `go` and takes its identity, which `cache` remembers for as long as its files stay as they are.
    pub(super) fn find(cache: &Utf8Path) -> Result<Self, Error> {
        let mut command = Command::new("go");
        command
            .env("GOTOOLCHAIN", "local")
            .args(["env", "-json", "GOROOT", "GOTOOLDIR", "GOMODCACHE"])
            .args(FETCH_SETTINGS);
        let attempt = "asking the installed Go for its settings";
        let output = process::run(&mut command, LIMIT)
            .map_err(|failure| if failure.is_missing_program() { Error::NoGo } else { Error::go(attempt)(failure) })?;
        let settings: Settings = serde_json::from_slice(&output).map_err(|why| {
            Error::go(attempt)(process::Failure::Other(format!("its answer is not understood: {why}")))
        })?;
        let identity = identify(&settings, cache)?;
        Ok(Self { settings, identity })
    }

    pub(super) fn root(&self) -> &Utf8Path {
        &self.settings.root
    }

    /// The hash of the compiler: its version and the programs that make binaries.
    pub(super) fn identity(&self) -> &FileHash {
        &self.identity
    }

    /// Opens `command` to the network, as the user's own Go is, with the modules the user has already before it.
    pub(super) fn let_fetch(&self, command: &mut Command, _permit: Permit) {
        command.envs(FETCH_ENVIRONMENT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        command.envs(&self.settings.others);
        let proxy = self.settings.others.get("GOPROXY").map_or("", String::as_str);
        if let Some(known) = self.downloads() {
            command.env("GOPROXY", [&known, proxy].join(","));
        }
    }

    /// Opens `command` to the modules the user has already; `go.sum` says whether they are the right ones.
    pub(super) fn let_copy(&self, command: &mut Command) {
        if let Some(known) = self.downloads() {
            command.env("GOPROXY", known);
        }
    }

    /// The address of the modules that the user's own Go fetched.
    fn downloads(&self) -> Option<String> {
        let downloads = self.settings.modules.join("cache/download");
        let known = downloads.is_dir().then(|| reqwest::Url::from_file_path(&downloads).ok()).flatten()?;
        Some(known.as_str().trim_end_matches('/').to_owned())
    }
}

/// What is remembered of a toolchain.
#[derive(Serialize, Deserialize)]
struct Known {
    files: BTreeMap<Utf8PathBuf, Stat>,
    identity: FileHash,
}

/// By this a file is taken for unchanged, as make and git do.
#[derive(PartialEq, Eq, Serialize, Deserialize)]
struct Stat {
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

fn identify(settings: &Settings, cache: &Utf8Path) -> Result<FileHash, Error> {
    let tools = ["compile", "link", "asm"].map(|tool| settings.tools.join(tool));
    let paths = [settings.root.join("VERSION"), settings.root.join("bin/go")].into_iter().chain(tools);
    let paths = paths.chain(library(&settings.root)?);
    let stat = |path: Utf8PathBuf| {
        let meta = fs::metadata(&path).map_err(Error::io("reading", &path))?;
        Ok((path, Stat { inode: meta.ino(), size: meta.len(), changed: (meta.ctime(), meta.ctime_nsec()) }))
    };
    let files: BTreeMap<_, _> = paths.map(stat).collect::<Result<_, Error>>()?;
    let memory = cache.join(blake3::hash(settings.root.as_str().as_bytes()).to_hex().as_str());
    let known = fs::read(&memory).ok().and_then(|bytes| serde_json::from_slice::<Known>(&bytes).ok());
    if let Some(known) = known
        && known.files == files
    {
        return Ok(known.identity);
    }
    let hashes: Vec<FileHash> =
        files.keys().collect::<Vec<_>>().into_par_iter().map(|path| hash_file(path)).collect::<Result<_, _>>()?;
    let content = files.keys().zip(hashes).fold(String::new(), |mut content, (path, hash)| {
        content += path.strip_prefix(&settings.root).unwrap_or(path).as_str();
        content += &serde_json::to_string(&hash).unwrap_or_default();
        content
    });
    let known = Known { files, identity: FileHash::of(content.as_bytes()) };
    // What cannot be remembered is found again.
    let _ = crate::atomic::replace(&memory, &serde_json::to_vec(&known).unwrap_or_default());
    Ok(known.identity)
}

/// The standard library that programs are compiled with, and the settings that come with the toolchain.
fn library(root: &Utf8Path) -> Result<Vec<Utf8PathBuf>, Error> {
    let keep = |entry: &walkdir::DirEntry| !matches!(entry.file_name().to_str(), Some("testdata" | "cmd"));
    let mut found = Vec::new();
    for folder in [root.join("src"), root.join("pkg/include")].iter().filter(|folder| folder.is_dir()) {
        for entry in walkdir::WalkDir::new(folder).into_iter().filter_entry(keep) {
            let entry = entry.map_err(|error| Error::io("reading", folder)(error.into()))?;
            let test = entry.file_name().to_str().is_some_and(|name| name.ends_with("_test.go"));
            if entry.file_type().is_file() && !test {
                found.extend(Utf8PathBuf::from_path_buf(entry.into_path()).ok());
            }
        }
    }
    let settings = root.join("go.env");
    Ok(found.into_iter().chain(settings.is_file().then_some(settings)).collect())
}
