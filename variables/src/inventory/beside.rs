//! The files of variables beside an inventory or a playbook: `group_vars/GROUP` and `host_vars/HOST`, each a file or a folder.

use std::io;

use camino::{Utf8Path, Utf8PathBuf};

/// The files in `folder` that speak of `name`, in the order in which Ansible reads them.
///
/// # Errors
/// The folder that cannot be read.
pub fn files(folder: &Utf8Path, name: &str) -> Result<Vec<Utf8PathBuf>, (Utf8PathBuf, io::Error)> {
    let mut found = Vec::new();
    // A name must not lead out of the folder.
    if name.contains('/') || name.starts_with('.') {
        return Ok(found);
    }
    for candidate in [name.to_owned(), format!("{name}.yml"), format!("{name}.yaml"), format!("{name}.json")] {
        let path = folder.join(candidate);
        if path.is_file() {
            found.push(path);
        } else if path.is_dir() {
            let failed = |source| (path.clone(), source);
            let mut inside = Vec::new();
            for entry in path.read_dir_utf8().map_err(failed)? {
                let entry = entry.map_err(failed)?;
                let read = matches!(entry.path().extension(), None | Some("yml" | "yaml" | "json"));
                let hidden = entry.file_name().starts_with('.') || entry.file_name().ends_with('~');
                if read && !hidden && entry.path().is_file() {
                    inside.push(entry.into_path());
                }
            }
            inside.sort();
            found.extend(inside);
        }
    }
    Ok(found)
}
