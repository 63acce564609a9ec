//! Combines packages in one tree: every file at its path on a system where `/bin`, `/sbin` and `/lib` are links into
//! `/usr`.

use std::collections::BTreeMap;

use vcstore::{Entry, Kind, Tree};

use super::Error;
use super::deb::Package;

/// The folders that are links into `/usr`. Those for other word sizes exist only if a package needs them.
const MERGED: [&str; 7] = ["bin", "sbin", "lib", "lib32", "lib64", "libo32", "libx32"];

/// Combines the files of packages, given by name, in one tree.
pub(crate) fn unpack(packages: &BTreeMap<&str, Package>) -> Result<Tree, Error> {
    let mut tree = Tree::new();
    // base-files determines the owners of shared folders, so its folders come first; dpkg also leaves an
    // existing folder unchanged.
    let first = packages.get_key_value("base-files");
    let ordered = || first.into_iter().chain(packages.iter().filter(|(name, _)| **name != "base-files"));
    for (_, package) in ordered() {
        let entries = package.files.iter().filter_map(|(path, entry)| Some((path, entry.as_ref()?)));
        for (path, entry) in entries.filter(|(_, entry)| entry.kind == Kind::Directory) {
            let path = merged(path);
            if tree.get(&path).is_none() {
                tree.insert(&path, entry.clone())?;
            }
        }
    }
    let mut owners: BTreeMap<String, &str> = BTreeMap::new();
    for (name, package) in ordered() {
        let entries = package.files.iter().filter_map(|(path, entry)| Some((path, entry.as_ref()?)));
        for (path, entry) in entries.filter(|(_, entry)| entry.kind != Kind::Directory) {
            // Newer suites package the links that are created below.
            if MERGED.contains(&path.as_str()) && matches!(entry.kind, Kind::Symlink(_)) {
                continue;
            }
            let path = merged(path);
            if let Some(first) = owners.insert(path.clone(), name) {
                return Err(Error::Collision { path, first: first.to_owned(), second: (*name).to_owned() });
            }
            let kind = match &entry.kind {
                Kind::HardLink(to) => Kind::HardLink(merged(to)),
                kind => kind.clone(),
            };
            tree.insert(&path, Entry { kind, ..*entry })?;
        }
    }
    for folder in MERGED {
        let target = format!("usr/{folder}");
        if tree.get(&target).is_some() {
            tree.symlink(folder, &target)?;
        }
    }
    Ok(tree)
}

/// Returns the location of a packaged path on a system where `/bin` and similar folders are links into `/usr`.
fn merged(path: &str) -> String {
    let top = path.split('/').next().unwrap_or_default();
    if MERGED.contains(&top) { format!("usr/{path}") } else { path.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use vcstore::{Content, Entry, Kind};

    use super::{merged, unpack};
    use crate::deb::Package;

    fn package(files: &[(&str, Kind, u32)]) -> Package {
        let entry = |kind: &Kind, mode| Some(Entry { kind: kind.clone(), mode, uid: 0, gid: 0 });
        let files = files.iter().map(|(path, kind, mode)| ((*path).to_owned(), entry(kind, *mode))).collect();
        Package { control: BTreeMap::new(), files, conffiles: BTreeMap::new() }
    }

    fn file() -> Kind {
        Kind::File(Content::Bytes(Vec::new()))
    }

    #[test]
    fn files_of_merged_folders_go_to_usr_and_the_folders_become_links() {
        let files = [
            ("bin", Kind::Directory, 0o755),
            ("bin/gzip", file(), 0o755),
            ("bin/uncompress", Kind::HardLink("bin/gzip".to_owned()), 0o755),
            ("lib64", Kind::Directory, 0o755),
            ("library", file(), 0o644),
        ];
        let tree = unpack(&BTreeMap::from([("gzip", package(&files))])).unwrap();
        let shown: Vec<_> = tree.iter().map(|(path, entry)| (path, entry.kind.clone())).collect();
        let link = |target: &str| Kind::Symlink(target.to_owned());
        let expected = [
            ("bin", link("usr/bin")),
            ("lib64", link("usr/lib64")),
            ("library", file()),
            ("usr", Kind::Directory),
            ("usr/bin", Kind::Directory),
            ("usr/bin/gzip", file()),
            ("usr/bin/uncompress", Kind::HardLink("usr/bin/gzip".to_owned())),
            ("usr/lib64", Kind::Directory),
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn links_of_merged_folders_may_be_packaged() {
        let files = [("bin", Kind::Symlink("usr/bin".to_owned()), 0o777), ("usr/bin/x", file(), 0o755)];
        let tree = unpack(&BTreeMap::from([("base-files", package(&files))])).unwrap();
        assert_eq!(tree.get("bin").unwrap().kind, Kind::Symlink("usr/bin".to_owned()));
        assert_eq!(tree.get("usr/bin").unwrap().kind, Kind::Directory);
    }

    #[test]
    fn the_folders_of_base_files_hold() {
        let packages = BTreeMap::from([
            ("apt", package(&[("tmp", Kind::Directory, 0o755)])),
            ("base-files", package(&[("tmp", Kind::Directory, 0o1777)])),
        ]);
        assert_eq!(unpack(&packages).unwrap().get("tmp").unwrap().mode, 0o1777);
    }

    #[test]
    fn two_packages_with_one_file_are_refused() {
        let packages = BTreeMap::from([
            ("one", package(&[("bin/x", file(), 0o755)])),
            ("two", package(&[("usr/bin/x", file(), 0o755)])),
        ]);
        assert_eq!(unpack(&packages).unwrap_err().to_string(), "unpacking two: one already contains /usr/bin/x");
    }

    #[test]
    fn nothing_is_put_below_a_link_or_a_file_of_another() {
        for below in [Kind::Symlink("/etc".to_owned()), file()] {
            let packages = BTreeMap::from([
                ("one", package(&[("opt/x", below.clone(), 0o777)])),
                ("two", package(&[("opt/x/shadow", file(), 0o644)])),
            ]);
            assert!(unpack(&packages).is_err(), "{below:?}");
        }
    }

    #[test]
    fn only_whole_names_are_merged() {
        for (path, expected) in
            [("lib/x", "usr/lib/x"), ("library/x", "library/x"), ("usr/lib/x", "usr/lib/x"), ("sbin", "usr/sbin")]
        {
            assert_eq!(merged(path), expected);
        }
    }
}
