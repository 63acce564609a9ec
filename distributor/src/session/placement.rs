//! The one script that a push sends to a node: it runs the helper that is present, or receives the helper and runs it.

use std::time::Duration;

use camino::Utf8PathBuf;
use vcremote::script::{self, Program, line_before};

use super::binary::Binary;
use crate::nodes::Machine;
use crate::protocol::MARK;

/// The settings of the helper: how it finds the node's containerd, and when it considers the connection lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// containerd's namespace.
    pub namespace: Namespace,
    /// Its socket. Without one, the helper tries the paths that the distributions use.
    pub address: Option<SocketPath>,
    /// How long the connection may be silent before the helper ends, because a node is not notified of a lost link.
    pub stall_timeout: Duration,
}

/// The purpose of the program on a node.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Job<'a> {
    /// Works on the node's containerd, as root.
    Help(&'a Settings),
    /// Pushes on to other nodes, as the login user.
    Relay {
        /// Its cache; `None` for the default path.
        cache: Option<&'a CachePath>,
        /// How long the connection may be silent before the relay ends.
        stall_timeout: Duration,
    },
    /// Connects to a process that already runs.
    Join {
        /// Whether that process runs as root.
        as_root: bool,
    },
}

impl Job<'_> {
    /// Whether it runs as root, regardless of the login user.
    pub(super) fn is_as_root(&self) -> bool {
        match self {
            Self::Help(_) => true,
            Self::Relay { .. } => false,
            Self::Join { as_root } => *as_root,
        }
    }
}

/// A containerd namespace: letters, digits, `.`, `_` and `-` (containerd's identifiers).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace(String);

impl std::str::FromStr for Namespace {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let starts = text.starts_with(|c: char| c.is_ascii_alphanumeric());
        let good = starts && text.len() <= 76 && text.chars().all(fits);
        if good { Ok(Self(text.into())) } else { Err("a namespace has letters, digits, '.', '_' and '-' only") }
    }
}

impl std::fmt::Display for Namespace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// An absolute path of a Unix socket on the node, without characters that are special to a shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketPath(Utf8PathBuf);

/// An absolute path of a folder on a relay, without characters that are special to a shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachePath(Utf8PathBuf);

impl std::str::FromStr for CachePath {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match plain_path(text) {
            Some(path) => path.map(Self),
            None => Err("a cache needs an absolute path"),
        }
    }
}

impl SocketPath {
    /// The path.
    #[must_use]
    pub fn path(&self) -> &camino::Utf8Path {
        &self.0
    }
}

impl std::str::FromStr for SocketPath {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let path = text.strip_prefix("unix://").unwrap_or(text);
        match plain_path(path) {
            Some(path) => path.map(Self),
            None => Err("a socket needs an absolute path"),
        }
    }
}

/// Returns an absolute path, or an error if it has characters that are special to a shell. Returns `None` for a
/// relative path.
fn plain_path(path: &str) -> Option<Result<Utf8PathBuf, &'static str>> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "/._-+@:,=".contains(c);
    let plain =
        || if path.chars().all(fits) { Ok(path.into()) } else { Err("this path has characters that shells read") };
    path.starts_with('/').then(plain)
}

/// An answer of the script, after [`MARK`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// The helper runs and speaks this version of the protocol.
    Ready(u32),
    /// The identity of the machine that answers.
    Identity(Machine),
    /// The node has no helper with this content and waits for its bytes. Contains the architecture that `uname -m`
    /// prints.
    Need(String),
    /// The program did not arrive completely.
    Damaged,
    /// The program was placed but does not run. Contains the output of the attempt.
    CannotRun(String),
    /// The node has no usable folder. Contains the reason for each.
    Nowhere(String),
    /// A tool is missing on the node.
    Lacks(String),
    /// The login user is not root, and the node has no sudo.
    NoSudo,
    /// The program runs and asks which process to join.
    Ask,
    /// sudo does not run the program. Contains sudo's output.
    NoRoot(String),
}

/// A command on a node: a line for the login user's shell, and the beginning of its stdin.
///
/// The line uses only syntax that all login shells share; the script follows on stdin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Command {
    pub(super) line: String,
    pub(super) script: String,
}

impl Command {
    fn new(script: String) -> Self {
        Self { line: line_before(&script), script }
    }
}

impl Answer {
    /// Parses a line, which may contain other output before the mark.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let (_, answer) = line.rsplit_once(MARK)?;
        let (word, rest) = answer.trim_end().split_once(' ').unwrap_or((answer.trim_end(), ""));
        match word {
            "ready" => rest.parse().ok().map(Self::Ready),
            Machine::WORD => Some(Self::Identity(Machine::read(rest))),
            "need" => Some(Self::Need(rest.into())),
            "damaged" => Some(Self::Damaged),
            "cannot-run" => Some(Self::CannotRun(rest.into())),
            "nowhere" => Some(Self::Nowhere(rest.into())),
            "lacks" => Some(Self::Lacks(rest.into())),
            "ask" => Some(Self::Ask),
            "no-sudo" => Some(Self::NoSudo),
            "no-root" => Some(Self::NoRoot(rest.into())),
            _ => None,
        }
    }
}

/// Returns the command that runs `binary` for `job`.
///
/// A program that runs as root is placed where only root can write. For an ordinary login user it is placed where only
/// that user and root can write, because whoever logs in as that user can run as root anything that sudo permits. Each
/// folder is tried; one is skipped if its file system does not allow programs to run, or does not allow root to run
/// them (a home on NFS).
pub(super) fn command(binary: &Binary, job: Job<'_>) -> Command {
    let Binary { hash, size, .. } = binary;
    let seconds = |time: Duration| time.as_secs().max(1);
    let arguments = match job {
        Job::Help(Settings { namespace, address, stall_timeout }) => {
            let at = address.as_ref().map(|path| format!(" --containerd-address {}", path.0)).unwrap_or_default();
            format!("helper --containerd-namespace {namespace} --stall-timeout {}s{at}", seconds(*stall_timeout))
        }
        Job::Relay { cache, stall_timeout } => {
            let cache = cache.map(|path| format!(" --cache {}", path.0)).unwrap_or_default();
            format!("relay --stall-timeout {}s{cache}", seconds(stall_timeout))
        }
        // The program asks for the process to join, and is told on stdin.
        Job::Join { .. } => "join".to_owned(),
    };
    let root = if job.is_as_root() { r#"[ "$u" = 0 ] || as="sudo -n""# } else { ":" };
    let script = [
        script::beginning(Program { hash, size: *size }),
        format!(r#"say() {{ echo "{MARK}$1"; }}"#),
        Machine::SAY.into(),
        format!("as= f=helper-{hash} bad= all=; {root}"),
        r#"command -v sha256sum >/dev/null || { say "lacks sha256sum"; exit 1; }"#.into(),
        r#"[ -z "$as" ] || command -v sudo >/dev/null || { say no-sudo; exit 1; }"#.into(),
        r#"c=${XDG_CACHE_HOME:-}; [ -n "$c" ] || [ ! -d "${HOME:-}" ] || c=$HOME/.cache"#.into(),
        r#"if [ "$u" = 0 ]; then set -- /var/lib/vcdist /run/vcdist; else set -- "/var/tmp/vcdist-$u" "/run/user/$u/vcdist" "/dev/shm/vcdist-$u"; fi"#.into(),
        r#"[ -z "$c" ] || set -- "$c/vcdist" "$@""#.into(),
        // Returns if root cannot run a program in the folder; sudo itself reports what it does not permit.
        format!(
            r#"go() {{ [ -n "$as" ] || exec /proc/self/fd/9 {arguments}
w=$(LC_ALL=C $as "$at/$f" --version 2>&1 9<&-) && exec $as "$at/$f" {arguments} 9<&-
case $w in *"unable to execute"*|*"ommand not found"*) why="root may not run what is in $at";; *) say "no-root $(echo "$w" | tail -n 1)"; exit 1;; esac
bad="$bad:$1:" all="$all; $why"; }}"#
        ),
        r#"for d; do if [ -d "$d" ] && own "$d"; then sweep; if has "$f"; then go "$d"; fi; fi; done"#.into(),
        // Without the program there is no process to join: that process runs from the same file.
        if matches!(job, Job::Join { .. }) { r#"say "nowhere it is gone"; exit 1"# } else { ":" }.into(),
        // The bytes that arrived are not sent again for the next folder.
        format!(
            r#"for d; do case $bad in *":$d:"*) continue;; esac
if ! {{ own "$d" && sweep && room; }}; then all="$all; $why"; continue; fi
if [ -n "$got" ]; then cat /proc/self/fd/9 >"./$t"; else say "need $(uname -m)"; head -c {size} >"./$t"; fi
if ! {{ command exec 9<"./$t" && same; }}; then rm -f "./$t"; say damaged; exit 1; fi
for o in helper-*; do [ "$o" = "$f" ] || rm -f "./$o"; done
mv -f "./$t" "./$f"; got=y
r=$(/proc/self/fd/9 --version 2>&1) || {{ say "cannot-run $r"; exit 1; }}
go "$d"; rm -f "./$f"; done"#
        ),
        r#"say "nowhere ${all#; }"; exit 1"#.into(),
    ]
    .join("\n");
    Command::new(script + "\n")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Answer, CachePath, Command, Job, Namespace, Settings, SocketPath, command};
    use crate::session::binary::Binary;

    fn both() -> Command {
        let binary = Binary::this().expect("own program");
        let address = Some("/run/containerd/containerd.sock".parse().expect("path"));
        let stall_timeout = Duration::from_secs(60);
        let settings = Settings { namespace: "k8s.io".parse().expect("name"), address, stall_timeout };
        command(&binary, Job::Help(&settings))
    }

    #[test]
    fn the_line_is_short_and_quoted_alike_for_any_login_shell() {
        let Command { line, script } = both();
        let inner = line.strip_prefix("exec sh -c '").and_then(|rest| rest.strip_suffix('\'')).expect("quoted");
        assert!(!inner.contains(['\'', '\\', '!', '\n']) && line.len() < 60, "{line}");
        assert!(inner.contains(&format!("head -c {})", script.len())), "{line}");
    }

    #[test]
    fn shells_accept_the_script() {
        let Command { script, .. } = both();
        for shell in ["dash", "bash"] {
            let accepts = |script: &str| {
                let output = std::process::Command::new(shell).args(["-n", "-c", script]).output().expect("a shell");
                output.status.success()
            };
            assert!(accepts(&script) && !accepts(&format!("{script}; done")), "{shell}");
        }
    }

    #[test]
    fn a_relay_is_run_as_whoever_logs_in() {
        let binary = Binary::this().expect("own program");
        let cache: CachePath = "/var/cache/vc".parse().expect("a path");
        let relay = command(&binary, Job::Relay { cache: Some(&cache), stall_timeout: Duration::from_secs(60) }).script;
        assert!(
            relay.contains("exec /proc/self/fd/9 relay --stall-timeout 60s --cache /var/cache/vc\n")
                && !relay.contains("sudo -n"),
            "{relay}"
        );
        assert!(both().script.contains("sudo -n"));
        let joining = |as_root| command(&binary, Job::Join { as_root }).script;
        assert!(joining(false).contains("exec /proc/self/fd/9 join\n") && !joining(false).contains("sudo -n"));
        assert!(joining(true).contains("sudo -n"));
    }

    #[test]
    fn nothing_a_shell_reads_gets_into_the_line() {
        for bad in ["", "a b", "$(reboot)", "a;b", "-x", "é"] {
            assert!(bad.parse::<Namespace>().is_err(), "{bad}");
        }
        for bad in ["run/x.sock", "/run/$(reboot)", "/run/a b", "/run/'x'", "/run/a;b"] {
            assert!(bad.parse::<SocketPath>().is_err() && bad.parse::<CachePath>().is_err(), "{bad}");
        }
        assert_eq!("unix:///run/x.sock".parse::<SocketPath>().expect("path").path(), "/run/x.sock");
    }

    #[test]
    fn answers_are_found_behind_other_output() {
        assert_eq!(Answer::parse("::vcdist:ready 1\n"), Some(Answer::Ready(1)));
        assert_eq!(Answer::parse("Welcome! ::vcdist:need x86_64\r\n"), Some(Answer::Need("x86_64".into())));
        assert_eq!(Answer::parse("::vcdist:cannot-run sh: not found"), Some(Answer::CannotRun("sh: not found".into())));
        assert_eq!(
            Answer::parse("::vcdist:nowhere / belongs to user 7"),
            Some(Answer::Nowhere("/ belongs to user 7".into()))
        );
        assert_eq!(Answer::parse("::vcdist:no-root sudo: no"), Some(Answer::NoRoot("sudo: no".into())));
        assert_eq!(Answer::parse("Last login: today"), None);
        assert_eq!(Answer::parse("::vcdist:ready soon"), None);
    }
}
