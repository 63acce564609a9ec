//! The system's `ssh`: the user's setup (configuration, agent, jump hosts, certificates) applies here too. It never
//! prompts; only vcdist's command line determines how it checks host keys.

use std::time::Duration;

use camino::Utf8PathBuf;
use futures::FutureExt;
use futures::future::BoxFuture;
use nix::unistd::AccessFlags;
use tokio::process::Command;
use vcremote::{destination, options};

use super::diagnosis::{Peer, diagnose};
use super::{Error, Keyring, RunningCommand, Transport, child};
use crate::nodes::Address;

/// The number of unanswered keep-alive messages after which ssh gives up.
pub(super) const ALIVE_QUESTIONS: u32 = 4;

/// How a node's host key is checked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
pub enum HostKeys {
    /// Accept only keys in known_hosts.
    #[default]
    Strict,
    /// Learn unknown keys, and refuse changed ones.
    Scan,
    /// Accept any key.
    Insecure,
}

/// The SSH implementation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
pub enum Client {
    /// The `ssh` on the PATH if there is one, else the built-in client.
    #[default]
    Auto,
    /// The `ssh` on the PATH.
    System,
    /// The built-in client.
    Embedded,
}

impl Client {
    /// Whether the embedded implementation is used.
    #[must_use]
    pub fn is_embedded(self) -> bool {
        match self {
            Self::Auto => !is_installed("ssh"),
            Self::System => false,
            Self::Embedded => true,
        }
    }
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| nix::unistd::access(&folder.join(program), AccessFlags::X_OK).is_ok())
}

/// The SSH options of the user, which apply to every node.
#[derive(Debug, Clone)]
pub struct SshOptions {
    /// The SSH implementation.
    pub client: Client,
    /// The login user, if the host has none.
    pub user: Option<String>,
    /// `KEYWORD=VALUE`, as after ssh's `-o`.
    pub options: Vec<String>,
    /// The configuration file that replaces the user's.
    pub config: Option<Utf8PathBuf>,
    /// How host keys are checked.
    pub host_keys: HostKeys,
    /// The time limit for establishing a connection.
    pub connect_timeout: Duration,
    /// How long a connection may be silent before it is considered lost.
    pub stall_timeout: Duration,
    /// The keys that the embedded SSH has unlocked with passphrases.
    pub keyring: Keyring,
}

/// The system's `ssh` to one host.
#[derive(Debug, Clone)]
pub struct Ssh {
    arguments: Vec<String>,
    peer: Peer,
    host_keys: HostKeys,
    is_sound: bool,
}

impl Ssh {
    /// Creates a transport to `address`.
    #[must_use]
    pub fn new(address: &Address, options: &SshOptions) -> Self {
        let destination = address.destination(options.user.as_deref());
        let port = address.port.or_else(|| {
            options.options.iter().find_map(|option| {
                let (key, value) = option.split_once(['=', ' '])?;
                key.trim().eq_ignore_ascii_case("port").then(|| value.trim().parse().ok()).flatten()
            })
        });
        Self {
            arguments: arguments(&destination, address, options),
            peer: Peer { destination, host: address.host.clone(), port, alias: address.key_alias.clone() },
            is_sound: address.is_sound() && options.user.as_deref().is_none_or(destination::is_user),
            host_keys: options.host_keys,
        }
    }
}

impl Transport for Ssh {
    fn destination(&self) -> &str {
        &self.peer.destination
    }

    fn run<'a>(&'a self, line: &'a str) -> BoxFuture<'a, Result<RunningCommand, Error>> {
        async move {
            if !self.is_sound {
                return Err(Error::BadHost { destination: self.peer.destination.clone() });
            }
            tracing::debug!(arguments = ?self.arguments, "starting ssh");
            let mut command = Command::new("ssh");
            command.args(&self.arguments).arg(line);
            let (peer, host) = (self.peer.clone(), self.peer.host.clone());
            if self.host_keys == HostKeys::Insecure {
                tracing::warn!("the host key of {host} is not checked: whoever answers there is trusted");
            }
            let mut listener = Listener { host: host.clone(), fingerprint: None };
            child::start(
                command,
                host,
                move |line| listener.hear(line),
                move |status, message| {
                    if status.success() { Ok(()) } else { Err(diagnose(&peer, status.code(), message)) }
                },
            )
        }
        .boxed()
    }

    fn apart(&self) -> Option<Box<dyn Transport>> {
        // The first value of a keyword wins. A connection that the user's configuration shares would not be a separate
        // one.
        let unshared = ["ControlMaster=no", "ControlPath=none"];
        let arguments = options::arguments(unshared).chain(self.arguments.clone()).collect();
        Some(Box::new(Self { arguments, ..self.clone() }))
    }
}

/// Extracts from ssh's output which host key it saves.
struct Listener {
    host: String,
    fingerprint: Option<String>,
}

impl Listener {
    /// Processes a line. Returns whether it is more than ssh's progress output.
    fn hear(&mut self, line: &str) -> bool {
        if let Some(key) = line.strip_prefix("debug1: Server host key: ") {
            self.fingerprint = Some(key.to_owned());
        }
        if line.starts_with("Warning: Permanently added")
            && let Some(fingerprint) = &self.fingerprint
        {
            tracing::warn!("learned the host key of {}: {fingerprint}", self.host);
        }
        !["debug1: ", "Authenticated to ", "Transferred: ", "Bytes per second: "]
            .iter()
            .any(|own| line.starts_with(own))
    }
}

/// ssh takes the first value it is given for a keyword: first what must hold, then what is said of this host, then what is
/// said of all, then defaults.
fn arguments(destination: &str, address: &Address, options: &SshOptions) -> Vec<String> {
    let mut arguments = Vec::new();
    if let Some(config) = &options.config {
        arguments.extend(["-F".to_owned(), config.to_string()]);
    }
    let host_keys: &[&str] = match options.host_keys {
        HostKeys::Strict => &["LogLevel=INFO", "StrictHostKeyChecking=yes"],
        // At this level, ssh prints the fingerprint of every host key.
        HostKeys::Scan => &["LogLevel=DEBUG1", "StrictHostKeyChecking=accept-new"],
        HostKeys::Insecure => &[
            "LogLevel=INFO",
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "GlobalKnownHostsFile=/dev/null",
        ],
    };
    let port = address.port.map(|port| format!("Port={port}"));
    let identity = address.identity.as_ref().map(|path| format!("IdentityFile={path}"));
    // A name in the user's own options takes precedence.
    let alias = address.key_alias.as_ref().map(|alias| format!("HostKeyAlias={alias}"));
    let defaults = [
        format!("ConnectTimeout={}", options.connect_timeout.as_secs().max(1)),
        format!("ServerAliveInterval={}", (options.stall_timeout / ALIVE_QUESTIONS).as_secs().max(1)),
        format!("ServerAliveCountMax={ALIVE_QUESTIONS}"),
    ];
    arguments.extend(options::arguments(options::must().chain(host_keys.iter().copied())));
    arguments.extend(options::arguments(port.iter().chain(&identity).chain(&options.options)));
    arguments.extend(address.arguments.iter().cloned());
    arguments.extend(options::arguments(alias.into_iter().chain(defaults)));
    arguments.extend(["--".to_owned(), destination.to_owned()]);
    arguments
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Client, HostKeys, Keyring, Ssh, SshOptions, Transport};
    use crate::nodes::Address;

    fn options() -> SshOptions {
        SshOptions {
            client: Client::System,
            user: Some("ops".into()),
            options: vec!["ConnectTimeout=3".into(), "port = 2222".into()],
            config: Some("/etc/ssh/other".into()),
            host_keys: HostKeys::Strict,
            connect_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(60),
            keyring: Keyring::default(),
        }
    }

    fn line(address: &Address, options: &SshOptions) -> String {
        Ssh::new(address, options).arguments.join(" ")
    }

    #[test]
    fn the_users_words_come_before_our_defaults_and_after_what_must_hold() {
        let address = Address::of("10.0.0.5".into());
        assert_eq!(Ssh::new(&address, &options()).destination(), "ops@10.0.0.5");
        let line = line(&address, &options());
        assert!(line.starts_with("-F /etc/ssh/other -o BatchMode=yes "), "{line}");
        assert!(line.find("StrictHostKeyChecking=yes") < line.find("ConnectTimeout=3"), "{line}");
        assert!(line.find("ConnectTimeout=3") < line.find("ConnectTimeout=10"), "{line}");
        assert!(line.ends_with("-o ServerAliveInterval=15 -o ServerAliveCountMax=4 -- ops@10.0.0.5"), "{line}");
    }

    #[test]
    fn what_is_said_of_one_host_comes_before_what_is_said_of_all() {
        let address = Address {
            identity: Some("/keys/site".into()),
            arguments: ["-o", "StrictHostKeyChecking=no", "-C"].map(str::to_owned).to_vec(),
            ..Address::parse("root@10.0.0.5:2200").expect("a host")
        };
        let line = line(&address, &options());
        assert!(line.find("Port=2200") < line.find("port = 2222"), "{line}");
        assert!(line.contains(" -o IdentityFile=/keys/site "), "{line}");
        assert!(line.find("StrictHostKeyChecking=yes") < line.find("StrictHostKeyChecking=no -C"), "{line}");
        assert!(line.ends_with(" -- root@10.0.0.5"), "{line}");
        assert!(
            !line.contains("HostKeyAlias"),
            "host keys are known by addresses unless the user says otherwise: {line}"
        );
    }

    #[test]
    fn a_name_for_host_keys_comes_after_what_the_user_says() {
        let address = Address { key_alias: Some("w1".into()), ..Address::of("10.0.0.5".into()) };
        let changed = SshOptions { options: vec!["HostKeyAlias=mine".into()], ..options() };
        let line = line(&address, &changed);
        assert!(line.find("HostKeyAlias=mine") < line.find("HostKeyAlias=w1"), "{line}");
    }

    #[tokio::test]
    async fn what_ssh_would_take_for_something_else_is_never_its_argument() {
        for (host, user) in [("root@10.0.0.5", None), ("-oProxyCommand=reboot", None), ("w1", Some("-l"))] {
            let address = Address { user: user.map(str::to_owned), ..Address::of(host.into()) };
            let refused = Ssh::new(&address, &options()).run("true").await.expect_err("refused");
            assert!(refused.to_string().ends_with("is not a valid host, or its user is not valid"), "{refused}");
        }
    }
}
