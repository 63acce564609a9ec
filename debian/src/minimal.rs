//! The `static` base: the files that a static program may need, extracted from Debian's packages without installing
//! them. It contains no shell, loader or library.

use std::collections::BTreeMap;

use vcstore::{Content, Entry, Kind, Tree};

use super::deb::Package;
use super::system::System;
use super::{Error, certificates, dpkg, unpack};

/// The packages from which files are extracted.
pub(crate) const PACKAGES: [&str; 4] = ["base-files", "ca-certificates", "netbase", "tzdata"];

/// The extracted files and folders. Certificates become one file; see [`tree`].
const TAKEN: [&str; 8] = [
    "etc/debian_version",
    "etc/ethertypes",
    "etc/os-release",
    "etc/protocols",
    "etc/services",
    "usr/lib/os-release",
    "usr/share/ca-certificates/",
    "usr/share/zoneinfo/",
];

/// Variants of the time zones with other handling of leap seconds, which are not used.
const LEFT: [&str; 2] = ["usr/share/zoneinfo/posix/", "usr/share/zoneinfo/right/"];

const PASSWD: &str = "\
root:x:0:0:root:/root:/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin
nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin
";

const GROUP: &str = "root:x:0:\nnogroup:x:65534:\nnonroot:x:65532:\n";

/// The created folders: path, mode, owner and group.
const FOLDERS: [(&str, u32, u64); 5] =
    [("home/nonroot", 0o700, 65532), ("root", 0o700, 0), ("run", 0o755, 0), ("tmp", 0o1777, 0), ("var/tmp", 0o1777, 0)];

/// Whether a file of a package is kept.
pub(crate) fn keeps(path: &str, kind: &Kind) -> bool {
    let taken = TAKEN.iter().any(|one| if one.ends_with('/') { path.starts_with(one) } else { path == *one });
    let left = LEFT.iter().any(|one| path.starts_with(one) || path == one.trim_end_matches('/'));
    let licence = path.starts_with("usr/share/doc/") && path.ends_with("/copyright");
    *kind != Kind::Directory && ((taken && !left) || licence)
}

/// Returns the files of the base. The packages that they come from are recorded where scanners look for them in images
/// without dpkg: a file each in `/var/lib/dpkg/status.d`.
pub(crate) fn tree(packages: &BTreeMap<&str, Package>) -> Result<Tree, Error> {
    let mut tree = unpack::unpack(packages)?;
    let bundle = certificates::bundle_of(&System::of(&mut tree))?;
    tree.remove("usr/share/ca-certificates");
    for (path, mode, owner) in FOLDERS {
        tree.insert(path, Entry { kind: Kind::Directory, mode, uid: owner, gid: owner })?;
    }
    tree.symlink("etc/localtime", "/usr/share/zoneinfo/Etc/UTC")?;
    let mut file = |path: &str, text: String| tree.file(path, 0o644, Content::Bytes(text.into_bytes()));
    file("etc/passwd", PASSWD.to_owned())?;
    file("etc/group", GROUP.to_owned())?;
    file("etc/nsswitch.conf", "hosts: files dns\n".to_owned())?;
    file("etc/timezone", "Etc/UTC\n".to_owned())?;
    file("etc/ssl/certs/ca-certificates.crt", bundle)?;
    for (name, package) in packages {
        file(&format!("var/lib/dpkg/status.d/{name}"), dpkg::described(name, package)?)?;
    }
    Ok(tree)
}

#[cfg(test)]
mod tests {
    use vcstore::{Content, Kind};

    use super::keeps;

    #[test]
    fn only_what_a_static_program_needs_is_kept() {
        let file = Kind::File(Content::Bytes(Vec::new()));
        for path in ["etc/services", "usr/share/zoneinfo/Europe/Berlin", "usr/share/doc/tzdata/copyright"] {
            assert!(keeps(path, &file), "{path}");
        }
        let left = ["etc/services.d", "usr/sbin/update-ca-certificates", "usr/share/zoneinfo/right/UTC", "etc/debian"];
        for path in left {
            assert!(!keeps(path, &file), "{path}");
        }
        assert!(!keeps("usr/share/zoneinfo/right", &Kind::Symlink("x".to_owned())));
        assert!(!keeps("usr/share/zoneinfo", &Kind::Directory), "folders come with what is in them");
    }
}
