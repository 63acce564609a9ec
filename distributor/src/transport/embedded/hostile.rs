//! Entry points for tests with hostile OpenSSH files.

use camino::Utf8PathBuf;

use super::config::{Settings, SshPaths};
use super::known_hosts::KnownHosts;

/// Parses a `known_hosts` file.
pub fn known_hosts(bytes: &[u8]) {
    with_file(bytes, |path| {
        if let Ok(known) = KnownHosts::read(&[path], "[w1.example]:2222", Some("w1.example")) {
            let _ = (known.has_authority(), known.prefer(&[]));
        }
    });
}

/// Parses an ssh configuration. No command of it runs, because commands are needed only for a connection. It includes no file of
/// this machine: some never end, as /proc/kmsg.
pub fn ssh_config(bytes: &[u8]) {
    let near = bytes.split_inclusive(|byte| *byte == b'\n').map(|line| {
        let includes = line.to_ascii_lowercase().windows(7).any(|word| word == b"include");
        line.iter().map(|byte| if includes && *byte == b'/' { b'_' } else { *byte }).collect()
    });
    with_file(&near.collect::<Vec<Vec<u8>>>().concat(), |path| {
        let nowhere = Utf8PathBuf::from("/nonexistent");
        let ssh_paths = SshPaths { home: nowhere.clone(), system: nowhere, user: "operator".to_owned() };
        let _ = Settings::of("w1.example", &[], Some(&path), &ssh_paths);
    });
}

fn with_file(bytes: &[u8], read: impl FnOnce(Utf8PathBuf)) {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    let path = folder.as_ref().ok().and_then(|folder| Utf8PathBuf::try_from(folder.path().join("input")).ok());
    if let Some(path) = path.filter(|path| std::fs::write(path, bytes).is_ok()) {
        read(path);
    }
}
