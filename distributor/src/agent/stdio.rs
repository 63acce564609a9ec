//! stdin and stdout as the connection that is served: the server ends when the other side closes it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{StreamExt, stream};
use rustix::fs::FileType;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::Connected;

use super::Error;
use super::extra_connections::ExtraConnections;
use super::socket_dir;
use crate::protocol::proto::connections_server::ConnectionsServer;
use crate::protocol::{MARK, VERSION, WINDOW};

/// The maximum size of an HTTP/2 frame, in bytes.
const FRAME: u32 = 1 << 20;

/// The fraction of the stall timeout after which a keep-alive ping is sent.
const QUESTION_AFTER: u32 = 4;

/// Reports that the server is ready, and serves until stdin ends, is silent for too long, or the process receives
/// SIGHUP or SIGTERM. Further connections can join meanwhile.
pub(crate) async fn serve(routes: Routes, stall_timeout: Duration) -> Result<(), Error> {
    let (mut stdio, closed) = Stdio::open().map_err(Error::Stdio)?;
    socket_dir::sweep();
    let mut hang_up = signal(SignalKind::hangup()).map_err(Error::Stdio)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Stdio)?;
    stdio.write_all(format!("{MARK}ready {VERSION}\n").as_bytes()).await.map_err(Error::Stdio)?;
    stdio.flush().await.map_err(Error::Stdio)?;

    let (extra, connections) = ExtraConnections::new();
    let connections = ReceiverStream::new(connections).map(Stdio::over);
    // The stream of connections must not end, because the server would then shut down.
    let connections = stream::once(async { stdio }).chain(connections).chain(stream::pending()).map(Ok::<_, io::Error>);
    let ended = async {
        tokio::select! {
            _ = closed => {}
            _ = hang_up.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    Server::builder()
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW * 4)
        .max_frame_size(FRAME)
        // The ping is sent after a fraction of the timeout, and its answer may take the whole timeout: on a slow link,
        // the answer queues behind megabytes of blobs.
        .http2_keepalive_interval(Some(stall_timeout / QUESTION_AFTER))
        .http2_keepalive_timeout(Some(stall_timeout))
        .add_routes(routes.add_service(ConnectionsServer::new(extra)))
        .serve_with_incoming_shutdown(connections, ended)
        .await
        .map_err(Error::Serve)
}

/// The two directions of a connection. Dropping it notifies the receiver that waits for its end.
pub(super) struct Stdio {
    input: Box<dyn AsyncRead + Send + Unpin>,
    output: Box<dyn AsyncWrite + Send + Unpin>,
    _closes: Option<oneshot::Sender<()>>,
}

impl Stdio {
    /// Opens the streams of this process. Also returns a receiver that resolves when they are dropped.
    pub(super) fn open() -> io::Result<(Self, oneshot::Receiver<()>)> {
        // The process was executed through the number of a file descriptor, which would be its name in process lists.
        let _ = rustix::thread::set_name(c"vcdist");
        let (closes, closed) = oneshot::channel();
        let input = io::stdin().as_fd().try_clone_to_owned()?;
        let input: Box<dyn AsyncRead + Send + Unpin> = match socket(&input)? {
            Some(socket) => Box::new(socket),
            None => Box::new(pipe::Receiver::from_owned_fd(input)?),
        };
        #[expect(clippy::disallowed_methods, reason = "the other end of the connection reads it, not a person")]
        let output = io::stdout().as_fd().try_clone_to_owned()?;
        let output: Box<dyn AsyncWrite + Send + Unpin> = match socket(&output)? {
            Some(socket) => Box::new(socket),
            None => Box::new(pipe::Sender::from_owned_fd(output)?),
        };
        Ok((Self { input, output, _closes: Some(closes) }, closed))
    }

    /// Wraps a socket, whose end is not reported.
    fn over(socket: UnixStream) -> Self {
        let (input, output) = socket.into_split();
        Self { input: Box::new(input), output: Box::new(output), _closes: None }
    }
}

/// Returns the socket behind a file descriptor, if it is one: some sshds use sockets where others use pipes.
fn socket(fd: &OwnedFd) -> io::Result<Option<UnixStream>> {
    let kind = FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode);
    if kind != FileType::Socket {
        return Ok(None);
    }
    let socket = std::os::unix::net::UnixStream::from(fd.try_clone()?);
    socket.set_nonblocking(true)?;
    UnixStream::from_std(socket).map(Some)
}

impl Connected for Stdio {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Stdio {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.input).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stdio {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.output).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.output).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.output).poll_shutdown(cx)
    }
}
