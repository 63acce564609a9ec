//! stdin and stdout as the one connection the helper serves. It tells when the server has let go of it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use rustix::fs::FileType;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::sync::oneshot;
use tonic::transport::server::Connected;

/// The two streams; dropped, it wakes whoever waits for its end.
pub(super) struct Stdio {
    input: Box<dyn AsyncRead + Send + Unpin>,
    output: Box<dyn AsyncWrite + Send + Unpin>,
    _closes: oneshot::Sender<()>,
}

impl Stdio {
    /// The streams of this process, and what resolves when they are dropped.
    pub(super) fn open() -> io::Result<(Self, oneshot::Receiver<()>)> {
        let (closes, closed) = oneshot::channel();
        let input = io::stdin().as_fd().try_clone_to_owned()?;
        let input: Box<dyn AsyncRead + Send + Unpin> = match socket(&input)? {
            Some(socket) => Box::new(socket),
            None => Box::new(pipe::Receiver::from_owned_fd(input)?),
        };
        let output = io::stdout().as_fd().try_clone_to_owned()?;
        let output: Box<dyn AsyncWrite + Send + Unpin> = match socket(&output)? {
            Some(socket) => Box::new(socket),
            None => Box::new(pipe::Sender::from_owned_fd(output)?),
        };
        Ok((Self { input, output, _closes: closes }, closed))
    }
}

/// Some sshds give a socket where others give pipes.
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
