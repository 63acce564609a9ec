//! update-alternatives: which of several packages a general command such as `awk` or `pager` comes from. Only the
//! commands of packages that a base always has are listed, each as its package's script registers it.

use std::fmt::Write as _;

use super::Error;
use super::system::System;

/// A command and what stands for it.
struct Alternative {
    /// The name among the alternatives, also that of the link in `/etc/alternatives`.
    name: &'static str,
    /// The general command.
    link: &'static str,
    /// What stands for it.
    path: &'static str,
    /// How it ranks among what could.
    priority: u32,
    /// Links that go with it: name, link, target, by name.
    slaves: &'static [[&'static str; 3]],
}

/// mawk, util-linux, tar and debianutils. bash's is only a manual page, which a slim base does not have.
const ALTERNATIVES: [Alternative; 4] = [
    Alternative {
        name: "awk",
        link: "/usr/bin/awk",
        path: "/usr/bin/mawk",
        priority: 5,
        slaves: &[
            ["awk.1.gz", "/usr/share/man/man1/awk.1.gz", "/usr/share/man/man1/mawk.1.gz"],
            ["nawk", "/usr/bin/nawk", "/usr/bin/mawk"],
            ["nawk.1.gz", "/usr/share/man/man1/nawk.1.gz", "/usr/share/man/man1/mawk.1.gz"],
        ],
    },
    Alternative {
        name: "pager",
        link: "/usr/bin/pager",
        path: "/bin/more",
        priority: 50,
        slaves: &[["pager.1.gz", "/usr/share/man/man1/pager.1.gz", "/usr/share/man/man1/more.1.gz"]],
    },
    Alternative {
        name: "rmt",
        link: "/usr/sbin/rmt",
        path: "/usr/sbin/rmt-tar",
        priority: 50,
        slaves: &[["rmt.8.gz", "/usr/share/man/man8/rmt.8.gz", "/usr/share/man/man8/rmt-tar.8.gz"]],
    },
    Alternative {
        name: "which",
        link: "/usr/bin/which",
        path: "/usr/bin/which.debianutils",
        priority: 0,
        slaves: &[
            ["which.1.gz", "/usr/share/man/man1/which.1.gz", "/usr/share/man/man1/which.debianutils.1.gz"],
            ["which.de1.gz", "/usr/share/man/de/man1/which.1.gz", "/usr/share/man/de/man1/which.debianutils.1.gz"],
            ["which.es1.gz", "/usr/share/man/es/man1/which.1.gz", "/usr/share/man/es/man1/which.debianutils.1.gz"],
            ["which.fr1.gz", "/usr/share/man/fr/man1/which.1.gz", "/usr/share/man/fr/man1/which.debianutils.1.gz"],
            ["which.it1.gz", "/usr/share/man/it/man1/which.1.gz", "/usr/share/man/it/man1/which.debianutils.1.gz"],
            ["which.ja1.gz", "/usr/share/man/ja/man1/which.1.gz", "/usr/share/man/ja/man1/which.debianutils.1.gz"],
            ["which.pl1.gz", "/usr/share/man/pl/man1/which.1.gz", "/usr/share/man/pl/man1/which.debianutils.1.gz"],
            ["which.sl1.gz", "/usr/share/man/sl/man1/which.1.gz", "/usr/share/man/sl/man1/which.debianutils.1.gz"],
        ],
    },
];

/// Registers what is there and links it.
pub(crate) fn set_up(system: &mut System<'_>) -> Result<(), Error> {
    for one in &ALTERNATIVES {
        if !here(system, one.path) {
            continue;
        }
        let mut state = format!("auto\n{}\n", one.link);
        let mut choice = format!("{}\n{}\n", one.path, one.priority);
        connect(system, one.name, one.link, one.path)?;
        for [name, link, target] in one.slaves {
            // Writing to a String cannot fail.
            let _ = writeln!(state, "{name}\n{link}");
            let _ = writeln!(choice, "{target}");
            // As update-alternatives does: no link to a manual page that is not there.
            if here(system, target) {
                connect(system, name, link, target)?;
            }
        }
        system.file(&format!("var/lib/dpkg/alternatives/{}", one.name), 0o644, 0, format!("{state}\n{choice}\n"))?;
    }
    Ok(())
}

fn connect(system: &mut System<'_>, name: &str, link: &str, target: &str) -> Result<(), Error> {
    system.link(&format!("etc/alternatives/{name}"), target)?;
    system.link(link.trim_start_matches('/'), &format!("/etc/alternatives/{name}"))
}

/// Whether a file is there, `/bin` being a link to `/usr/bin`.
fn here(system: &System<'_>, path: &str) -> bool {
    let path = path.trim_start_matches('/');
    system.has(path) || system.has(&format!("usr/{path}"))
}

#[cfg(test)]
mod tests {
    use super::set_up;
    use crate::base::debian::system::tests::{system, text, tree};

    #[test]
    fn what_is_there_is_registered_and_linked() {
        let mut tree = tree(&[("usr/bin/mawk", ""), ("usr/bin/more", "")]);
        set_up(&mut system(&mut tree)).unwrap();
        assert_eq!(text(&tree, "usr/bin/awk"), "-> /etc/alternatives/awk");
        assert_eq!(text(&tree, "etc/alternatives/nawk"), "-> /usr/bin/mawk");
        assert_eq!(text(&tree, "etc/alternatives/pager"), "-> /bin/more");
        assert!(tree.get("etc/alternatives/awk.1.gz").is_none() && tree.get("usr/bin/which").is_none());
        let state = "auto\n/usr/bin/pager\npager.1.gz\n/usr/share/man/man1/pager.1.gz\n\n\
            /bin/more\n50\n/usr/share/man/man1/more.1.gz\n\n";
        assert_eq!(text(&tree, "var/lib/dpkg/alternatives/pager"), state);
    }
}
