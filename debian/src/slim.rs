//! The files that a slim base leaves out: documentation, translations and the like, as in debian:bookworm-slim. The
//! base also configures dpkg accordingly, so that packages installed on top of it are slim too.

use vcstore::{Content, Kind, Tree};

use super::Error;

/// Files below these folders are left out …
const EXCLUDED: [&str; 7] = [
    "usr/share/doc/",
    "usr/share/groff/",
    "usr/share/info/",
    "usr/share/linda/",
    "usr/share/lintian/overrides/",
    "usr/share/locale/",
    "usr/share/man/",
];

/// … except the licences, which must be distributed with the software, and the aliases of locales, which are not a
/// translation.
const INCLUDED: [&str; 2] = ["usr/share/doc/*/copyright", "usr/share/locale/locale.alias"];

/// Whether a file of a package is kept.
pub(crate) fn keeps(path: &str, kind: &Kind) -> bool {
    let Some(excluded) = EXCLUDED.into_iter().find(|folder| path.starts_with(folder)) else { return true };
    // Folders are created for kept files. A package may share the documentation folder, and the licence, of
    // another package through a link instead of a folder.
    let shared =
        excluded == "usr/share/doc/" && matches!(kind, Kind::Symlink(_)) && !path[excluded.len()..].contains('/');
    shared || (*kind != Kind::Directory && included(path))
}

fn included(path: &str) -> bool {
    INCLUDED.into_iter().any(|pattern| match pattern.split_once('*') {
        Some((start, end)) => {
            path.strip_prefix(start).is_some_and(|rest| rest.len() > end.len() && rest.ends_with(end))
        }
        None => path == pattern,
    })
}

/// Configures dpkg (`dpkg.cfg(5)`), in the same file as debian:bookworm-slim.
pub(crate) fn configure(tree: &mut Tree) -> Result<(), Error> {
    let mut text = "# This is a slim variant of Debian: many files that containers do not need are left out,\n\
                    # and these lines leave them out of what is installed later.\n"
        .to_owned();
    text.extend(EXCLUDED.map(|folder| format!("path-exclude /{folder}*\n")));
    text.extend(INCLUDED.map(|pattern| format!("path-include /{pattern}\n")));
    Ok(tree.file("etc/dpkg/dpkg.cfg.d/docker", 0o644, Content::Bytes(text.into_bytes()))?)
}

#[cfg(test)]
mod tests {
    use vcstore::{Content, Kind, Tree};

    use super::{configure, keeps};

    #[test]
    fn documentation_goes_and_licences_stay() {
        let file = Kind::File(Content::Bytes(Vec::new()));
        let link = Kind::Symlink("gcc-12-base".to_owned());
        let cases = [
            ("usr/bin/man", &file, true),
            ("usr/share/doc", &Kind::Directory, true),
            ("usr/share/doc/bash", &Kind::Directory, false),
            ("usr/share/doc/bash/copyright", &file, true),
            ("usr/share/doc/bash/changelog.gz", &file, false),
            ("usr/share/doc/copyright", &file, false),
            ("usr/share/doc/libgcc-s1", &link, true),
            ("usr/share/doc/bash/link", &link, false),
            ("usr/share/man/man1/bash.1.gz", &file, false),
            ("usr/share/locale/de/LC_MESSAGES/bash.mo", &file, false),
            ("usr/share/locale/locale.alias", &file, true),
            ("usr/share/lintian/profiles/x", &file, true),
            ("usr/share/lintian/overrides/bash", &file, false),
        ];
        for (path, kind, kept) in cases {
            assert_eq!(keeps(path, kind), kept, "{path}");
        }
    }

    #[test]
    fn dpkg_is_told_the_same() {
        let mut tree = Tree::new();
        configure(&mut tree).unwrap();
        let Some(Kind::File(Content::Bytes(bytes))) = tree.get("etc/dpkg/dpkg.cfg.d/docker").map(|entry| &entry.kind)
        else {
            panic!("no such file");
        };
        let text = String::from_utf8(bytes.clone()).unwrap();
        let rules: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(rules[0], "path-exclude /usr/share/doc/*");
        assert_eq!(
            rules[7..],
            ["path-include /usr/share/doc/*/copyright", "path-include /usr/share/locale/locale.alias"]
        );
    }
}
