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

/// The buffer size for a command's output, in bytes.
const BUFFER: usize = 256 << 10;

/// The type of extended data for stderr (RFC 4254, section 5.2).
const STDERR: u32 = 1;

/// Runs `line` over `connection`, which stays open at least as long as the command.
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

/// The two directions of the command. Dropping it closes the command's stdin.
struct Stream {
    input: DuplexStream,
    output: Pin<Box<dyn AsyncWrite + Send>>,
    /// Notified when the stream is dropped, with whether the end of stdin was already sent.
    left: Option<oneshot::Sender<bool>>,
    /// Resolves when the connection is gone: the library does not wake writers that wait for room on a broken
    /// connection.
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
    /// The server refused to run it.
    Refused,
    /// The exit status is not known.
    Lost,
}

/// Forwards the command's output to the reader.
struct Pump {
    read: ChannelReadHalf,
    write: ChannelWriteHalf<Msg>,
    /// `None` after the end of its stdout.
    output: Option<DuplexStream>,
    stderr: DuplexStream,
    status: Option<i32>,
    refused: bool,
    /// Dropped when the pump ends.
    _runs: oneshot::Sender<()>,
}

impl Pump {
    /// Runs until the channel closes, or until nobody waits for the result.
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
                    // Closes the channel, which closes the command's streams. The connection may already be gone.
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
                // The reader may be gone.
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
            // The exit status that shells use for a signal; ssh transmits names of signals instead of numbers.
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
