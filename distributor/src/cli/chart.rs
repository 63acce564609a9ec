//! A chart's folder: written as a whole, and replaced only where nobody has put or changed a file.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;

use camino::{Utf8Path, Utf8PathBuf};
use miette::Diagnostic;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use thiserror::Error;
use vcmanifests::Chart;

/// Why a chart was not written.
#[derive(Debug, Error, Diagnostic)]
pub(super) enum Error {
    #[error("the folder {path} has files that `vcdist render --helm` did not write, or that were changed since")]
    #[diagnostic(help("nothing was changed; give another folder with --helm DIR, or remove this one"))]
    Foreign { path: Utf8PathBuf },

    #[error("{path} is not a folder")]
    #[diagnostic(help("give another path with --helm DIR"))]
    NotAFolder { path: Utf8PathBuf },

    #[error("writing the chart to {path}")]
    #[diagnostic(help("give a folder that can be written to with --helm DIR"))]
    Write { path: Utf8PathBuf, source: io::Error },
}

/// What became of the folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    /// It is new, or has new files.
    New,
    /// It has the same files already.
    Same,
}

/// Writes a chart: completely beside the folder first, and then in its place.
pub(super) fn write(chart: &Chart, folder: &Utf8Path) -> Result<Written, Error> {
    let failed = |source| Error::Write { path: folder.to_owned(), source };
    let before = match fs::symlink_metadata(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(failed(error)),
        Ok(metadata) if !metadata.is_dir() => return Err(Error::NotAFolder { path: folder.to_owned() }),
        Ok(_) => Some(files(folder).map_err(failed)?),
    };
    if let Some(before) = &before {
        let is_same = before.len() == chart.files.len()
            && before.iter().zip(&chart.files).all(|(old, new)| old.0 == new.0 && old.1 == new.1.as_bytes());
        if is_same {
            return Ok(Written::Same);
        }
        if !before.is_empty() && !vcmanifests::is_unchanged_chart(before) {
            return Err(Error::Foreign { path: folder.to_owned() });
        }
    }
    place(chart, folder, before.is_some()).map_err(failed)?;
    Ok(Written::New)
}

fn place(chart: &Chart, folder: &Utf8Path, exists: bool) -> io::Result<()> {
    let parent = folder.parent().filter(|parent| !parent.as_str().is_empty()).unwrap_or(Utf8Path::new("."));
    fs::create_dir_all(parent)?;
    // What is in it at the end goes: what is half written, or the chart that was replaced.
    let temporary = tempfile::Builder::new().prefix(".vcdist-chart-").tempdir_in(parent)?;
    let made = temporary.path().join("chart");
    for (name, text) in &chart.files {
        let path = made.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(path, text)?;
    }
    fs::set_permissions(&made, Permissions::from_mode(0o755))?;
    let flags = if exists { RenameFlags::EXCHANGE } else { RenameFlags::NOREPLACE };
    match renameat_with(CWD, &made, CWD, folder.as_std_path(), flags) {
        // A file system that cannot exchange folders.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            if exists {
                fs::rename(folder, temporary.path().join("before"))?;
            }
            fs::rename(made, folder)
        }
        renamed => Ok(renamed?),
    }
}

/// All files of a folder by their paths in it. What is neither file nor folder counts as a file without content.
fn files(folder: &Utf8Path) -> io::Result<BTreeMap<String, Vec<u8>>> {
    let mut all = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in next.read_dir_utf8()? {
            let entry = entry?;
            let kind = entry.file_type()?;
            let path = entry.into_path();
            if kind.is_dir() {
                folders.push(path);
                continue;
            }
            let content = if kind.is_file() { fs::read(&path)? } else { Vec::new() };
            let name = path.strip_prefix(folder).map_or(path.as_str(), Utf8Path::as_str);
            all.insert(name.to_owned(), content);
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use camino::Utf8Path;
    use vcmanifests::Chart;

    use super::{Error, Written, write};

    fn chart(image: &str) -> Chart {
        let pod = serde_json::json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "a", "namespace": "n" },
            "spec": { "containers": [{ "name": "a", "image": image }] } });
        vcmanifests::release_chart("shop", "n", &[vcmanifests::Object::other(pod, "pods")]).unwrap()
    }

    #[test]
    fn a_chart_is_replaced_as_a_whole_unless_somebody_changed_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(folder.path()).unwrap().join("charts/shop");
        assert_eq!(write(&chart("a"), &path).unwrap(), Written::New);
        assert_eq!(write(&chart("a"), &path).unwrap(), Written::Same);
        assert_eq!(write(&chart("b"), &path).unwrap(), Written::New);
        let found: BTreeMap<_, _> =
            chart("b").files.keys().map(|name| (name.clone(), fs::read_to_string(path.join(name)).unwrap())).collect();
        assert_eq!(found, chart("b").files);

        fs::write(path.join("templates/mine.yaml"), "").unwrap();
        assert!(matches!(write(&chart("a"), &path), Err(Error::Foreign { .. })));
        fs::remove_file(path.join("templates/mine.yaml")).unwrap();
        fs::write(path.join("values.yaml"), "a: b\n").unwrap();
        assert!(matches!(write(&chart("a"), &path), Err(Error::Foreign { .. })));
        assert_eq!(fs::read_to_string(path.join("values.yaml")).unwrap(), "a: b\n");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left beside it");

        let empty = path.with_file_name("empty");
        fs::create_dir(&empty).unwrap();
        assert_eq!(write(&chart("a"), &empty).unwrap(), Written::New);
        let link = path.with_file_name("link");
        std::os::unix::fs::symlink(&empty, &link).unwrap();
        assert!(matches!(write(&chart("b"), &link), Err(Error::NotAFolder { .. })));
    }
}
