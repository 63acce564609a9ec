//! update-alternatives: which of several packages provides a generic command such as `awk` or `pager`. Each alternative
//! is registered as in the package's maintainer script.

use std::fmt::Write as _;

use super::Error;
use super::system::System;

/// A generic command.
struct Alternative {
    /// The name of its link group, which is also the name of the link in `/etc/alternatives`.
    name: &'static str,
    /// The path of the generic command.
    link: &'static str,
    /// The slave links, sorted by name: name and path.
    slaves: &'static [(&'static str, &'static str)],
    /// The alternatives, sorted by path.
    candidates: &'static [Candidate],
}

/// An alternative for a generic command.
struct Candidate {
    /// The program.
    path: &'static str,
    /// Its priority.
    priority: u32,
    /// The targets of the slave links; shorter or empty if it does not provide all of them.
    targets: &'static [&'static str],
}

/// The alternatives of gawk, mawk, util-linux, tar, debianutils, less, nano, netcat-openbsd, pinentry-curses, xz-utils
/// and iptables. bash registers only a manual page, which a slim base does not contain.
const ALTERNATIVES: [Alternative; 13] = [
    Alternative {
        name: "arptables",
        link: "/usr/sbin/arptables",
        slaves: &[("arptables-restore", "/usr/sbin/arptables-restore"), ("arptables-save", "/usr/sbin/arptables-save")],
        candidates: &[Candidate {
            path: "/usr/sbin/arptables-nft",
            priority: 20,
            targets: &["/usr/sbin/arptables-nft-restore", "/usr/sbin/arptables-nft-save"],
        }],
    },
    Alternative {
        name: "awk",
        link: "/usr/bin/awk",
        slaves: &[
            ("awk.1.gz", "/usr/share/man/man1/awk.1.gz"),
            ("nawk", "/usr/bin/nawk"),
            ("nawk.1.gz", "/usr/share/man/man1/nawk.1.gz"),
        ],
        candidates: &[
            Candidate {
                path: "/usr/bin/gawk",
                priority: 10,
                targets: &["/usr/share/man/man1/gawk.1.gz", "/usr/bin/gawk", "/usr/share/man/man1/gawk.1.gz"],
            },
            Candidate {
                path: "/usr/bin/mawk",
                priority: 5,
                targets: &["/usr/share/man/man1/mawk.1.gz", "/usr/bin/mawk", "/usr/share/man/man1/mawk.1.gz"],
            },
        ],
    },
    Alternative {
        name: "ebtables",
        link: "/usr/sbin/ebtables",
        slaves: &[("ebtables-restore", "/usr/sbin/ebtables-restore"), ("ebtables-save", "/usr/sbin/ebtables-save")],
        candidates: &[Candidate {
            path: "/usr/sbin/ebtables-nft",
            priority: 20,
            targets: &["/usr/sbin/ebtables-nft-restore", "/usr/sbin/ebtables-nft-save"],
        }],
    },
    Alternative {
        name: "editor",
        link: "/usr/bin/editor",
        slaves: &[("editor.1.gz", "/usr/share/man/man1/editor.1.gz")],
        candidates: &[Candidate { path: "/bin/nano", priority: 40, targets: &["/usr/share/man/man1/nano.1.gz"] }],
    },
    Alternative {
        name: "ip6tables",
        link: "/usr/sbin/ip6tables",
        slaves: &[("ip6tables-restore", "/usr/sbin/ip6tables-restore"), ("ip6tables-save", "/usr/sbin/ip6tables-save")],
        candidates: &[
            Candidate {
                path: "/usr/sbin/ip6tables-legacy",
                priority: 10,
                targets: &["/usr/sbin/ip6tables-legacy-restore", "/usr/sbin/ip6tables-legacy-save"],
            },
            Candidate {
                path: "/usr/sbin/ip6tables-nft",
                priority: 20,
                targets: &["/usr/sbin/ip6tables-nft-restore", "/usr/sbin/ip6tables-nft-save"],
            },
        ],
    },
    Alternative {
        name: "iptables",
        link: "/usr/sbin/iptables",
        slaves: &[("iptables-restore", "/usr/sbin/iptables-restore"), ("iptables-save", "/usr/sbin/iptables-save")],
        candidates: &[
            Candidate {
                path: "/usr/sbin/iptables-legacy",
                priority: 10,
                targets: &["/usr/sbin/iptables-legacy-restore", "/usr/sbin/iptables-legacy-save"],
            },
            Candidate {
                path: "/usr/sbin/iptables-nft",
                priority: 20,
                targets: &["/usr/sbin/iptables-nft-restore", "/usr/sbin/iptables-nft-save"],
            },
        ],
    },
    Alternative {
        name: "lzma",
        link: "/usr/bin/lzma",
        slaves: &[
            ("lzcat", "/usr/bin/lzcat"),
            ("lzcat.1.gz", "/usr/share/man/man1/lzcat.1.gz"),
            ("lzcmp", "/usr/bin/lzcmp"),
            ("lzcmp.1.gz", "/usr/share/man/man1/lzcmp.1.gz"),
            ("lzdiff", "/usr/bin/lzdiff"),
            ("lzdiff.1.gz", "/usr/share/man/man1/lzdiff.1.gz"),
            ("lzegrep", "/usr/bin/lzegrep"),
            ("lzegrep.1.gz", "/usr/share/man/man1/lzegrep.1.gz"),
            ("lzfgrep", "/usr/bin/lzfgrep"),
            ("lzfgrep.1.gz", "/usr/share/man/man1/lzfgrep.1.gz"),
            ("lzgrep", "/usr/bin/lzgrep"),
            ("lzgrep.1.gz", "/usr/share/man/man1/lzgrep.1.gz"),
            ("lzless", "/usr/bin/lzless"),
            ("lzless.1.gz", "/usr/share/man/man1/lzless.1.gz"),
            ("lzma.1.gz", "/usr/share/man/man1/lzma.1.gz"),
            ("lzmore", "/usr/bin/lzmore"),
            ("lzmore.1.gz", "/usr/share/man/man1/lzmore.1.gz"),
            ("unlzma", "/usr/bin/unlzma"),
            ("unlzma.1.gz", "/usr/share/man/man1/unlzma.1.gz"),
        ],
        candidates: &[Candidate {
            path: "/usr/bin/xz",
            priority: 20,
            targets: &[
                "/usr/bin/xzcat",
                "/usr/share/man/man1/xzcat.1.gz",
                "/usr/bin/xzcmp",
                "/usr/share/man/man1/xzcmp.1.gz",
                "/usr/bin/xzdiff",
                "/usr/share/man/man1/xzdiff.1.gz",
                "/usr/bin/xzegrep",
                "/usr/share/man/man1/xzegrep.1.gz",
                "/usr/bin/xzfgrep",
                "/usr/share/man/man1/xzfgrep.1.gz",
                "/usr/bin/xzgrep",
                "/usr/share/man/man1/xzgrep.1.gz",
                "/usr/bin/xzless",
                "/usr/share/man/man1/xzless.1.gz",
                "/usr/share/man/man1/xz.1.gz",
                "/usr/bin/xzmore",
                "/usr/share/man/man1/xzmore.1.gz",
                "/usr/bin/unxz",
                "/usr/share/man/man1/unxz.1.gz",
            ],
        }],
    },
    Alternative {
        name: "nc",
        link: "/bin/nc",
        slaves: &[
            ("nc.1.gz", "/usr/share/man/man1/nc.1.gz"),
            ("netcat", "/bin/netcat"),
            ("netcat.1.gz", "/usr/share/man/man1/netcat.1.gz"),
        ],
        candidates: &[Candidate {
            path: "/bin/nc.openbsd",
            priority: 50,
            targets: &["/usr/share/man/man1/nc_openbsd.1.gz", "/bin/nc.openbsd", "/usr/share/man/man1/nc_openbsd.1.gz"],
        }],
    },
    Alternative {
        name: "pager",
        link: "/usr/bin/pager",
        slaves: &[("pager.1.gz", "/usr/share/man/man1/pager.1.gz")],
        candidates: &[
            Candidate { path: "/bin/more", priority: 50, targets: &["/usr/share/man/man1/more.1.gz"] },
            Candidate { path: "/usr/bin/less", priority: 77, targets: &["/usr/share/man/man1/less.1.gz"] },
        ],
    },
    Alternative {
        name: "pico",
        link: "/usr/bin/pico",
        slaves: &[("pico.1.gz", "/usr/share/man/man1/pico.1.gz")],
        candidates: &[Candidate { path: "/bin/nano", priority: 10, targets: &["/usr/share/man/man1/nano.1.gz"] }],
    },
    Alternative {
        name: "pinentry",
        link: "/usr/bin/pinentry",
        slaves: &[("pinentry.1.gz", "/usr/share/man/man1/pinentry.1.gz")],
        candidates: &[Candidate {
            path: "/usr/bin/pinentry-curses",
            priority: 50,
            targets: &["/usr/share/man/man1/pinentry-curses.1.gz"],
        }],
    },
    Alternative {
        name: "rmt",
        link: "/usr/sbin/rmt",
        slaves: &[("rmt.8.gz", "/usr/share/man/man8/rmt.8.gz")],
        candidates: &[Candidate {
            path: "/usr/sbin/rmt-tar",
            priority: 50,
            targets: &["/usr/share/man/man8/rmt-tar.8.gz"],
        }],
    },
    Alternative {
        name: "which",
        link: "/usr/bin/which",
        slaves: &[
            ("which.1.gz", "/usr/share/man/man1/which.1.gz"),
            ("which.de1.gz", "/usr/share/man/de/man1/which.1.gz"),
            ("which.es1.gz", "/usr/share/man/es/man1/which.1.gz"),
            ("which.fr1.gz", "/usr/share/man/fr/man1/which.1.gz"),
            ("which.it1.gz", "/usr/share/man/it/man1/which.1.gz"),
            ("which.ja1.gz", "/usr/share/man/ja/man1/which.1.gz"),
            ("which.pl1.gz", "/usr/share/man/pl/man1/which.1.gz"),
            ("which.sl1.gz", "/usr/share/man/sl/man1/which.1.gz"),
        ],
        candidates: &[Candidate {
            path: "/usr/bin/which.debianutils",
            priority: 0,
            targets: &[
                "/usr/share/man/man1/which.debianutils.1.gz",
                "/usr/share/man/de/man1/which.debianutils.1.gz",
                "/usr/share/man/es/man1/which.debianutils.1.gz",
                "/usr/share/man/fr/man1/which.debianutils.1.gz",
                "/usr/share/man/it/man1/which.debianutils.1.gz",
                "/usr/share/man/ja/man1/which.debianutils.1.gz",
                "/usr/share/man/pl/man1/which.debianutils.1.gz",
                "/usr/share/man/sl/man1/which.debianutils.1.gz",
            ],
        }],
    },
];

/// Registers the alternatives that are installed and creates their links.
pub(crate) fn set_up(system: &mut System<'_>) -> Result<(), Error> {
    for one in &ALTERNATIVES {
        let candidates: Vec<_> = one.candidates.iter().filter(|choice| here(system, choice.path)).collect();
        // Among equal priorities, the first wins.
        let Some(best) = candidates.iter().rev().max_by_key(|choice| choice.priority) else { continue };
        // Writing to a String cannot fail.
        let mut state = format!("auto\n{}\n", one.link);
        for (name, link) in one.slaves {
            let _ = writeln!(state, "{name}\n{link}");
        }
        state.push('\n');
        for choice in &candidates {
            let _ = writeln!(state, "{}\n{}", choice.path, choice.priority);
            for target in choice.targets {
                let _ = writeln!(state, "{target}");
            }
        }
        connect(system, one.name, one.link, best.path)?;
        for ((name, link), target) in one.slaves.iter().zip(best.targets) {
            // Like update-alternatives, creates no link to a missing manual page.
            if here(system, target) {
                connect(system, name, link, target)?;
            }
        }
        system.file(&format!("var/lib/dpkg/alternatives/{}", one.name), 0o644, 0, format!("{state}\n"))?;
    }
    Ok(())
}

fn connect(system: &mut System<'_>, name: &str, link: &str, target: &str) -> Result<(), Error> {
    system.link(&format!("etc/alternatives/{name}"), target)?;
    // `/bin` is a link to `/usr/bin`.
    let path = link.trim_start_matches('/');
    let merged = ["bin/", "sbin/"].iter().any(|folder| path.starts_with(folder));
    system.link(&if merged { format!("usr/{path}") } else { path.to_owned() }, &format!("/etc/alternatives/{name}"))
}

/// Whether a file exists, where `/bin` is a link to `/usr/bin`.
fn here(system: &System<'_>, path: &str) -> bool {
    let path = path.trim_start_matches('/');
    system.has(path) || system.has(&format!("usr/{path}"))
}

#[cfg(test)]
mod tests {
    use super::set_up;
    use crate::system::tests::{system, text, tree};

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

    #[test]
    fn the_best_of_several_stands_for_a_command() {
        let files = [
            ("usr/bin/mawk", ""),
            ("usr/bin/gawk", ""),
            ("usr/bin/more", ""),
            ("usr/bin/less", ""),
            ("bin/nc.openbsd", ""),
        ];
        let mut tree = tree(&files);
        set_up(&mut system(&mut tree)).unwrap();
        for (name, path) in [("awk", "/usr/bin/gawk"), ("nawk", "/usr/bin/gawk"), ("pager", "/usr/bin/less")] {
            assert_eq!(text(&tree, &format!("etc/alternatives/{name}")), format!("-> {path}"));
        }
        assert_eq!(text(&tree, "usr/bin/netcat"), "-> /etc/alternatives/netcat");
        let state = "auto\n/usr/bin/pager\npager.1.gz\n/usr/share/man/man1/pager.1.gz\n\n\
            /bin/more\n50\n/usr/share/man/man1/more.1.gz\n/usr/bin/less\n77\n/usr/share/man/man1/less.1.gz\n\n";
        assert_eq!(text(&tree, "var/lib/dpkg/alternatives/pager"), state);
    }
}
