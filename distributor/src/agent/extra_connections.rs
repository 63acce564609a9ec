//! Further connections to a process that serves a push. Each is a login of its own, where a process of this program
//! joins the serving process and forwards its stdin and stdout to it over a socket. The socket is in a folder that
//! only the same user can access, out of the reach of containers on the node's network. Each end proves to the other
//! that it knows a secret, which the operator sent to both over their own connections.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use camino::Utf8Path;
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OnceCell, Semaphore, mpsc};
use tokio::time::timeout;
use tonic::{Request, Response, Status};
use vcremote::folder;

use super::Error;
use super::socket_dir::SocketDir;
use super::stdio::Stdio;
use crate::protocol::proto::connections_server::Connections;
use crate::protocol::proto::{OfferRequest, OfferResponse};
use crate::protocol::{MARK, VERSION};

/// The length of a secret, and of a proof, in bytes.
const SECRET: usize = 32;

/// The time limit for the other end to prove itself.
const PROOF_WITHIN: Duration = Duration::from_secs(20);

/// The maximum number of connections that are proving themselves at once.
const PROVING: usize = 16;

/// The longest line that names the process to join, in bytes. The path of a socket has at most 107.
const LINE: usize = 512;

/// Accepts further connections for a server.
pub(super) struct ExtraConnections {
    offer: OnceCell<JoinOffer>,
    accepted: mpsc::Sender<UnixStream>,
}

/// The socket at which the process can be joined; dropping it removes the folder.
struct JoinOffer {
    socket_dir: SocketDir,
    secret: [u8; SECRET],
}

impl ExtraConnections {
    /// Creates the service, and the stream of connections that join.
    pub(super) fn new() -> (Self, mpsc::Receiver<UnixStream>) {
        let (accepted, connections) = mpsc::channel(1);
        (Self { offer: OnceCell::new(), accepted }, connections)
    }

    async fn listen(&self) -> io::Result<JoinOffer> {
        let (socket_dir, listener) = SocketDir::open()?;
        let secret = random()?;
        tokio::spawn(accept(listener, secret, self.accepted.clone()));
        Ok(JoinOffer { socket_dir, secret })
    }
}

#[tonic::async_trait]
impl Connections for ExtraConnections {
    async fn offer(&self, _: Request<OfferRequest>) -> Result<Response<OfferResponse>, Status> {
        let offer = self.offer.get_or_try_init(|| self.listen()).await;
        let JoinOffer { socket_dir, secret } =
            offer.map_err(|error| Status::unavailable(format!("listening for further connections: {error}")))?;
        Ok(Response::new(OfferResponse { socket: socket_dir.socket().to_string(), secret: hex::encode(secret) }))
    }
}

async fn accept(listener: UnixListener, secret: [u8; SECRET], accepted: mpsc::Sender<UnixStream>) {
    let proving = Arc::new(Semaphore::new(PROVING));
    while let Ok((mut socket, _)) = listener.accept().await {
        let Ok(permit) = Arc::clone(&proving).acquire_owned().await else { break };
        let accepted = accepted.clone();
        tokio::spawn(async move {
            let proved = timeout(PROOF_WITHIN, Role::Server.prove(&mut socket, &secret)).await;
            drop(permit);
            match proved {
                // If there is no receiver, the server has ended.
                Ok(Ok(())) => drop(accepted.send(socket).await),
                Ok(Err(error)) => tracing::warn!("somebody else asked for a further connection: {error}"),
                Err(_) => tracing::warn!("somebody asked for a further connection and did not prove who it is"),
            }
        });
    }
}

/// Forwards stdin and stdout to the process that made the offer, until either end closes. The first line of stdin names
/// the socket and the secret, because every user of a machine can read a process's arguments.
pub(crate) async fn join() -> Result<(), Error> {
    let (mut stdio, _) = Stdio::open().map_err(Error::Stdio)?;
    send_line(&mut stdio, "ask").await.map_err(Error::Stdio)?;
    let (name, secret) = read_offer(&mut stdio).await.map_err(Error::Stdio)?;
    let failed = |source| Error::Join { name: name.clone(), source };
    let mut socket = reach(Utf8Path::new(&name), &secret).await.map_err(failed)?;
    send_line(&mut stdio, &format!("ready {VERSION}")).await.map_err(Error::Stdio)?;
    let (mut input, mut output) = tokio::io::split(stdio);
    let (mut from, mut to) = socket.split();
    // The peer of each end reports how it ended, so the errors are ignored here.
    tokio::select! {
        _ = copy(&mut input, &mut to) => {}
        _ = copy(&mut from, &mut output) => {}
    }
    Ok(())
}

async fn send_line(stdio: &mut Stdio, text: &str) -> io::Result<()> {
    stdio.write_all(format!("{MARK}{text}\n").as_bytes()).await?;
    stdio.flush().await
}

/// Reads the line with the secret and the socket.
async fn read_offer(from: &mut (impl AsyncRead + Unpin)) -> io::Result<(String, [u8; SECRET])> {
    let bad = || io::Error::new(io::ErrorKind::InvalidData, "no secret and socket came");
    let reading = async {
        let mut line = Vec::new();
        // Reads byte by byte, because the bytes that follow are for the other process.
        while line.len() < LINE {
            match from.read_u8().await? {
                b'\n' => return Ok(line),
                byte => line.push(byte),
            }
        }
        Err(bad())
    };
    let line = timeout(PROOF_WITHIN, reading).await.map_err(|_| bad())??;
    let line = String::from_utf8(line).map_err(|_| bad())?;
    let (secret, socket) = line.split_once(' ').ok_or_else(bad)?;
    let secret = hex::decode(secret).ok().and_then(|secret| secret.try_into().ok()).ok_or_else(bad)?;
    Ok((socket.to_owned(), secret))
}

/// Connects to the process behind `socket`, which must know the secret.
async fn reach(socket: &Utf8Path, secret: &[u8; SECRET]) -> io::Result<UnixStream> {
    let folder = socket.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let folder = folder::enter_existing(folder).map_err(io::Error::other)?;
    let path = folder.join(socket.file_name().unwrap_or_default());
    let reaching = async {
        let mut stream = UnixStream::connect(Path::new(&path)).await?;
        Role::Client.prove(&mut stream, secret).await?;
        Ok(stream)
    };
    timeout(PROOF_WITHIN, reaching).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// The two ends of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Client,
    Server,
}

impl Role {
    /// Proves to the other end that this end knows the secret, and makes it do the same, without either sending the
    /// secret. The server proves itself first, so that a client gives its proof only to the intended server.
    async fn prove(self, socket: &mut UnixStream, secret: &[u8; SECRET]) -> io::Result<()> {
        let refused = |why: &'static str| io::Error::new(io::ErrorKind::PermissionDenied, why);
        if socket.peer_cred()?.uid() != rustix::process::geteuid().as_raw() {
            return Err(refused("the other end is another user"));
        }
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let ours: [u8; SECRET] = random()?;
        socket.write_all(&ours).await?;
        let mut theirs = [0; SECRET];
        socket.read_exact(&mut theirs).await?;
        let (client, server) = if self == Self::Client { (ours, theirs) } else { (theirs, ours) };
        let said = |side: &str| [side.as_bytes(), &client, &server].concat();
        if self == Self::Server {
            socket.write_all(hmac::sign(&key, &said("server")).as_ref()).await?;
        }
        let mut proof = [0; SECRET];
        socket.read_exact(&mut proof).await?;
        let other = if self == Self::Client { "server" } else { "client" };
        hmac::verify(&key, &said(other), &proof).map_err(|_| refused("the other end does not know the secret"))?;
        if self == Self::Client {
            socket.write_all(hmac::sign(&key, &said("client")).as_ref()).await?;
        }
        Ok(())
    }
}

fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| io::Error::other("the system has no random numbers"))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the results of both ends.
    async fn meet(client: [u8; SECRET], server: [u8; SECRET]) -> (io::Result<()>, io::Result<()>) {
        let (mut near, mut far) = UnixStream::pair().expect("a pair");
        // An end that refuses closes the socket, as a process that exits does.
        let client = async move { Role::Client.prove(&mut near, &client).await };
        let server = async move { Role::Server.prove(&mut far, &server).await };
        tokio::join!(client, server)
    }

    #[tokio::test]
    async fn ends_that_know_the_secret_meet_and_others_do_not() {
        let (one, other) = (random().expect("random"), random().expect("random"));
        let (client, server) = meet(one, one).await;
        assert!(client.is_ok() && server.is_ok());
        let (client, server) = meet(one, other).await;
        let text = |result: io::Result<()>| result.expect_err("refused").to_string();
        assert_eq!(text(client), "the other end does not know the secret");
        assert!(server.is_err());
    }

    #[tokio::test]
    async fn a_proof_says_nothing_to_anybody_else() {
        // An attacker in between sends each end's bytes back to it.
        for side in [Role::Client, Role::Server] {
            let (mut end, mut mirror) = UnixStream::pair().expect("a pair");
            let secret = random().expect("random");
            let mirroring = async {
                let mut bytes = [0; SECRET];
                mirror.read_exact(&mut bytes).await.expect("a number");
                mirror.write_all(&bytes).await.expect("the same");
                // A client waits for a proof, and a server has sent one.
                if side == Role::Server {
                    mirror.read_exact(&mut bytes).await.expect("a proof");
                }
                mirror.write_all(&bytes).await.expect("the same");
                std::future::pending::<()>().await;
            };
            let proved = tokio::select! {
                proved = side.prove(&mut end, &secret) => proved,
                () = mirroring => Ok(()),
            };
            assert!(proved.is_err(), "{side:?}");
        }
    }

    #[tokio::test]
    async fn what_to_join_is_one_line_and_what_follows_is_not_read() {
        let secret = [7; SECRET];
        let line = format!("{} /run/x\nrest", hex::encode(secret));
        let mut from = line.as_bytes();
        assert_eq!(read_offer(&mut from).await.expect("told"), ("/run/x".to_owned(), secret));
        assert_eq!(from, b"rest");
        let long = "a".repeat(2 * LINE);
        for bad in ["", "\n", "abc /run/x\n", &long, &format!("{}\n", hex::encode(secret))] {
            assert!(read_offer(&mut bad.as_bytes()).await.is_err(), "{bad:?}");
        }
    }

    #[tokio::test]
    async fn a_process_without_the_secret_or_in_another_place_is_not_served() {
        let (offers, mut connections) = ExtraConnections::new();
        let offer = offers.offer(Request::new(OfferRequest {})).await.expect("an offer").into_inner();
        let socket = Utf8Path::new(&offer.socket);
        let secret: [u8; SECRET] = hex::decode(&offer.secret).expect("hex").try_into().expect("a secret");
        // The socket only requires the same user, which a process in a container may be.
        let wrong = reach(socket, &[0; SECRET]).await.expect_err("refused");
        assert_eq!(wrong.kind(), io::ErrorKind::PermissionDenied);
        let mut silent = UnixStream::connect(socket).await.expect("a socket");
        silent.write_all(&[0; 2 * SECRET]).await.expect("bytes");
        let mut all = Vec::new();
        let _ = silent.read_to_end(&mut all).await;
        assert!(all.len() <= 2 * SECRET, "nothing but a number and a proof: {}", all.len());
        assert!(connections.try_recv().is_err(), "neither is served");
        let connection = reach(socket, &secret).await;
        assert!(connection.is_ok() && connections.recv().await.is_some());

        // A server in its place that does not know the secret receives no proof.
        let folder = tempfile::tempdir().expect("a folder");
        let fake = Utf8Path::from_path(folder.path()).expect("UTF-8").join("s");
        let listener = UnixListener::bind(&fake).expect("a socket");
        let faking = async {
            let (mut socket, _) = listener.accept().await.expect("a connection");
            let mut heard = Vec::new();
            socket.write_all(&[1; 2 * SECRET]).await.expect("bytes");
            let _ = socket.read_to_end(&mut heard).await;
            heard.len()
        };
        let (refused, heard) = tokio::join!(reach(&fake, &secret), faking);
        assert!(refused.is_err() && heard == SECRET, "{heard}");
        let place = socket.parent().expect("a folder").to_owned();
        drop(offers);
        assert!(!place.exists(), "nothing stays of it");
    }
}
