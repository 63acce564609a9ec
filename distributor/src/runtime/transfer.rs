//! Carries a plan out on one node: what it counts on is held, blobs stream from the store, images are finished as soon as
//! their last blob is there.

use std::convert::Infallible;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::LocalBoxFuture;
use futures::stream::{self, BoxStream, FuturesUnordered};
use futures::{FutureExt, Stream, StreamExt, TryStreamExt};
use prost::bytes::Bytes;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::timeout;
use tonic::transport::Channel;
use vcstore::{Digest, Store};

use crate::images::desired_image::DesiredImage;
use crate::images::inventory::Inventory;
use crate::images::plan::{self, ImagePlan, Plan, Sending, State};
use crate::images::push_label::{PushedImage, Time};
use crate::protocol::proto::helper_client::HelperClient;
use crate::protocol::proto::write_request::Part;
use crate::protocol::proto::{Abort, Data, HelloRequest, HoldRequest, ReleaseRequest, WriteHeader, WriteRequest};
use crate::protocol::{self, CHUNK, proto};
use crate::push::{Error, Event, RetryHint};
use crate::runtime::connection_pool::{ConnectionPool, PoolTarget};
use crate::runtime::rate::Limits;
use crate::session::{self, Session};

/// Blobs under way to one node at once: one is read and hashed while another waits for the node.
const AT_ONCE: usize = 2;

/// Bytes of a blob from which on it goes over all the connections there are.
const DIVIDED_FROM: u64 = 1 << 20;

/// How long a node may take to say what it has.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// How long a node may take to collect its garbage.
const REMOVED_WITHIN: Duration = Duration::from_secs(600);

/// How long a node may take to unpack and record one image.
const FINISH_WITHIN: Duration = Duration::from_secs(1800);

/// What was sent so far to one node; kept when the transfer fails.
#[derive(Debug, Default)]
pub struct Sent {
    blobs: AtomicU64,
    bytes: AtomicU64,
    limits: Limits,
}

impl Sent {
    /// Nothing yet, to go no faster than this.
    pub(crate) fn within(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Waits until so many bytes may go. On a thread that may block.
    pub(crate) fn wait(&self, bytes: usize) {
        self.limits.wait(bytes);
    }

    /// Whether it may go no faster than some rate.
    pub(crate) fn is_limited(&self) -> bool {
        self.limits.is_limited()
    }

    /// Counts a blob of so many bytes as it is read.
    pub(crate) fn counting<R: Read>(&self, reader: R, length: u64) -> Counting<'_, R> {
        Counting { reader, sent: self, left: length }
    }

    /// Counts what another counted: so many bytes are gone by now.
    pub(crate) fn reach(&self, bytes: u64) {
        self.bytes.fetch_max(bytes, Ordering::Relaxed);
    }

    /// Blobs that arrived whole.
    pub(crate) fn blobs(&self) -> u64 {
        self.blobs.load(Ordering::Relaxed)
    }

    /// Bytes of blobs, whole or not.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// A blob that is counted as it is read.
pub(crate) struct Counting<'a, R> {
    reader: R,
    sent: &'a Sent,
    /// Bytes that are yet to be read.
    left: u64,
}

impl<R: Read> Read for Counting<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.sent.bytes.fetch_add(count as u64, Ordering::Relaxed);
        let was_left = self.left;
        self.left = was_left.saturating_sub(count as u64);
        if was_left > 0 && self.left == 0 {
            self.sent.blobs.fetch_add(1, Ordering::Relaxed);
        }
        Ok(count)
    }
}

/// Asks a node what it is and what it has of `images`, on whatever platform, in one round trip.
pub(crate) async fn take_inventory(
    client: &HelperClient<Channel>,
    images: &[vcstore::Image],
) -> Result<Inventory, Error> {
    let wanted = DesiredImage::on_any_platform(images);
    let (mut greeter, mut asker) = (client.clone(), client.clone());
    let answers =
        async { tokio::try_join!(greeter.hello(HelloRequest {}), asker.inventory(Inventory::question(&wanted))) };
    let (hello, inventory) = timeout(ANSWER_WITHIN, answers).await.map_err(|_| Error::slow("its inventory"))??;
    Ok(Inventory::read(hello.get_ref(), inventory.into_inner()))
}

/// Asks a node which containers run there.
pub(crate) async fn list_containers(client: &HelperClient<Channel>) -> Result<Vec<proto::Container>, Error> {
    let answer = timeout(ANSWER_WITHIN, client.clone().containers(proto::ContainersRequest {})).await;
    Ok(answer.map_err(|_| Error::slow("its containers"))??.into_inner().containers)
}

/// Ends a session in which no client is left. Of a connection that broke, its end tells why.
pub(crate) async fn ended<T>(session: Session, asked: Result<T, Error>) -> Result<T, Error> {
    match (asked, session.close().await) {
        (Err(Error::Connection(_)), Err(ended)) => Err(session::Error::from(ended).into()),
        (asked, _) => asked,
    }
}

/// Asks a node which images were pushed to it.
pub(crate) async fn list_pushes(client: &HelperClient<Channel>) -> Result<Vec<PushedImage>, Error> {
    let answer = timeout(ANSWER_WITHIN, client.clone().pushes(proto::PushesRequest {})).await;
    let images = answer.map_err(|_| Error::slow("its images"))??.into_inner().images;
    Ok(images.into_iter().filter_map(PushedImage::read).collect())
}

/// Removes these records of ours on a node, unless a container needs them; or says what that would come to.
pub(crate) async fn remove(
    client: &HelperClient<Channel>,
    request: proto::RemoveRequest,
) -> Result<proto::RemoveResponse, Error> {
    let answer = timeout(REMOVED_WITHIN, client.clone().remove(request)).await;
    Ok(answer.map_err(|_| Error::slow("the end of its garbage collection"))??.into_inner())
}

/// Takes the push's lease and puts what the plan counts on under it; whether all of it is still there.
pub(crate) async fn hold(client: &HelperClient<Channel>, plan: &Plan) -> Result<bool, Error> {
    let text = |digests: &std::collections::BTreeSet<Digest>| digests.iter().map(ToString::to_string).collect();
    let request =
        HoldRequest { digests: text(&plan.kept), chain_ids: text(&plan.kept_snapshots), drop: text(&plan.damaged) };
    let answer = timeout(ANSWER_WITHIN, client.clone().hold(request)).await;
    let held = answer.map_err(|_| Error::slow("a lease"))??.into_inner();
    Ok(held.digests.len() == plan.kept.len() && held.chain_ids.len() == plan.kept_snapshots.len())
}

/// Sends and finishes every image of the plan that needs it.
pub(crate) async fn carry_out(
    target: PoolTarget<'_>,
    store: &Store,
    plan: &Plan,
    at: Time,
    sent: &Arc<Sent>,
    on_event: &(dyn Fn(Event<'_>) + Sync),
) -> Result<(), Error> {
    let (client, pool) = (&target.session.client(), &ConnectionPool::new(target.session));
    // Two lanes: while one image is unpacked, the blobs of the next are on their target.
    let (arrived, mut finishing) = mpsc::channel::<&ImagePlan>(plan.images.len().max(1));
    let sending = async move {
        for image in plan.images.iter().filter(|image| image.state != State::UpToDate) {
            stream::iter(image.send.clone())
                .map(|sending| async move { send(pool, store, sending, sent).await })
                .buffer_unordered(AT_ONCE)
                .try_collect::<()>()
                .await?;
            if arrived.send(image).await.is_err() {
                break;
            }
        }
        Ok(())
    };
    let finishing = async {
        while let Some(image) = finishing.recv().await {
            let request = image.wanted.finish(at, |digest| image.absent.contains(digest));
            let answer = timeout(FINISH_WITHIN, client.clone().finish(request)).await;
            let answer = answer.map_err(|_| Error::slow("an unpacked image"))??;
            on_event(Event::Finished { image: image.wanted.name(), unpacked: answer.get_ref().unpacked });
        }
        Ok(())
    };
    let work = async { futures::try_join!(sending, finishing).map(|_: ((), ())| ()) };
    tokio::select! {
        done = work => done,
        never = pool.widen(target, plan.bytes_to_send(), sent) => match never {},
    }
}

/// Gives the lease back.
pub(crate) async fn release(client: &HelperClient<Channel>) -> Result<(), Error> {
    let answer = timeout(ANSWER_WITHIN, client.clone().release(ReleaseRequest {})).await;
    answer.map_err(|_| Error::slow("the end of its lease"))??;
    Ok(())
}

async fn send(pool: &ConnectionPool, store: &Store, sending: Sending, sent: &Arc<Sent>) -> Result<(), Error> {
    let write = |channel, parts| async move { HelperClient::new(channel).write(parts).await.map(drop) }.boxed_local();
    send_blob(pool, store, sending, sent, &write).await
}

/// Sends a blob of the store to whoever takes it with `write`; from its start, where what was there of it was bad.
pub(crate) async fn send_blob(
    pool: &ConnectionPool,
    store: &Store,
    sending: Sending,
    sent: &Arc<Sent>,
    write: &Write,
) -> Result<(), Error> {
    let again = Sending { offset: 0, ..sending };
    match stream_blob(pool, store, sending, sent, write).await {
        Err(Error::Helper { retry: RetryHint::FromStart, .. }) if sending.offset > 0 => {
            stream_blob(pool, store, again, sent, write).await
        }
        result => result,
    }
}

/// The messages that carry a blob over one connection.
pub(crate) type Requests = BoxStream<'static, WriteRequest>;

/// Has whoever is at the other end of a connection take a blob in.
pub(crate) type Write = dyn Fn(Channel, Requests) -> Answer;

/// What becomes of that.
type Answer = LocalBoxFuture<'static, Result<(), tonic::Status>>;

/// Streams a blob: every connection takes the next part when it has room for one.
async fn stream_blob(
    pool: &ConnectionPool,
    store: &Store,
    Sending { blob, offset }: Sending,
    sent: &Arc<Sent>,
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
    // The first connection's stream ends last: its end says that every part is there.
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
                // The blob is taken in no more: the first connection is told why, which may be that it is there by now.
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
    // The reader ends first when it fails, and soon after the node when the node does.
    let fed = match fed {
        Some(fed) => fed,
        None => feeding.await,
    };
    fed.map_err(|error| Error::Reader(io::Error::other(error)))??;
    answer?;
    sent.blobs.fetch_add(1, Ordering::Relaxed);
    tracing::debug!(digest = %blob.digest, size = blob.size, offset, "blob sent");
    Ok(())
}

/// The parts of a blob, for whichever connection has room for the next.
struct Queue(Arc<Mutex<mpsc::Receiver<Part>>>);

impl Queue {
    /// The header, and then what this connection gets of the parts.
    fn requests(&self, header: WriteHeader) -> impl Stream<Item = WriteRequest> + Send + use<> {
        let parts = stream::unfold(Arc::clone(&self.0), async |queue| {
            let part = queue.lock().await.recv().await?;
            Some((part, queue))
        });
        stream::iter([Part::Header(header)]).chain(parts).map(|part| WriteRequest { part: Some(part) })
    }
}

/// Reads a blob and feeds it to its streams, on a thread that may block.
struct Feed<'a> {
    parts: mpsc::Sender<Part>,
    sent: &'a Sent,
    /// Bytes at the start that the node has. They are read all the same: the hash is over the whole blob.
    skip: u64,
    /// The place of the part that is next.
    reached: u64,
}

impl Feed<'_> {
    /// The last part is held back until the store has found the blob sound, so a damaged one is never whole on a node.
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

    /// Passes on what the node lacks of `data`; false when it wants no more.
    fn data(&mut self, mut data: Bytes) -> bool {
        let known = usize::try_from(self.skip - self.reached.min(self.skip)).unwrap_or(usize::MAX).min(data.len());
        self.reached += known as u64;
        let bytes = data.split_off(known);
        let (length, offset) = (bytes.len() as u64, self.reached);
        self.reached += length;
        self.sent.wait(bytes.len());
        let wanted = bytes.is_empty() || self.pass(Part::Data(Data { offset, bytes }));
        if wanted {
            self.sent.bytes.fetch_add(length, Ordering::Relaxed);
        }
        wanted
    }

    fn pass(&self, part: Part) -> bool {
        self.parts.blocking_send(part).is_ok()
    }
}

/// Up to [`CHUNK`] bytes; none at the end.
fn read_part(blob: &mut impl Read) -> io::Result<Bytes> {
    let mut part = Vec::with_capacity(CHUNK);
    blob.take(CHUNK as u64).read_to_end(&mut part)?;
    Ok(part.into())
}

impl From<tonic::Status> for Error {
    fn from(status: tonic::Status) -> Self {
        match protocol::details(&status) {
            Some(details) => Self::Helper {
                message: status.message().into(),
                help: details.help,
                retry: match status.code() {
                    _ if details.retry_from_start => RetryHint::FromStart,
                    _ if details.no_containerd => RetryHint::OtherRuntime,
                    tonic::Code::Unavailable => RetryHint::Later,
                    _ => RetryHint::No,
                },
            },
            None => Self::Connection(Box::new(status)),
        }
    }
}

impl From<vcstore::Error> for Error {
    fn from(error: vcstore::Error) -> Self {
        Self::Store(Box::new(error))
    }
}

impl From<plan::Error> for Error {
    fn from(error: plan::Error) -> Self {
        Self::Plan(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a feed passes on for a blob of these bytes, of which the node has `skip`.
    fn fed(bytes: impl Read, size: u64, skip: u64) -> (io::Result<()>, Vec<Part>, u64) {
        let (parts, mut queue) = mpsc::channel(64);
        let sent = Sent::default();
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
