//! The sources of apt (`sources.list(5)`, `apt_auth.conf(5)`): both formats, comments, options, several keys, mirror
//! lists in files, and credentials in separate files.
//!
//! Only the location of Debian matters here, so a source that apt accepts is never rejected because of a field that is
//! not used here.

use std::fs;

use camino::{Utf8Path, Utf8PathBuf};
use deb822_fast::Deb822;

/// A source of binary packages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Source {
    /// Its URIs without a trailing slash; only those with http or https.
    pub(super) uris: Vec<String>,
    pub(super) suites: Vec<String>,
    pub(super) components: Vec<String>,
    /// Debian's names of its architectures; empty for all.
    pub(super) architectures: Vec<String>,
    pub(super) signed_by: SignedBy,
}

/// The keys that may sign a source's release.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SignedBy {
    /// Files with keys.
    pub(super) files: Vec<Utf8PathBuf>,
    /// Fingerprints in upper-case hexadecimal; if there are any, only these keys are accepted. A key's subkeys are too, unless `!`
    /// follows its fingerprint (sources.list(5), Signed-By).
    pub(super) fingerprints: Vec<String>,
    /// A key embedded in the source.
    pub(super) key: Option<String>,
}

/// Returns the enabled sources of binary packages in apt's folder, in apt's order. Files that cannot be read are
/// skipped with a warning, so that they do not affect the others.
pub(super) fn sources(folder: &Utf8Path) -> Vec<Source> {
    let logins = logins(folder);
    let mut sources = Vec::new();
    for path in files(folder) {
        match fs::read(&path) {
            Ok(text) => {
                let text = String::from_utf8_lossy(&text);
                let read = if path.extension() == Some("sources") { stanzas(&text) } else { Ok(lines(&text)) };
                match read {
                    Ok(read) => sources.extend(read),
                    Err(why) => tracing::warn!(%path, why, "ignoring an apt source that cannot be read"),
                }
            }
            Err(error) => tracing::warn!(%path, %error, "ignoring an apt source that cannot be read"),
        }
    }
    for source in &mut sources {
        source.uris = source.uris.iter().flat_map(|uri| addresses(uri)).map(|uri| with_login(uri, &logins)).collect();
    }
    sources
}

/// Returns the files of keys that apt trusts for every source.
pub(super) fn trusted(folder: &Utf8Path) -> Vec<Utf8PathBuf> {
    let main = Some(folder.join("trusted.gpg")).filter(|path| path.exists());
    main.into_iter().chain(within(&folder.join("trusted.gpg.d"), &["gpg", "asc"])).collect()
}

/// Returns the files of sources that apt reads, in its order.
fn files(folder: &Utf8Path) -> Vec<Utf8PathBuf> {
    let main = folder.join("sources.list");
    let mut files = within(&folder.join("sources.list.d"), &["list", "sources"]);
    if main.exists() {
        files.insert(0, main);
    }
    files
}

/// Returns the files in a folder with one of these extensions, sorted by name. Like apt, skips names with other
/// characters, such as those of editor backups.
fn within(folder: &Utf8Path, endings: &[&str]) -> Vec<Utf8PathBuf> {
    let Ok(listed) = folder.read_dir_utf8() else { return Vec::new() };
    let plain = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
    let mut files: Vec<_> = listed
        .filter_map(Result::ok)
        .filter(|entry| plain(entry.file_name()))
        .map(|entry| entry.path().to_owned())
        .filter(|path| path.extension().is_some_and(|ending| endings.contains(&ending)))
        .collect();
    files.sort();
    files
}

/// Parses the one-line format.
fn lines(text: &str) -> Vec<Source> {
    text.lines().filter_map(line).collect()
}

fn line(line: &str) -> Option<Source> {
    let mut words = words(uncommented(line)).into_iter().peekable();
    if words.next()? != "deb" {
        return None;
    }
    let mut source = Source::default();
    if let Some(options) = words.next_if(|word| word.starts_with('[')) {
        for option in options.trim_start_matches('[').trim_end_matches(']').split_whitespace() {
            match option.split_once('=') {
                Some(("arch", value)) => source.architectures = value.split(',').map(str::to_owned).collect(),
                Some(("signed-by", value)) => source.signed_by = SignedBy::of(value),
                _ => {}
            }
        }
    }
    source.uris = vec![words.next()?.to_owned()];
    source.suites = vec![words.next()?.to_owned()];
    source.components = words.map(str::to_owned).collect();
    Some(source)
}

/// Returns a line without its comment, which cannot begin within brackets.
fn uncommented(line: &str) -> &str {
    let mut depth = 0;
    let end = line.find(|character| {
        match character {
            '[' => depth += 1,
            ']' => depth -= 1,
            _ => {}
        }
        character == '#' && depth <= 0
    });
    &line[..end.unwrap_or(line.len())]
}

/// Splits a line into words, but not at spaces within brackets.
fn words(line: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let (mut begun, mut depth) = (None, 0);
    for (at, character) in line.char_indices() {
        match character {
            '[' => depth += 1,
            ']' => depth -= 1,
            _ => {}
        }
        match (begun, character.is_whitespace() && depth <= 0) {
            (Some(start), true) => {
                words.push(&line[start..at]);
                begun = None;
            }
            (None, false) => begun = Some(at),
            _ => {}
        }
    }
    words.extend(begun.map(|start| &line[start..]));
    words
}

/// Parses the deb822 format.
fn stanzas(text: &str) -> Result<Vec<Source>, String> {
    // Comments may be anywhere, even within a field.
    let text: String = text.lines().filter(|line| !line.starts_with('#')).flat_map(|line| [line, "\n"]).collect();
    let document: Deb822 = text.parse().map_err(|error: deb822_fast::Error| error.to_string())?;
    let sources = document.iter().filter_map(|stanza| {
        let field = |wanted: &str| {
            let mut fields = stanza.fields.iter();
            fields.find(|field| field.name.eq_ignore_ascii_case(wanted)).map(|field| field.value.as_str())
        };
        let list = |name: &str| -> Vec<String> {
            field(name).unwrap_or_default().split_whitespace().map(str::to_owned).collect()
        };
        if field("Enabled").is_some_and(is_off) || !list("Types").iter().any(|one| one == "deb") {
            return None;
        }
        Some(Source {
            uris: list("URIs"),
            suites: list("Suites"),
            components: list("Components"),
            architectures: list("Architectures"),
            signed_by: field("Signed-By").map(SignedBy::of).unwrap_or_default(),
        })
    });
    Ok(sources.collect())
}

/// Whether a value means "no", in any of apt's spellings.
fn is_off(value: &str) -> bool {
    ["no", "false", "without", "off", "disable", "0"].iter().any(|off| value.trim().eq_ignore_ascii_case(off))
}

impl SignedBy {
    fn of(value: &str) -> Self {
        if value.contains("-----BEGIN") {
            // In a field, an empty line is written as a dot.
            let lines = value.lines().map(str::trim).map(|line| if line == "." { "" } else { line });
            return Self { key: Some(lines.collect::<Vec<_>>().join("\n").trim().to_owned()), ..Self::default() };
        }
        let items = value.split([',', ' ', '\t', '\n']).filter(|item| !item.is_empty());
        let (files, fingerprints): (Vec<_>, Vec<_>) = items.partition(|item| item.starts_with('/'));
        Self {
            files: files.into_iter().map(Utf8PathBuf::from).collect(),
            fingerprints: fingerprints.into_iter().map(str::to_ascii_uppercase).collect(),
            key: None,
        }
    }
}

/// Returns the http and https addresses of a source's URI: itself, or those in a mirror list file.
fn addresses(uri: &str) -> Vec<String> {
    let plain = |uri: &str| uri.starts_with("http://") || uri.starts_with("https://");
    let trimmed = |uri: &str| uri.trim_end_matches('/').to_owned();
    if plain(uri) {
        return vec![trimmed(uri)];
    }
    let Some(path) = uri.strip_prefix("mirror+file:").map(|path| format!("/{}", path.trim_start_matches('/'))) else {
        return Vec::new();
    };
    match fs::read_to_string(&path) {
        Ok(text) => {
            // A mirror may be followed by its priority and contents.
            let mirrors = text.lines().filter_map(|line| line.split('#').next()?.split_whitespace().next());
            mirrors.filter(|mirror| plain(mirror)).map(trimmed).collect()
        }
        Err(error) => {
            tracing::warn!(path, %error, "ignoring an apt mirror list that cannot be read");
            Vec::new()
        }
    }
}

/// Credentials for a mirror: apt keeps them in separate files, so that sources can be world-readable.
#[derive(Debug, Default)]
struct Login {
    /// A host, optionally preceded by a protocol and followed by a folder.
    machine: String,
    user: String,
    password: String,
}

fn logins(folder: &Utf8Path) -> Vec<Login> {
    let mut logins: Vec<Login> = Vec::new();
    let files = std::iter::once(folder.join("auth.conf")).chain(within(&folder.join("auth.conf.d"), &["conf"]));
    for text in files.filter_map(|path| fs::read_to_string(path).ok()) {
        let text: String =
            text.lines().filter(|line| !line.trim_start().starts_with('#')).flat_map(|line| [line, "\n"]).collect();
        let mut words = text.split_whitespace();
        while let Some(word) = words.next() {
            let value = words.next().unwrap_or_default().to_owned();
            match (word, logins.last_mut()) {
                ("machine", _) => logins.push(Login { machine: value, ..Login::default() }),
                ("login", Some(login)) => login.user = value,
                ("password", Some(login)) => login.password = value,
                _ => {}
            }
        }
    }
    logins
}

/// Adds apt's credentials for a URI. Like apt, applies an entry without a protocol only to https.
fn with_login(uri: String, logins: &[Login]) -> String {
    let Ok(mut url) = reqwest::Url::parse(&uri) else { return uri };
    if !url.username().is_empty() {
        return uri;
    }
    let fits = |login: &&Login| {
        let (scheme, place) = login.machine.split_once("://").unwrap_or(("https", &login.machine));
        let (host, folder) = place.split_once('/').unwrap_or((place, ""));
        let here = match url.port() {
            Some(port) => format!("{}:{port}", url.host_str().unwrap_or_default()),
            None => url.host_str().unwrap_or_default().to_owned(),
        };
        scheme == url.scheme() && host == here && url.path().trim_start_matches('/').starts_with(folder)
    };
    let Some(login) = logins.iter().find(fits) else { return uri };
    match (url.set_username(&login.user), url.set_password(Some(&login.password))) {
        (Ok(()), Ok(())) => url.as_str().trim_end_matches('/').to_owned(),
        _ => uri,
    }
}

/// Parses a source in each format.
#[cfg(any(test, fuzzing))]
pub(super) fn hostile(text: &str) {
    let _ = (lines(text), stanzas(text), SignedBy::of(text), addresses(text));
}

#[cfg(test)]
mod tests {
    use camino::Utf8Path;

    use super::{SignedBy, Source, lines, sources, stanzas};

    fn source(uri: &str, suites: &[&str], components: &[&str]) -> Source {
        let list = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        let (uris, suites, components) = (vec![uri.to_owned()], list(suites), list(components));
        Source { uris, suites, components, ..Source::default() }
    }

    #[test]
    fn a_line_is_read_as_apt_reads_it() {
        let plain = source("http://a.example/debian", &["bookworm"], &["main"]);
        for text in [
            "deb http://a.example/debian bookworm main",
            "  deb\thttp://a.example/debian   bookworm\tmain  ",
            "deb http://a.example/debian bookworm main # ours",
            "deb [target-=Translations] http://a.example/debian bookworm main",
            "deb [ trusted=yes # odd ] http://a.example/debian bookworm main#x",
            "deb [lang=en,de pdiffs=no by-hash=force] http://a.example/debian bookworm main",
            "# deb http://b.example/debian bookworm main\ndeb http://a.example/debian bookworm main\ndeb",
            "deb-src http://a.example/debian bookworm main\ndeb http://a.example/debian bookworm main",
        ] {
            assert_eq!(lines(text), std::slice::from_ref(&plain), "{text}");
        }
        let cdrom = lines("deb cdrom:[Debian GNU/Linux 12.0.0 _Bookworm_ - Official amd64]/ bookworm main");
        assert_eq!(cdrom[0].suites, ["bookworm"]);
        let options =
            lines("deb [ arch=amd64,arm64 signed-by=/a.gpg,/b.gpg ] http://a.example/debian bookworm main contrib");
        assert_eq!(options[0].architectures, ["amd64", "arm64"]);
        assert_eq!(options[0].signed_by.files, ["/a.gpg", "/b.gpg"]);
    }

    #[test]
    fn a_stanza_is_read_as_apt_reads_it() {
        let stanza = "Types: deb\nURIs: http://a.example/debian\nSuites: bookworm\nComponents: main\n";
        let plain = source("http://a.example/debian", &["bookworm"], &["main"]);
        for more in [
            "",
            "Trusted: yes\n",
            "Enabled: true\n",
            "Enabled: YES\n",
            "X-Repolib-Name: ours\n",
            "# a comment\n",
            "by-hash: no\n",
        ] {
            assert_eq!(stanzas(&format!("{stanza}{more}")).unwrap(), std::slice::from_ref(&plain), "{more}");
        }
        for off in ["no", "false", "0", "Off"] {
            assert_eq!(stanzas(&format!("Enabled: {off}\n{stanza}")).unwrap(), [], "{off}");
        }
        let spread = "# see sources.list(5)\ntypes: deb deb-src\nuris: http://a.example/debian\n# within\nSUITES: bookworm\n \
                      bookworm-updates\nComponents: main\n\n\n# another\nTypes: deb-src\nURIs: http://b.example/\nSuites: x\n";
        assert_eq!(
            stanzas(spread).unwrap(),
            [source("http://a.example/debian", &["bookworm", "bookworm-updates"], &["main"])]
        );
    }

    #[test]
    fn keys_are_files_fingerprints_or_text() {
        let files = SignedBy::of("/a.gpg, /b.gpg");
        assert_eq!(files.files, ["/a.gpg", "/b.gpg"]);
        let both = SignedBy::of("/a.gpg,4d64fec119c2029067d6e791f8d2585b8783d481!");
        assert_eq!((both.files.len(), both.fingerprints[0].as_str()), (1, "4D64FEC119C2029067D6E791F8D2585B8783D481!"));
        let text =
            SignedBy::of("\n-----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n -----END PGP PUBLIC KEY BLOCK-----");
        assert_eq!(
            text.key.unwrap(),
            "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nabc\n-----END PGP PUBLIC KEY BLOCK-----"
        );
    }

    #[test]
    fn mirrors_and_logins_may_be_in_files_of_their_own() {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(folder.path()).unwrap();
        let write = |name: &str, text: &str| {
            std::fs::create_dir_all(path.join(name).parent().unwrap()).unwrap();
            std::fs::write(path.join(name), text).unwrap();
        };
        write(
            "mirrors",
            "# near ones\nftp://x.example/debian\nhttps://near.example/debian/ priority:1\nhttp://far.example/debian\n",
        );
        write(
            "auth.conf.d/near.conf",
            "machine near.example/debian\nlogin me\npassword p@ss\n# machine far.example login a password b\n",
        );
        write("auth.conf", "machine far.example login a password b machine http://old.example login c password d");
        write(
            "sources.list.d/debian.sources",
            &format!("Types: deb\nURIs: mirror+file://{path}/mirrors\nSuites: bookworm\nComponents: main\n"),
        );
        write("sources.list.d/old.list", "deb http://old.example/debian/ bookworm main");
        write("sources.list.d/old.list.save", "deb http://saved.example/debian/ bookworm main");
        write("sources.list", "deb mirror+file:/nowhere bookworm main\ndeb [broken\n");
        let uris: Vec<_> = sources(path).into_iter().map(|source| source.uris).collect();
        let near = ["https://me:p%40ss@near.example/debian", "http://far.example/debian"];
        let expected = [vec![], near.map(str::to_owned).to_vec(), vec!["http://c:d@old.example/debian".to_owned()]];
        assert_eq!(uris, expected);
    }
}
