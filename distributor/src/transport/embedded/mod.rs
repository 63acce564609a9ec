//! An embedded implementation of SSH, for machines without an OpenSSH client and for users who select it. It reads the
//! same configuration, keys, agent and `known_hosts`, and reports errors in the same wording.

mod channel;
mod config;
mod connection;
mod error;
#[cfg(any(test, fuzzing))]
pub mod hostile;
mod keys;
mod known_hosts;
mod login;
mod pattern;

use std::fmt::Debug;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::Mutex;
use vcremote::destination;

use super::diagnosis::Peer;
use super::ssh::{HostKeys, SshOptions};
use super::{RunningCommand, Transport};
use crate::nodes::Address;
use connection::Connection;
pub use error::Error;
pub use keys::Keyring;

/// The source of options that come from an inventory.
const INVENTORY: &str = "the inventory's ssh arguments";

/// Flags of ssh that do not affect a push.
const INDIFFERENT: &str = "46aCknNqTtvxX";

/// The embedded SSH to one host. Commands share a connection for as long as it is open.
pub struct Embedded {
    peer: Peer,
    address: Address,
    options: SshOptions,
    connection: Mutex<Option<Arc<Connection>>>,
}

impl Embedded {
    /// Creates a transport to `address`.
    #[must_use]
    pub fn new(address: &Address, options: &SshOptions) -> Self {
        let destination = address.destination(options.user.as_deref());
        let peer = Peer { destination, host: address.host.clone(), port: None, alias: address.key_alias.clone() };
        Self { peer, address: address.clone(), options: options.clone(), connection: Mutex::default() }
    }

    /// What is said before the configuration is, the first first: of this host, then of all.
    fn overrides(&self) -> Result<Vec<(String, String)>, Error> {
        let Address { user, port, identity, arguments, key_alias, .. } = &self.address;
        let ours = |option: String| ("the command line".to_owned(), option);
        let mut overrides = Vec::new();
        overrides.extend(user.iter().chain(&self.options.user).take(1).map(|user| ours(format!("User={user}"))));
        overrides.extend(port.map(|port| ours(format!("Port={port}"))));
        overrides.extend(identity.iter().map(|path| (INVENTORY.to_owned(), format!("IdentityFile=\"{path}\""))));
        overrides.extend(self.options.options.iter().map(|option| ("--ssh-option".to_owned(), option.clone())));
        overrides.extend(from_arguments(arguments)?.into_iter().map(|option| (INVENTORY.to_owned(), option)));
        overrides.extend(key_alias.iter().map(|alias| ours(format!("HostKeyAlias={alias}"))));
        Ok(overrides)
    }

    async fn connection(&self) -> Result<Arc<Connection>, super::Error> {
        if !self.address.is_sound() || !self.options.user.as_deref().is_none_or(destination::is_user) {
            return Err(super::Error::BadHost { destination: self.peer.destination.clone() });
        }
        let mut kept = self.connection.lock().await;
        match kept.as_ref().filter(|connection| !connection.is_closed()) {
            Some(connection) => Ok(Arc::clone(connection)),
            None => {
                let new = Arc::new(Connection::open(&self.peer, self.overrides()?, &self.options).await?);
                Ok(Arc::clone(kept.insert(new)))
            }
        }
    }
}

impl Debug for Embedded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Embedded").field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl Transport for Embedded {
    fn destination(&self) -> &str {
        &self.peer.destination
    }

    fn run<'a>(&'a self, line: &'a str) -> BoxFuture<'a, Result<RunningCommand, super::Error>> {
        async move { channel::run(self.connection().await?, line).await }.boxed()
    }

    fn apart(&self) -> Option<Box<dyn Transport>> {
        Some(Box::new(Self::new(&self.address, &self.options)))
    }
}

/// Converts arguments of ssh's command line, from an inventory, to options.
fn from_arguments(arguments: &[String]) -> Result<Vec<String>, Error> {
    let mut options = Vec::new();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let unsupported = || Error::Unsupported { place: INVENTORY.into(), what: argument.clone() };
        let mut letters = argument.strip_prefix('-').filter(|rest| !rest.is_empty()).ok_or_else(unsupported)?.chars();
        let Some(letter) = letters.next() else { return Err(unsupported()) };
        if INDIFFERENT.contains(letter) {
            if letters.any(|letter| !INDIFFERENT.contains(letter)) {
                return Err(unsupported());
            }
            continue;
        }
        let value = match letters.as_str() {
            "" => arguments.next().ok_or_else(unsupported)?.as_str(),
            value => value,
        };
        options.push(match letter {
            'o' => value.to_owned(),
            'p' => format!("Port={value}"),
            'l' => format!("User={value}"),
            'i' => format!("IdentityFile=\"{value}\""),
            'J' => format!("ProxyJump={value}"),
            _ => return Err(unsupported()),
        });
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::from_arguments;

    #[test]
    fn arguments_of_an_inventory_become_options() {
        let read = |line: &str| from_arguments(&shlex::split(line).expect("words")).map_err(|error| error.to_string());
        let options = read("-C -o StrictHostKeyChecking=no -oUser=ops -p 2200 -i/k -J bastion -qv").expect("options");
        let expected =
            ["StrictHostKeyChecking=no", "User=ops", "Port=2200", "IdentityFile=\"/k\"", "ProxyJump=bastion"];
        assert_eq!(options, expected);
        for bad in ["-W h:1", "-F x", "-L 1:h:1", "-o", "word", "-", "-CW"] {
            let message = read(bad).expect_err(bad);
            assert!(message.starts_with("the inventory's ssh arguments: the embedded SSH does not do "), "{message}");
        }
    }
}
