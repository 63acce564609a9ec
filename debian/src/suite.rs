//! The Debian suite of a system: the effects of maintainer scripts differ between suites in a few places.

use super::Error;
use super::system::System;

/// A suite whose maintainer scripts have replacements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Suite {
    /// Debian 12.
    Bookworm,
    /// Debian 13.
    Trixie,
}

impl Suite {
    /// Returns the suite with this codename.
    ///
    /// # Errors
    /// Returns an error if vcbuild does not support the suite.
    pub(crate) fn named(codename: &str) -> Result<Self, Error> {
        match codename {
            "bookworm" => Ok(Self::Bookworm),
            "trixie" => Ok(Self::Trixie),
            other => Err(Error::UnknownSuite { codename: other.to_owned() }),
        }
    }

    /// Returns the suite of a system according to its `/usr/lib/os-release`.
    ///
    /// # Errors
    /// Returns an error if the file does not name a suite, or if vcbuild does not support it.
    pub(crate) fn of(system: &System<'_>) -> Result<Self, Error> {
        let path = "usr/lib/os-release";
        let text = system.master(path, "etc/os-release")?;
        let codename = text.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
        let why = || "it has no VERSION_CODENAME".to_owned();
        let codename = codename.ok_or_else(|| Error::Setup { path: path.to_owned(), why: why() })?;
        Self::named(codename.trim_matches('"'))
    }
}

#[cfg(test)]
mod tests {
    use super::Suite;
    use crate::system::tests::{system, tree};

    #[test]
    fn a_system_says_which_suite_it_is_of() {
        let of = |text: &str| Suite::of(&system(&mut tree(&[("usr/lib/os-release", text)]))).map_err(|e| e.to_string());
        assert_eq!(of("ID=debian\nVERSION_CODENAME=trixie\n"), Ok(Suite::Trixie));
        assert_eq!(of("VERSION_CODENAME=\"bookworm\"\n"), Ok(Suite::Bookworm));
        assert!(of("ID=debian\n").unwrap_err().contains("it has no VERSION_CODENAME"));
        assert_eq!(
            of("VERSION_CODENAME=sid\n").unwrap_err(),
            "building a base from Debian sid: vcbuild has no replacement for the maintainer scripts of its packages"
        );
    }
}
