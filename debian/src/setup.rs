//! Native replacements for the maintainer scripts of the base's packages, as far as their results matter to users: each
//! step names the package that it replaces a script of. `docs/reference/debian-base.md` lists what is left out on purpose.

use std::collections::BTreeMap;

use vcstore::Tree;

use super::suite::Suite;
use super::system::System;
use super::{Error, accounts, alternatives, certificates, pam, programs};

/// The text that netbase's script writes.
const HOSTS: &str = "\
127.0.0.1\tlocalhost
::1\t\tlocalhost ip6-localhost ip6-loopback
ff02::1\t\tip6-allnodes
ff02::2\t\tip6-allrouters

";

const NETWORKS: &str = "default\t\t0.0.0.0\nloopback\t127.0.0.0\nlink-local\t169.254.0.0\n\n";

/// The text that kmod's script writes.
const MODULES: &str = "\
# /etc/modules: kernel modules to load at boot time.
#
# This file contains the names of kernel modules that should be loaded
# at boot time, one per line. Lines beginning with \"#\" are ignored.
# Parameters can be specified after the module name.

";

const MODULES_OBSOLETE: &str = "\
# /etc/modules is obsolete and has been replaced by /etc/modules-load.d/.
# Please see modules-load.d(5) and modprobe.d(5) for details.
#
# Updating this file still works, but it is undocumented and unsupported.
";

/// Configures the unpacked packages.
pub(crate) fn set_up(tree: &mut Tree) -> Result<(), Error> {
    let mut system = System::of(tree);
    let suite = Suite::of(&system)?;
    let groups = accounts::set_up(&mut system, suite)?;
    base_files(&mut system, suite, &groups)?;
    defaults(&mut system, suite)?;
    shells(&mut system)?;
    diversions(&mut system, suite)?;
    network(&mut system, suite)?;
    certificates::set_up(&mut system)?;
    pam::set_up(&mut system)?;
    programs::set_up(&mut system, suite, &groups)?;
    alternatives::set_up(&mut system)
}

/// base-files: the files of root, the folders of the Filesystem Hierarchy Standard, and the login logs.
fn base_files(system: &mut System<'_>, suite: Suite, groups: &BTreeMap<String, u64>) -> Result<(), Error> {
    for (name, path) in [
        ("dot.profile", "root/.profile"),
        ("dot.bashrc", "root/.bashrc"),
        ("profile", "etc/profile"),
        ("motd", "etc/motd"),
    ] {
        let text = system.master(&format!("usr/share/base-files/{name}"), path)?;
        system.file(path, 0o644, 0, text)?;
    }
    for folder in ["mnt", "srv", "opt", "etc/opt", "var/opt", "media"] {
        system.folder(folder, 0o755, 0)?;
    }
    for folder in ["bin", "etc", "games", "include", "lib", "sbin", "share", "share/man", "src"] {
        system.folder(&format!("usr/local/{folder}"), 0o755, 0)?;
    }
    if suite == Suite::Trixie {
        system.folder("usr/local/libexec", 0o755, 0)?;
    }
    let group = |name: &str| {
        let why = || format!("base-passwd has no group {name}");
        groups.get(name).copied().ok_or_else(|| Error::Setup { path: "etc/group".to_owned(), why: why() })
    };
    let (mail, utmp) = (group("mail")?, group("utmp")?);
    system.folder("var/mail", 0o2775, mail)?;
    system.folder("run/lock", 0o1777, 0)?;
    for (path, target) in [
        ("usr/local/man", "share/man"),
        ("var/spool/mail", "../mail"),
        ("var/run", "/run"),
        ("var/lock", "/run/lock"),
        ("etc/dpkg/origins/default", "debian"),
    ] {
        // The package contains /var/run and /var/lock as folders, which its script replaces.
        if matches!(path, "var/run" | "var/lock") {
            system.remove(path);
        }
        system.link(path, target)?;
    }
    for (name, mode) in [("wtmp", 0o664), ("btmp", 0o660), ("lastlog", 0o664)] {
        system.file(&format!("var/log/{name}"), mode, utmp, "")?;
    }
    Ok(())
}

/// libc-bin: the name service switch. libpam-modules: files that PAM expects. tzdata: the time zone. Each only if the
/// package is present.
fn defaults(system: &mut System<'_>, suite: Suite) -> Result<(), Error> {
    if let Some(text) = system.text("usr/share/libc-bin/nsswitch.conf")? {
        system.file("etc/nsswitch.conf", 0o644, 0, text)?;
    }
    if system.has("etc/security") {
        system.file("etc/security/opasswd", 0o600, 0, "")?;
        system.file("etc/environment", 0o644, 0, "")?;
    }
    if system.has("usr/share/zoneinfo/Etc/UTC") {
        system.link("etc/localtime", "/usr/share/zoneinfo/Etc/UTC")?;
        if suite == Suite::Bookworm {
            system.file("etc/timezone", 0o644, 0, "Etc/UTC\n")?;
        }
    }
    Ok(())
}

/// debianutils: the list of login shells, as update-shells generates it from the entries of packages. A shell in a
/// folder that is a link is listed under both of its paths.
fn shells(system: &mut System<'_>) -> Result<(), Error> {
    let folder = "usr/share/debianutils";
    let Some(template) = system.text(&format!("{folder}/shells"))? else { return Ok(()) };
    let mut packaged = Vec::new();
    let added = system.names(&format!("{folder}/shells.d"));
    let added = added.into_iter().map(|name| system.text(&format!("{folder}/shells.d/{name}")));
    for text in std::iter::once(Ok(Some(template.clone()))).chain(added) {
        for shell in text?.unwrap_or_default().lines().filter_map(|line| line.split('#').next()) {
            let real = ["/bin/", "/sbin/"].iter().any(|top| shell.starts_with(top)).then(|| format!("/usr{shell}"));
            packaged.extend((!shell.is_empty()).then(|| shell.to_owned()));
            packaged.extend(real);
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    packaged.retain(|shell| seen.insert(shell.clone()));
    let listed: Vec<_> = template.lines().collect();
    let missing = packaged.iter().filter(|shell| !listed.contains(&shell.as_str()));
    let text = missing.fold(template.clone(), |text, shell| format!("{text}{shell}\n"));
    system.file("etc/shells", 0o644, 0, text)?;
    // The shells that update-shells has added, so that it can later detect which of them the administrator removed.
    let state = packaged.iter().fold(String::new(), |text, shell| format!("{text}{shell}\n"));
    system.file("var/lib/shells.state", 0o644, 0, state)
}

/// Diversions. In bookworm, dash diverts /bin/sh. In trixie, packages divert the former paths of files whose
/// folders became links: an older package, or one for another word size, would otherwise remove these files.
fn diversions(system: &mut System<'_>, suite: Suite) -> Result<(), Error> {
    let text = match suite {
        Suite::Bookworm if system.has("usr/bin/dash") => "/bin/sh\n/bin/sh.distrib\ndash\n".to_owned(),
        Suite::Bookworm => String::new(),
        Suite::Trixie => {
            let folders =
                ["lib32", "libo32", "libx32"].map(|name| format!("/{name}\n/.{name}.usr-is-merged\nbase-files\n"));
            let files = unmerged().into_iter().filter(|(path, _)| system.has(&format!("usr/{path}")));
            let files = files.map(|(path, package)| format!("/{path}\n/{path}.usr-is-merged\n{package}\n"));
            folders.into_iter().chain(files).collect()
        }
    };
    system.file("var/lib/dpkg/diversions", 0o644, 0, text)
}

/// Libraries whose former paths trixie's packages divert, and the package.
const UNMERGED: [(&str, &str); 6] = [
    ("libhistory.so.8", "libreadline8t64"),
    ("libhistory.so.8.2", "libreadline8t64"),
    ("libreadline.so.8", "libreadline8t64"),
    ("libreadline.so.8.2", "libreadline8t64"),
    ("libtirpc.so.3", "libtirpc3t64"),
    ("libtirpc.so.3.0.0", "libtirpc3t64"),
];

/// The loaders, which libc6 diverts.
const LOADERS: [&str; 3] = ["lib/ld-linux-aarch64.so.1", "lib/ld-linux-armhf.so.3", "lib64/ld-linux-x86-64.so.2"];

/// The library folders of each architecture.
const LIBRARIES: [&str; 3] = ["lib/aarch64-linux-gnu", "lib/arm-linux-gnueabihf", "lib/x86_64-linux-gnu"];

/// Returns the files whose former paths trixie's packages divert on each architecture, by path, with the package.
fn unmerged() -> std::collections::BTreeMap<String, &'static str> {
    let libraries =
        LIBRARIES.into_iter().flat_map(|folder| UNMERGED.map(|(name, package)| (format!("{folder}/{name}"), package)));
    libraries.chain(LOADERS.map(|path| (path.to_owned(), "libc6"))).collect()
}

/// netbase: the names of this machine and of networks. kmod: an empty list of kernel modules.
fn network(system: &mut System<'_>, suite: Suite) -> Result<(), Error> {
    if system.has("etc/protocols") {
        system.file("etc/hosts", 0o644, 0, HOSTS)?;
        system.file("etc/networks", 0o644, 0, NETWORKS)?;
    }
    if system.has("usr/bin/kmod") {
        let text = match suite {
            Suite::Bookworm => MODULES,
            Suite::Trixie => MODULES_OBSOLETE,
        };
        system.file("etc/modules", 0o644, 0, text)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use vcstore::Tree;

    use super::{base_files, defaults, diversions, shells};
    use crate::Error;
    use crate::suite::Suite;
    use crate::system::tests::{system, text, tree};

    #[test]
    fn shells_are_listed_as_update_shells_does() {
        let mut tree = tree(&[
            ("usr/share/debianutils/shells", "# valid login shells\n/bin/sh\n"),
            ("usr/share/debianutils/shells.d/bash", "/bin/bash\n/bin/rbash\n"),
            ("usr/share/debianutils/shells.d/other", "/opt/shell # ours\n"),
        ]);
        shells(&mut system(&mut tree)).unwrap();
        let expected = "# valid login shells\n/bin/sh\n/usr/bin/sh\n/bin/bash\n/usr/bin/bash\n/bin/rbash\n/usr/bin/rbash\n/opt/shell \n";
        assert_eq!(text(&tree, "etc/shells"), expected);
        assert!(text(&tree, "var/lib/shells.state").starts_with("/bin/sh\n/usr/bin/sh\n"));
    }

    #[test]
    fn what_a_package_holds_is_not_overwritten() {
        let mut tree = tree(&[("etc/nsswitch.conf", "mine"), ("usr/share/libc-bin/nsswitch.conf", "theirs")]);
        defaults(&mut system(&mut tree), Suite::Trixie).unwrap();
        assert_eq!(text(&tree, "etc/nsswitch.conf"), "mine");
    }

    #[test]
    fn files_are_claimed_as_the_packages_of_each_suite_do() {
        let files = [("usr/bin/dash", ""), ("usr/lib/ld-linux-aarch64.so.1", "")];
        let claimed = |suite| {
            let mut tree = tree(&files);
            diversions(&mut system(&mut tree), suite).unwrap();
            text(&tree, "var/lib/dpkg/diversions")
        };
        assert_eq!(claimed(Suite::Bookworm), "/bin/sh\n/bin/sh.distrib\ndash\n");
        let loader = "/lib/ld-linux-aarch64.so.1\n/lib/ld-linux-aarch64.so.1.usr-is-merged\nlibc6\n";
        assert!(claimed(Suite::Trixie).starts_with("/lib32\n/.lib32.usr-is-merged\nbase-files\n"));
        assert!(claimed(Suite::Trixie).ends_with(loader) && !claimed(Suite::Trixie).contains("x86-64"));
    }

    #[test]
    fn a_system_without_its_masters_is_refused() {
        let mut tree = Tree::new();
        let error =
            base_files(&mut system(&mut tree), Suite::Bookworm, &std::collections::BTreeMap::new()).unwrap_err();
        assert!(matches!(&error, Error::Setup { path, .. } if path == "root/.profile"), "{error}");
    }
}
