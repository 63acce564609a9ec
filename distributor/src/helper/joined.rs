//! Further connections to a process that serves a push. Each is a login of its own, where a process of this program joins
//! the one that serves: it hands its stdin and stdout on over a socket that only the same user may use. The socket has a name
//! and no file, so nothing stays of it.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener as Listener, UnixStream as Socket};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::io::{AsyncWriteExt, copy};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OnceCell, mpsc};
use tonic::{Request, Response, Status};

use super::Error;
use super::stdio::Stdio;
use crate::protocol::proto::connections_server::Connections;
use crate::protocol::proto::{OfferRequest, OfferResponse};
use crate::protocol::{MARK, VERSION};

/// Takes further connections for a server.
pub(super) struct Offers {
    name: OnceCell<String>,
    taken: mpsc::Sender<UnixStream>,
}

impl Offers {
    /// Offers, and the connections that come of them.
    pub(super) fn new() -> (Self, mpsc::Receiver<UnixStream>) {
        let (taken, connections) = mpsc::channel(1);
        (Self { name: OnceCell::new(), taken }, connections)
    }

    async fn listen(&self) -> io::Result<String> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let name = format!("vcdist-{}-{}", std::process::id(), since.as_nanos());
        let listener = Listener::bind_addr(&SocketAddr::from_abstract_name(&name)?)?;
        listener.set_nonblocking(true)?;
        let listener = UnixListener::from_std(listener)?;
        let (taken, ours) = (self.taken.clone(), rustix::process::geteuid().as_raw());
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let is_ours = socket.peer_cred().is_ok_and(|peer| peer.uid() == ours);
                if is_ours && taken.send(socket).await.is_err() {
                    break;
                }
            }
        });
        Ok(name)
    }
}

#[tonic::async_trait]
impl Connections for Offers {
    async fn offer(&self, _: Request<OfferRequest>) -> Result<Response<OfferResponse>, Status> {
        let name = self.name.get_or_try_init(|| self.listen()).await;
        let name = name.map_err(|error| Status::unavailable(format!("listening for further connections: {error}")))?;
        Ok(Response::new(OfferResponse { name: name.clone() }))
    }
}

/// Hands stdin and stdout on to the process that offered itself under this name, until either end is gone.
pub(crate) async fn join(name: &str) -> Result<(), Error> {
    let offered = SocketAddr::from_abstract_name(name).and_then(|address| Socket::connect_addr(&address));
    let socket = offered.and_then(|socket| {
        socket.set_nonblocking(true)?;
        UnixStream::from_std(socket)
    });
    let mut socket = socket.map_err(|source| Error::Join { name: name.to_owned(), source })?;
    let (mut stdio, _) = Stdio::open().map_err(Error::Stdio)?;
    stdio.write_all(format!("{MARK}ready {VERSION}\n").as_bytes()).await.map_err(Error::Stdio)?;
    stdio.flush().await.map_err(Error::Stdio)?;
    let (mut input, mut output) = tokio::io::split(stdio);
    let (mut from, mut to) = socket.split();
    // How either end is gone is told to whoever speaks over it, and is nothing to say here.
    tokio::select! {
        _ = copy(&mut input, &mut to) => {}
        _ = copy(&mut from, &mut output) => {}
    }
    Ok(())
}
