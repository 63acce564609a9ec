//! The maintainer scripts of packages, none of which is run: for some packages, this program replaces their scripts;
//! other packages with scripts are rejected. All rejected packages are reported at once, before any package is fetched
//! as a whole.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;

use futures::StreamExt;
use vcstore::Store;

use super::deb::{self, ControlNames, Package};
use super::fetch::{AT_ONCE, Mirror};
use super::sources::Archive;
use super::{Error, Pin, Pinned, UnhandledScripts};

/// The packages whose `preinst` and `postinst` scripts are replaced by this program (`setup.rs`, `programs.rs`,
/// `alternatives.rs`), or have no effect on a new system, in every suite of `suite.rs`. A package with a script that is
/// not listed here is rejected.
const SETTLED: [&str; 72] = [
    "adduser",
    "apt",
    "base-files",
    "base-passwd",
    "bash",
    "bash-completion",
    "ca-certificates",
    "coreutils",
    "dash",
    "debconf",
    "debian-archive-keyring",
    "debianutils",
    "dirmngr",
    "dpkg",
    "e2fsprogs",
    "gawk",
    "git",
    "gpg",
    "gpg-agent",
    "gzip",
    "init-system-helpers",
    "iproute2",
    "iptables",
    "iputils-ping",
    "kmod",
    "less",
    "libc-bin",
    "libc6",
    "libgcrypt20",
    "libgssapi-krb5-2",
    "libpam-modules",
    "libpam-modules-bin",
    "libpam-runtime",
    "libpam0g",
    "libpython3.11-minimal",
    "libpython3.13-minimal",
    "libreadline8t64",
    "libselinux1",
    "libtirpc3t64",
    "locales",
    "login",
    "login.defs",
    "mawk",
    "nano",
    "netbase",
    "netcat-openbsd",
    "nftables",
    "openssh-client",
    "openssl",
    "passwd",
    "perl",
    "perl-base",
    "pinentry-curses",
    "procps",
    "psmisc",
    "python3",
    "python3-minimal",
    "python3.11",
    "python3.11-minimal",
    "python3.13",
    "python3.13-minimal",
    "readline-common",
    "rsync",
    "sudo",
    "tar",
    "tzdata",
    "unzip",
    "usr-is-merged",
    "util-linux",
    "util-linux-extra",
    "vim-common",
    "xz-utils",
];

/// The scripts that run at installation.
const SCRIPTS: [&str; 2] = ["preinst", "postinst"];

/// The number of bytes that are fetched first: they contain the control files of most packages.
const FIRST: u64 = 16 << 10;

/// The maximum size of control files for an early check; larger ones are checked after the whole package is fetched.
const MOST: u64 = 4 << 20;

impl UnhandledScripts {
    /// Returns the unhandled scripts of a package whose control files include those for which `has` returns true, if
    /// any.
    fn find(package: &str, has: impl Fn(&str) -> bool) -> Option<Self> {
        let scripts: Vec<_> = SCRIPTS.into_iter().filter(|script| has(script)).collect();
        let refused = !scripts.is_empty() && !SETTLED.contains(&package);
        refused.then(|| Self { package: package.to_owned(), scripts, brought_by: None })
    }
}

/// Rejects packages with scripts that have no replacement, all of them together.
///
/// # Errors
/// Returns an error if there are any.
pub(super) fn check(packages: &BTreeMap<&str, Package>) -> Result<(), Error> {
    let refused = packages
        .iter()
        .filter_map(|(name, package)| UnhandledScripts::find(name, |script| package.control.contains_key(script)));
    refuse(refused.collect())
}

/// Checks the packages outside the base before they are fetched, because a package begins with its control files. The
/// bytes are not yet verified against the hash, so they are used only to reject a package; [`check`] checks the
/// verified packages.
///
/// # Errors
/// Returns an error if there are any.
pub(super) fn look_ahead(store: &Store, mirror: &Mirror, archives: &[Archive], pinned: &Pinned) -> Result<(), Error> {
    let unknown = pinned.packages.iter().filter(|pin| pin.set.is_some() && !SETTLED.contains(&pin.name.as_str()));
    let looks = unknown.map(async |pin| {
        let names = control_names(store, mirror, archives, pin).await?;
        let mut unsettled = UnhandledScripts::find(&pin.name, |script| names.iter().any(|name| name == script))?;
        unsettled.brought_by = pin.set.clone().filter(|set| *set != pin.name);
        Some(unsettled)
    });
    let looks = futures::stream::iter(looks).buffered(AT_ONCE);
    refuse(mirror.run(looks.filter_map(async |refused| refused).collect()))
}

fn refuse(packages: Vec<UnhandledScripts>) -> Result<(), Error> {
    if packages.is_empty() { Ok(()) } else { Err(Error::Script { packages }) }
}

/// Returns the names of a package's control files, or `None` if the whole package would be needed.
async fn control_names(store: &Store, mirror: &Mirror, archives: &[Archive], pin: &Pin) -> Option<Vec<String>> {
    let mut length = FIRST;
    loop {
        let bytes = if store.size(&pin.sha256) == Some(pin.size) {
            let mut bytes = Vec::new();
            File::open(store.blob_path(&pin.sha256)).ok()?.take(length).read_to_end(&mut bytes).ok()?;
            bytes
        } else {
            let archive = archives.iter().find(|archive| archive.suite == pin.suite)?;
            mirror.beginning(&format!("{}/{}", archive.uri, pin.path), length).await.ok()?
        };
        match deb::control_names(pin, &bytes).ok()? {
            ControlNames::Names(names) => return Some(names),
            ControlNames::Needs(more) if more > length && more <= MOST => length = more,
            ControlNames::Needs(_) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{SETTLED, UnhandledScripts};

    #[test]
    fn a_package_is_refused_for_the_scripts_that_install_it() {
        let find = |name: &str, has: &[&str]| UnhandledScripts::find(name, |script| has.contains(&script));
        assert_eq!(find("cron", &["postrm", "prerm", "config"]), None);
        assert_eq!(find("git", &["preinst", "postinst"]), None);
        let mut cron = find("cron", &["postinst", "preinst", "postrm"]).unwrap();
        assert_eq!(cron.to_string(), "cron (preinst, postinst)");
        cron.brought_by = Some("mailutils".to_owned());
        assert_eq!(cron.to_string(), "cron (preinst, postinst; brought by mailutils)");
    }

    #[test]
    fn the_list_is_in_order() {
        assert!(SETTLED.is_sorted());
    }
}
