//! A session is a helper that runs on a node for the duration of one push. This module places the helper there if
//! necessary, starts it, connects to it and ends it. That takes one SSH connection, and one round trip more than a
//! login if the helper is already present. Further connections can join a session. Uses `crate::transport`,
//! `crate::protocol` and `crate::nodes`.

mod binary;
mod placement;

use std::io;
use std::time::Duration;

use camino::Utf8PathBuf;
use futures::future::BoxFuture;
use miette::Diagnostic;
use thiserror::Error;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::time::timeout;
use tonic::transport::Channel;

pub use binary::Binary;
pub(crate) use placement::Job;
pub use placement::{CachePath, Namespace, Settings, SocketPath};

use crate::nodes::Machine;
use crate::protocol::{self, proto};
use crate::transport::{self, Duplex, RunningCommand, Transport};
use placement::Answer;
use proto::connections_client::ConnectionsClient;
use proto::helper_client::HelperClient;
use proto::relay_client::RelayClient;
use proto::{OfferRequest, OfferResponse};

/// The time limit for a login and the start of the helper.
const START_WITHIN: Duration = Duration::from_secs(60);

/// The maximum output of a login shell before the helper's first reply, in bytes.
const NOISE: u64 = 256 << 10;

/// A running helper.
pub(crate) struct Session {
    channel: Channel,
    /// Whether its process runs as root, regardless of the login user.
    as_root: bool,
    ending: BoxFuture<'static, Result<(), transport::Error>>,
}

/// Why no helper could be started on a node.
#[derive(Debug, Error, Diagnostic)]
#[non_exhaustive]
pub enum Error {
    /// The connection failed.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Transport(#[from] transport::Error),
    /// This program's own file cannot be read.
    #[error("reading {path}, the program that nodes run as their helper")]
    #[diagnostic(help("vcdist places itself on nodes and so must be able to read its own file"))]
    OwnBinary {
        /// Its path.
        path: Utf8PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// The machine that answers is not the node.
    #[error(
        "the machine that answers at {destination} is not the node {node}: its machine ID is {found}, and the API has {machine} for \
         the node"
    )]
    #[diagnostic(help(
        "see whether several nodes report one address (`kubectl get nodes -o wide`) and have each node's kubelet report its own, \
         or give the addresses by hand with --host or --inventory"
    ))]
    OtherMachine {
        /// The node.
        node: String,
        /// `[USER@]HOST`.
        destination: String,
        /// The node's machine ID in the API.
        machine: String,
        /// The machine ID of the machine that answered.
        found: String,
    },
    /// The node has another architecture than this program.
    #[error("the node is {node} and this vcdist is built for {ours}")]
    #[diagnostic(help("run a vcdist that is built for {node} (`cargo xtask dist` there), or leave the node out"))]
    Architecture {
        /// The node's architecture, as `uname -m` prints it.
        node: String,
        /// This program's architecture.
        ours: &'static str,
    },
    /// The helper was placed and does not run.
    #[error("the helper does not run on the node: {message}")]
    #[diagnostic(help("{}", if *dynamic {
        "this vcdist needs shared libraries, which the node lacks: use the static one that `cargo xtask dist` builds"
    } else {
        "see what keeps a program in the login user's cache folder from running: mount options, SELinux, AppArmor"
    }))]
    CannotRun {
        /// The attempt's output.
        message: String,
        /// Whether this program needs shared libraries.
        dynamic: bool,
    },
    /// The node has no folder for the helper.
    #[error("the node has no folder from which the helper could run: {message}")]
    #[diagnostic(help(
        "one of ~/.cache, /var/lib and /run for root, or ~/.cache, /var/tmp, /run/user/UID and /dev/shm for another user, must \
         be on a file system that is not mounted noexec, and neither it nor a folder above it may be another user's or \
         writable for others"
    ))]
    Nowhere {
        /// What is wrong with each folder.
        message: String,
    },
    /// The node has no `sha256sum`.
    #[error("the node has no {tool}")]
    #[diagnostic(help("install it (coreutils or busybox have it)"))]
    Lacks {
        /// The tool.
        tool: String,
    },
    /// The helper's bytes did not arrive completely.
    #[error("the helper did not arrive whole on the node")]
    #[diagnostic(help("its file system may be full: the helper needs {size} bytes in the login user's cache folder"))]
    Damaged {
        /// Its size in bytes.
        size: u64,
    },
    /// sudo asks for a password or forbids the command.
    #[error("sudo does not let the login user work as root: {message}")]
    #[diagnostic(help("{}", sudo_help(message)))]
    Sudo {
        /// sudo's message.
        message: String,
    },
    /// The node has no sudo.
    #[error("the login user is not root, and the node has no sudo")]
    #[diagnostic(help(
        "log in as root (--ssh-user root), or install sudo there and let the user run commands without a password: `USER \
         ALL=(root) NOPASSWD: ALL` in a file under /etc/sudoers.d"
    ))]
    NoSudo,
    /// The helper neither answered nor ended.
    #[error("the node did not start the helper within {seconds} s")]
    #[diagnostic(help("log in by hand and see what takes so long (`ssh {destination} true`)"))]
    Slow {
        /// The waiting time, in seconds.
        seconds: u64,
        /// `[USER@]HOST`.
        destination: String,
    },
    /// The node wants another user, as images of clouds have it for root.
    #[error("{destination} is not the user to log in as: {message}")]
    #[diagnostic(help("log in as the user that the node names: --ssh-user USER, or USER@HOST with --host"))]
    OtherUser {
        /// The node's output.
        message: String,
        /// `[USER@]HOST`.
        destination: String,
    },
    /// Something else answered.
    #[error("the node answered something else than the helper: {message:?}")]
    #[diagnostic(help("the login user needs a shell that runs commands (`ssh {destination} true`)"))]
    Noise {
        /// The last line that came.
        message: String,
        /// `[USER@]HOST`.
        destination: String,
    },
    /// The node's helper speaks another version of the protocol.
    #[error("the helper speaks version {theirs} of the protocol and this vcdist version {}", protocol::VERSION)]
    Version {
        /// Its version.
        theirs: u32,
    },
    /// The stream is open, but the HTTP/2 handshake failed.
    #[error("speaking to the helper")]
    Protocol(#[from] tonic::transport::Error),
}

/// What to do about sudo, by its message.
fn sudo_help(message: &str) -> &'static str {
    if message.contains("must have a tty") {
        "sudo asks for a terminal there (requiretty): switch that off for the user with `Defaults:USER !requiretty` in a file under \
         /etc/sudoers.d, or log in as root (--ssh-user root)"
    } else {
        "log in as root (--ssh-user root), or let the user run commands without a password: `USER ALL=(root) NOPASSWD: ALL` in \
         a file under /etc/sudoers.d. A rule for the helper alone will do, too (docs/how-to/push.md); one for ctr will not"
    }
}

impl Error {
    /// Whether the node was reached, but cannot run the helper.
    pub(crate) fn means_no_helper(&self) -> bool {
        matches!(self, Self::Architecture { .. } | Self::CannotRun { .. } | Self::Nowhere { .. } | Self::Lacks { .. })
    }
}

impl Session {
    /// Starts the helper on the node that `transport` reaches.
    pub(crate) async fn open(transport: &dyn Transport, binary: &Binary, settings: &Settings) -> Result<Self, Error> {
        Self::begin(transport, binary, Job::Help(settings)).await
    }

    /// Starts the program on the node that `transport` reaches, for `job`.
    pub(crate) async fn begin(transport: &dyn Transport, binary: &Binary, job: Job<'_>) -> Result<Self, Error> {
        Self::begin_with(transport, binary, job, None).await
    }

    async fn begin_with(
        transport: &dyn Transport,
        binary: &Binary,
        job: Job<'_>,
        offer: Option<&OfferResponse>,
    ) -> Result<Self, Error> {
        let placement::Command { line, script } = placement::command(binary, job);
        let RunningCommand { stream, ending } = transport.run(&line).await?;
        let mut stream = BufReader::new(stream);
        // If the stream is already broken, reading the answer reports it.
        let _ = stream.write_all(script.as_bytes()).await;
        let _ = stream.flush().await;
        match start(&mut stream, binary, transport, offer).await {
            Ok(()) => Ok(Self { channel: protocol::connect(stream).await?, as_root: job.is_as_root(), ending }),
            Err(error) => {
                drop(stream);
                // The exit status of the command tells more than the end of its output.
                match (error, ending.await) {
                    (Error::Noise { message, destination }, _) if message.contains("lease login as the user") => {
                        Err(Error::OtherUser { message, destination })
                    }
                    (Error::Noise { .. }, Err(transport::Error::Command { message, .. }))
                        if message.contains("sudo") =>
                    {
                        Err(Error::Sudo { message })
                    }
                    (error @ Error::Noise { .. }, Err(ended)) => match (&error, &ended) {
                        (Error::Noise { message, .. }, transport::Error::Command { .. }) if !message.is_empty() => {
                            Err(error)
                        }
                        _ => Err(ended.into()),
                    },
                    (error, _) => Err(error),
                }
            }
        }
    }

    /// Makes the helper accept further connections. Returns the socket and the secret for joining it.
    pub(crate) async fn offer(&self) -> Result<OfferResponse, tonic::Status> {
        let answer = timeout(START_WITHIN, ConnectionsClient::new(self.channel()).offer(OfferRequest {})).await;
        Ok(answer.map_err(|_| tonic::Status::deadline_exceeded("no offer"))??.into_inner())
    }

    /// Opens a further connection to the helper that made this offer, over another `transport`.
    pub(crate) async fn join(
        &self,
        offer: &OfferResponse,
        transport: &dyn Transport,
        binary: &Binary,
    ) -> Result<Self, Error> {
        Self::begin_with(transport, binary, Job::Join { as_root: self.as_root }, Some(offer)).await
    }

    /// The connection; clones share it.
    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Returns a client of the helper; clones share the connection.
    pub(crate) fn client(&self) -> HelperClient<Channel> {
        HelperClient::new(self.channel())
    }

    /// Returns a client of a relay; clones share the connection.
    pub(crate) fn relay(&self) -> RelayClient<Channel> {
        RelayClient::new(self.channel())
    }

    /// Ends the helper and the connection. All clients must have been dropped before.
    pub(crate) async fn close(self) -> Result<(), transport::Error> {
        drop(self.channel);
        self.ending.await
    }
}

/// Runs the start dialogue with the node until the helper is ready.
async fn start(
    stream: &mut BufReader<Box<dyn Duplex>>,
    binary: &Binary,
    transport: &dyn Transport,
    mut offer: Option<&OfferResponse>,
) -> Result<(), Error> {
    let destination = transport.destination();
    let mut placed = false;
    loop {
        let Ok(answer) = timeout(START_WITHIN, answer(stream, destination)).await else {
            return Err(Error::Slow { seconds: START_WITHIN.as_secs(), destination: destination.into() });
        };
        match answer? {
            Answer::Ready(protocol::VERSION) => return Ok(()),
            Answer::Ready(theirs) => return Err(Error::Version { theirs }),
            Answer::Identity(machine) => check_machine(transport, &machine)?,
            Answer::Need(node) if !binary.elf.runs_on(&node) => {
                return Err(Error::Architecture { node, ours: binary.elf.machine_name() });
            }
            Answer::Need(_) if !placed => {
                tracing::info!(destination, bytes = binary.size, "placing the helper");
                place(stream, binary, destination).await?;
                placed = true;
            }
            Answer::Need(_) | Answer::Damaged => return Err(Error::Damaged { size: binary.size }),
            Answer::CannotRun(message) => return Err(Error::CannotRun { message, dynamic: binary.elf.dynamic }),
            Answer::Nowhere(message) => return Err(Error::Nowhere { message }),
            Answer::Ask => match offer.take() {
                // If the stream is already broken, reading the answer reports it.
                Some(OfferResponse { socket, secret }) => {
                    let _ = stream.write_all(format!("{secret} {socket}\n").as_bytes()).await;
                    let _ = stream.flush().await;
                }
                None => return Err(Error::Noise { message: "ask".into(), destination: destination.into() }),
            },
            Answer::Lacks(tool) => return Err(Error::Lacks { tool }),
            Answer::NoSudo => return Err(Error::NoSudo),
            Answer::NoRoot(message) => return Err(Error::Sudo { message }),
        }
    }
}

/// Checks that the machine that answers is the expected node.
pub(crate) fn check_machine(transport: &dyn Transport, found: &Machine) -> Result<(), Error> {
    match transport.expects() {
        Some((node, machine)) if found.differs_from(machine) => Err(Error::OtherMachine {
            node: node.to_owned(),
            destination: transport.destination().to_owned(),
            machine: machine.machine_id.clone(),
            found: found.machine_id.clone(),
        }),
        _ => Ok(()),
    }
}

/// Returns the next answer in the node's output.
async fn answer(stream: &mut BufReader<Box<dyn Duplex>>, destination: &str) -> Result<Answer, Error> {
    let mut last = String::new();
    let mut stream = stream.take(NOISE);
    loop {
        let mut line = Vec::new();
        let count = stream.read_until(b'\n', &mut line).await.unwrap_or(0);
        let line = String::from_utf8_lossy(&line);
        if let Some(answer) = Answer::parse(&line) {
            return Ok(answer);
        }
        if count == 0 {
            return Err(Error::Noise { message: last, destination: destination.into() });
        }
        // Many messages end with empty lines.
        if !line.trim().is_empty() {
            last = line.trim().chars().take(200).collect();
        }
    }
}

/// Sends the program. If the connection breaks, the missing answer reports it.
async fn place(stream: &mut BufReader<Box<dyn Duplex>>, binary: &Binary, destination: &str) -> Result<(), Error> {
    let read = |source| Error::OwnBinary { path: binary.path.clone(), source };
    let mut file = tokio::fs::File::open(&binary.path).await.map_err(read)?.take(binary.size);
    let mut chunk = vec![0; 256 << 10];
    loop {
        let count = file.read(&mut chunk).await.map_err(read)?;
        if count == 0 {
            break;
        }
        match timeout(START_WITHIN, stream.write_all(&chunk[..count])).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Ok(()),
            Err(_) => return Err(Error::Slow { seconds: START_WITHIN.as_secs(), destination: destination.into() }),
        }
    }
    // As above: if the stream is broken, reading the answer reports it.
    let _ = stream.flush().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Binary, Error, Session, Settings, sudo_help};
    use crate::nodes::Machine;
    use crate::transport::{Duplex, Error as TransportError, RunningCommand, Transport};
    use futures::future::BoxFuture;
    use tokio::io::AsyncWriteExt as _;

    /// A transport whose command prints this text and ends.
    #[derive(Debug)]
    struct FixedReply(&'static str, Machine);

    impl Transport for FixedReply {
        fn destination(&self) -> &str {
            "root@w1"
        }

        fn expects(&self) -> Option<(&str, &Machine)> {
            Some(("w1", &self.1))
        }

        fn run<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<RunningCommand, TransportError>> {
            let ended =
                || TransportError::Command { host: "w1".into(), status: 142, message: "no reason given".into() };
            Box::pin(async move {
                let (near, mut far) = tokio::io::duplex(1 << 16);
                far.write_all(self.0.as_bytes()).await.expect("room");
                tokio::spawn(async move {
                    let (mut reader, writer) = tokio::io::split(far);
                    drop(writer);
                    let mut sink = tokio::io::sink();
                    let _ =
                        tokio::time::timeout(Duration::from_millis(50), tokio::io::copy(&mut reader, &mut sink)).await;
                });
                let stream: Box<dyn Duplex> = Box::new(near);
                Ok(RunningCommand { stream, ending: Box::pin(async move { Err(ended()) }) })
            })
        }

        fn apart(&self) -> Option<Box<dyn Transport>> {
            None
        }
    }

    async fn refused(says: &'static str) -> Error {
        refused_by(&FixedReply(says, Machine::default())).await
    }

    async fn refused_by(says: &FixedReply) -> Error {
        let settings = Settings {
            namespace: "k8s.io".parse().expect("a name"),
            address: None,
            stall_timeout: Duration::from_secs(60),
        };
        let opened = Session::open(says, &Binary::this().expect("own program"), &settings).await;
        opened.err().expect("no helper")
    }

    #[tokio::test]
    async fn a_login_that_ends_with_words_is_told_in_its_words_whatever_empty_lines_follow() {
        let root = refused("Please login as the user \"ubuntu\" rather than the user \"root\".\n\n").await;
        assert_eq!(
            root.to_string(),
            "root@w1 is not the user to log in as: Please login as the user \"ubuntu\" rather than the user \"root\"."
        );
        let nologin = refused("Welcome\nThis account is currently not available.\n \n\n").await;
        assert_eq!(
            nologin.to_string(),
            "the node answered something else than the helper: \"This account is currently not available.\""
        );
        let nothing = refused("\n\n").await;
        assert_eq!(nothing.to_string(), "the command on w1 ended with 142: no reason given");
    }

    #[tokio::test]
    async fn another_machine_than_the_node_is_refused_before_anything_else_is_said() {
        const SAYS: &str = "Welcome\n::vcdist:identity boot=6a7b8c9d-0e1f-4a2b-8c3d-4e5f60718293 \
                            machine=0af3c2d4e5f60718293a4b5c6d7e8f90\n::vcdist:nowhere\n";
        let machine = |machine: &str, boot: &str| Machine { machine_id: machine.repeat(16), boot_id: boot.repeat(16) };
        let other = refused_by(&FixedReply(SAYS, machine("1b", "2c"))).await;
        assert_eq!(
            other.to_string(),
            "the machine that answers at root@w1 is not the node w1: its machine ID is 0af3c2d4e5f60718293a4b5c6d7e8f90, and the \
             API has 1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b for the node"
        );
        assert!(!other.means_no_helper(), "nothing else is tried on it");
        let rebooted = Machine { machine_id: "0af3c2d4e5f60718293a4b5c6d7e8f90".into(), ..machine("1b", "2c") };
        for node in [rebooted, Machine::default()] {
            assert!(matches!(refused_by(&FixedReply(SAYS, node)).await, Error::Nowhere { .. }));
        }
    }

    #[test]
    fn sudo_that_wants_a_terminal_is_told_from_one_that_wants_a_password() {
        assert!(sudo_help("sudo: sorry, you must have a tty to run sudo").contains("!requiretty"));
        let password = sudo_help("sudo: a password is required");
        assert!(password.contains("NOPASSWD: ALL") && password.contains("the helper alone"), "{password}");
    }
}
