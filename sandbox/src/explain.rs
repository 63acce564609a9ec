//! Finds the undeclared resources that a failed program in the sandbox tried to use, as far as its output names them.

use std::collections::BTreeSet;
use std::fmt;

use camino::Utf8Path;
use serde::{Deserialize, Serialize};

use super::spec::Spec;

/// The maximum number of reported resources, so that they do not hide the program's own output.
const LIMIT: usize = 5;

/// Paths that every sandbox contains.
const BUILT_IN: [&str; 5] = ["/dev", "/proc", "/tmp", "/home", "/etc/passwd"];

/// Phrases of resolvers and network code before the name of a host.
const BEFORE_HOST: [&str; 7] = [
    "Could not resolve host: ",
    "could not resolve host: ",
    "Could not resolve hostname ",
    "unable to resolve host address ",
    "dial tcp: lookup ",
    "dial tcp ",
    "dial udp ",
];

/// Messages of programs without a network.
const NO_NETWORK: [&str; 3] =
    ["Network is unreachable", "network is unreachable", "Temporary failure in name resolution"];

/// A resource that was not declared.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum UndeclaredAccess {
    /// A path that exists on the machine but not in the sandbox.
    Path(String),
    /// A host on the network.
    Host(String),
    /// The network, without a known host.
    Network,
}

impl fmt::Display for UndeclaredAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "{path}"),
            Self::Host(host) => write!(f, "the host {host}"),
            Self::Network => f.write_str("the network"),
        }
    }
}

/// Finds the undeclared paths and hosts that a program's standard error names.
pub(super) fn explain(stderr: &str, spec: &Spec) -> Vec<UndeclaredAccess> {
    let inside = |path: &Utf8Path| {
        let declared = spec.mounts.iter().map(|mount| mount.inside.as_path());
        let declared = declared.chain(spec.links.iter().map(|link| link.inside.as_path()));
        declared.chain(BUILT_IN.map(Utf8Path::new)).any(|known| path.starts_with(known) || known.starts_with(path))
    };
    let paths = paths(stderr).filter(|path| !inside(Utf8Path::new(path)) && Utf8Path::new(path).exists());
    let mut wanted: BTreeSet<UndeclaredAccess> = paths.map(|path| UndeclaredAccess::Path(path.to_owned())).collect();
    wanted.extend(hosts(stderr).map(UndeclaredAccess::Host));
    if !wanted.iter().any(|one| matches!(one, UndeclaredAccess::Host(_)))
        && NO_NETWORK.iter().any(|said| stderr.contains(said))
    {
        wanted.insert(UndeclaredAccess::Network);
    }
    wanted.into_iter().take(LIMIT).collect()
}

/// The absolute paths in a text.
fn paths(stderr: &str) -> impl Iterator<Item = &str> {
    let ends =
        |c: char| c.is_whitespace() || matches!(c, '\'' | '"' | '`' | ',' | ';' | '(' | ')' | '<' | '>' | '‘' | '’');
    let tokens = stderr.split(ends).flat_map(|token| token.split('=').next_back());
    tokens
        .map(|token| token.split(':').find(|part| part.starts_with('/')).unwrap_or("").trim_end_matches('.'))
        .filter(|path| path.len() > 1 && !path.starts_with("//"))
}

/// The hosts that a text says were not reached.
fn hosts(stderr: &str) -> impl Iterator<Item = String> {
    BEFORE_HOST.iter().flat_map(move |before| stderr.match_indices(before)).filter_map(move |(start, before)| {
        let rest = &stderr[start + before.len()..];
        let end = rest.find(|c: char| c.is_whitespace() || matches!(c, '\'' | '"' | ';' | ',')).unwrap_or(rest.len());
        let host = rest[..end].trim_end_matches([':', '.', '\u{2019}']).trim_start_matches('\u{2018}');
        (!host.is_empty() && host != "lookup").then(|| host.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::super::spec::{Mount, Spec};
    use super::{UndeclaredAccess, explain};

    fn spec() -> Spec {
        Spec {
            mounts: vec![Mount { host: "/usr".into(), inside: "/usr".into(), writable: false }],
            ..Spec::empty(true)
        }
    }

    fn explained(stderr: &str) -> Vec<String> {
        explain(stderr, &spec()).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_path_that_only_the_machine_has_is_named() {
        assert_eq!(explained("cat: /proc/version: Permission denied"), [""; 0]);
        assert_eq!(explained("cat: /etc/hostname: No such file or directory"), ["/etc/hostname"]);
        assert_eq!(
            explained("open \"/etc/hostname\": no such file; see /usr/share, /no/such/path and https://a/etc."),
            ["/etc/hostname"]
        );
        assert_eq!(explained("main.go:3: -I/usr --config=/etc/hostname."), ["/etc/hostname"]);
    }

    #[test]
    fn a_host_that_was_not_reached_is_named() {
        assert_eq!(explained("curl: (6) Could not resolve host: example.org"), ["the host example.org"]);
        assert_eq!(
            explained("Get \"https://m\": dial tcp: lookup m.example on 1.1.1.1:53: dial udp 1.1.1.1:53: connect"),
            ["the host 1.1.1.1:53", "the host m.example"]
        );
        assert_eq!(explained("dial tcp 10.0.0.1:443: connect: network is unreachable"), ["the host 10.0.0.1:443"]);
        assert_eq!(explain("connect: Network is unreachable", &spec()), [UndeclaredAccess::Network]);
    }
}
