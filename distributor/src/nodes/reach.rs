//! How a node is reached: over SSH at an address, or not over the network at all.

use camino::Utf8PathBuf;

/// How commands get to a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// Over SSH.
    Ssh(Address),
    /// It is the machine this runs on.
    Local,
}

/// Where SSH goes, and what it is told for this node alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Address {
    /// Login user, where one is named.
    pub user: Option<String>,
    /// An address, a name, or an alias of ssh's configuration.
    pub host: String,
    /// A port, where one is named.
    pub port: Option<u16>,
    /// The private key to log in with, where one is named.
    pub identity: Option<Utf8PathBuf>,
    /// Further arguments for the system's ssh, as an inventory has them.
    pub arguments: Vec<String>,
}

impl Address {
    /// A host and nothing else about it.
    #[must_use]
    pub fn of(host: String) -> Self {
        Self { host, ..Self::default() }
    }

    /// Reads `[USER@]HOST[:PORT]`; an IPv6 address stands between brackets where a port follows. Nothing for what ssh would
    /// not take for a host.
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

    /// Whether ssh takes its words for a user and a host, and for nothing else.
    pub(crate) fn is_sound(&self) -> bool {
        let word = |text: &str| {
            !text.is_empty() && !text.starts_with('-') && !text.contains(|c: char| c.is_whitespace() || c.is_control())
        };
        word(&self.host) && self.user.as_deref().is_none_or(word)
    }

    /// `[USER@]HOST` as a person would type it after `ssh`, with `user` where the address names none.
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
