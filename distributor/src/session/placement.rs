//! The one script that a push sends to a node: run the helper that is there, or take it in and run it.

use std::time::Duration;

use camino::Utf8PathBuf;

use super::binary::Binary;
use crate::protocol::{MARK, line_before};

/// What the helper is told: how it finds the node's containerd, and when it is alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// containerd's namespace.
    pub namespace: Namespace,
    /// Its socket; looked for where the distributions have it when none is given.
    pub address: Option<SocketPath>,
    /// How long the connection may be silent before the helper ends: the node hears nothing of a link that is gone.
    pub stall_timeout: Duration,
}

/// What the program is run for on a node.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Job<'a> {
    /// To work on its containerd, as root.
    Help(&'a Settings),
    /// To push on to other nodes, as the login user.
    Relay {
        /// Its cache; where it is by default if none is named.
        cache: Option<&'a CachePath>,
        /// How long the connection may be silent before it ends.
        stall_timeout: Duration,
    },
    /// To join a process that is there already with this connection.
    Join {
        /// By what it offers itself.
        name: &'a str,
        /// Whether it runs as root.
        as_root: bool,
    },
}

impl Job<'_> {
    /// Whether root does it, whoever logs in.
    pub(super) fn is_as_root(&self) -> bool {
        match self {
            Self::Help(_) => true,
            Self::Relay { .. } => false,
            Self::Join { as_root, .. } => *as_root,
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

/// An absolute path of a Unix socket on the node, of characters that no shell reads anything into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketPath(Utf8PathBuf);

/// An absolute path of a folder on a relay, of characters that no shell reads anything into.
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

/// An absolute path, if it has no characters that shells read anything into; nothing for a relative one.
fn plain_path(path: &str) -> Option<Result<Utf8PathBuf, &'static str>> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "/._-+@:,=".contains(c);
    let plain =
        || if path.chars().all(fits) { Ok(path.into()) } else { Err("this path has characters that shells read") };
    path.starts_with('/').then(plain)
}

/// What the shell line answers, after [`MARK`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// The helper runs and speaks this version of the protocol.
    Ready(u32),
    /// No helper of this content is there; the machine as `uname -m` says. Its bytes are waited for.
    Need(String),
    /// What was sent did not arrive whole.
    Damaged,
    /// It is placed and does not run: the words of the attempt.
    CannotRun(String),
    /// No folder of the node's can take it.
    Nowhere,
    /// A tool is missing on the node.
    Lacks(String),
    /// The login user is not root, and the node has no sudo.
    NoSudo,
}

/// What is run on a node: a line for the login user's shell, and what its stdin begins with.
///
/// Login shells differ in what they make of quotes, and some take no long lines: the line has only what they all take
/// alike, and the script comes behind it.
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
    /// Reads a line, which may have other output before the mark.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let (_, answer) = line.rsplit_once(MARK)?;
        let (word, rest) = answer.trim_end().split_once(' ').unwrap_or((answer.trim_end(), ""));
        match word {
            "ready" => rest.parse().ok().map(Self::Ready),
            "need" => Some(Self::Need(rest.into())),
            "damaged" => Some(Self::Damaged),
            "cannot-run" => Some(Self::CannotRun(rest.into())),
            "nowhere" => Some(Self::Nowhere),
            "lacks" => Some(Self::Lacks(rest.into())),
            "no-sudo" => Some(Self::NoSudo),
            _ => None,
        }
    }
}

/// What brings `binary` to run for `job`.
///
/// The folder is the login user's alone (mode 0700, checked each time), so nobody can change a helper between the
/// check of its hash and its start. The file is tried as a script before anything is sent: a file system mounted
/// `noexec` refuses that, and the next folder is tried.
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
        // The node made the name; whatever it is, no shell reads anything into it.
        Job::Join { name, .. } => {
            let fits = |c: &char| c.is_ascii_alphanumeric() || *c == '-';
            format!("join {}", name.chars().filter(fits).collect::<String>())
        }
    };
    let root = if job.is_as_root() { r#"[ "$u" = 0 ] || as="sudo -n""# } else { ":" };
    let folders = r#""${XDG_CACHE_HOME:-${HOME:-/nonexistent}/.cache}/vcdist" "/var/tmp/vcdist-$u" "/run/user/$u/vcdist" "/dev/shm/vcdist-$u""#;
    let script = [
        format!("umask 077; u=$(id -u); as=; {root}"),
        r#"ours() { [ -d "$1" ] && [ -O "$1" ] && case $(ls -ld "$1") in d*) chmod 700 "$1";; *) false;; esac; }"#.into(),
        // Where openssl is, it uses the processor's own instructions for this, and sha256sum may not.
        r#"hashed() { h=$(openssl dgst -sha256 -r <"$1" 2>/dev/null) || h=$(sha256sum <"$1"); echo "$h"; }"#.into(),
        format!(r#"same() {{ case $(hashed "$1") in {hash}*) ;; *) false;; esac; }}"#),
        format!(r#"go() {{ exec $as "$1" {arguments}; }}"#),
        format!(r#"say() {{ echo "{MARK}$1"; }}"#),
        r#"command -v sha256sum >/dev/null || { say "lacks sha256sum"; exit 1; }"#.into(),
        r#"[ -z "$as" ] || command -v sudo >/dev/null || { say no-sudo; exit 1; }"#.into(),
        format!(
            r#"for d in {folders}; do f=$d/helper-{hash}; if [ -x "$f" ] && ours "$d" && same "$f"; then go "$f"; fi; done"#
        ),
        r#"room() { mkdir -p "$1" && ours "$1" && t=$1/new.$$ && { echo : >"$t" && chmod 700 "$t" && "$t" && fits "$1" || { rm -f "$t"; false; }; }; }"#.into(),
        // What `df` says in words that are no number is no reason against a folder.
        format!(r#"fits() {{ set -- $(df -Pk "$1" | tail -n 1); ! [ "$4" -lt {} ]; }}"#, size.div_ceil(1024)),
        format!(
            r#"for d in {folders}; do if room "$d" 2>/dev/null; then f=$d/helper-{hash}; say "need $(uname -m)"; head -c {size} >"$t"; if same "$t"; then for o in "$d"/helper-*; do [ "$o" = "$f" ] || rm -f "$o"; done; mv -f "$t" "$f"; r=$("$f" --version 2>&1) || {{ say "cannot-run $r"; exit 1; }}; go "$f"; fi; rm -f "$t"; say damaged; exit 1; fi; done"#
        ),
        "say nowhere; exit 1".into(),
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
        for shell in ["sh", "bash"] {
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
            relay.contains(r#"exec $as "$1" relay --stall-timeout 60s --cache /var/cache/vc; "#)
                && !relay.contains("sudo -n"),
            "{relay}"
        );
        assert!(both().script.contains("sudo -n"));
        let joining = |as_root| command(&binary, Job::Join { name: "vcdist-1;reboot", as_root }).script;
        assert!(
            joining(false).contains(r#"exec $as "$1" join vcdist-1reboot; "#) && !joining(false).contains("sudo -n")
        );
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
        assert_eq!(Answer::parse("Last login: today"), None);
        assert_eq!(Answer::parse("::vcdist:ready soon"), None);
    }
}
