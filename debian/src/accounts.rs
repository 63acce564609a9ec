//! base-passwd, passwd and login: the accounts of every Debian system, from base-passwd's master files, with shadow
//! passwords, all of which are locked.

use std::collections::BTreeMap;

use super::Error;
use super::suite::Suite;
use super::system::System;

/// The groups that packages outside the base create for one of their programs.
const GROUPS: [(&str, &str); 1] = [("usr/bin/ssh-agent", SSH_AGENT)];

/// The group of `ssh-agent`.
pub(crate) const SSH_AGENT: &str = "_ssh";

/// Creates the account files. Returns the GIDs of the groups.
pub(crate) fn set_up(system: &mut System<'_>, suite: Suite) -> Result<BTreeMap<String, u64>, Error> {
    let users = system.master("usr/share/base-passwd/passwd.master", "etc/passwd")?;
    let groups = system.master("usr/share/base-passwd/group.master", "etc/group")?;
    let malformed = |path: &str, line: &str| Error::Setup {
        path: path.to_owned(),
        why: format!("its template has the line {line:?}"),
    };
    let (mut passwd, mut shadow) = (String::new(), String::new());
    for line in users.lines() {
        let [name, _, rest] = parts(line).ok_or_else(|| malformed("etc/passwd", line))?;
        passwd += &format!("{name}:x:{rest}\n");
        // The date of the last change is empty, because it would be the build date. The ages are those that
        // shadowconfig sets.
        shadow += &format!("{name}:*::0:99999:7:::\n");
    }
    let mut numbers = BTreeMap::new();
    let (mut group, mut gshadow) = (String::new(), String::new());
    for line in groups.lines() {
        let [name, _, rest] = parts(line).ok_or_else(|| malformed("etc/group", line))?;
        let number = rest.split(':').next().and_then(|number| number.parse().ok());
        numbers.insert(name.to_owned(), number.ok_or_else(|| malformed("etc/group", line))?);
        group += &format!("{name}:x:{rest}\n");
        gshadow += &format!("{name}:*::\n");
    }
    for (_, name) in GROUPS.into_iter().filter(|(program, _)| system.has(program)) {
        // Like addgroup, uses the first free GID of the system range.
        let number = (100..1000).find(|number| numbers.values().all(|taken| taken != number)).unwrap_or(999);
        numbers.insert(name.to_owned(), number);
        group += &format!("{name}:x:{number}:\n");
        gshadow += &format!("{name}:!::\n");
    }
    let why = "base-passwd has no group shadow".to_owned();
    let readers = *numbers.get("shadow").ok_or(Error::Setup { path: "etc/shadow".to_owned(), why })?;
    system.file("etc/passwd", 0o644, 0, passwd)?;
    system.file("etc/group", 0o644, 0, group)?;
    system.file("etc/shadow", 0o640, readers, shadow)?;
    system.file("etc/gshadow", 0o640, readers, gshadow)?;
    // login, later base-passwd: no ranges for user namespaces yet.
    for path in ["etc/subuid", "etc/subgid"] {
        system.file(path, 0o644, 0, "")?;
    }
    if suite == Suite::Bookworm {
        system.file("var/log/faillog", 0o644, 0, "")?;
    }
    Ok(numbers)
}

fn parts(line: &str) -> Option<[&str; 3]> {
    let mut parts = line.splitn(3, ':');
    Some([parts.next().filter(|name| !name.is_empty())?, parts.next()?, parts.next()?])
}

#[cfg(test)]
mod tests {
    use super::set_up;
    use crate::suite::Suite;
    use crate::system::tests::{system, text, tree};

    #[test]
    fn accounts_are_locked_and_shadowed() {
        let mut tree = tree(&[
            (
                "usr/share/base-passwd/passwd.master",
                "root:*:0:0:root:/root:/bin/bash\n_apt:*:42:65534::/nonexistent:/usr/sbin/nologin\n",
            ),
            ("usr/share/base-passwd/group.master", "root:*:0:\nshadow:*:42:\n"),
        ]);
        let groups = set_up(&mut system(&mut tree), Suite::Bookworm).unwrap();
        assert_eq!(groups["shadow"], 42);
        let passwd = "root:x:0:0:root:/root:/bin/bash\n_apt:x:42:65534::/nonexistent:/usr/sbin/nologin\n";
        assert_eq!(text(&tree, "etc/passwd"), passwd);
        assert_eq!(text(&tree, "etc/shadow"), "root:*::0:99999:7:::\n_apt:*::0:99999:7:::\n");
        assert_eq!(text(&tree, "etc/group"), "root:x:0:\nshadow:x:42:\n");
        assert_eq!(text(&tree, "etc/gshadow"), "root:*::\nshadow:*::\n");
        let shadow = tree.get("etc/shadow").unwrap();
        assert_eq!((shadow.mode, shadow.uid, shadow.gid), (0o640, 0, 42));
    }

    #[test]
    fn a_malformed_master_is_refused() {
        for (users, groups) in [("root\n", "shadow:*:42:\n"), ("", "shadow:*:many:\n"), ("", "root:*:0:\n")] {
            let files =
                [("usr/share/base-passwd/passwd.master", users), ("usr/share/base-passwd/group.master", groups)];
            assert!(set_up(&mut system(&mut tree(&files)), Suite::Trixie).is_err(), "{users:?} {groups:?}");
        }
    }
}
