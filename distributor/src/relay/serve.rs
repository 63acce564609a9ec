//! The relay's side: it receives blobs into its cache, and pushes from there to the ordered nodes over its own SSH.

use std::collections::BTreeSet;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use camino::Utf8PathBuf;
use futures::{Stream, StreamExt};
use miette::Diagnostic;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status, Streaming};
use vcstore::Digest;

use super::cache::{Cache, Error, PartialBlobFile};
use super::eviction::HeldImages;
use super::order::{NodeEvent, NodeEventKind, Order, Outcome};
use crate::agent::reassembly::{IncomingBlobs, Piece};
use crate::agent::{self, stdio};
use crate::images::unpacked_size;
use crate::nodes::Node;
use crate::protocol::proto::relay_server::{Relay, RelayServer};
use crate::protocol::proto::{
    InterruptRequest, InterruptResponse, PartialBlob, PrepareRequest, PrepareResponse, PushEvent, PushRequest,
    WriteRequest, WriteResponse,
};
use crate::protocol::{failure, retry_from_start};
use crate::push;
use crate::push::report::{self, NodePlan, NodeReport};
use crate::runtime::{Event, SentCounter};
use crate::session::{Binary, Settings};
use crate::transport;

/// The interval at which the operator is told the number of bytes sent to each node.
const TELL_EVERY: Duration = Duration::from_millis(500);

/// The time limit for an orderly stop of a push whose operator is gone.
const STOP_WITHIN: Duration = Duration::from_secs(30);

/// Relays one push over stdin and stdout, until stdin ends.
///
/// # Errors
/// Returns an error if stdin and stdout are not a connection.
pub async fn serve(cache: Option<Utf8PathBuf>, stall_timeout: Duration) -> Result<(), agent::Error> {
    let service = RelayService {
        cache,
        opened: Mutex::default(),
        held: Mutex::default(),
        push: Mutex::default(),
        incoming: IncomingBlobs::default(),
    };
    let service = Arc::new(service);
    let served = stdio::serve(Routes::new(RelayServer::from_arc(Arc::clone(&service))), stall_timeout).await;
    if let Some(push) = service.running() {
        push.cancel.cancel();
        if tokio::time::timeout(STOP_WITHIN, push.ended).await.is_err() {
            tracing::warn!("the push does not stop; its helpers give their leases back when they are left");
        }
    }
    served
}

struct RelayService {
    cache: Option<Utf8PathBuf>,
    opened: Mutex<Option<Cache>>,
    /// The locks on the images of the push, which last until this process ends.
    held: Mutex<Option<HeldImages>>,
    push: Mutex<Option<ActivePush>>,
    incoming: IncomingBlobs,
}

/// A running push.
struct ActivePush {
    cancel: CancellationToken,
    ended: oneshot::Receiver<()>,
}

impl RelayService {
    /// Returns the cache, which is opened at the first request, so that an error can be reported.
    fn cache(&self) -> Result<Cache, Status> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cache) = &*opened {
            return Ok(cache.clone());
        }
        let cache = Cache::open(self.cache.clone()).map_err(|error| status_of(&error))?;
        Ok(opened.insert(cache).clone())
    }

    fn running(&self) -> Option<ActivePush> {
        self.push.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[tonic::async_trait]
impl Relay for RelayService {
    async fn prepare(&self, request: Request<PrepareRequest>) -> Result<Response<PrepareResponse>, Status> {
        let cache = self.cache()?;
        let PrepareRequest { blobs, names, cache_limit } = request.into_inner();
        let (mut needed, mut lacking, mut coming) = (0, Vec::new(), BTreeSet::new());
        for blob in blobs {
            let digest = digest(&blob.digest)?;
            if let Some(offset) = cache.lacks(&digest) {
                needed += blob.size.saturating_sub(offset);
                lacking.push(PartialBlob { digest: blob.digest, offset: offset.min(blob.size) });
                coming.insert(digest);
            }
        }
        let making = tokio::task::spawn_blocking(move || {
            let held = cache.hold(&names)?;
            cache.make_room(cache_limit, needed, &coming)?;
            cache.check_room(needed).map(|()| held)
        });
        let held =
            making.await.map_err(|error| Status::internal(error.to_string()))?.map_err(|error| status_of(&error))?;
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(held);
        Ok(Response::new(PrepareResponse { lacking }))
    }

    async fn fill(&self, request: Request<Streaming<WriteRequest>>) -> Result<Response<WriteResponse>, Status> {
        let cache = self.cache()?;
        let Some((header, mut parts)) = self.incoming.receive(request.into_inner()).await? else {
            return Ok(Response::new(WriteResponse::default()));
        };
        let digest = digest(&header.digest)?;
        let (sender, mut queue) = mpsc::channel::<Piece>(1);
        let writing = tokio::task::spawn_blocking(move || -> io::Result<Option<bool>> {
            let mut part: PartialBlobFile = cache.part_from(digest, header.size, header.offset)?;
            while let Some(piece) = queue.blocking_recv() {
                match piece {
                    Piece::Data(bytes) => part.add(&bytes)?,
                    Piece::GivenUp => return part.abandon().map(|()| None),
                }
            }
            cache.take(part).map(Some)
        });
        // A stream that breaks leaves a partial blob; one that ends normally is complete.
        while let Some(piece) = parts.next().await? {
            if sender.send(piece).await.is_err() {
                break;
            }
        }
        drop(sender);
        let written = writing.await.map_err(|error| Status::internal(error.to_string()))?;
        match written {
            Ok(there) => Ok(Response::new(WriteResponse { already_there: there.unwrap_or(false) })),
            // Another push may have removed the partial blob meanwhile.
            Err(error) if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput) => {
                Err(retry_from_start(format!("the relay has no good part of blob {digest}: {error}")))
            }
            Err(error) => Err(failure(
                Code::ResourceExhausted,
                format!("writing blob {digest} into the relay's cache: {error}"),
                "look at the relay's disk, or name a folder on another one with --relay-cache",
            )),
        }
    }

    type PushStream = Pin<Box<dyn Stream<Item = Result<PushEvent, Status>> + Send>>;

    async fn push(&self, request: Request<PushRequest>) -> Result<Response<Self::PushStream>, Status> {
        let order: Order = serde_json::from_slice(&request.get_ref().order)
            .map_err(|error| Status::invalid_argument(format!("reading the order: {error}")))?;
        let cache = self.cache()?;
        let (sender, events) = mpsc::unbounded_channel();
        let cancel = CancellationToken::new();
        let (done, ended) = oneshot::channel();
        let running = ActivePush { cancel: cancel.clone(), ended };
        *self.push.lock().unwrap_or_else(PoisonError::into_inner) = Some(running);
        let runtime = tokio::runtime::Handle::current();
        // Runs on a blocking thread, because the future of a push is not `Send`.
        tokio::task::spawn_blocking(move || {
            let pushed = runtime.block_on(carry_out(order, cache, &sender, &cancel));
            if let Err(status) = pushed {
                // The receiver may be gone.
                let _ = sender.send(Err(status));
            }
            let _ = done.send(());
        });
        Ok(Response::new(UnboundedReceiverStream::new(events).boxed()))
    }

    async fn interrupt(&self, _: Request<InterruptRequest>) -> Result<Response<InterruptResponse>, Status> {
        let push = self.push.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(push) = &*push {
            push.cancel.cancel();
        }
        Ok(Response::new(InterruptResponse {}))
    }
}

type EventSender = mpsc::UnboundedSender<Result<PushEvent, Status>>;

async fn carry_out(order: Order, cache: Cache, sender: &EventSender, cancel: &CancellationToken) -> Result<(), Status> {
    let store = cache.store.clone();
    let mut images = Vec::new();
    for named in &order.images {
        store.tag(&named.name, &named.target).map_err(|error| status_of(&Error::from(error)))?;
        images.push(store.image(&named.name).map_err(|error| status_of(&Error::from(error)))?);
    }
    let unread = |words: &str| Status::invalid_argument(words.to_owned());
    let settings = Settings {
        namespace: order.containerd_namespace.parse().map_err(unread)?,
        address: order.containerd_address.as_deref().map(str::parse).transpose().map_err(unread)?,
        stall_timeout: order.ssh.stall_timeout,
    };
    let push = push::Push {
        store,
        images,
        binary: Binary::this().map_err(|error| status_of(&error))?,
        settings,
        parallel: order.parallel,
        retries: order.retries,
        helper: order.helper,
        unpacked_sizes: unpacked_size::KnownSizes::default(),
        rate: order.rate,
        connections: order.connections,
        rate_per_node: order.rate_per_node,
        at: order.at.parse().map_err(|error| unread(&format!("reading when the push began: {error}")))?,
        dry_run: order.dry_run,
    };
    let ssh = order.ssh.options();
    let nodes: Vec<Node> = order.nodes.into_iter().map(super::order::Target::node).collect();
    let names: Vec<String> = nodes.iter().map(|node| node.name.clone()).collect();
    let counters: Mutex<Vec<Option<Arc<SentCounter>>>> = Mutex::new(vec![None; names.len()]);
    let watch = |node: &Node, event: Event<'_>| {
        let Some(place) = names.iter().position(|name| *name == node.name) else { return };
        if let Event::Sending { sent, .. } = event {
            counters.lock().unwrap_or_else(PoisonError::into_inner)[place] = Some(Arc::clone(sent));
        }
        send_event(sender, place, event_kind(event));
    };
    let counting = async {
        loop {
            tokio::time::sleep(TELL_EVERY).await;
            let counters = counters.lock().unwrap_or_else(PoisonError::into_inner);
            for (place, sent) in counters.iter().enumerate() {
                if let Some(sent) = sent {
                    send_event(sender, place, NodeEventKind::Sent(sent.bytes()));
                }
            }
        }
    };
    let outcomes = tokio::select! {
        outcomes = push.run(nodes, |node| transport::to_node(node, &ssh), watch, cancel) => outcomes,
        () = counting => Vec::new(),
    };
    for (place, outcome) in outcomes.iter().enumerate() {
        let error =
            outcome.error.as_ref().map(|error| (report::one_line(error), error.help().map(|help| help.to_string())));
        let outcome = Outcome {
            report: NodeReport::new(outcome),
            plan: NodePlan::new(outcome),
            blobs_sent: outcome.blobs_sent,
            elapsed: outcome.elapsed,
            error,
        };
        send_event(sender, place, NodeEventKind::Outcome(Box::new(outcome)));
    }
    let cleared = tokio::task::spawn_blocking(move || {
        cache.make_room(order.cache_limit, 0, &BTreeSet::new())?;
        cache.clear()
    });
    let cleared = cleared.await;
    if let Ok(Err(error)) = cleared {
        tracing::warn!("{error}");
    }
    Ok(())
}

fn event_kind(event: Event<'_>) -> NodeEventKind {
    match event {
        Event::Sending { blobs, bytes, total, .. } => NodeEventKind::Sending { blobs, bytes, total },
        Event::WithoutHelper { why } => NodeEventKind::WithoutHelper { why: why.into() },
        Event::Retrying { why, pause } => NodeEventKind::Retrying { why: why.into(), pause },
        Event::Finished { image, unpacked } => NodeEventKind::Finished { image: image.into(), unpacked },
        Event::Ended { succeeded } => NodeEventKind::Ended { succeeded },
    }
}

fn send_event(sender: &EventSender, node: usize, kind: NodeEventKind) {
    let told = serde_json::to_vec(&NodeEvent { node, kind }).map_err(|error| Status::internal(error.to_string()));
    // If the operator is gone, nobody receives the event.
    let _ = sender.send(told.map(|told| PushEvent { told }));
}

fn digest(text: &str) -> Result<Digest, Status> {
    text.parse().map_err(|_| Status::invalid_argument(format!("{text} is no digest")))
}

/// Converts an error to a status that contains the help text.
fn status_of(error: &(impl Diagnostic + ?Sized)) -> Status {
    let help = error.help().map(|help| help.to_string()).unwrap_or_default();
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(this) = cause {
        message += &format!(": {this}");
        cause = this.source();
    }
    failure(Code::FailedPrecondition, message, help)
}
