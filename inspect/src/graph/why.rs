//! Explains why an item is in an image: a chain from the image to the item, in which each link requires the next.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use vcstore::{ActionKey, Image, Layer, Platform, PlatformImage, Record, Store};

use super::chain::shortest;
use super::debian::InstalledPackages;
use super::records::digests;
use super::{Records, short};
use crate::Error;
use crate::image_fs::{Files, Kind, Layers, texts};
use crate::packages;

/// The name of a scan output that is not a closure: an [`Imports`].
pub const IMPORTS: &str = "imports";

/// The imports between packages, to explain why a program requires a module. No build uses them.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Imports {
    /// The import path of each program, by its package, such as `./cmd/manager`.
    pub programs: BTreeMap<String, String>,
    /// The packages that a package imports, without Go's own.
    pub imports: BTreeMap<String, Vec<String>>,
}

/// The size limit of dpkg's files in bytes; they have a few megabytes.
const DPKG_LIMIT: u64 = 64 << 20;
const DPKG_STATUS: &str = "var/lib/dpkg/status";
const DPKG_LISTS: &str = "var/lib/dpkg/info/";

/// The minimum number of digits of an abbreviated hash.
const DIGITS: usize = 12;

/// The item to explain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A file, by its absolute path.
    Path(String),
    /// A blob, a layer or the content of a file, by its hash or an abbreviation of it.
    Digest(String),
    /// A Debian package, a Go module or package, or another item that an action lists with a version.
    Package(String),
}

/// A chain from an image to the item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// The name of the image.
    pub image: String,
    /// The platform.
    pub platform: Platform,
    /// The links from the image to the item.
    pub chain: Vec<Link>,
}

/// A link of a chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Link {
    /// The type: `layer`, `action`, `package`, `import`, `module`, `file`, …
    pub kind: String,
    pub name: String,
    pub detail: String,
}

/// Explains items in the images of a store.
pub struct Asker<'a> {
    /// The store.
    pub store: &'a Store,
    /// The records of the store.
    pub records: &'a Records,
    /// The cached layers.
    pub layers: &'a Layers,
}

impl What {
    /// Parses a path, a hash or a name, by its form.
    pub fn parse(text: &str) -> Self {
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        if text.starts_with('/') {
            Self::Path(text.to_owned())
        } else if hex.len() >= DIGITS && hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            Self::Digest(hex.to_owned())
        } else {
            Self::Package(text.to_owned())
        }
    }
}

impl Asker<'_> {
    /// Explains why `what` is in `image`: returns a chain for each platform and each origin; an empty list if the image
    /// does not contain it.
    ///
    /// # Errors
    /// When a blob is missing or damaged.
    pub fn reasons(&self, image: &Image, what: &What) -> Result<Vec<Reason>, Error> {
        let mut reasons = Vec::new();
        for one in &image.platforms {
            let chains = match what {
                What::Path(path) => Vec::from_iter(self.path(one, path)?),
                What::Digest(hex) => Vec::from_iter(self.digest(image, one, hex)?),
                What::Package(name) => {
                    let debian = self.debian(one, name)?;
                    // Debian packages have their own chain if the image lists its installed packages.
                    let mut chains = self.listed(one, name, |label| debian.is_none() || label != "packages")?;
                    chains.extend(debian);
                    chains
                }
            };
            let reason = |chain| Reason { image: image.name.clone(), platform: one.platform.clone(), chain };
            reasons.extend(chains.into_iter().map(reason));
        }
        Ok(reasons)
    }

    fn path(&self, one: &PlatformImage, path: &str) -> Result<Option<Vec<Link>>, Error> {
        let files = self.layers.files(self.store, &one.layers)?;
        let Some((path, placed)) = files.find(path) else { return Ok(None) };
        let mut chain = self.layer(one, placed.layer);
        if let Some(package) = self.owner(&one.layers, &files, &path)? {
            chain.extend(self.installed(one)?.and_then(|installed| packages(&installed, &package)).unwrap_or_default());
        }
        chain.push(file(&path, &placed.entry.kind, placed.entry.mode));
        Ok(Some(chain))
    }

    fn digest(&self, image: &Image, one: &PlatformImage, hex: &str) -> Result<Option<Vec<Link>>, Error> {
        let is = |text: &str| text.strip_prefix("sha256:").unwrap_or(text).starts_with(hex);
        let parts = [
            (image.target.digest().to_string(), "image"),
            (one.manifest.digest().to_string(), "manifest"),
            (one.config.digest().to_string(), "config"),
        ];
        if let Some((digest, kind)) = parts.into_iter().find(|(digest, _)| is(digest)) {
            let mut chain = self.actions(&self.made_image(one));
            chain.push(Link { kind: kind.to_owned(), name: digest, detail: String::new() });
            return Ok(Some(chain));
        }
        if let Some(number) =
            one.layers.iter().position(|layer| is(&layer.digest.to_string()) || is(&layer.diff_id.to_string()))
        {
            return Ok(Some(self.layer(one, number)));
        }
        // A blob that an action used or produced.
        let made = self.made_image(one);
        for (key, record) in &made {
            let blobs = record.outputs().blobs().iter().map(|(name, blob)| (name, blob.digest));
            let named = record
                .inputs()
                .iter()
                .flat_map(|(label, value)| digests(value).into_iter().map(move |digest| (label, digest)));
            let seen = blobs.chain(named).find(|(_, digest)| is(&digest.to_string()));
            if let Some((name, digest)) = seen {
                let mut chain = self.way_to(key, &made);
                chain.push(Link { kind: "blob".to_owned(), name: digest.to_string(), detail: name.clone() });
                return Ok(Some(chain));
            }
        }
        // The content of a file.
        let files = self.layers.files(self.store, &one.layers)?;
        let holds = |kind: &Kind| matches!(kind, Kind::File { digest, .. } if is(&digest.to_string()));
        match files.entries.iter().find(|(_, placed)| holds(&placed.entry.kind)) {
            Some((path, _)) => self.path(one, &format!("/{path}")),
            None => Ok(None),
        }
    }

    /// Returns a chain for each action that lists an item of this name, such as a module, in the inputs that `wanted`
    /// accepts.
    fn listed(&self, one: &PlatformImage, name: &str, wanted: impl Fn(&str) -> bool) -> Result<Vec<Vec<Link>>, Error> {
        let made = self.made_image(one);
        let mut chains = Vec::new();
        for (key, record) in &made {
            for (label, value) in record.inputs().iter().filter(|(label, _)| wanted(label)) {
                let Some(found) = listed(value, name) else { continue };
                let mut chain = self.way_to(key, &made);
                chain.extend(self.imports(record, name)?);
                chain.push(Link { kind: label.trim_end_matches('s').to_owned(), name: found.0, detail: found.1 });
                chains.push(chain);
            }
        }
        Ok(chains)
    }

    /// Returns the imports from a Go program to a package of the module.
    fn imports(&self, compile: &Record, name: &str) -> Result<Vec<Link>, Error> {
        let Some(program) = compile.inputs().get("package").and_then(Value::as_str) else { return Ok(Vec::new()) };
        let Some(imports) = self.scan_of(compile, program)? else { return Ok(Vec::new()) };
        let Some(root) = imports.programs.get(program) else { return Ok(Vec::new()) };
        let modules = compile.inputs().get("modules").map(paths).unwrap_or_default();
        let module = modules.iter().copied().filter(|module| within(name, module)).max_by_key(|module| module.len());
        let found = |package: &str| {
            // Of nested module paths, the longest contains the package.
            let owner =
                modules.iter().copied().filter(|module| within(package, module)).max_by_key(|module| module.len());
            if Some(name) == module { owner == module } else { package == name }
        };
        let needs = |package: &str| {
            imports.imports.get(package).map(|all| all.iter().map(String::as_str).collect()).unwrap_or_default()
        };
        let chain = shortest([root.as_str()], needs, found).unwrap_or_default();
        let link = |package: &str| Link { kind: "import".to_owned(), name: package.to_owned(), detail: String::new() };
        Ok(chain.into_iter().map(link).collect())
    }

    /// Returns the imports of the scan that produced the inputs of this compile action.
    fn scan_of(&self, compile: &Record, program: &str) -> Result<Option<Imports>, Error> {
        for (_, scan) in self.records.iter().filter(|(_, record)| record.kind() == "scan") {
            let (Some(closure), Some(imports)) = (scan.outputs().blob(program), scan.outputs().blob(IMPORTS)) else {
                continue;
            };
            // Garbage collection may have removed the outputs.
            if !self.store.contains(&closure.digest) || !self.store.contains(&imports.digest) {
                continue;
            }
            let closure: Value = self.store.document(&closure.digest)?;
            let files = |value: &Value| value.get("files").map(names).unwrap_or_default();
            let given = serde_json::json!({"files": compile.inputs().get("files")});
            if closure.get("modules") == compile.inputs().get("modules") && files(&closure) == files(&given) {
                return Ok(Some(self.store.document(&imports.digest)?));
            }
        }
        Ok(None)
    }

    fn debian(&self, one: &PlatformImage, name: &str) -> Result<Option<Vec<Link>>, Error> {
        let Some(installed) = self.installed(one)?.filter(|installed| installed.has(name)) else { return Ok(None) };
        let files = self.layers.files(self.store, &one.layers)?;
        let list = |path: &&String| {
            path.strip_prefix(DPKG_LISTS)
                .and_then(|file| file.strip_suffix(".list"))
                .is_some_and(|stem| stem.split(':').next() == Some(name))
        };
        let status = [DPKG_STATUS, &packages::described_in(name)].into_iter().find_map(|path| files.entries.get(path));
        let placed = files.entries.iter().find(|(path, _)| list(path)).map(|(_, placed)| placed).or(status);
        let mut chain = placed.map(|placed| self.layer(one, placed.layer)).unwrap_or_default();
        chain.extend(packages(&installed, name).unwrap_or_default());
        Ok(Some(chain))
    }

    /// Returns the installed packages of the image; `None` if it does not list any.
    fn installed(&self, one: &PlatformImage) -> Result<Option<InstalledPackages>, Error> {
        let status = packages::status(self.store, &one.layers)?;
        Ok((!status.is_empty()).then(|| InstalledPackages::read(&status)))
    }

    /// Returns the Debian package that installed a path.
    fn owner(&self, layers: &[Layer], files: &Files, path: &str) -> Result<Option<String>, Error> {
        if !files.entries.contains_key(DPKG_STATUS) {
            return Ok(None);
        }
        // If /bin is a link to /usr/bin, packages may still list files in /bin.
        let names = [format!("/{path}"), format!("/{}", path.strip_prefix("usr/").unwrap_or(path))];
        for layer in layers.iter().rev() {
            let lists =
                texts(self.store, layer, DPKG_LIMIT, |path| path.starts_with(DPKG_LISTS) && path.ends_with(".list"))?;
            for (list, content) in lists {
                let content = String::from_utf8_lossy(&content);
                if content.lines().any(|line| names.iter().any(|name| name == line)) {
                    let stem = list.trim_start_matches(DPKG_LISTS).trim_end_matches(".list");
                    return Ok(stem.split(':').next().map(ToOwned::to_owned));
                }
            }
        }
        Ok(None)
    }

    /// Returns the links for a layer of the image, and for the actions that produced it.
    fn layer(&self, one: &PlatformImage, number: usize) -> Vec<Link> {
        let Some(layer) = one.layers.get(number) else { return Vec::new() };
        let detail = format!("{} of {}, {}", number + 1, one.layers.len(), vcterminal::bytes(layer.size));
        let mut chain = vec![Link { kind: "layer".to_owned(), name: layer.digest.to_string(), detail }];
        let mut made = self.records.made(&layer.digest);
        made.reverse();
        chain.extend(made.into_iter().map(|(key, record)| action(key, record)));
        chain
    }

    fn made_image(&self, one: &PlatformImage) -> Vec<(&ActionKey, &Record)> {
        self.records.made(&one.manifest_digest())
    }

    fn actions(&self, made: &[(&ActionKey, &Record)]) -> Vec<Link> {
        made.last().map(|(key, record)| action(key, record)).into_iter().collect()
    }

    /// Returns the actions from the one that produced the image, the last of `made`, to one of its dependencies.
    fn way_to(&self, key: &ActionKey, made: &[(&ActionKey, &Record)]) -> Vec<Link> {
        let names: BTreeMap<String, &ActionKey> = made.iter().map(|(key, _)| (key.to_string(), *key)).collect();
        let name_of = |key: &ActionKey| names.get_key_value(&key.to_string()).map(|(name, _)| name.as_str());
        let needs = |name: &str| {
            let needed = names.get(name).map(|key| self.records.needs(key)).unwrap_or_default();
            needed.into_iter().filter_map(|(_, key)| name_of(key)).collect()
        };
        let root = made.last().and_then(|(key, _)| name_of(key));
        let chain = shortest(root, needs, |name| *name == key.to_string()).unwrap_or_default();
        let link = |name: &str| Some(action(names.get(name)?, self.records.get(names.get(name)?)?));
        chain.into_iter().filter_map(link).collect()
    }
}

fn action(key: &ActionKey, record: &Record) -> Link {
    let name = format!("{} {}", record.kind(), record.name());
    Link { kind: "action".to_owned(), name, detail: short(&key.to_string()) }
}

fn packages(installed: &InstalledPackages, name: &str) -> Option<Vec<Link>> {
    let link = |one: super::debian::ChainPackage| {
        let architecture = one.architecture;
        let why = one.why.map(|why| format!("; {why}")).unwrap_or_default();
        Link {
            kind: "package".to_owned(),
            name: format!("{} {}", one.name, one.version),
            detail: format!("{architecture}{why}"),
        }
    };
    Some(installed.chain(name)?.into_iter().map(link).collect())
}

fn file(path: &str, kind: &Kind, mode: u32) -> Link {
    let detail = match kind {
        Kind::File { size, .. } => format!("{mode:04o}, {}", vcterminal::bytes(*size)),
        Kind::Symlink(target) => format!("→ {target}"),
        other => other.word().to_owned(),
    };
    Link { kind: "file".to_owned(), name: format!("/{path}"), detail }
}

/// Returns the name and version of the list entry with this name, or of the module that contains the package of this
/// name.
fn listed(value: &Value, name: &str) -> Option<(String, String)> {
    let text = |entry: &Value, field: &str| entry.get(field).and_then(Value::as_str).map(ToOwned::to_owned);
    let entries = value.as_array()?.iter().filter_map(|entry| {
        let known = text(entry, "path").or_else(|| text(entry, "name"))?;
        Some((known, text(entry, "version")?))
    });
    entries.filter(|(known, _)| within(name, known)).max_by_key(|(known, _)| known.len())
}

/// Returns whether a module contains a package, by their paths.
fn within(package: &str, module: &str) -> bool {
    package.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn paths(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(|entry| entry.get("path")?.as_str()).collect()
}

/// Returns the texts in a list, or the keys of a table.
fn names(value: &Value) -> Vec<String> {
    match value {
        Value::Array(list) => list.iter().filter_map(Value::as_str).map(ToOwned::to_owned).collect(),
        Value::Object(fields) => fields.keys().cloned().collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::{What, listed};

    #[test]
    fn a_path_a_hash_and_a_name_are_told_apart() {
        let hash = "0123456789ab".to_owned();
        assert_eq!(What::parse("/bin/sh"), What::Path("/bin/sh".to_owned()));
        assert_eq!(What::parse("sha256:0123456789ab"), What::Digest(hash.clone()));
        assert_eq!(What::parse("0123456789ab"), What::Digest(hash));
        for name in ["bash", "golang.org/x/net", "libc6", "deadbeef"] {
            assert_eq!(What::parse(name), What::Package(name.to_owned()));
        }
    }

    #[test]
    fn a_package_is_of_the_module_with_the_longest_path() {
        let modules = serde_json::json!([
            {"path": "example.org/a", "version": "v1"}, {"path": "example.org/a/b", "version": "v2"}, {"name": "c", "version": "3"}
        ]);
        let found = |name: &str| listed(&modules, name).map(|(name, version)| format!("{name} {version}"));
        assert_eq!(found("example.org/a/b/c").unwrap(), "example.org/a/b v2");
        assert_eq!(found("example.org/a/bc").unwrap(), "example.org/a v1");
        assert_eq!(found("c").unwrap(), "c 3");
        assert_eq!(found("example.org"), None);
    }
}
