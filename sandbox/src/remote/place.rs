//! Places vcbuild on a build host: this program is sent once, under the hash of its content.

use std::fs::File;
use std::io;

use camino::Utf8Path;
use vcremote::script::{self, Program, quoted};
use vcstore::Blob;

use super::address::Address;
use super::error::{Error, this_machine};

/// The prefix of every answer, because a login script may print something before it.
pub(super) const MARK: &str = "::vcbuild-host:";

/// This program, even if its file was replaced.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// An answer of the other side, after [`MARK`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// The program is present and runs.
    Ready,
    /// The program is not present; the host waits for its bytes.
    Need,
    /// The program did not arrive completely.
    Damaged,
    /// The machine has another platform, which contains the output of `uname -sm`.
    Machine(String),
    /// The folder cannot be used. Contains the reason.
    Nowhere(String),
}

impl Answer {
    /// Parses a line.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let (_, answer) = line.rsplit_once(MARK)?;
        let (word, rest) = answer.trim_end().split_once(' ').unwrap_or((answer.trim_end(), ""));
        Some(match word {
            "ready" => Self::Ready,
            "need" => Self::Need,
            "damaged" => Self::Damaged,
            "machine" => Self::Machine(rest.to_owned()),
            "nowhere" => Self::Nowhere(rest.to_owned()),
            _ => return None,
        })
    }
}

/// Opens this program. Also returns its digest and size.
pub(super) fn program() -> Result<(File, Blob), Error> {
    let own = |error: vcstore::Error| Error::OwnProgram(io::Error::other(error));
    let blob = vcstore::archive::hash(Utf8Path::new(THIS_PROGRAM)).map_err(own)?;
    Ok((File::open(THIS_PROGRAM).map_err(Error::OwnProgram)?, blob))
}

/// Returns the script for the host's shell. Files are kept where only their user and root can change them, and the
/// program is verified through the file descriptor from which it is executed.
pub(super) fn script(address: &Address, program: Blob) -> String {
    let folder = match &address.folder {
        Some(folder) => quoted(folder),
        None => "${XDG_CACHE_HOME:-$HOME/.cache}/vcbuild".to_owned(),
    };
    let (hash, size, machine) = (program.digest.hex(), program.size, this_machine());
    [
        script::beginning(Program { hash: &hash, size }),
        format!("say() {{ printf \"\\n{MARK}%s\\n\" \"$1\"; }}"),
        format!("m=$(uname -sm); [ \"$m\" = \"{machine}\" ] || {{ say \"machine $m\"; exit 0; }}"),
        format!("d={folder} f=vcbuild-{hash}"),
        "enter \"$d/store\" || { say \"nowhere $why\"; exit 0; }; s=$at".to_owned(),
        "own \"$d/host\" || { say \"nowhere $why\"; exit 0; }; sweep".to_owned(),
        format!(
            "has \"$f\" || {{ room || {{ say \"nowhere $why\"; exit 0; }}; say need; head -c {size} >\"./$t\"\n\
             command exec 9<\"./$t\" && same || {{ rm -f \"./$t\"; say damaged; exit 0; }}\n\
             for o in vcbuild-*; do [ \"$o\" = \"$f\" ] || rm -f \"./$o\"; done; mv -f \"./$t\" \"./$f\"; }}"
        ),
        "exec /proc/self/fd/9 build-host --store \"$s\"\n".to_owned(),
    ]
    .join("\n")
}

#[cfg(test)]
mod tests {
    use super::{Answer, program, script};

    #[test]
    fn answers_are_found_behind_what_a_login_script_says() {
        assert_eq!(Answer::parse("::vcbuild-host:ready\n"), Some(Answer::Ready));
        let other = Answer::Machine("Linux aarch64".to_owned());
        assert_eq!(Answer::parse("Welcome! ::vcbuild-host:machine Linux aarch64\r\n"), Some(other));
        assert_eq!(Answer::parse("Last login: today"), None);
    }

    #[test]
    fn shells_accept_the_script() {
        for address in ["ssh://a", "ssh://a/srv/it's"] {
            let script = script(&address.parse().unwrap(), program().unwrap().1);
            for shell in ["dash", "bash"] {
                let checked = std::process::Command::new(shell).args(["-n", "-c", &script]).status().unwrap();
                assert!(checked.success(), "{shell}: {script}");
            }
        }
    }
}
