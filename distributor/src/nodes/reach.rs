//! How a node is reached: over SSH at an address, or locally.

use camino::Utf8PathBuf;
use vcremote::destination;

/// How commands are run on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// Over SSH.
    Ssh(Address),
    /// Locally: it is the machine on which this program runs.
    Local,
}

/// The address for SSH, and the SSH settings of this node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Address {
    /// The login user, if one is given.
    pub user: Option<String>,
    /// An IP address, a DNS name, or an alias in ssh's configuration.
    pub host: String,
    /// The port, if one is given.
    pub port: Option<u16>,
    /// The private key for the login, if one is given.
    pub identity: Option<Utf8PathBuf>,
    /// Further arguments for the system's ssh, from an inventory.
    pub arguments: Vec<String>,
    /// The name under which its host keys are looked up, if it is not the host.
    pub key_alias: Option<String>,
}

impl Address {
    /// Creates an address of only a host.
    #[must_use]
    pub fn of(host: String) -> Self {
        Self { host, ..Self::default() }
    }

    /// Parses `[USER@]HOST[:PORT]`; an IPv6 address is in brackets if a port follows. Returns `None` if ssh would not
    /// interpret the text as a destination.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (user, rest) = match text.rsplit_once('@') {
            Some((user, rest)) => (Some(user), rest),
            None => (None, text),
        };
        let (host, port) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, rest)) => (host, Some(rest.strip_prefix(':')?)),
            None => match rest.split_once(':') {
                // Several colons and no brackets: an IPv6 address.
                Some((_, more)) if more.contains(':') => (rest, None),
                Some((host, port)) => (host, Some(port)),
                None => (rest, None),
            },
        };
        let port = match port {
            Some(port) => Some(port.parse().ok().filter(|port| *port != 0)?),
            None => None,
        };
        let address = Self { user: user.map(str::to_owned), port, ..Self::of(host.to_owned()) };
        address.is_sound().then_some(address)
    }

    /// Whether ssh interprets its fields as a user and a host, and as nothing else.
    pub(crate) fn is_sound(&self) -> bool {
        destination::is_host(&self.host)
            && self.user.as_deref().is_none_or(destination::is_user)
            && self.key_alias.as_deref().is_none_or(destination::is_host)
    }

    /// Its possible names, the shortest first: the host, the host with its port, and both with its user.
    pub(super) fn names(&self) -> [String; 3] {
        let with_port = match self.port {
            Some(port) if self.host.contains(':') => format!("[{}]:{port}", self.host),
            Some(port) => format!("{}:{port}", self.host),
            None => self.host.clone(),
        };
        let with_user = self.user.as_ref().map(|user| format!("{user}@{with_port}"));
        [self.host.clone(), with_port.clone(), with_user.unwrap_or(with_port)]
    }

    /// Returns `[USER@]HOST` as a person would type it after `ssh`, with `user` if the address has none.
    #[must_use]
    pub fn destination(&self, user: Option<&str>) -> String {
        match self.user.as_deref().or(user) {
            Some(user) => format!("{user}@{}", self.host),
            None => self.host.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Address;

    #[test]
    fn hosts_are_read_with_user_and_port() {
        let read = |text: &str| {
            let Address { user, host, port, .. } = Address::parse(text).expect("a host");
            (user.unwrap_or_default(), host, port)
        };
        assert_eq!(read("w1"), (String::new(), "w1".into(), None));
        assert_eq!(read("ops@w1.lan:2222"), ("ops".into(), "w1.lan".into(), Some(2222)));
        assert_eq!(read("ops@fd00::5"), ("ops".into(), "fd00::5".into(), None));
        assert_eq!(read("[fd00::5]:22"), (String::new(), "fd00::5".into(), Some(22)));
        assert_eq!(read("[fd00::5]"), (String::new(), "fd00::5".into(), None));
        assert_eq!(read("a@example.org@w1"), ("a@example.org".into(), "w1".into(), None));
        assert_eq!(read("fe80::1%eth0"), (String::new(), "fe80::1%eth0".into(), None));
        assert_eq!(read("[fe80::1%eth0]:22"), (String::new(), "fe80::1%eth0".into(), Some(22)));
    }

    #[test]
    fn what_ssh_would_take_for_something_else_is_no_host() {
        for bad in [
            "",
            "-oProxyCommand=reboot",
            "ops@-v",
            "-l@w1",
            "ops@",
            "@w1",
            "w1:0",
            "w1:65536",
            "w1:",
            "w1:ssh",
            "[w1",
            "w1]",
            "[w1]x",
            "[]",
            "[fd00::5]22",
            "ssh://w1",
            "ssh://root@w1:22",
            "w1/24",
            "w1%eth0",
            "fe80::1%eth0;x",
            "a b",
            "a\nb",
            "ops\u{1b}[2J@w1",
            "$(x)@w1",
            "w1;x",
            "`w1`",
            "\u{202e}1w",
        ] {
            assert_eq!(Address::parse(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_read_is_sound(text in "[-@:a-z0-9\\[\\] ]{0,12}") {
            if let Some(address) = Address::parse(&text) {
                prop_assert!(!address.destination(None).starts_with('-'));
                prop_assert!(!address.host.is_empty() && !address.host.contains(' '));
            }
        }
    }
}
