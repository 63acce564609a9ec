//! The run configuration in a project file: parsing and validation.

use std::collections::BTreeMap;
use std::str::FromStr;

use nix::sys::signal::Signal;

use super::file::ComponentTable;

/// The run configuration of a component, which overrides its base's.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Run {
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) labels: BTreeMap<String, String>,
    /// The annotations of the manifest, which override vcbuild's own; an empty value removes one.
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) entrypoint: Vec<String>,
    pub(crate) cmd: Vec<String>,
    /// The ports with their protocols, such as `8080/tcp`, sorted.
    pub(crate) ports: Vec<String>,
    /// The absolute paths of volumes, sorted.
    pub(crate) volumes: Vec<String>,
    pub(crate) workdir: Option<String>,
    pub(crate) user: Option<String>,
    pub(crate) stop_signal: Option<String>,
}

impl Run {
    /// Parses the run configuration in a component's table; `binary` is the path of its program.
    ///
    /// # Errors
    /// When a value is invalid; the error is a message with the reason.
    pub(super) fn new(table: &ComponentTable, binary: &str) -> Result<Self, String> {
        if let Some(variable) = table.env.keys().find(|variable| variable.is_empty() || variable.contains('=')) {
            return Err(format!("{variable:?} is not a valid name of an environment variable"));
        }
        if table.labels.contains_key("") || table.annotations.contains_key("") {
            return Err("a label or an annotation has no name".to_owned());
        }
        if table.entrypoint.as_ref().and_then(|words| words.first()).is_some_and(String::is_empty) {
            return Err("its entrypoint starts with an empty string; [] keeps the entrypoint of the base".to_owned());
        }
        let check = |text: &Option<String>, fits: fn(&str) -> bool, what: &str| match text {
            Some(text) if !fits(text) => Err(format!("{text:?} is not {what}")),
            text => Ok(text.clone()),
        };
        let mut ports = table.ports.iter().flatten().map(|text| port(text)).collect::<Result<Vec<_>, _>>()?;
        let mut volumes = table.volumes.clone().unwrap_or_default();
        if let Some(volume) = volumes.iter().find(|volume| !is_folder(volume)) {
            return Err(format!("its volume {volume:?} is not an absolute path of a folder"));
        }
        for list in [&mut ports, &mut volumes] {
            list.sort();
            list.dedup();
        }
        Ok(Self {
            env: table.env.clone(),
            labels: table.labels.clone(),
            annotations: table.annotations.clone(),
            entrypoint: table.entrypoint.clone().unwrap_or_else(|| vec![binary.to_owned()]),
            cmd: table.cmd.clone().unwrap_or_default(),
            ports,
            volumes,
            workdir: check(&table.workdir, is_folder, "an absolute path of a working directory")?,
            user: check(&table.user, is_user, "a user such as \"65532\", \"nobody\" or \"1000:1000\"")?,
            stop_signal: check(&table.stop_signal, is_signal, "a signal such as \"SIGINT\"")?,
        })
    }
}

/// Parses a port with its protocol; the default is TCP.
fn port(text: &str) -> Result<String, String> {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let is_number = number.bytes().all(|byte| byte.is_ascii_digit()) && number.parse::<u16>().is_ok_and(|one| one > 0);
    if is_number && ["tcp", "udp", "sctp"].contains(&protocol) {
        Ok(format!("{number}/{protocol}"))
    } else {
        Err(format!("{text:?} is not a port such as \"8080\" or \"53/udp\""))
    }
}

fn is_folder(path: &str) -> bool {
    path == "/" || super::is_absolute(path)
}

/// Returns whether a text is a user with an optional group, each by name or number (image specification, config.md).
fn is_user(text: &str) -> bool {
    let word = |part: &str| {
        let number = part.bytes().all(|byte| byte.is_ascii_digit());
        !part.is_empty()
            && !part.starts_with('-')
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
            // Container runtimes limit user IDs to 31 bits.
            && (!number || part.parse::<i32>().is_ok())
    };
    text.splitn(2, ':').all(word)
}

/// Returns whether a text is a signal by name or number (image specification, config.md).
fn is_signal(text: &str) -> bool {
    let is_name =
        |name: &str| name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'+');
    match text.strip_prefix("SIG") {
        Some(name) if name.starts_with("RT") => is_name(name),
        Some(_) => Signal::from_str(text).is_ok(),
        None => {
            text.bytes().all(|byte| byte.is_ascii_digit())
                && text.parse::<u8>().is_ok_and(|one| (1..=64).contains(&one))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Run, is_signal, is_user, port};
    use crate::project::file::ComponentTable;

    #[test]
    fn ports_users_and_signals_are_checked() {
        assert_eq!(port("8080").unwrap(), "8080/tcp");
        assert_eq!(port("53/udp").unwrap(), "53/udp");
        for bad in ["", "0", "65536", "+80", "80/", "80/http", "a", "80/tcp/x"] {
            assert!(port(bad).is_err(), "{bad:?} must be refused");
        }
        for user in ["0", "65532:65532", "nobody", "_apt:nogroup", "a.b-c"] {
            assert!(is_user(user), "{user}");
        }
        for bad in ["", ":", "2147483648", "0:4294967295", "a:", ":b", "a b", "a:b:c", "-x", "ä"] {
            assert!(!is_user(bad), "{bad:?} must be refused");
        }
        for signal in ["SIGINT", "SIGTERM", "SIGUSR1", "SIGRTMIN+3", "9", "64"] {
            assert!(is_signal(signal), "{signal}");
        }
        for bad in ["", "SIG", "SIGFOO", "INT", "sigint", "0", "65", "-9", "SIGINT "] {
            assert!(!is_signal(bad), "{bad:?} must be refused");
        }
    }

    #[test]
    fn lists_are_sorted_and_said_once() {
        let list = |words: &[&str]| Some(words.iter().map(|&word| word.to_owned()).collect());
        let table = ComponentTable {
            ports: list(&["9443", "53/udp", "9443/tcp"]),
            volumes: list(&["/data", "/cache", "/data"]),
            ..ComponentTable::default()
        };
        let run = Run::new(&table, "/web").unwrap();
        assert_eq!(run.ports, ["53/udp", "9443/tcp"]);
        assert_eq!(run.volumes, ["/cache", "/data"]);
        assert_eq!(run.entrypoint, ["/web"]);
    }
}
