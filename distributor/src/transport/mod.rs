//! Transports run a command on a node and provide a duplex byte stream to it: the system's ssh, embedded SSH, or a
//! child process if the node is this machine. Other modules use only the trait `Transport`. Uses `crate::nodes`.

mod child;
mod diagnosis;
pub mod embedded;
mod identified;
mod local;
mod ssh;

use std::fmt::Debug;
use std::io;

use futures::future::BoxFuture;
use miette::Diagnostic;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};

pub use embedded::{Embedded, Keyring};
pub use local::Local;
pub use ssh::{Client, HostKeys, Ssh, SshOptions};

use crate::nodes::{Machine, Node, Reach};

/// Creates a transport for this way to a node.
#[must_use]
pub fn to(reach: &Reach, options: &SshOptions) -> Box<dyn Transport> {
    match reach {
        Reach::Ssh(address) if options.client.is_embedded() => Box::new(Embedded::new(address, options)),
        Reach::Ssh(address) => Box::new(Ssh::new(address, options)),
        Reach::Local => Box::new(Local),
    }
}

/// Creates a transport to a node. If the API reports the node's machine identity, the transport expects that machine.
#[must_use]
pub fn to_node(node: &Node, options: &SshOptions) -> Box<dyn Transport> {
    let way = to(&node.reach, options);
    if node.machine.is_unknown() { way } else { Box::new(identified::IdentifiedNode::new(way, node)) }
}

/// Runs commands on one node.
pub trait Transport: Debug + Send + Sync {
    /// The destination, as a person would type it after `ssh`.
    fn destination(&self) -> &str;

    /// The name of the node and its machine identity, if both are known.
    fn expects(&self) -> Option<(&str, &Machine)> {
        None
    }

    /// Starts `command`, one line for the login user's shell.
    ///
    /// # Errors
    /// Returns an error if it cannot be started. Later failures may be reported only when the stream ends, by
    /// [`RunningCommand::ending`].
    fn run<'a>(&'a self, command: &'a str) -> BoxFuture<'a, Result<RunningCommand, Error>>;

    /// Creates a transport for the same login on the same node that uses a separate connection. Returns `None` if that
    /// is not possible or not needed.
    fn apart(&self) -> Option<Box<dyn Transport>>;
}

/// The two directions of a running command.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A running command. Dropping it ends the command.
pub struct RunningCommand {
    /// Its stdin and stdout.
    pub stream: Box<dyn Duplex>,
    /// The result of the command, once `stream` is dropped or read to its end. Waits for a limited time.
    pub ending: BoxFuture<'static, Result<(), Error>>,
}

impl Debug for RunningCommand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunningCommand").finish_non_exhaustive()
    }
}

/// Why a command could not be run on a node.
#[derive(Debug, Error, Diagnostic)]
#[non_exhaustive]
pub enum Error {
    /// A program of this machine, such as its `ssh`, cannot be started.
    #[error("starting {program}")]
    #[diagnostic(help("{}", if program == "ssh" {
        "install the OpenSSH client (package openssh-client), so that `ssh HOST` works for you, or use this program's own \
         (--ssh embedded)"
    } else {
        "look at this machine's limits on processes and open files (`ulimit -a`)"
    }))]
    Start {
        /// The program.
        program: String,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// ssh would not interpret the destination as a host and a user.
    #[error("{destination:?} is not a valid host, or its user is not valid")]
    #[diagnostic(help(
        "a host is an address or a name that ssh knows, without spaces, quotes and a dash at its beginning"
    ))]
    BadHost {
        /// `[USER@]HOST`.
        destination: String,
    },
    /// The node's host key is in no `known_hosts`.
    #[error("the host key of {host} is not known: {message}")]
    #[diagnostic(help(
        "see its fingerprint with `{scan} | ssh-keygen -lf -`, compare it with `ssh-keygen -lf \
         /etc/ssh/ssh_host_ed25519_key.pub` on the node, then add it with `{scan} >> ~/.ssh/known_hosts`, or have it \
         learned on this first use with --host-keys scan"
    ))]
    UnknownHostKey {
        /// The node.
        host: String,
        /// The command that fetches its keys.
        scan: String,
        /// ssh's message.
        message: String,
    },
    /// The node's host key is not the one that is known.
    #[error("the host key of {host} has changed: {message}")]
    #[diagnostic(help(
        "find out why before you go on: the node may have been installed anew, or another machine may answer in its \
         place. If it is the node, forget the old key with `ssh-keygen -R {name}` and add the new one after comparing \
         fingerprints (`{scan} | ssh-keygen -lf -`)"
    ))]
    ChangedHostKey {
        /// The node.
        host: String,
        /// Its name in `known_hosts`.
        name: String,
        /// The command that fetches its keys.
        scan: String,
        /// ssh's message.
        message: String,
    },
    /// The node does not accept the login.
    #[error("{destination} does not let us in: {message}")]
    #[diagnostic(help(
        "`ssh {destination} true` must work without a password: check the user (--ssh-user), load the key into your \
         agent (`ssh-add`) or name it (--ssh-option IdentityFile=PATH), and add it to the node with `ssh-copy-id`"
    ))]
    Denied {
        /// `[USER@]HOST`.
        destination: String,
        /// ssh's message.
        message: String,
    },
    /// The host name has no address.
    #[error("{host} has no address: {message}")]
    #[diagnostic(help("check the name, or give the node's address with --host"))]
    Unresolvable {
        /// The node.
        host: String,
        /// ssh's message.
        message: String,
    },
    /// Nothing listens.
    #[error("{host} refuses the connection: {message}")]
    #[diagnostic(help("check that sshd runs there and on which port (--ssh-option Port=N, or --host HOST:N)"))]
    Refused {
        /// The node.
        host: String,
        /// ssh's message.
        message: String,
    },
    /// No answer, or no way there.
    #[error("{host} cannot be reached: {message}")]
    #[diagnostic(help("check that the node is up and that this machine can reach its address (`ssh {host} true`)"))]
    Unreachable {
        /// The node.
        host: String,
        /// ssh's message.
        message: String,
    },
    /// The connection was there and broke.
    #[error("the connection to {host} was lost: {message}")]
    #[diagnostic(help("try again; what a push has sent is kept and not sent twice"))]
    Lost {
        /// The node.
        host: String,
        /// ssh's message.
        message: String,
    },
    /// ssh failed for a reason of its own: options, configuration, algorithms.
    #[error("ssh to {destination} failed: {message}")]
    #[diagnostic(help("`ssh {destination} true` must work; run it with -v to see more"))]
    Ssh {
        /// `[USER@]HOST`.
        destination: String,
        /// ssh's message.
        message: String,
    },
    /// The command was run and failed.
    #[error("the command on {host} ended with {status}: {message}")]
    Command {
        /// The node.
        host: String,
        /// The exit status.
        status: i32,
        /// What it wrote on stderr.
        message: String,
    },
    /// The embedded SSH cannot start.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Embedded(#[from] embedded::Error),
    /// The command or its connection did not end.
    #[error("the command on {host} did not end within {seconds} s and was stopped")]
    Hangs {
        /// The node.
        host: String,
        /// The waiting time, in seconds.
        seconds: u64,
    },
}
