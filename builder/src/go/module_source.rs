//! A Go module as the source: fetched by Go with the user's settings, and turned into a main module.

use std::fs;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use serde::Deserialize;
use vcsandbox::process;
use vcstore::utf8;
use vcstore::{Platform, Store};

use super::{Go, Home};
use crate::Error;
use crate::lock::{Lock, PinnedVersion};
use crate::progress::Progress;

const LIMIT: Duration = Duration::from_secs(60);

/// The version of the conversion to a main module. Increment it when the result changes.
const RECIPE: u32 = 1;

/// The output of `go mod download -json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Downloaded {
    version: String,
    dir: Utf8PathBuf,
    sum: String,
}

/// A `replace` directive of a `go.mod`, in the output of `go mod edit -json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Replace {
    old: ModuleVersion,
    new: ModuleVersion,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ModuleVersion {
    path: String,
    #[serde(default)]
    version: String,
}

/// Returns the folder and the exact version of a module: the version that `lock` pins for the requested one (`v1.2.3`,
/// `latest`), or else its current version. Fetches nothing that is in the cache.
///
/// Its `replace` directives apply, except those by local folders, which a fetched module does not have.
///
/// # Errors
/// When Go is not available or cannot fetch the module, or the module differs from the pin.
pub(crate) fn module_source(
    module: &str,
    asked: &str,
    go: Option<&str>,
    store: &Store,
    lock: &Lock,
    progress: &Progress,
) -> Result<(Utf8PathBuf, String), Error> {
    let pinned = lock.version(module, asked)?;
    let cache = store.cache_dir("module")?;
    if let Some(pinned) = &pinned
        && place(&cache, &pinned.sum).is_dir()
    {
        lock.pin_version(module, asked, pinned.clone());
        return Ok((place(&cache, &pinned.sum), pinned.version.clone()));
    }
    let go = Go::find(go, store, lock, 1, progress)?;
    let query = format!("{module}@{}", pinned.as_ref().map_or(asked, |pinned| pinned.version.as_str()));
    progress.say(&format!("fetching {query}"));
    let found = download(&go, store, &query, pinned.is_none() && !is_exact(asked))?;
    if let Some(pinned) = pinned.filter(|pinned| pinned.sum != found.sum) {
        return Err(crate::error::LockError::Checksum {
            path: lock.path().to_owned(),
            input: format!("Go module {query}"),
            pinned: pinned.sum,
            found: found.sum,
        }
        .into());
    }
    let place = place(&cache, &found.sum);
    if !place.is_dir() {
        let folder = store.temp_dir()?;
        let copy = utf8("using", folder.path())?.join("module");
        copy_writable(&found.dir, &copy)?;
        make_main(&go, store, &query, &copy)?;
        match fs::rename(&copy, &place) {
            // Another process may have created the folder first.
            Err(_) if place.is_dir() => {}
            result => result.map_err(Error::io("writing", &place))?,
        }
    }
    lock.pin_version(module, asked, PinnedVersion { version: found.version.clone(), sum: found.sum });
    Ok((place, found.version))
}

fn place(cache: &Utf8Path, sum: &str) -> Utf8PathBuf {
    cache.join(&blake3::hash(format!("{RECIPE} {sum}").as_bytes()).to_hex()[..32])
}

/// Returns whether a version is immutable: `v1.2.3` with an optional suffix, but not a branch or `latest`.
fn is_exact(version: &str) -> bool {
    let number = version.strip_prefix('v').map(|rest| rest.split(['-', '+']).next().unwrap_or_default());
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    number.is_some_and(|number| number.split('.').count() == 3 && number.split('.').all(is_number))
}

/// Makes Go fetch and unpack a module, and verify it against the checksum database if the user's settings enable it.
/// `newest` states whether the query depends on the available versions.
fn download(go: &Go, store: &Store, query: &str, newest: bool) -> Result<Downloaded, Error> {
    let attempt = format!("fetching {query}");
    let home = go.home(store)?;
    let mut command = go.command(&home.path);
    command.current_dir(&home.path).args(["mod", "download", "-modcacherw", "-json", query]);
    let output = go.fetch(command, &attempt, newest)?;
    serde_json::from_slice(&output).map_err(|why| {
        Error::go(&attempt)(process::Failure::Other(format!("the output of Go cannot be parsed: {why}")))
    })
}

/// Removes local replacements from `go.mod`, and makes Go complete `go.sum` for the modules that are used instead.
fn make_main(go: &Go, store: &Store, query: &str, dir: &Utf8Path) -> Result<(), Error> {
    let attempt = format!("reading the go.mod of {query}");
    let home = go.home(store)?;
    if !dir.join("go.mod").is_file() {
        let why = format!("{query} has no go.mod: it predates Go modules");
        return Err(Error::go(&attempt)(process::Failure::Other(why)));
    }
    let edit = |arguments: &[&str]| {
        let mut command = go.command(&home.path);
        command.current_dir(dir).args(["mod", "edit"]).args(arguments);
        process::run(&mut command, LIMIT).map_err(Error::go(&attempt))
    };
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct GoMod {
        replace: Option<Vec<Replace>>,
    }
    let go_mod: GoMod = serde_json::from_slice(&edit(&["-json"])?)
        .map_err(|why| Error::go(&attempt)(process::Failure::Other(why.to_string())))?;
    let is_folder = |one: &Replace| one.new.path.starts_with('.') || one.new.path.starts_with('/');
    let folders: Vec<_> = go_mod.replace.unwrap_or_default().into_iter().filter(is_folder).collect();
    if folders.is_empty() {
        return Ok(());
    }
    for Replace { old: ModuleVersion { path, version }, .. } in &folders {
        let version = if version.is_empty() { String::new() } else { format!("@{version}") };
        edit(&[&format!("-dropreplace={path}{version}")])?;
    }
    for architecture in ["amd64", "arm64"] {
        complete(go, &home, query, dir, &Platform::linux(architecture))?;
    }
    Ok(())
}

fn complete(go: &Go, home: &Home, query: &str, dir: &Utf8Path, platform: &Platform) -> Result<(), Error> {
    let mut command = go.command_for(&home.path, platform);
    command.current_dir(dir).args(["list", "-mod=mod", "-modcacherw", "-deps", "-f", "{{.Name}}", "./..."]);
    go.fetch(command, &format!("fetching the Go modules of {query}"), false).map(drop)
}

/// Copies a folder of the module cache, which is read-only, with write permission.
fn copy_writable(from: &Utf8Path, to: &Utf8Path) -> Result<(), Error> {
    use std::os::unix::fs::PermissionsExt;
    for entry in walkdir::WalkDir::new(from) {
        let entry = entry.map_err(|error| Error::io("reading", from)(error.into()))?;
        let path = utf8("using", entry.path())?;
        let to = to.join(path.strip_prefix(from).unwrap_or(&path));
        if entry.file_type().is_dir() {
            fs::create_dir_all(&to).map_err(Error::io("making", &to))?;
        } else {
            fs::copy(&path, &to).map_err(Error::io("copying", &path))?;
            fs::set_permissions(&to, fs::Permissions::from_mode(0o644)).map_err(Error::io("writing", &to))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::is_exact;

    #[test]
    fn a_version_is_exact_or_a_question() {
        for exact in ["v1.2.3", "v0.0.0-20200102030405-abcdefabcdef", "v2.0.0+incompatible", "v1.2.3-rc.1"] {
            assert!(is_exact(exact), "{exact}");
        }
        for question in ["latest", "master", "v1", "v1.2", "1.2.3", "v1.2.x", "v1.2.3.4", "v1..3", "abcdef012345"] {
            assert!(!is_exact(question), "{question}");
        }
    }
}
