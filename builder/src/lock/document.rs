//! The lock file: its format, and a list of all its pins.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use camino::Utf8Path;
use serde::{Deserialize, Deserializer, Serialize};
use vcstore::{Digest, Platform};

use crate::error::LockError;

/// The format version that is written. Version 1 lacked trees, Go modules and toolchains; it can still be read.
const VERSION: u32 = 2;

const HEADER: &str = "\
# What the inputs of this project's images were resolved to. vcbuild writes this file and builds from what it pins:
# commit it. `vcbuild lock --update` resolves inputs anew and says what changed.
";

/// The lock file, with its tables in written order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Document {
    version: u32,
    /// Sources by address and version.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) source: BTreeMap<String, BTreeMap<String, PinnedSource>>,
    /// Go toolchains by requested version.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) go: BTreeMap<String, PinnedGo>,
    /// The Go modules that the programs of a main module require, by the main module.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) modules: BTreeMap<String, BTreeSet<PinnedModule>>,
    /// The dependencies of a Cargo workspace.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) crates: BTreeSet<PinnedCrate>,
    /// Images by reference or file, and platform.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) image: BTreeMap<String, BTreeMap<Platform, PinnedImage>>,
    /// Debian packages by suite and platform.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) debian: BTreeMap<String, BTreeMap<Platform, vcdebian::Pinned>>,
    /// Prebuilt files, by their paths in the source.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) prebuilt: BTreeMap<String, PinnedFile>,
}

/// A source that vcbuild fetches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "a source is pinned by a commit and a tree (git hashes), or by a module's version and sum"
)]
pub(crate) enum PinnedSource {
    /// A revision of a git repository.
    Git(PinnedCommit),
    /// A Go module.
    Module(PinnedVersion),
}

/// A revision of a git repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PinnedCommit {
    /// The commit hash in hexadecimal.
    #[serde(deserialize_with = "object_id")]
    pub(crate) commit: String,
    /// The hash of the commit's tree, which identifies the files without their history. Missing in a lock of version 1.
    #[serde(default, deserialize_with = "object_id_if_any", skip_serializing_if = "Option::is_none")]
    pub(crate) tree: Option<String>,
}

/// Parses a git hash. It is used as a folder name, and as an argument of git.
fn object_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if matches!(text.len(), 40 | 64) && text.bytes().all(digit) {
        Ok(text)
    } else {
        Err(serde::de::Error::custom(format!("{text:?} is not a git hash, which has 40 or 64 hexadecimal digits")))
    }
}

/// Parses a Go version. It is used as a folder name, and as a part of URLs.
fn go_version<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    crate::go_names::parse_version(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

fn object_id_if_any<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    object_id(deserializer).map(Some)
}

/// A version of a Go module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PinnedVersion {
    /// The exact version.
    pub(crate) version: String,
    /// The `h1:` checksum of the module's files.
    pub(crate) sum: String,
}

/// A Go toolchain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PinnedGo {
    /// The exact version, such as `1.26.3`.
    #[serde(deserialize_with = "go_version")]
    pub(crate) version: String,
    /// The `h1:` checksums, by the machine that compiles.
    pub(crate) sums: BTreeMap<Platform, String>,
}

/// A required Go module; serialised as in `go.sum`: path, version and checksum.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub(crate) struct PinnedModule {
    pub(crate) path: String,
    pub(crate) version: String,
    pub(crate) sum: String,
}

/// A crate: name, version and content, which is `sha256:` with the registry's checksum, or else the git address with
/// the commit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub(crate) struct PinnedCrate {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) content: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PinnedImage {
    pub(super) manifest: Digest,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PinnedFile {
    pub(super) content: Digest,
}

/// An entry of the lock that is looked up as a whole.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Input {
    Source(String, String),
    Go(String),
    Modules(String),
    Crates,
    Image(String, Platform),
    Debian(String, Platform),
    Prebuilt(String),
}

/// The pinned state of one item: a readable version, and its exact content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pin {
    pub(super) version: String,
    pub(super) content: String,
}

impl Document {
    pub(super) fn empty() -> Self {
        Self {
            version: VERSION,
            source: BTreeMap::new(),
            go: BTreeMap::new(),
            modules: BTreeMap::new(),
            crates: BTreeSet::new(),
            image: BTreeMap::new(),
            debian: BTreeMap::new(),
            prebuilt: BTreeMap::new(),
        }
    }

    pub(super) fn parse(path: &Utf8Path, text: &str) -> Result<Self, LockError> {
        /// The version field, whatever else the file contains.
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let syntax = |source| LockError::Syntax { path: path.to_owned(), source: Box::new(source) };
        let found = toml::from_str::<Versioned>(text).map_err(syntax)?.version;
        if !(1..=VERSION).contains(&found) {
            return Err(LockError::Version { path: path.to_owned(), found, known: VERSION });
        }
        Ok(Self { version: VERSION, ..toml::from_str(text).map_err(syntax)? })
    }

    /// Parses an excerpt of a lock in JSON.
    pub(super) fn of_excerpt(excerpt: serde_json::Value) -> Result<Self, serde_json::Error> {
        let read: Self = serde_json::from_value(excerpt)?;
        if (1..=VERSION).contains(&read.version) {
            Ok(Self { version: VERSION, ..read })
        } else {
            let why = format!(
                "their version is {}, but this version of vcbuild supports versions up to {VERSION}",
                read.version
            );
            Err(serde::de::Error::custom(why))
        }
    }

    pub(super) fn to_text(&self) -> Result<String, toml::ser::Error> {
        Ok(format!("{HEADER}{}", toml::to_string_pretty(self)?))
    }

    /// Returns all inputs.
    pub(super) fn inputs(&self) -> BTreeSet<Input> {
        let sources = self.source.iter().flat_map(|(address, versions)| {
            versions.keys().map(|version| Input::Source(address.clone(), version.clone()))
        });
        let images = self.image.iter().flat_map(|(image, platforms)| {
            platforms.keys().map(|platform| Input::Image(image.clone(), platform.clone()))
        });
        let suites = self.debian.iter().flat_map(|(suite, platforms)| {
            platforms.keys().map(|platform| Input::Debian(suite.clone(), platform.clone()))
        });
        let go = self.go.keys().cloned().map(Input::Go);
        let modules = self.modules.keys().cloned().map(Input::Modules);
        let files = self.prebuilt.keys().cloned().map(Input::Prebuilt);
        let crates = (!self.crates.is_empty()).then_some(Input::Crates);
        sources.chain(go).chain(modules).chain(crates).chain(images).chain(suites).chain(files).collect()
    }

    /// Removes an input.
    pub(super) fn remove(&mut self, input: &Input) {
        match input {
            Input::Source(address, version) => remove(&mut self.source, address, version),
            Input::Image(image, platform) => remove(&mut self.image, image, platform),
            Input::Debian(suite, platform) => remove(&mut self.debian, suite, platform),
            Input::Go(wanted) => drop(self.go.remove(wanted)),
            Input::Modules(main) => drop(self.modules.remove(main)),
            Input::Crates => self.crates.clear(),
            Input::Prebuilt(file) => drop(self.prebuilt.remove(file)),
        }
    }

    /// Returns all pins, by input and by name within the input.
    pub(super) fn pins(&self) -> BTreeMap<(Input, String), Pin> {
        let mut pins = BTreeMap::new();
        for input in self.inputs() {
            for (name, version, content) in self.pins_of(&input) {
                match pins.entry((input.clone(), name)) {
                    Entry::Vacant(entry) => drop(entry.insert(Pin { version, content })),
                    // A module that replaces two others may do so in two versions.
                    Entry::Occupied(mut entry) => {
                        entry.get_mut().version += &format!(", {version}");
                        entry.get_mut().content += &content;
                    }
                }
            }
        }
        pins
    }

    fn pins_of(&self, input: &Input) -> Vec<(String, String, String)> {
        match input {
            Input::Source(address, version) => match &self.source[address][version] {
                PinnedSource::Git(PinnedCommit { commit, tree }) => {
                    let named = [("commit", Some(commit)), ("tree", tree.as_ref())].into_iter();
                    let named = named.filter_map(|(name, value)| Some((name.to_owned(), value?.clone())));
                    named.map(|(name, value)| (name, value.clone(), value)).collect()
                }
                PinnedSource::Module(PinnedVersion { version, sum }) => {
                    vec![("version".to_owned(), version.clone(), sum.clone())]
                }
            },
            Input::Go(wanted) => {
                let PinnedGo { version, sums } = &self.go[wanted];
                sums.iter().map(|(host, sum)| (host.to_string(), version.clone(), sum.clone())).collect()
            }
            Input::Modules(main) => {
                let pin = |one: &PinnedModule| (one.path.clone(), one.version.clone(), one.sum.clone());
                self.modules[main].iter().map(pin).collect()
            }
            Input::Crates => {
                let pin = |one: &PinnedCrate| (one.name.clone(), one.version.clone(), one.content.clone());
                self.crates.iter().map(pin).collect()
            }
            Input::Image(image, platform) => {
                let manifest = self.image[image][platform].manifest.to_string();
                vec![("manifest".to_owned(), manifest.clone(), manifest)]
            }
            Input::Prebuilt(file) => {
                let content = self.prebuilt[file].content.to_string();
                vec![("content".to_owned(), content.clone(), content)]
            }
            Input::Debian(suite, platform) => {
                let vcdebian::Pinned { releases, packages, .. } = &self.debian[suite][platform];
                let release = |one: &vcdebian::PinnedRelease| {
                    (format!("release {}", one.suite), one.date.clone(), one.sha256.to_string())
                };
                let package = |pin: &vcdebian::Pin| (pin.name.clone(), pin.version.clone(), pin.sha256.to_string());
                releases.iter().map(release).chain(packages.iter().map(package)).collect()
            }
        }
    }
}

fn remove<K: Ord, L: Ord, V>(outer: &mut BTreeMap<K, BTreeMap<L, V>>, key: &K, inner_key: &L) {
    if let Some(inner) = outer.get_mut(key) {
        inner.remove(inner_key);
        if inner.is_empty() {
            outer.remove(key);
        }
    }
}

impl Input {
    /// Returns the names by which `--update` selects the input. Modules follow the source's `go.mod`, and crates its
    /// `Cargo.lock`, so these have none.
    pub(super) fn names(&self) -> Vec<&str> {
        match self {
            Self::Source(address, _) => vec!["source", address],
            Self::Go(wanted) => vec!["go", wanted],
            Self::Modules(_) | Self::Crates => Vec::new(),
            Self::Image(image, _) => vec!["image", image],
            Self::Debian(suite, _) => vec!["debian", suite],
            Self::Prebuilt(file) => vec!["prebuilt", file],
        }
    }
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(address, version) => write!(f, "source {address} {version}"),
            Self::Go(wanted) => write!(f, "go {wanted}"),
            Self::Modules(main) => write!(f, "modules of {main}"),
            Self::Crates => write!(f, "crates"),
            Self::Image(image, platform) => write!(f, "image {image} {platform}"),
            Self::Debian(suite, platform) => write!(f, "debian {suite} {platform}"),
            Self::Prebuilt(file) => write!(f, "prebuilt {file}"),
        }
    }
}

impl From<PinnedModule> for String {
    fn from(PinnedModule { path, version, sum }: PinnedModule) -> Self {
        format!("{path} {version} {sum}")
    }
}

impl TryFrom<String> for PinnedModule {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.split(' ').collect::<Vec<_>>()[..] {
            [path, version, sum] if sum.starts_with("h1:") => {
                Ok(Self { path: path.to_owned(), version: version.to_owned(), sum: sum.to_owned() })
            }
            _ => Err(format!("{text:?} is not a module, written as its path, version and h1: checksum")),
        }
    }
}

impl From<PinnedCrate> for String {
    fn from(PinnedCrate { name, version, content }: PinnedCrate) -> Self {
        format!("{name} {version} {content}")
    }
}

impl TryFrom<String> for PinnedCrate {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.split(' ').collect::<Vec<_>>()[..] {
            [name, version, content] if !content.is_empty() => {
                Ok(Self { name: name.to_owned(), version: version.to_owned(), content: content.to_owned() })
            }
            _ => Err(format!("{text:?} is not a crate, written as its name, version and checksum")),
        }
    }
}
