//! Entry points for tests with hostile input: the parsers of mirrors' documents, which must end without a panic.

use std::time::SystemTime;

use vcstore::{Digest, Store};

use super::deb::{self, Package};
use super::index::Index;
use super::release::Release;
use super::signature::Keys;
use super::sources::{KeyPlace, Keyring};
use super::{Pin, apt, dpkg};

/// Parses a package, from its beginning and as a whole.
pub fn deb(bytes: &[u8]) {
    let Ok(folder) = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()) else { return };
    let Ok(path) = vcstore::utf8("using", folder.path()) else { return };
    let pin = Pin {
        name: "test".to_owned(),
        version: "1".to_owned(),
        architecture: "amd64".to_owned(),
        path: "pool/test.deb".to_owned(),
        sha256: Digest::of(bytes),
        size: bytes.len() as u64,
        suite: "bookworm".to_owned(),
        set: None,
    };
    let _ = deb::control_names(&pin, bytes);
    let Ok(store) = Store::open(&path.join("store")) else { return };
    if store.put(bytes).is_ok()
        && let Ok(package) = Package::read(&store, &pin, &path.join("spool"), |_, _| true)
    {
        let _ = dpkg::described("test", &package);
        let _ = super::unpack::unpack(&[("test", package)].into());
    }
}

/// Parses a signed release.
pub fn release(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let keyring =
        Keyring { place: KeyPlace::Text(include_str!("testdata/archive.asc").to_owned()), fingerprints: Vec::new() };
    if let Ok(keys) = Keys::read(&keyring) {
        let _ = keys.verify(&text, SystemTime::now());
    }
    let _ = Release::read(&text, "http://mirror.example/InRelease", "bookworm", SystemTime::now());
    let keyring = Keyring { place: KeyPlace::Text(text.into_owned()), fingerprints: Vec::new() };
    let _ = Keys::read(&keyring);
}

/// Parses an index of packages.
pub fn packages(bytes: &[u8]) {
    let Ok(folder) = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()) else { return };
    let Ok(mut index) =
        vcstore::utf8("using", folder.path()).map_err(super::Error::from).and_then(|path| Index::new(&path))
    else {
        return;
    };
    if index.add(0, "http://mirror.example/Packages.xz", bytes).is_ok() {
        for one in index.base().filter_map(Result::ok) {
            let _ = (one.depends(), one.conflicts(), one.version());
        }
    }
}

/// Parses apt's sources, in both formats.
pub fn sources(bytes: &[u8]) {
    apt::hostile(&String::from_utf8_lossy(bytes));
}

#[cfg(test)]
mod tests {
    use mutate::hostile;

    #[test]
    fn packages_releases_indexes_and_sources_are_read_or_refused() {
        hostile("deb", super::deb);
        hostile("release", super::release);
        hostile("packages", super::packages);
        hostile("sources", super::sources);
    }
}
