//! A push through a relay (`--via`): one node receives the blobs once, keeps them in a cache, and pushes them on to the
//! other nodes, which only the relay needs to reach. The relay runs this program as its login user. It logs in to the
//! other nodes with its own keys, `known_hosts` and configuration; no SSH agent is forwarded to it. Uses `crate::push`
//! and its dependencies.

mod cache;
mod eviction;
mod order;
mod serve;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use miette::Diagnostic;
use oci_spec::image::Descriptor;
use thiserror::Error;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use vcstore::{Blob, Digest, Image};

use crate::images::plan::BlobTransfer;
use crate::nodes::Node;
use crate::protocol::proto::relay_client::RelayClient;
use crate::protocol::proto::{CachedBlob, InterruptRequest, PrepareRequest, PushRequest};
use crate::push::report::{Blobs, NodeResult, PlanReport, PushReport, RelayReport};
use crate::push::{self, Push};
use crate::runtime::transfer::{ConnectionPool, PoolTarget, send_blob};
use crate::runtime::{self, Event, RetryHint, SentCounter};
use crate::session::{self, CachePath, Job, Session};
use crate::transport::{self, SshOptions};
use order::{Hop, NamedImage, NodeEvent, NodeEventKind, Order, Outcome, Target};
pub use serve::serve;

/// The number of blobs that are transferred to the relay at once.
const AT_ONCE: usize = 2;

/// The time limit for the relay to report what it lacks.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// The time limit for an orderly stop of the push on the relay.
const STOP_WITHIN: Duration = Duration::from_secs(60);

/// The relay and its settings.
#[derive(Debug, Clone)]
pub struct Via {
    /// The node.
    pub node: Node,
    /// The folder of its cache; `None` for the login user's default.
    pub cache: Option<CachePath>,
    /// The maximum size of its cache in bytes. The images of the push count but are never evicted.
    pub cache_limit: u64,
    /// `KEYWORD=VALUE` options for the relay's ssh, as after its `-o`.
    pub ssh_options: Vec<String>,
}

/// The result of a push through a relay.
#[derive(Debug)]
pub struct RelayOutcome {
    /// The result for each node.
    pub outcomes: Vec<push::Outcome>,
    /// The report of a push.
    pub pushed: PushReport,
    /// The report of a plan.
    pub planned: PlanReport,
}

impl RelayOutcome {
    /// Builds the result of a push without a relay.
    pub(crate) fn without(outcomes: Vec<push::Outcome>, elapsed: Duration) -> Self {
        let (pushed, planned) = (PushReport::new(&outcomes, elapsed), PlanReport::new(&outcomes));
        Self { outcomes, pushed, planned }
    }
}

/// Why nothing could be pushed through a relay.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The relay cannot reach a node in the way that this machine does.
    #[error("{node} cannot be pushed to by way of a relay: {why}")]
    Node {
        /// The node.
        node: String,
        /// The reason.
        why: &'static str,
    },
    /// The relay itself failed.
    #[error("relaying through {name}: {source}")]
    Relay {
        /// The relay.
        name: String,
        /// The cause.
        source: Box<runtime::Error>,
    },
}

impl Diagnostic for Error {
    fn help<'a>(&'a self) -> Option<Box<dyn std::fmt::Display + 'a>> {
        match self {
            Self::Node { .. } => Some(Box::new("leave the node out (--exclude), and push to it without --via")),
            // The relay is a node too, so the same help applies.
            Self::Relay { source, .. } => source.help(),
        }
    }
}

impl Error {
    /// Converts the error to the error of a push to one of the nodes.
    pub(crate) fn of_node(&self) -> runtime::Error {
        match self {
            Self::Relay { source, .. } if matches!(**source, runtime::Error::Interrupted) => {
                runtime::Error::Interrupted
            }
            _ => runtime::Error::Helper {
                message: self.to_string(),
                help: self.help().map(|help| help.to_string()).unwrap_or_default(),
                retry: RetryHint::No,
            },
        }
    }
}

/// Checks that a relay can reach this node.
///
/// # Errors
/// Returns an error if only this machine can reach it.
pub(crate) fn check(node: &Node) -> Result<(), Error> {
    target(node).map(drop)
}

/// Pushes to `nodes` through the relay `via`, and reports events of the relay and of the nodes to `watch`.
///
/// # Errors
/// Returns an error if a relay cannot reach one of the nodes, or if the relay fails. The outcome of each node contains
/// the node's error.
pub async fn push(
    push: &Push,
    via: &Via,
    nodes: Vec<Node>,
    ssh: &SshOptions,
    watch: impl Fn(&Node, Event<'_>),
    cancel: &CancellationToken,
) -> Result<RelayOutcome, Error> {
    let begun = Instant::now();
    let order = order(push, via, &nodes, ssh)?;
    let sent = Arc::new(SentCounter::within(push.share(1).limits));
    let relay = RelayPush { push, via, nodes: &nodes, order: &order, watch: &watch, cancel, sent: &sent };
    let (mut attempts, mut relay_events) = (0, RelayEvents::new(&nodes));
    let outcomes = loop {
        let why = match relay.once(ssh, attempts, &mut relay_events).await {
            Ok(outcomes) => break outcomes,
            Err(error) => error,
        };
        let failed = |source| Error::Relay { name: via.node.name.clone(), source: Box::new(source) };
        if attempts >= push.retries || !why.is_transient(sent.bytes() > 0) {
            return Err(failed(why));
        }
        let pause = runtime::pause(&via.node.name, attempts);
        watch(&via.node, Event::Retrying { why: &why.to_string(), pause });
        tokio::select! {
            () = tokio::time::sleep(pause) => attempts += 1,
            () = cancel.cancelled() => return Err(failed(runtime::Error::Interrupted)),
        }
    };
    watch(&via.node, Event::Ended { succeeded: true });
    let relayed = RelayReport { name: via.node.name.clone(), blobs_sent: sent.blobs(), bytes_sent: sent.bytes() };
    let (reports, plans) = outcomes.iter().map(|outcomes| (outcomes.report.clone(), outcomes.plan.clone())).unzip();
    Ok(RelayOutcome {
        pushed: PushReport::of(reports, Some(relayed), begun.elapsed()),
        planned: PlanReport::of(plans),
        outcomes: nodes.into_iter().zip(outcomes).map(|(node, outcomes)| outcomes.of(node)).collect(),
    })
}

fn target(node: &Node) -> Result<Target, Error> {
    Target::of(node).map_err(|why| Error::Node { node: node.name.clone(), why })
}

fn order(push: &Push, via: &Via, nodes: &[Node], ssh: &SshOptions) -> Result<Order, Error> {
    Ok(Order {
        images: push
            .images
            .iter()
            .map(|image| NamedImage { name: image.name.clone(), target: image.target.clone() })
            .collect(),
        nodes: nodes.iter().map(target).collect::<Result<_, _>>()?,
        ssh: Hop::of(ssh, &via.ssh_options),
        containerd_namespace: push.settings.namespace.to_string(),
        containerd_address: push.settings.address.as_ref().map(|address| address.path().to_string()),
        parallel: push.parallel,
        retries: push.retries,
        helper: push.helper,
        rate: push.rate,
        rate_per_node: push.rate_per_node,
        connections: push.connections,
        at: push.at.to_string(),
        dry_run: push.dry_run,
        cache_limit: via.cache_limit,
    })
}

impl Outcome {
    fn of(self, node: Node) -> push::Outcome {
        let error = self.error.map(|(message, help)| {
            let help = help.unwrap_or_else(|| "log in to the relay, and from there to the node".into());
            runtime::Error::Helper { message, help, retry: RetryHint::No }
        });
        push::Outcome {
            node,
            planned: None,
            via: self.report.via,
            blobs_sent: self.blobs_sent,
            bytes_sent: self.report.bytes.sent,
            elapsed: self.elapsed,
            error,
        }
    }
}

/// A running push through a relay.
struct RelayPush<'a, W> {
    push: &'a Push,
    via: &'a Via,
    nodes: &'a [Node],
    order: &'a Order,
    watch: &'a W,
    cancel: &'a CancellationToken,
    sent: &'a Arc<SentCounter>,
}

impl<W: Fn(&Node, Event<'_>)> RelayPush<'_, W> {
    async fn once(
        &self,
        ssh: &SshOptions,
        attempts: u32,
        relay_events: &mut RelayEvents<'_>,
    ) -> Result<Vec<Outcome>, runtime::Error> {
        let transport = transport::to_node(&self.via.node, ssh);
        let job = Job::Relay { cache: self.via.cache.as_ref(), stall_timeout: self.push.settings.stall_timeout };
        let opening = async { Ok(Session::begin(transport.as_ref(), &self.push.binary, job).await?) };
        let session = runtime::until_cancelled(self.cancel, opening).await?;
        let most = self.push.share(1).connections.checked_shr(attempts).unwrap_or(0).max(1);
        let target = PoolTarget { session: &session, transport: transport.as_ref(), binary: &self.push.binary, most };
        let result = self.with(target, relay_events).await;
        match (result, session.close().await) {
            // The client sees only that a broken connection is silent; ssh reports the cause.
            (Err(runtime::Error::Connection(_)), Err(ended)) => Err(session::Error::from(ended).into()),
            (result, _) => result,
        }
    }

    async fn with(
        &self,
        target: PoolTarget<'_>,
        relay_events: &mut RelayEvents<'_>,
    ) -> Result<Vec<Outcome>, runtime::Error> {
        runtime::until_cancelled(self.cancel, self.fill(target)).await?;
        let client = target.session.relay();
        let order = serde_json::to_vec(self.order).map_err(|error| runtime::Error::Reader(error.into()))?;
        let mut events = client.clone().push(PushRequest { order }).await?.into_inner();
        relay_events.begin();
        let mut interrupted = None;
        loop {
            let stopping = async {
                match interrupted {
                    Some(deadline) => tokio::time::sleep_until(deadline).await,
                    None => self.cancel.cancelled().await,
                }
            };
            tokio::select! {
                event = events.message() => match event? {
                    Some(event) => relay_events.receive(&event.told, self.watch)?,
                    None => break,
                },
                () = stopping => {
                    if interrupted.is_some() {
                        return Err(runtime::Error::Interrupted);
                    }
                    interrupted = Some(tokio::time::Instant::now() + STOP_WITHIN);
                    let asked = timeout(ANSWER_WITHIN, client.clone().interrupt(InterruptRequest {})).await;
                    asked.map_err(|_| runtime::Error::slow("an answer"))??;
                }
            }
        }
        relay_events.end()
    }

    /// Sends the blobs that the relay's cache lacks.
    async fn fill(&self, target: PoolTarget<'_>) -> Result<(), runtime::Error> {
        let wanted = wanted(&self.push.images, self.nodes, self.push.dry_run);
        let total = wanted.values().sum();
        let blobs =
            wanted.iter().map(|(digest, size)| CachedBlob { digest: digest.to_string(), size: *size }).collect();
        let names = self.push.images.iter().map(|image| image.name.clone()).collect();
        let request = PrepareRequest { blobs, names, cache_limit: self.via.cache_limit };
        let answer = timeout(ANSWER_WITHIN, target.session.relay().prepare(request)).await;
        let answer = answer.map_err(|_| runtime::Error::slow("what its cache lacks"))??.into_inner();
        let lacking: Vec<BlobTransfer> = answer
            .lacking
            .iter()
            .filter_map(|part| {
                let digest = part.digest.parse().ok()?;
                let size = *wanted.get(&digest)?;
                // The relay may not claim to have more bytes than the blob has.
                Some(BlobTransfer { blob: Blob { digest, size }, offset: part.offset.min(size) })
            })
            .collect();
        if lacking.is_empty() {
            return Ok(());
        }
        let bytes = lacking.iter().map(|transfer| transfer.blob.size - transfer.offset).sum();
        (self.watch)(&self.via.node, Event::Sending { blobs: lacking.len(), bytes, total, sent: self.sent });
        let pool = &ConnectionPool::new(target.session);
        let transfer = stream::iter(lacking)
            .map(|transfer| async move {
                let fill =
                    |channel, parts| async move { RelayClient::new(channel).fill(parts).await.map(drop) }.boxed_local();
                send_blob(pool, &self.push.store, transfer, self.sent, &fill).await
            })
            .buffer_unordered(AT_ONCE)
            .try_collect();
        tokio::select! {
            done = transfer => done,
            never = pool.widen(target, bytes, self.sent) => match never {},
        }
    }
}

/// Returns the blobs that the relay needs for these nodes, with their sizes: every document, and the layers for the
/// nodes' architectures if these are all known, or else for all. A plan needs no layers.
fn wanted(images: &[Image], nodes: &[Node], dry_run: bool) -> BTreeMap<Digest, u64> {
    let processors: Option<BTreeSet<&str>> = nodes.iter().map(|node| node.architecture.as_deref()).collect();
    let mut wanted = BTreeMap::new();
    for image in images {
        let mut add = |descriptor: &Descriptor| {
            wanted.extend(Digest::try_from(descriptor.digest()).ok().map(|digest| (digest, descriptor.size())));
        };
        add(&image.target);
        for platform in &image.platforms {
            add(&platform.manifest);
            add(&platform.config);
            platform.indexes.iter().for_each(&mut add);
        }
        let meant = |platform: &str| processors.as_ref().is_none_or(|known| known.contains(platform));
        for platform in image.platforms.iter().filter(|one| !dry_run && meant(&one.platform.architecture)) {
            wanted.extend(platform.layers.iter().map(|layer| (layer.digest, layer.size)));
        }
    }
    wanted
}

/// The state of the nodes as the relay reports it.
struct RelayEvents<'a> {
    nodes: &'a [Node],
    progress: Vec<NodeProgress>,
}

/// The state of one node.
#[derive(Default)]
struct NodeProgress {
    /// The number of blobs that the node lacked in the first report.
    lacked: Option<usize>,
    /// The number of bytes that were sent to it before the connection to the relay broke.
    before: u64,
    sent: Arc<SentCounter>,
    outcome: Option<Outcome>,
}

impl<'a> RelayEvents<'a> {
    fn new(nodes: &'a [Node]) -> Self {
        Self { nodes, progress: nodes.iter().map(|_| NodeProgress::default()).collect() }
    }

    /// Starts a connection to the relay, or restarts it after it broke.
    fn begin(&mut self) {
        for progress in &mut self.progress {
            progress.before += std::mem::take(&mut progress.sent).bytes();
            progress.outcome = None;
        }
    }

    fn receive(&mut self, event: &[u8], watch: &impl Fn(&Node, Event<'_>)) -> Result<(), runtime::Error> {
        let NodeEvent { node: place, kind } =
            serde_json::from_slice(event).map_err(|error| runtime::Error::Reader(error.into()))?;
        let (Some(node), Some(progress)) = (self.nodes.get(place), self.progress.get_mut(place)) else { return Ok(()) };
        match kind {
            NodeEventKind::Sending { blobs, bytes, total } => {
                progress.lacked.get_or_insert(blobs);
                watch(node, Event::Sending { blobs, bytes, total, sent: &progress.sent });
            }
            NodeEventKind::Sent(bytes) => progress.sent.reach(bytes),
            NodeEventKind::WithoutHelper { why } => watch(node, Event::WithoutHelper { why: &why }),
            NodeEventKind::Retrying { why, pause } => watch(node, Event::Retrying { why: &why, pause }),
            NodeEventKind::Finished { image, unpacked } => watch(node, Event::Finished { image: &image, unpacked }),
            NodeEventKind::Ended { succeeded } => watch(node, Event::Ended { succeeded }),
            NodeEventKind::Outcome(outcome) => progress.outcome = Some(*outcome),
        }
        Ok(())
    }

    fn end(&mut self) -> Result<Vec<Outcome>, runtime::Error> {
        let whole: Option<Vec<Outcome>> = self.progress.iter_mut().map(NodeProgress::outcome).collect();
        whole.ok_or_else(|| runtime::Error::slow("the outcome of its push"))
    }
}

impl NodeProgress {
    /// Returns the total result: the relay reports only on its last connection.
    fn outcome(&mut self) -> Option<Outcome> {
        let mut outcome = self.outcome.take()?;
        if let Some(lacked) = self.lacked.map(|blobs| blobs as u64) {
            let report = &mut outcome.report;
            let came = lacked.saturating_sub(report.blobs.needed);
            report.blobs = Blobs { needed: lacked, sent: report.blobs.sent.saturating_add(came) };
            report.bytes.sent = report.bytes.sent.saturating_add(self.before);
            outcome.blobs_sent = outcome.blobs_sent.saturating_add(came);
            if report.result == NodeResult::UpToDate {
                report.result = NodeResult::Pushed;
            }
        }
        Some(outcome)
    }
}
