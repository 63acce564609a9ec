//! A command in a channel of a connection, as a running command: its stdin and stdout are the stream.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::FutureExt;
use russh::client::Msg;
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::connection::Connection;
use crate::transport::child::{END_WITHIN, Stderr};
use crate::transport::{Error, RunningCommand};

/// What of a command's output waits to be read, in bytes.
const BUFFER: usize = 256 << 10;

/// The kind of extended data that is stderr (RFC 4254, section 5.2).
const STDERR: u32 = 1;

/// Runs `line` over `connection`, which lasts at least as long as the command.
pub(super) async fn run(connection: Arc<Connection>, line: &str) -> Result<RunningCommand, Error> {
    let channel = connection.channel().await?;
    channel.exec(true, line).await.map_err(|_| connection.lost())?;
    let (read, write) = channel.split();
    let (output, near) = tokio::io::duplex(BUFFER);
    let (stderr_writer, stderr_reader) = tokio::io::duplex(BUFFER);
    let stderr = Stderr::follow(stderr_reader, |_| true);
    let (left, leaving) = oneshot::channel();
    let (wanted, unwanted) = oneshot::channel();
    let (runs, gone) = oneshot::channel();
    let stream = Stream { input: near, output: Box::pin(write.make_writer()), left: Some(left), gone, ended: false };
    let pump =
        Pump { read, write, output: Some(output), stderr: stderr_writer, status: None, refused: false, _runs: runs };
    let pumping = tokio::spawn(pump.run(leaving, unwanted));
    let ending = async move {
        let _wanted: oneshot::Sender<()> = wanted;
        let host = connection.peer.host.clone();
        let ended = match timeout(END_WITHIN, pumping).await {
            Ok(ended) => ended.unwrap_or(CommandEnd::Lost),
            Err(_) => return Err(Error::Hangs { host, seconds: END_WITHIN.as_secs() }),
        };
        match ended {
            CommandEnd::With(0) => Ok(()),
            CommandEnd::With(status) => Err(Error::Command { host, status, message: last_line(&stderr.text().await) }),
            CommandEnd::Refused => {
                let (destination, message) = (connection.peer.destination.clone(), "it runs no commands".into());
                Err(Error::Ssh { destination, message })
            }
            CommandEnd::Lost => Err(connection.lost()),
        }
    };
    Ok(RunningCommand { stream: Box::new(stream), ending: ending.boxed() })
}

fn last_line(message: &str) -> String {
    let last = message.lines().rev().map(str::trim).find(|line| !line.is_empty());
    last.unwrap_or("no reason given").to_owned()
}

/// The two directions of the command. Dropped, it ends the command's stdin.
struct Stream {
    input: DuplexStream,
    output: Pin<Box<dyn AsyncWrite + Send>>,
    /// Says that it is dropped, and whether the end of stdin was sent before.
    left: Option<oneshot::Sender<bool>>,
    /// Resolves when nothing takes anything any more: the library wakes nobody who waits for room on a connection that broke.
    gone: oneshot::Receiver<()>,
    ended: bool,
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(left) = self.left.take() {
            // The command may have ended first.
            let _ = left.send(self.ended);
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.input).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        if self.gone.is_terminated() || self.gone.poll_unpin(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        self.output.as_mut().poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.output.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.ended {
            return Poll::Ready(Ok(()));
        }
        let sent = self.output.as_mut().poll_shutdown(cx);
        self.ended = matches!(sent, Poll::Ready(Ok(())));
        sent
    }
}

/// How a command ended.
#[derive(Debug, Clone, Copy)]
enum CommandEnd {
    With(i32),
    /// The server does not run it.
    Refused,
    /// Nobody said how.
    Lost,
}

/// Takes what the command sends to where it is read.
struct Pump {
    read: ChannelReadHalf,
    write: ChannelWriteHalf<Msg>,
    /// None after the end of its stdout.
    output: Option<DuplexStream>,
    stderr: DuplexStream,
    status: Option<i32>,
    refused: bool,
    /// Dropped when it ends.
    _runs: oneshot::Sender<()>,
}

impl Pump {
    /// Until the channel closes, or nobody wants to know any more how it does.
    async fn run(mut self, mut leaving: oneshot::Receiver<bool>, mut unwanted: oneshot::Receiver<()>) -> CommandEnd {
        let mut here = true;
        loop {
            tokio::select! {
                message = self.read.wait() => match message {
                    Some(ChannelMsg::Close) | None => break,
                    Some(message) => self.take(message).await,
                },
                ended = &mut leaving, if here => {
                    here = false;
                    if ended != Ok(true) && self.write.eof().await.is_err() {
                        break;
                    }
                }
                _ = &mut unwanted => {
                    // Closed for good: the command loses its streams. The connection may be gone already.
                    let _ = self.write.close().await;
                    break;
                }
            }
        }
        match self.status {
            Some(status) => CommandEnd::With(status),
            None if self.refused => CommandEnd::Refused,
            None => CommandEnd::Lost,
        }
    }

    async fn take(&mut self, message: ChannelMsg) {
        match message {
            ChannelMsg::Data { data } => {
                // Nobody may be left to read it.
                if let Some(output) = &mut self.output
                    && output.write_all(&data).await.is_err()
                {
                    self.output = None;
                }
            }
            ChannelMsg::ExtendedData { data, ext: STDERR } => {
                let _ = self.stderr.write_all(&data).await;
            }
            ChannelMsg::Eof => self.output = None,
            ChannelMsg::ExitStatus { exit_status } => {
                self.status = Some(i32::try_from(exit_status).unwrap_or(i32::MAX));
            }
            // As shells count what a signal ended; ssh names signals and has no numbers for them.
            ChannelMsg::ExitSignal { signal_name, .. } => self.status = Some(128 + number(&signal_name)),
            ChannelMsg::Failure => self.refused = true,
            _ => {}
        }
    }
}

fn number(signal: &russh::Sig) -> i32 {
    use russh::Sig;
    match signal {
        Sig::HUP => 1,
        Sig::INT => 2,
        Sig::QUIT => 3,
        Sig::ILL => 4,
        Sig::ABRT => 6,
        Sig::FPE => 8,
        Sig::KILL => 9,
        Sig::USR1 => 10,
        Sig::SEGV => 11,
        Sig::PIPE => 13,
        Sig::ALRM => 14,
        Sig::TERM => 15,
        Sig::Custom(_) => 0,
    }
}
