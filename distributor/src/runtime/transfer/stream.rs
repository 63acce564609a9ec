//! Streams a blob of the store over all open connections to the receiver: a helper, or a relay.

use std::convert::Infallible;
use std::io::{self, Read};
use std::sync::Arc;

use futures::future::LocalBoxFuture;
use futures::stream::{self, BoxStream, FuturesUnordered};
use futures::{Stream, StreamExt};
use prost::bytes::Bytes;
use tokio::sync::{Mutex, mpsc, oneshot};
use tonic::transport::Channel;
use vcstore::Store;

use super::{ConnectionPool, SentCounter};
use crate::images::plan::BlobTransfer;
use crate::protocol::CHUNK;
use crate::protocol::proto::write_request::Part;
use crate::protocol::proto::{Abort, Data, WriteHeader, WriteRequest};
use crate::runtime::{Error, RetryHint};

/// The size, in bytes, from which a blob is divided between the connections.
const DIVIDED_FROM: u64 = 1 << 20;

/// Sends a blob of the store with the request `write`. If the receiver's partial blob was damaged, sends it again from
/// the start.
pub(crate) async fn send_blob(
    pool: &ConnectionPool,
    store: &Store,
    sending: BlobTransfer,
    sent: &Arc<SentCounter>,
    write: &Write,
) -> Result<(), Error> {
    let again = BlobTransfer { offset: 0, ..sending };
    match stream_blob(pool, store, sending, sent, write).await {
        Err(Error::Helper { retry: RetryHint::FromStart, .. }) if sending.offset > 0 => {
            stream_blob(pool, store, again, sent, write).await
        }
        result => result,
    }
}

/// The messages that carry a blob over one connection.
pub(crate) type Requests = BoxStream<'static, WriteRequest>;

/// The request that makes the receiver accept a blob.
pub(crate) type Write = dyn Fn(Channel, Requests) -> Answer;

/// The response to that request.
type Answer = LocalBoxFuture<'static, Result<(), tonic::Status>>;

/// Streams a blob. Each connection takes the next part when it has room for one.
async fn stream_blob(
    pool: &ConnectionPool,
    store: &Store,
    BlobTransfer { blob, offset }: BlobTransfer,
    sent: &Arc<SentCounter>,
    write: &Write,
) -> Result<(), Error> {
    let (parts, queue) = mpsc::channel(1);
    let queue = Queue(Arc::new(Mutex::new(queue)));
    let header = |further| WriteHeader { digest: blob.digest.to_string(), size: blob.size, offset, further };
    let (store, counted) = (store.clone(), Arc::clone(sent));
    let mut feeding = tokio::task::spawn_blocking(move || {
        let feed = Feed { parts, sent: &counted, skip: offset, reached: 0 };
        feed.run(store.reader(&blob.digest)?, blob.size).map_err(|source| Error::Blob {
            digest: blob.digest,
            store: store.path().to_owned(),
            source,
        })
    });
    // The stream of the first connection ends last: its end tells the receiver that every part has arrived.
    let (hold, held) = oneshot::channel::<Infallible>();
    let (mut hold, held) = (Some(hold), stream::once(held).filter_map(async |_| None));
    let mut connections = pool.one_by_one();
    let mut first = write(connections.next().await, queue.requests(header(false)).chain(held).boxed());
    let mut further = FuturesUnordered::<Answer>::new();
    let mut fed = None;
    let answer = loop {
        if fed.is_some() && further.is_empty() {
            hold = None;
        }
        tokio::select! {
            answer = &mut first => break answer,
            Some(answer) = further.next() => match answer {
                // The receiver accepts no more of this blob. The first connection reports the reason, for example that
                // the blob is already present.
                Err(status) if status.code() == tonic::Code::Cancelled => {}
                answer => answer?,
            },
            end = &mut feeding, if fed.is_none() => fed = Some(end),
            channel = connections.next(), if fed.is_none() && blob.size - offset >= DIVIDED_FROM => {
                further.push(write(channel, queue.requests(header(true)).boxed()));
            }
        }
    };
    drop((hold, further, queue));
    // The reader ends first if it fails itself, and soon after the node if the node fails.
    let fed = match fed {
        Some(fed) => fed,
        None => feeding.await,
    };
    fed.map_err(|error| Error::Reader(io::Error::other(error)))??;
    answer?;
    sent.add_blob();
    tracing::debug!(digest = %blob.digest, size = blob.size, offset, "blob sent");
    Ok(())
}

/// The queue of parts, from which all connections take.
struct Queue(Arc<Mutex<mpsc::Receiver<Part>>>);

impl Queue {
    /// The messages of one connection: the header, then the parts that it takes from the queue.
    fn requests(&self, header: WriteHeader) -> impl Stream<Item = WriteRequest> + Send + use<> {
        let parts = stream::unfold(Arc::clone(&self.0), async |queue| {
            let part = queue.lock().await.recv().await?;
            Some((part, queue))
        });
        stream::iter([Part::Header(header)]).chain(parts).map(|part| WriteRequest { part: Some(part) })
    }
}

/// Reads a blob and fills the queue. Runs on a thread that may block.
struct Feed<'a> {
    parts: mpsc::Sender<Part>,
    sent: &'a SentCounter,
    /// Bytes at the start that the receiver has. They are read nevertheless, because the hash covers the whole blob.
    skip: u64,
    /// The offset of the next part.
    reached: u64,
}

impl Feed<'_> {
    /// Holds the last part back until the store has verified the blob, so that a damaged blob is never complete on a node.
    fn run(mut self, mut blob: impl Read, size: u64) -> io::Result<()> {
        let (mut held, mut total) = (Bytes::new(), 0);
        loop {
            let part = match read_part(&mut blob) {
                Ok(part) => part,
                Err(error) => {
                    self.pass(Part::Abort(Abort {}));
                    return Err(error);
                }
            };
            let last = part.is_empty();
            total += part.len() as u64;
            if last && total != size {
                self.pass(Part::Abort(Abort {}));
                let why = format!("it has {total} bytes and should have {size}");
                return Err(io::Error::new(io::ErrorKind::InvalidData, why));
            }
            let ready = std::mem::replace(&mut held, part);
            if !self.data(ready) || last {
                return Ok(());
            }
        }
    }

    /// Queues the bytes of `data` that the receiver lacks. Returns false if the receiver accepts no more.
    fn data(&mut self, mut data: Bytes) -> bool {
        let known = usize::try_from(self.skip - self.reached.min(self.skip)).unwrap_or(usize::MAX).min(data.len());
        self.reached += known as u64;
        let bytes = data.split_off(known);
        let (length, offset) = (bytes.len() as u64, self.reached);
        self.reached += length;
        self.sent.wait(bytes.len());
        let wanted = bytes.is_empty() || self.pass(Part::Data(Data { offset, bytes }));
        if wanted {
            self.sent.add_bytes(length);
        }
        wanted
    }

    fn pass(&self, part: Part) -> bool {
        self.parts.blocking_send(part).is_ok()
    }
}

/// Reads up to [`CHUNK`] bytes. Returns none at the end of the blob.
fn read_part(blob: &mut impl Read) -> io::Result<Bytes> {
    let mut part = Vec::with_capacity(CHUNK);
    blob.take(CHUNK as u64).read_to_end(&mut part)?;
    Ok(part.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns what a feed sends for a blob of these bytes if the node already has `skip` of them.
    fn fed(bytes: impl Read, size: u64, skip: u64) -> (io::Result<()>, Vec<Part>, u64) {
        let (parts, mut queue) = mpsc::channel(64);
        let sent = SentCounter::default();
        let result = Feed { parts, sent: &sent, skip, reached: 0 }.run(bytes, size);
        let mut passed = Vec::new();
        while let Ok(part) = queue.try_recv() {
            passed.push(part);
        }
        (result, passed, sent.bytes())
    }

    fn data(parts: &[Part]) -> Vec<u8> {
        let bytes = |part: &Part| if let Part::Data(data) = part { data.bytes.to_vec() } else { Vec::new() };
        parts.iter().flat_map(bytes).collect()
    }

    #[test]
    fn a_blob_is_fed_whole_or_from_its_offset() {
        let blob: Vec<u8> = (0..3 * CHUNK + 17).map(|i| (i % 251) as u8).collect();
        for skip in [0, 1, CHUNK, CHUNK + 5, blob.len() - 1, blob.len()] {
            let (result, parts, sent) = fed(blob.as_slice(), blob.len() as u64, skip as u64);
            result.expect("a sound blob");
            assert_eq!(data(&parts), blob[skip..]);
            assert_eq!(sent, (blob.len() - skip) as u64);
            let mut next = skip as u64;
            for part in parts {
                let Part::Data(Data { offset, bytes }) = part else { panic!("{part:?}") };
                assert_eq!(offset, next);
                next += bytes.len() as u64;
            }
        }
    }

    #[test]
    fn a_blob_that_turns_out_bad_at_its_end_is_never_whole() {
        struct Bad(usize);
        impl Read for Bad {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                if self.0 == 0 {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "damaged"));
                }
                let count = self.0.min(buffer.len());
                self.0 -= count;
                Ok(count)
            }
        }
        for size in [1, CHUNK, 2 * CHUNK + 3] {
            let (result, parts, _) = fed(Bad(size), size as u64, 0);
            assert_eq!(result.expect_err("damaged").to_string(), "damaged");
            assert!(data(&parts).len() < size, "the end is held back");
            assert!(matches!(parts.last(), Some(Part::Abort(_))));
        }
        let (result, parts, _) = fed(&b"short"[..], 6, 0);
        assert_eq!(result.expect_err("too short").to_string(), "it has 5 bytes and should have 6");
        assert!(matches!(parts.last(), Some(Part::Abort(_))));
    }
}
