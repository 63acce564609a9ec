//! Orders the parts of a blob, which arrive over several connections at once, for the receiver.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use futures::{Stream, StreamExt};
use prost::bytes::Bytes;
use tokio::sync::Notify;
use tonic::Status;

use crate::protocol::proto::write_request::Part;
use crate::protocol::proto::{Data, WriteHeader, WriteRequest};

/// The maximum number of bytes of one blob that wait for earlier parts, which a slow connection may delay.
const AHEAD: usize = 8 << 20;

/// The blobs that are being received by this process.
#[derive(Debug, Default)]
pub(crate) struct IncomingBlobs(Mutex<HashMap<String, Weak<Reassembly>>>);

/// A blob that is being received.
#[derive(Debug, Default)]
struct Reassembly {
    state: Mutex<State>,
    /// Notified when a part arrives or is taken, or when the blob is abandoned.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    early: BTreeMap<u64, Bytes>,
    /// The number of bytes in `early`.
    held: usize,
    /// The offset of the next part, or `None` until a receiver has begun.
    next: Option<u64>,
    given_up: bool,
    abandoned: bool,
}

/// An item in the sequence of a blob.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// The next bytes.
    Data(Bytes),
    /// The sender found that its own copy is damaged.
    GivenUp,
}

impl IncomingBlobs {
    /// Handles the stream of a connection. Returns the blob's header and its parts; or `None`, after the end of the
    /// stream, if the stream carried further parts of a blob that another stream began.
    pub(crate) async fn receive<S>(&self, mut stream: S) -> Result<Option<(WriteHeader, Parts<S>)>, Status>
    where
        S: Stream<Item = Result<WriteRequest, Status>> + Unpin,
    {
        let first = stream.next().await.transpose()?.and_then(|request| request.part);
        let Some(Part::Header(header)) = first else {
            return Err(Status::invalid_argument("a blob begins with its header"));
        };
        let reassembly = self.reassembly(&header);
        if !header.further {
            return Ok(Some((header, Parts { stream, reassembly, reached: None, ended: false })));
        }
        while let Some(request) = stream.next().await.transpose()? {
            match request.part {
                Some(Part::Data(data)) => reassembly.put_in_turn(data).await?,
                Some(Part::Abort(_)) => reassembly.give_up(),
                Some(Part::Header(_)) => return Err(Status::invalid_argument("a stream carries one blob")),
                None => {}
            }
        }
        // The parts would be lost without a receiver, and the receiver's stream may be the last to arrive.
        drop(reassembly.until(|state| state.next.is_some()).await?);
        Ok(None)
    }

    /// Returns the reassembly of the blob in this header. The streams arrive in any order; the first one creates it.
    fn reassembly(&self, header: &WriteHeader) -> Arc<Reassembly> {
        let mut reassemblies = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        reassemblies.retain(|_, reassembly| reassembly.strong_count() > 0);
        let known = reassemblies.get(&header.digest).and_then(Weak::upgrade).filter(|known| {
            let state = known.state();
            !state.abandoned && (header.further || state.next.is_none())
        });
        let reassembly = known.unwrap_or_default();
        if !header.further {
            reassembly.state().next = Some(header.offset);
            reassembly.changed.notify_waiters();
        }
        reassemblies.insert(header.digest.clone(), Arc::downgrade(&reassembly));
        reassembly
    }
}

impl Reassembly {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a part once there is room for it. The part that is needed next always has room, so there is no deadlock.
    async fn put_in_turn(&self, data: Data) -> Result<(), Status> {
        let has_room = |state: &State| state.held < AHEAD || state.next == Some(data.offset);
        self.until(|state| !state.abandoned && has_room(state)).await?.put(data);
        self.changed.notify_waiters();
        Ok(())
    }

    fn give_up(&self) {
        self.state().given_up = true;
        self.changed.notify_waiters();
    }

    /// Waits until `is_so` holds. Returns an error if the receiver has abandoned the blob.
    async fn until(&self, is_so: impl Fn(&State) -> bool) -> Result<MutexGuard<'_, State>, Status> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            {
                let state = self.state();
                if is_so(&state) {
                    return Ok(state);
                }
                if state.abandoned {
                    return Err(Status::cancelled("nobody takes this blob in any more"));
                }
            }
            changed.await;
        }
    }
}

impl State {
    fn put(&mut self, Data { offset, bytes }: Data) {
        self.held += bytes.len();
        if let Some(twice) = self.early.insert(offset, bytes) {
            self.held -= twice.len();
        }
    }

    /// Removes and returns the next piece, if it is present.
    fn take(&mut self) -> Option<Piece> {
        if self.given_up {
            return Some(Piece::GivenUp);
        }
        let bytes = self.early.remove(&self.next?)?;
        self.held -= bytes.len();
        self.next = self.next.map(|next| next + bytes.len() as u64);
        Some(Piece::Data(bytes))
    }
}

/// The parts of a blob in order, from all its streams. Dropping it makes all streams abandon the blob.
pub(crate) struct Parts<S> {
    stream: S,
    reassembly: Arc<Reassembly>,
    /// The offset of the last part that arrived over this stream, or `None` before the first.
    reached: Option<u64>,
    ended: bool,
}

impl<S: Stream<Item = Result<WriteRequest, Status>> + Unpin> Parts<S> {
    /// Returns the next piece, or `None` at the end of the stream, which comes after the end of every other stream.
    pub(crate) async fn next(&mut self) -> Result<Option<Piece>, Status> {
        let Self { stream, reassembly, reached, ended } = self;
        loop {
            let changed = reassembly.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            // The parts of a stream are in order: a stream that is already further does not carry the next part.
            let (piece, hears) = {
                let mut state = reassembly.state();
                let hears = state.held < AHEAD || *reached < state.next;
                (state.take(), hears)
            };
            if piece.is_some() {
                reassembly.changed.notify_waiters();
                return Ok(piece);
            }
            if *ended {
                return Ok(None);
            }
            tokio::select! {
                request = stream.next(), if hears => match request.transpose()? {
                    None => *ended = true,
                    Some(WriteRequest { part: Some(Part::Data(data)) }) => {
                        *reached = Some(data.offset);
                        reassembly.state().put(data);
                    }
                    Some(WriteRequest { part: Some(Part::Abort(_)) }) => reassembly.give_up(),
                    Some(WriteRequest { part: Some(Part::Header(_)) }) => {
                        return Err(Status::invalid_argument("a stream carries one blob"));
                    }
                    Some(WriteRequest { part: None }) => {}
                },
                () = changed => {}
            }
        }
    }
}

impl<S> Drop for Parts<S> {
    fn drop(&mut self) {
        self.reassembly.state().abandoned = true;
        self.reassembly.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::stream::{self, BoxStream};
    use proptest::prelude::*;
    use tokio::sync::mpsc;
    use tokio::time::timeout;
    use tokio_stream::wrappers::ReceiverStream;

    use super::*;
    use crate::protocol::proto::Abort;

    type Requests = BoxStream<'static, Result<WriteRequest, Status>>;

    fn header(further: bool, offset: u64) -> WriteRequest {
        let header = WriteHeader { digest: "sha256:x".into(), size: 0, offset, further };
        WriteRequest { part: Some(Part::Header(header)) }
    }

    fn data(offset: u64, bytes: Bytes) -> WriteRequest {
        WriteRequest { part: Some(Part::Data(Data { offset, bytes })) }
    }

    fn stream_of(requests: Vec<WriteRequest>) -> Requests {
        stream::iter(requests.into_iter().map(Ok)).boxed()
    }

    /// Returns the bytes that are received of a blob from these streams, of which the first is the receiver's.
    async fn taken(reassemblies: &IncomingBlobs, streams: Vec<Requests>) -> Result<Vec<u8>, Status> {
        let mut streams = streams.into_iter();
        let first = streams.next().expect("a stream");
        let further = futures::future::try_join_all(streams.map(|stream| reassemblies.receive(stream)));
        let whole = async {
            let (_, mut parts) = reassemblies.receive(first).await?.expect("a header");
            let mut whole = Vec::new();
            while let Some(piece) = parts.next().await? {
                match piece {
                    Piece::Data(bytes) => whole.extend_from_slice(&bytes),
                    Piece::GivenUp => return Err(Status::aborted("given up")),
                }
            }
            Ok(whole)
        };
        let both = futures::future::try_join(further, whole);
        let (_, whole) = timeout(Duration::from_secs(20), both).await.expect("nothing waits for ever")?;
        Ok(whole)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Parts of up to 1 MiB are distributed to the streams in any way: the result is the blob, even though it is
        /// larger than the limit of waiting bytes.
        #[test]
        fn parts_come_out_in_order(deal in prop::collection::vec((0usize..4, 1usize..1 << 20), 1..48), skip in 0u64..1000) {
            let mut streams: Vec<_> = (0..4).map(|place| vec![header(place > 0, skip)]).collect();
            let (mut whole, mut offset) = (Vec::new(), skip);
            for (place, length) in deal {
                let bytes = vec![offset as u8; length];
                whole.extend_from_slice(&bytes);
                streams[place].push(data(offset, bytes.into()));
                offset += length as u64;
            }
            let (reassemblies, runtime) = (IncomingBlobs::default(), tokio::runtime::Runtime::new().expect("a runtime"));
            // As with a real sender, the first stream ends after the others.
            let (ended, end) = mpsc::channel::<Result<WriteRequest, Status>>(1);
            let streams = streams.into_iter().enumerate().map(|(place, requests)| {
                let ended = ended.clone();
                match place {
                    0 => stream_of(requests),
                    _ => stream_of(requests).chain(stream::once(async move { drop(ended); Ok(WriteRequest { part: None }) })).boxed(),
                }
            });
            let mut streams: Vec<_> = streams.collect();
            drop(ended);
            streams[0] = std::mem::replace(&mut streams[0], stream::empty().boxed()).chain(ReceiverStream::new(end)).boxed();
            let taken = runtime.block_on(taken(&reassemblies, streams)).expect("a blob");
            prop_assert!(taken == whole);
        }
    }

    #[tokio::test]
    async fn the_first_part_is_taken_in_though_others_came_before_it_as_many_as_may_wait() {
        let part = |place: usize| data((place << 20) as u64, vec![place as u8; 1 << 20].into());
        let last = AHEAD >> 20;
        // Until the last part is next, the other stream waits, and the first has not been read yet.
        let further = [header(true, 0)].into_iter().chain((1..=last).map(part)).collect();
        let first = stream_of(vec![header(false, 0), part(0)]).chain(stream::pending());
        let reassemblies = IncomingBlobs::default();
        let taking = async {
            let (_, mut parts) = reassemblies.receive(first).await.expect("ours").expect("a header");
            for place in 0..=last {
                let piece = parts.next().await.expect("ours").expect("a piece");
                assert!(matches!(piece, Piece::Data(bytes) if bytes[0] == place as u8));
            }
        };
        let both = futures::future::join(reassemblies.receive(stream_of(further)), taking);
        let (heard, ()) = timeout(Duration::from_secs(20), both).await.expect("nothing waits for ever");
        assert!(heard.expect("ours").is_none());
    }

    #[tokio::test]
    async fn no_more_waits_than_may() {
        let reassemblies = IncomingBlobs::default();
        let part = |place: u64| data((1 + place) << 20, vec![0; 1 << 20].into());
        let (sender, requests) = mpsc::channel(1);
        let receiving = reassemblies.receive(ReceiverStream::new(requests));
        let sending = async move {
            sender.send(Ok(header(true, 0))).await.expect("a listener");
            let mut count = 0;
            while timeout(Duration::from_secs(2), sender.send(Ok(part(count)))).await.is_ok() {
                count += 1;
            }
            count
        };
        tokio::select! {
            _ = receiving => panic!("it waits for what comes first"),
            count = sending => assert!((8..12).contains(&count), "{count}"),
        }
    }

    #[tokio::test]
    async fn who_brings_a_blob_that_nobody_takes_is_told() {
        let reassemblies = IncomingBlobs::default();
        let (_, parts) =
            reassemblies.receive(stream_of(vec![header(false, 0)])).await.expect("ours").expect("a header");
        let far = (9..20).map(|place| data(place << 20, vec![0; 1 << 20].into()));
        let further = reassemblies.receive(stream_of([header(true, 0)].into_iter().chain(far).collect()));
        let (result, ()) = futures::future::join(further, async { drop(parts) }).await;
        assert_eq!(result.err().expect("an error").code(), tonic::Code::Cancelled);
    }

    #[tokio::test]
    async fn a_blob_is_given_up_by_whichever_stream_says_so() {
        let abort = || WriteRequest { part: Some(Part::Abort(Abort {})) };
        let reassemblies = IncomingBlobs::default();
        let open = || stream::pending().boxed();
        let streams =
            vec![stream_of(vec![header(false, 0)]).chain(open()).boxed(), stream_of(vec![header(true, 0), abort()])];
        assert_eq!(taken(&reassemblies, streams).await.expect_err("given up").code(), tonic::Code::Aborted);
        assert!(taken(&reassemblies, vec![stream_of(vec![header(false, 0), abort()])]).await.is_err());
        // The next attempt starts from the beginning.
        let again = stream_of(vec![header(false, 0), data(0, Bytes::from_static(b"whole"))]);
        assert_eq!(taken(&reassemblies, vec![again]).await.expect("a blob"), b"whole");
    }
}
