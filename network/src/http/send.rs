//! Sends requests. A request fails if no data moves for some time, however long the transfer takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use std::{fmt, io};

use futures::{Stream, StreamExt};
use reqwest::{Body, RequestBuilder, Response};
use tokio_util::bytes::Bytes;

use crate::causes;

/// Counts the bytes of a request's body that were sent.
#[derive(Debug, Clone, Default)]
pub struct Moved(Arc<AtomicU64>);

/// Why a request has no response.
#[derive(Debug)]
pub enum SendError {
    /// It could not be sent, or was interrupted.
    Request(reqwest::Error),
    /// No data moved for this long.
    Silent(Duration),
}

impl Moved {
    /// Wraps a body so that its sent bytes are counted.
    pub fn count(&self, content: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Body {
        let moved = self.0.clone();
        Body::wrap_stream(content.inspect(move |piece| {
            let size = piece.as_ref().map_or(0, Bytes::len);
            moved.fetch_add(size as u64, Ordering::Relaxed);
        }))
    }
}

/// Sends a request. The response must begin within `silence` after the last bytes of the body, which [`Moved::count`]
/// counts, were sent. (The client's own read timeout starts with the request, so it would end every long upload.)
///
/// # Errors
/// Returns an error if there is no response.
pub async fn send(request: RequestBuilder, silence: Duration, moved: &Moved) -> Result<Response, SendError> {
    let mut answer = std::pin::pin!(request.send());
    let mut before = moved.0.load(Ordering::Relaxed);
    loop {
        if let Ok(answer) = tokio::time::timeout(silence, &mut answer).await {
            return answer.map_err(SendError::Request);
        }
        let now = moved.0.load(Ordering::Relaxed);
        if now == before {
            return Err(SendError::Silent(silence));
        }
        before = now;
    }
}

impl SendError {
    /// Whether a retry cannot help: the request is invalid, or was redirected to an address that is not permitted.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Request(error) if error.is_builder() || error.is_redirect())
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request(error) => f.write_str(&causes(error)),
            Self::Silent(silence) => write!(f, "no response within {} s", silence.as_secs_f32()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::time::Duration;

    use futures::StreamExt;
    use tokio_util::bytes::Bytes;

    use super::{Moved, SendError, send};

    /// Returns the result of a request whose body has `pieces` pieces, one every 50 ms, with a limit of 1.5 s without
    /// progress; the server responds at once, or never.
    fn upload(pieces: usize, answers: bool) -> Result<u16, SendError> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut read = Vec::new();
            while !read.ends_with(b"0\r\n\r\n") {
                let mut piece = [0; 1024];
                let count = stream.read(&mut piece).unwrap();
                read.extend_from_slice(&piece[..count]);
            }
            if answers {
                stream.write_all(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n").unwrap();
            }
            // Until the client closes the connection.
            let _ = stream.read(&mut [0]);
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let moved = Moved::default();
            let body = futures::stream::iter(0..pieces).then(|_| async {
                tokio::time::sleep(Duration::from_millis(50)).await;
                Ok(Bytes::from_static(b"piece"))
            });
            let client = super::super::client().unwrap().build().unwrap();
            let request = client.put(url).body(moved.count(body));
            send(request, Duration::from_millis(1_500), &moved).await.map(|answer| answer.status().as_u16())
        })
    }

    #[test]
    fn what_moves_may_take_long_and_what_stands_still_may_not() {
        assert_eq!(upload(45, true).unwrap(), 201, "longer than nothing may move");
        assert_eq!(upload(1, false).unwrap_err().to_string(), "no response within 1.5 s");
    }
}
