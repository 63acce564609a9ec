//! Fetches packages that mirrors no longer have from an archive with daily snapshots of Debian.

use chrono::DateTime;

use super::{Error, Pin, Pinned};

/// The address of old packages, with placeholders `{archive}` (`debian` or `debian-security`) and `{timestamp}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Snapshot {
    address: String,
}

impl Snapshot {
    /// Returns the archive in `VCBUILD_DEBIAN_SNAPSHOT`, or `None` if it is not set.
    ///
    /// # Errors
    /// Returns an error if the address is invalid.
    pub(crate) fn configured() -> Result<Option<Self>, Error> {
        let address = std::env::var("VCBUILD_DEBIAN_SNAPSHOT").unwrap_or_default();
        (!address.is_empty()).then(|| Self::new(&address)).transpose()
    }

    fn new(address: &str) -> Result<Self, Error> {
        let bad = |why: &str| Error::BadMirror { address: address.to_owned(), why: why.to_owned() };
        if !(address.starts_with("http://") || address.starts_with("https://")) {
            return Err(bad("only http and https are supported"));
        }
        if !address.contains("{timestamp}") {
            return Err(bad(
                "the address of a snapshot archive contains {timestamp}, for example http://HOST/archive/{archive}/{timestamp}",
            ));
        }
        Ok(Self { address: address.trim_end_matches('/').to_owned() })
    }

    /// Returns the URL of the package in the snapshot of the time when the lock was created.
    ///
    /// # Errors
    /// Returns an error if the lock does not contain this time.
    pub(crate) fn url(&self, pinned: &Pinned, pin: &Pin) -> Result<String, Error> {
        let bad = |why: String| Error::BadPin { package: pin.name.clone(), why };
        let release = pinned.releases.iter().find(|release| release.suite == pin.suite);
        let release = release.ok_or_else(|| bad(format!("the lock has no release of its suite {}", pin.suite)))?;
        // Debian writes UTC where the mail format has GMT.
        let date = DateTime::parse_from_rfc2822(&release.date.replace("UTC", "GMT"));
        let date = date.map_err(|why| bad(format!("the date of its release is {:?}: {why}", release.date)))?;
        let archive = if pin.suite.ends_with("-security") { "debian-security" } else { "debian" };
        let timestamp = date.format("%Y%m%dT%H%M%SZ").to_string();
        let folder = self.address.replace("{archive}", archive).replace("{timestamp}", &timestamp);
        Ok(format!("{folder}/{}", pin.path))
    }
}

#[cfg(test)]
mod tests {
    use vcstore::Digest;

    use super::Snapshot;
    use crate::{Error, Pin, Pinned, PinnedRelease};

    #[test]
    fn a_package_is_looked_for_on_the_day_its_release_was_made() {
        let sha256 = Digest::of(b"");
        let text = |text: &str| text.to_owned();
        let pin = |suite: &str| Pin {
            name: text("a"),
            version: text("1"),
            architecture: text("all"),
            path: text("pool/a.deb"),
            sha256,
            size: 0,
            suite: text(suite),
            set: None,
        };
        let date = text("Sat, 11 Jul 2026 10:16:37 UTC");
        let releases = vec![PinnedRelease { suite: text("s-security"), codename: text("s"), date, sha256 }];
        let pinned = Pinned {
            suite: text("s"),
            architecture: text("amd64"),
            components: Vec::new(),
            include: Vec::new(),
            security: true,
            updates: true,
            releases,
            packages: Vec::new(),
        };
        let snapshot = Snapshot::new("https://old.example/archive/{archive}/{timestamp}/").unwrap();
        let url = snapshot.url(&pinned, &pin("s-security")).unwrap();
        assert_eq!(url, "https://old.example/archive/debian-security/20260711T101637Z/pool/a.deb");
        assert!(matches!(snapshot.url(&pinned, &pin("s")), Err(Error::BadPin { .. })));
        for bad in ["ftp://old.example/{timestamp}", "http://old.example/debian"] {
            assert!(matches!(Snapshot::new(bad), Err(Error::BadMirror { .. })), "{bad}");
        }
    }
}
