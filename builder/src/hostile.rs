//! Entry points for fuzzing the readers of untrusted documents and archives: a reader must end without a panic, and
//! write only to its folder.

use std::fs;

use camino::{Utf8Path, Utf8PathBuf};
use vcnetwork::Network;

use crate::lock::{Lock, Policy};
use crate::project::Project;
use crate::provenance::Provenance;

/// Reads a project file.
pub fn project(bytes: &[u8]) {
    let _ = Project::parse(&String::from_utf8_lossy(bytes), Utf8Path::new("vcbuild.toml"));
}

/// Reads a lock file.
pub fn lock(bytes: &[u8]) {
    with_file(bytes, |path, _| {
        let _ = Lock::open(path, Policy::Locked, Network::Offline);
    });
}

/// Reads the provenance of an archive.
pub fn provenance(bytes: &[u8]) {
    let Ok(provenance) = serde_json::from_slice::<Provenance>(bytes) else { return };
    with_file(bytes, |path, folder| {
        let _ = provenance.project(path, folder);
        let _ = provenance.lock(path, &folder.join("lock"), Network::Offline);
        let beside = fs::read_dir(folder).map_or(0, Iterator::count);
        assert!(beside <= 1 + provenance.patches(), "it wrote more than its patches");
    });
}

/// Unpacks the archive of a toolchain.
pub fn toolchain(bytes: &[u8]) {
    with_file(bytes, |path, folder| {
        let _ = crate::go::unpack(path, "m@v1/", &folder.join("out"));
        let names = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok).map(|entry| entry.file_name());
        let strange: Vec<_> = names.filter(|name| name != "input" && name != "out").collect();
        assert!(strange.is_empty(), "it wrote {strange:?}");
    });
}

/// Runs `read` on a file of these bytes in a temporary folder that contains nothing else.
fn with_file(bytes: &[u8], read: impl FnOnce(&Utf8Path, &Utf8Path)) {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    let Ok(folder) = folder else { return };
    let Ok(path) = Utf8PathBuf::try_from(folder.path().join("input")) else { return };
    if fs::write(&path, bytes).is_ok()
        && let Some(folder) = path.parent()
    {
        read(&path, folder);
    }
}

#[cfg(test)]
mod tests {
    use mutate::hostile;

    #[test]
    fn documents_and_toolchains_of_others_are_read_or_refused() {
        hostile("project", super::project);
        hostile("lock", super::lock);
        hostile("provenance", super::provenance);
        hostile("toolchain", super::toolchain);
    }
}
