//! Files that tests write.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Writes a program that every user may run, in a folder that is made where it is missing.
pub fn write_program(path: impl AsRef<Path>, content: impl AsRef<[u8]>) {
    let path = path.as_ref();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}
