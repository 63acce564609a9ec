//! The release of a suite: its date and expiry, and the hashes of its indexes.

use std::collections::BTreeMap;
use std::time::SystemTime;

use deb822_fast::borrowed::{BorrowedParagraph, iter_paragraphs_borrowed};
use vcstore::{Blob, Digest};

use super::Error;
use super::signature::human_duration;

/// The contents of a release, which are trusted because the text was signed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Release {
    /// The codename of the suite: `bookworm`.
    pub(crate) codename: String,
    /// The date as in the file.
    pub(crate) date: String,
    /// Whether indexes can be fetched by their hash.
    pub(crate) by_hash: bool,
    /// The indexes by their path relative to the suite's folder.
    pub(crate) indexes: BTreeMap<String, Blob>,
}

impl Release {
    /// Parses a release that was fetched from `url` for `suite`. Rejects a release of another suite and an expired one:
    /// both have valid signatures, and an attacker could replace the requested release with them.
    pub(crate) fn read(text: &str, url: &str, suite: &str, now: SystemTime) -> Result<Self, Error> {
        let bad = |why: String| Error::repository(url, why);
        let release = iter_paragraphs_borrowed(text)
            .next()
            .ok_or_else(|| bad("it is empty".to_owned()))?
            .map_err(|error| bad(error.to_string()))?;
        let field = |name: &str| release.get_single(name).map(str::trim);
        let codename = field("Codename").ok_or_else(|| bad("it has no Codename".to_owned()))?;
        // In a URL, the security suite may still have its former name `bookworm/updates`.
        if ![Some(codename), field("Suite")].contains(&Some(suite)) {
            return Err(bad(format!("it is the release of {codename}, not of {suite}")));
        }
        let date = field("Date").ok_or_else(|| bad("it has no Date".to_owned()))?;
        time(date).ok_or_else(|| bad(format!("its Date is {date:?}")))?;
        if let Some(until) = field("Valid-Until") {
            let end = time(until).ok_or_else(|| bad(format!("its Valid-Until is {until:?}")))?;
            if let Ok(behind) = now.duration_since(end) {
                return Err(Error::Stale {
                    url: url.to_owned(),
                    until: until.to_owned(),
                    behind: human_duration(behind),
                });
            }
        }
        let indexes = indexes(&release).ok_or_else(|| bad("its list of SHA-256 hashes is malformed".to_owned()))?;
        let by_hash = field("Acquire-By-Hash") == Some("yes");
        Ok(Self { codename: codename.to_owned(), date: date.to_owned(), by_hash, indexes })
    }
}

fn indexes(release: &BorrowedParagraph<'_>) -> Option<BTreeMap<String, Blob>> {
    let lines = release.get("SHA256")?.iter().filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let mut human_duration = line.split_ascii_whitespace();
            let (digest, size, path) = (human_duration.next()?, human_duration.next()?, human_duration.next()?);
            let blob = Blob { digest: Digest::from_hex(digest).ok()?, size: size.parse().ok()? };
            human_duration.next().is_none().then(|| (path.to_owned(), blob))
        })
        .collect()
}

/// Parses the time format of releases, "Sat, 11 Jul 2026 10:16:37 UTC", which differs from HTTP's only in the name of
/// the time zone.
fn time(text: &str) -> Option<SystemTime> {
    httpdate::parse_http_date(&text.replace("UTC", "GMT")).ok()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::{Release, time};
    use crate::Error;

    const TEXT: &str = "Origin: Debian\nSuite: oldstable-security\nCodename: bookworm-security\n\
        Date: Sat, 21 Nov 2026 00:53:02 UTC\nValid-Until: Sat, 28 Nov 2026 00:53:02 UTC\nAcquire-By-Hash: yes\n\
        SHA256:\n e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855        0 main/binary-amd64/Packages\n";

    fn read(text: &str, suite: &str, now: &str) -> Result<Release, Error> {
        Release::read(text, "http://a.example/InRelease", suite, time(now).unwrap())
    }

    #[test]
    fn a_release_is_read() {
        for suite in ["bookworm-security", "oldstable-security"] {
            let release = read(TEXT, suite, "Sat, 21 Nov 2026 10:00:00 UTC").unwrap();
            assert_eq!(release.codename, "bookworm-security");
            assert!(release.by_hash);
            assert_eq!(release.indexes["main/binary-amd64/Packages"].size, 0);
        }
    }

    #[test]
    fn one_that_is_past_its_time_is_refused_and_says_how_long() {
        let error = read(TEXT, "bookworm-security", "Tue, 01 Dec 2026 12:00:00 UTC").unwrap_err();
        assert_eq!(
            error.to_string(),
            "using http://a.example/InRelease: it expired 3 days ago (Valid-Until: Sat, 28 Nov 2026 00:53:02 UTC)"
        );
        let later = SystemTime::now() + Duration::from_secs(1 << 33);
        let unlimited = TEXT.lines().filter(|line| !line.starts_with("Valid-Until")).collect::<Vec<_>>().join("\n");
        assert!(Release::read(&unlimited, "u", "bookworm-security", later).is_ok());
    }

    #[test]
    fn the_genuine_release_of_another_suite_is_refused() {
        let error = read(TEXT, "bookworm", "Sat, 21 Nov 2026 10:00:00 UTC").unwrap_err();
        assert!(error.to_string().ends_with("it is the release of bookworm-security, not of bookworm"), "{error}");
    }

    #[test]
    fn malformed_releases_are_refused() {
        let now = "Sat, 21 Nov 2026 10:00:00 UTC";
        for (from, to) in [
            ("Codename: bookworm-security\n", ""),
            ("Date: Sat, 21", "Date: Someday, 21"),
            ("Valid-Until: Sat, 28", "Valid-Until: never, 28"),
            ("SHA256:", "SHA1:"),
            ("e3b0c4", "x3b0c4"),
            ("Packages\n", "Packages and more\n"),
        ] {
            let error = read(&TEXT.replace(from, to), "bookworm-security", now);
            assert!(matches!(error, Err(Error::Repository { .. })), "{from:?} to {to:?}");
        }
        assert!(matches!(read("", "bookworm", now), Err(Error::Repository { .. })));
    }
}
