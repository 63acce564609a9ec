//! The sources of packages: a configured mirror, or the machine's own apt sources. No host name is built in, so the
//! lock contains no host, and a site's mirror is used without further configuration.

use camino::{Utf8Path, Utf8PathBuf};

use super::apt::{self, SignedBy, Source};
use super::{Error, Request};

/// One suite at one address, with the keys that must sign its release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Archive {
    /// The address above `dists/` and `pool/`, without a trailing slash.
    pub(crate) uri: String,
    /// The suite's name in the address: `bookworm-security`.
    pub(crate) suite: String,
    /// The keys.
    pub(crate) keyring: Keyring,
    /// Whether the suite may be missing: a configured mirror need not have every suite besides the main one.
    pub(crate) optional: bool,
}

/// The keys that may sign a release.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Keyring {
    /// Their location.
    pub(crate) place: KeyPlace,
    /// Fingerprints in upper-case hexadecimal, if only these keys are accepted; a `!` after one excludes the key's subkeys.
    pub(crate) fingerprints: Vec<String>,
}

/// The location of keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum KeyPlace {
    /// Debian's keys in the package debian-archive-keyring.
    #[default]
    Debian,
    /// Debian's keys, and these files of keys that apt trusts for every source.
    Trusted(Vec<Utf8PathBuf>),
    /// All keys in these files.
    Files(Vec<Utf8PathBuf>),
    /// A key in an apt source.
    Text(String),
}

/// Returns the archives for a request: the suite itself, its updates, and its security updates, as far as they are
/// requested.
pub(crate) fn archives(request: &Request) -> Result<Vec<Archive>, Error> {
    let named = request.options.mirror.clone().or_else(|| std::env::var("VCBUILD_DEBIAN_MIRROR").ok());
    match named.filter(|address| !address.is_empty()) {
        Some(address) => mirror(request, &address),
        None => machine(request, Utf8Path::new("/etc/apt")),
    }
}

/// Returns the archives in the layout of Debian's own mirrors: security updates are in a folder beside the main one.
fn mirror(request: &Request, address: &str) -> Result<Vec<Archive>, Error> {
    let uri = address.trim_end_matches('/');
    if !(uri.starts_with("http://") || uri.starts_with("https://")) {
        let why = "only http and https are supported".to_owned();
        return Err(Error::BadMirror { address: address.to_owned(), why });
    }
    let archive = |uri: String, suite: String, optional| {
        let keyring = named_keyring(request).unwrap_or_default();
        Archive { uri, suite, keyring, optional }
    };
    let mut archives = vec![archive(uri.to_owned(), request.options.suite.clone(), false)];
    if request.options.updates {
        archives.push(archive(uri.to_owned(), format!("{}-updates", request.options.suite), true));
    }
    if request.options.security {
        archives.push(archive(format!("{uri}-security"), format!("{}-security", request.options.suite), false));
    }
    Ok(archives)
}

/// Returns the archives that the machine's own apt would use.
fn machine(request: &Request, folder: &Utf8Path) -> Result<Vec<Archive>, Error> {
    let sources = apt::sources(folder);
    let mut suites = vec![request.options.suite.clone()];
    let pockets = [("updates", request.options.updates), ("security", request.options.security)];
    suites.extend(
        pockets.iter().filter(|(_, wanted)| *wanted).map(|(one, _)| format!("{}-{one}", request.options.suite)),
    );
    let find = |suite: &String| {
        let same = |one: &str| one == suite;
        // A Debian mirror with one suite also has the related ones.
        let related = |one: &str| pocket(one).is_some_and(|one| Some(one) == pocket(suite));
        let best = |fits: &dyn Fn(&str) -> bool| {
            let carriers = sources.iter().filter(|one| carries(one, fits, request));
            // Third parties use the names of Debian's suites too. Among equally likely sources, apt's first is used.
            carriers.rev().max_by_key(|one| likeness(one, &sources))
        };
        let source = best(&same).or_else(|| best(&related))?;
        let uri = source.uris.first()?.replace("$(ARCH)", &request.architecture);
        let keyring = named_keyring(request).unwrap_or_else(|| keyring(&source.signed_by, folder));
        Some(Archive { uri, suite: suite.clone(), keyring, optional: false })
    };
    let archives: Vec<_> = suites.iter().filter_map(find).collect();
    if archives.first().is_none_or(|first| first.suite != request.options.suite) {
        let components = request.options.components.join(" ");
        let why = format!("no source under {folder} carries it with {components} over http or https");
        return Err(Error::NoMirror { suite: request.options.suite.clone(), why });
    }
    for suite in suites.iter().filter(|suite| archives.iter().all(|archive| archive.suite != **suite)) {
        tracing::warn!(suite, "no apt source carries it: ignoring its packages");
    }
    Ok(archives)
}

/// The codenames of Debian's suites.
const SUITES: [&str; 6] = ["bullseye", "bookworm", "trixie", "forky", "duke", "sid"];

/// Returns the part of a name after the codename: `-security` for `bookworm-security`. Returns `None` if it is not a
/// Debian suite.
fn pocket(suite: &str) -> Option<&str> {
    SUITES.iter().find_map(|name| suite.strip_prefix(name)).filter(|rest| rest.is_empty() || rest.starts_with('-'))
}

fn carries(source: &Source, fits: &dyn Fn(&str) -> bool, request: &Request) -> bool {
    !source.uris.is_empty()
        && source.suites.iter().any(|one| fits(one.trim_end_matches('/')))
        && request.options.components.iter().all(|wanted| source.components.contains(wanted))
        && (source.architectures.is_empty() || source.architectures.contains(&request.architecture))
}

/// Rates how likely a source is Debian itself and not a third party that packages for Debian: by its keys, then by its
/// folder, then by further Debian suites at the same address.
fn likeness(source: &Source, sources: &[Source]) -> (bool, bool, bool) {
    let keys = source.signed_by.files.iter().any(|path| path.as_str().contains("debian-archive"));
    let folder = source.uris.iter().any(|uri| ["/debian", "/debian-security"].iter().any(|end| uri.ends_with(end)));
    let beside = |suite: &str| pocket(suite).is_some_and(|rest| !rest.is_empty());
    let together = sources.iter().any(|one| one.uris == source.uris && one.suites.iter().any(|suite| beside(suite)));
    (keys, folder, together)
}

fn named_keyring(request: &Request) -> Option<Keyring> {
    let path = request.options.keyring.clone()?;
    Some(Keyring { place: KeyPlace::Files(vec![path]), fingerprints: Vec::new() })
}

/// Returns the keys of an apt source. If it names keys without a file, apt looks for them among all trusted keys.
fn keyring(signed_by: &SignedBy, folder: &Utf8Path) -> Keyring {
    let SignedBy { files, fingerprints, key } = signed_by.clone();
    let place = match key {
        Some(key) => KeyPlace::Text(key),
        None if !files.is_empty() => KeyPlace::Files(files),
        None if !fingerprints.is_empty() => KeyPlace::Trusted(apt::trusted(folder)),
        None => KeyPlace::Debian,
    };
    Keyring { place, fingerprints }
}

#[cfg(test)]
mod tests {
    use camino::Utf8Path;

    use super::{Archive, KeyPlace, Keyring, machine, mirror};
    use crate::{Error, Options, Request};

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("sources.list.d")).unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    fn in_files(paths: &[&str]) -> Keyring {
        let place = KeyPlace::Files(paths.iter().map(|&path| path.into()).collect());
        Keyring { place, fingerprints: Vec::new() }
    }

    fn found(request: &Request, files: &[(&str, &str)]) -> Result<Vec<Archive>, Error> {
        machine(request, Utf8Path::from_path(folder(files).path()).unwrap())
    }

    #[test]
    fn sources_of_both_formats_are_read() {
        let list = "deb [arch=amd64 signed-by=/keys/a.gpg] http://one.example/debian/ bookworm main contrib\n";
        let sources = "Types: deb\n# a comment\nURIs: https://two.example/debian-security\nSuites: bookworm-security\n\
                       Components: main\nSigned-By: /keys/b.gpg\n";
        let files = [("sources.list", list), ("sources.list.d/security.sources", sources)];
        let archives = found(&Request::default(), &files).unwrap();
        let shown: Vec<_> = archives.iter().map(|one| (one.uri.as_str(), one.suite.as_str(), &one.keyring)).collect();
        let key = |path: &str| in_files(&[path]);
        let expected = [
            ("http://one.example/debian", "bookworm", &key("/keys/a.gpg")),
            ("https://two.example/debian-security", "bookworm-security", &key("/keys/b.gpg")),
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_source_that_does_not_fit_is_passed_over() {
        let list = "deb-src http://a.example/debian bookworm main\n\
                    deb http://b.example/debian stable main\n\
                    deb http://c.example/debian bookworm contrib\n\
                    deb [arch=arm64] http://d.example/debian bookworm main\n\
                    deb cdrom://e.example/debian bookworm main\n";
        let error = found(&Request::default(), &[("sources.list", list)]).unwrap_err();
        assert!(matches!(&error, Error::NoMirror { suite, .. } if suite == "bookworm"), "{error}");
        assert!(error.to_string().contains("carries it with main over http or https"), "{error}");
    }

    #[test]
    fn a_mirror_of_another_suite_has_this_one_too() {
        let list = "deb http://a.example/other bookworm/sub main\ndeb http://a.example/debian trixie main\n\
                    deb http://a.example/debian trixie-updates main\n\
                    deb [signed-by=/keys/s.gpg] http://a.example/s trixie-security main\n";
        let archives = found(&Request::default(), &[("sources.list", list)]).unwrap();
        let shown: Vec<_> = archives.iter().map(|one| format!("{} {}", one.uri, one.suite)).collect();
        let expected = [
            "http://a.example/debian bookworm",
            "http://a.example/debian bookworm-updates",
            "http://a.example/s bookworm-security",
        ];
        assert_eq!(shown, expected);
        assert_eq!(archives[2].keyring, in_files(&["/keys/s.gpg"]));
    }

    #[test]
    fn debians_own_source_is_found_among_those_of_others() {
        let debian =
            "Types: deb\nURIs: http://near.example/debian\nSuites: bookworm bookworm-updates\nComponents: main\n";
        let options = Options { security: false, updates: false, ..Options::default() };
        let request = Request { options, ..Request::default() };
        for other in [
            "deb http://java.example/artifactory/deb bookworm main",
            "deb [signed-by=/keys/tools.gpg] http://tools.example bookworm main",
        ] {
            let sources = [("sources.list.d/a.list", other), ("sources.list.d/debian.sources", debian)];
            let archives = found(&request, &sources).unwrap();
            assert_eq!(archives[0].uri, "http://near.example/debian", "{other}");
            assert_eq!(found(&request, &sources[..1]).unwrap().len(), 1, "a site's mirror may be anywhere");
        }
        let signed =
            "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://proxy.example/x bookworm main";
        let archives = found(&request, &[("sources.list.d/debian.sources", debian), ("sources.list.d/z.list", signed)]);
        assert_eq!(archives.unwrap()[0].uri, "http://proxy.example/x");
    }

    #[test]
    fn keys_named_by_fingerprint_are_looked_for_among_those_apt_trusts() {
        let list =
            "deb [signed-by=4D64FEC119C2029067D6E791F8D2585B8783D481] http://$(ARCH).example/debian bookworm main";
        let archives = found(&Request::default(), &[("sources.list", list)]).unwrap();
        assert_eq!(archives[0].uri, "http://amd64.example/debian");
        let Keyring { place, fingerprints } = &archives[0].keyring;
        assert!(matches!(place, KeyPlace::Trusted(_)), "{place:?}");
        assert_eq!(fingerprints, &["4D64FEC119C2029067D6E791F8D2585B8783D481"]);
    }

    #[test]
    fn security_updates_can_be_left_out() {
        let list = "deb http://a.example/debian bookworm main\ndeb http://a.example/s bookworm-security bookworm-updates main\n";
        let options = Options { security: false, updates: false, ..Options::default() };
        let suites: Vec<_> = found(&Request { options, ..Request::default() }, &[("sources.list", list)]).unwrap();
        assert_eq!(suites.len(), 1);
    }

    #[test]
    fn a_mirror_that_is_named_has_security_updates_beside_it() {
        let options = Options { keyring: Some("/keys/mine.gpg".into()), ..Options::default() };
        let request = Request { options, ..Request::default() };
        let archives = mirror(&request, "http://near.example/debian/").unwrap();
        let shown: Vec<_> = archives.iter().map(|one| format!("{} {} {}", one.uri, one.suite, one.optional)).collect();
        let expected = [
            "http://near.example/debian bookworm false",
            "http://near.example/debian bookworm-updates true",
            "http://near.example/debian-security bookworm-security false",
        ];
        assert_eq!(shown, expected);
        assert!(archives.iter().all(|one| one.keyring == in_files(&["/keys/mine.gpg"])));
        assert!(matches!(mirror(&request, "ftp://near.example/debian"), Err(Error::BadMirror { .. })));
    }
}
