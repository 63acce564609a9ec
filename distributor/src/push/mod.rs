//! A push: every node at once, each on its own, so that what fails on one is nothing to another.

pub mod report;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use camino::Utf8PathBuf;
use futures::{StreamExt, stream};
use miette::Diagnostic;
use thiserror::Error;
use tokio_util::sync::CancellationToken;
use vcstore::{Digest, Image, Platform, Store};

use crate::images::desired_image::DesiredImage;
use crate::images::inventory::Inventory;
use crate::images::plan::{self, Plan};
use crate::images::push_label::Time;
use crate::images::unpacked_size;
use crate::nodes::{Node, Runtime};
use crate::runtime::connection_pool::{self, PoolTarget};
use crate::runtime::ctr::{self, Ctr};
use crate::runtime::engine::{self, Engine};
use crate::runtime::rate::{Limits, Rate};
use crate::runtime::transfer;
pub use crate::runtime::transfer::Sent;
use crate::session::{self, Binary, Session, Settings};
use crate::transport::{self, Transport};

/// How often a plan is made anew because the node changed between inventory and lease.
const ATTEMPTS: usize = 3;

/// How long to wait before a node is tried again, the first time; twice as long each time after.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// How long to wait at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What is pushed, and how.
#[derive(Debug, Clone)]
pub struct Push {
    /// Where the blobs are.
    pub store: Store,
    /// The images, in the order they are sent.
    pub images: Vec<Image>,
    /// The program that becomes the helper.
    pub binary: Binary,
    /// How the helper finds containerd.
    pub settings: Settings,
    /// Nodes under way at once.
    pub parallel: usize,
    /// How often a node is tried again whose connection broke.
    pub retries: u32,
    /// Whether nodes run the helper.
    pub helper: UseHelper,
    /// What layers unpack to, as far as it is known.
    pub(crate) unpacked_sizes: unpacked_size::KnownSizes,
    /// How fast blobs may leave for all nodes together.
    pub rate: Option<Rate>,
    /// How many connections may go to each node; as many as pay, where it is not said.
    pub connections: Option<NonZeroUsize>,
    /// How fast blobs may leave for each node.
    pub rate_per_node: Option<Rate>,
    /// When it began, by the operator's clock: noted on the nodes.
    pub at: Time,
    /// Stop once the plan is made.
    pub dry_run: bool,
}

/// Whether nodes run the helper.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
pub enum UseHelper {
    /// Wherever it can run; where it cannot, the node's `ctr` does the work.
    #[default]
    Auto,
    /// Nowhere: every node's `ctr` does the work.
    Never,
}

/// By which way a node was worked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Via {
    /// The helper, on containerd's own interface.
    Helper,
    /// The node's `ctr`.
    Ctr,
    /// The node's `docker load`.
    Docker,
    /// The node's skopeo.
    Skopeo,
    /// The node's podman.
    Podman,
}

impl Via {
    /// Its name, as reports have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Helper => "helper",
            Self::Ctr => "ctr",
            Self::Docker => "docker load",
            Self::Skopeo => "skopeo",
            Self::Podman => "podman",
        }
    }
}

/// What happens on a node while it is pushed to.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Event<'a> {
    /// Blobs begin to move.
    Sending {
        /// How many.
        blobs: usize,
        /// Their bytes.
        bytes: u64,
        /// The bytes of everything, there or not.
        total: u64,
        /// What of them has gone: counts on.
        sent: &'a Arc<Sent>,
    },
    /// No helper runs there; its `ctr` does the work.
    WithoutHelper {
        /// Why.
        why: &'a str,
    },
    /// The connection broke; the push goes on where it stopped after a pause.
    Retrying {
        /// What happened.
        why: &'a str,
        /// How long the pause is.
        pause: Duration,
    },
    /// An image is whole on the node, checked.
    Finished {
        /// Its name.
        image: &'a str,
        /// How many layers were unpacked.
        unpacked: u32,
    },
    /// Nothing more happens on the node.
    Ended {
        /// Whether the images are there.
        succeeded: bool,
    },
}

/// How it went on one node.
#[derive(Debug)]
pub struct Outcome {
    /// The node.
    pub node: Node,
    /// What was planned, where it came to that.
    pub planned: Option<Planned>,
    /// By which way it was worked on, where it came to that.
    pub via: Option<Via>,
    /// Blobs sent whole.
    pub blobs_sent: u64,
    /// Bytes sent.
    pub bytes_sent: u64,
    /// How long it took.
    pub elapsed: Duration,
    /// Why it failed, if it did.
    pub error: Option<Error>,
}

/// The plan for a node, and what it was made from.
#[derive(Debug)]
pub struct Planned {
    /// The first plan; a push may have had to send more when the node lost something meanwhile.
    pub plan: Plan,
    /// What was there.
    pub inventory: Inventory,
}

/// Why a push failed on a node.
#[derive(Debug, Error, Diagnostic)]
#[non_exhaustive]
pub enum Error {
    /// The node's runtime is none that a push can serve.
    #[error("its container runtime is {name} {version}, and images are pushed to containerd, Docker and CRI-O only")]
    #[diagnostic(help("leave the node out (--exclude, --selector), or give it one of these"))]
    Runtime {
        /// Its name.
        name: String,
        /// Its version.
        version: String,
    },
    /// No helper.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Session(#[from] session::Error),
    /// No way without a helper either.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Ctr(#[from] ctr::Error),
    /// No way through Docker or CRI-O.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Engine(#[from] engine::Error),
    /// No plan.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Plan(plan::Error),
    /// The helper says why.
    #[error("{message}")]
    #[diagnostic(help("{help}"))]
    Helper {
        /// In its words.
        message: String,
        /// What to do.
        help: String,
        /// Whether another attempt can succeed.
        retry: RetryHint,
    },
    /// The connection to the helper failed.
    #[error("speaking to the helper: {}", .0.message())]
    #[diagnostic(help("try again; what a push has sent is kept and not sent twice"))]
    Connection(Box<tonic::Status>),
    /// The node takes too long.
    #[error("the node did not give {what} in time")]
    #[diagnostic(help("see on the node whether containerd answers (`ctr version`), then push again"))]
    Slow {
        /// What was waited for.
        what: &'static str,
    },
    /// The node loses content as fast as it is counted.
    #[error("the node lost blobs between inventory and lease, {ATTEMPTS} times over")]
    #[diagnostic(help("something removes content there: see `journalctl -u containerd -u kubelet` on the node"))]
    Unsteady,
    /// The operator stopped it.
    #[error("stopped before all was done")]
    #[diagnostic(help("try again; what a push has sent is kept and not sent twice"))]
    Interrupted,
    /// The store lacks something.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Store(Box<vcstore::Error>),
    /// A blob of the store is bad.
    #[error("reading blob {digest} of the store {store}")]
    #[diagnostic(help(
        "nothing of it stands on the node; build or import the image again (`vcbuild images`), then push"
    ))]
    Blob {
        /// The blob.
        digest: Digest,
        /// The store.
        store: Utf8PathBuf,
        /// Why it cannot be sent.
        #[source]
        source: io::Error,
    },
    /// The thread that reads a blob failed.
    #[error("reading a blob of the store")]
    Reader(#[source] io::Error),
}

/// Whether what the helper could not do can succeed if it is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryHint {
    /// Not by itself.
    No,
    /// At once: the node had a part of the blob that was bad, and has dropped it.
    FromStart,
    /// A little later: its containerd was away.
    Later,
    /// In another way: there is no containerd, and may be another runtime.
    OtherRuntime,
}

impl Error {
    pub(crate) fn slow(what: &'static str) -> Self {
        Self::Slow { what }
    }

    /// Why the way to the node failed, where that is what did.
    fn of_the_way(&self) -> Option<&transport::Error> {
        match self {
            Self::Session(session::Error::Transport(error))
            | Self::Ctr(ctr::Error::Transport(error))
            | Self::Engine(engine::Error::Script(ctr::Error::Transport(error))) => Some(error),
            _ => None,
        }
    }

    /// What went wrong, in the words of the connection where it is one that broke: nothing is lost yet.
    fn transient_words(&self) -> String {
        match self.of_the_way() {
            Some(transport::Error::Lost { said, .. }) => said.clone(),
            _ => self.to_string(),
        }
    }

    /// Whether it may well be over in a moment: what was there and broke. A node that never answered (`reached` is false) is
    /// more likely to have another name, or to be off.
    pub(crate) fn is_transient(&self, reached: bool) -> bool {
        match (self, self.of_the_way()) {
            (Self::Connection(_), _) => true,
            (Self::Helper { retry, .. }, _) => reached && *retry == RetryHint::Later,
            // Who refuses is there, and its sshd may be on its way back.
            (
                _,
                Some(transport::Error::Lost { .. } | transport::Error::Hangs { .. } | transport::Error::Refused { .. }),
            ) => true,
            (_, Some(transport::Error::Unreachable { .. })) => reached,
            _ => false,
        }
    }
}

/// Does `work`, unless it is interrupted: then it is dropped under way, which ends its connection, and the node puts itself
/// in order.
pub(crate) async fn unless<T>(
    cancel: &CancellationToken,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    tokio::select! {
        result = work => result,
        () = cancel.cancelled() => Err(Error::Interrupted),
    }
}

/// Asks `work` of a node, and again, up to `retries` times, where the way there broke off in passing: what a push does by itself.
pub(crate) async fn persist<T, W>(node: &str, retries: u32, work: impl Fn() -> W) -> Result<T, Error>
where
    W: Future<Output = Result<T, Error>>,
{
    let mut attempts = 0;
    loop {
        let why = match work().await {
            Err(why) if attempts < retries && why.is_transient(false) => why,
            ended => return ended,
        };
        let pause = pause(node, attempts);
        if attempts == 0 {
            tracing::warn!("{node}: {}; trying again, {retries} times at most", why.transient_words());
        }
        tokio::time::sleep(pause).await;
        attempts += 1;
    }
}

/// How long to wait before the attempt after this many. Nodes that broke off together come back one after another.
pub(crate) fn pause(node: &str, attempts: u32) -> Duration {
    let mut hasher = DefaultHasher::new();
    node.hash(&mut hasher);
    let spread = Duration::from_millis(hasher.finish() % 500);
    FIRST_PAUSE.saturating_mul(1 << attempts.min(16)).min(LONGEST_PAUSE) + spread
}

impl Push {
    /// Pushes to every node of `nodes`, reached by what `connect` makes, telling `watch` what happens meanwhile. The
    /// outcomes are in the order of the nodes.
    pub async fn run(
        &self,
        nodes: Vec<Node>,
        connect: impl Fn(&Node) -> Box<dyn Transport> + Sync,
        watch: impl Fn(&Node, Event<'_>) + Sync,
        cancel: &CancellationToken,
    ) -> Vec<Outcome> {
        let (connect, watch, share) = (&connect, &watch, &self.share(nodes.len()));
        stream::iter(nodes)
            .map(|node| self.one(node, share, connect, watch, cancel))
            .buffered(self.parallel.max(1))
            .collect()
            .await
    }

    /// What each of so many nodes has of what all share.
    pub(crate) fn share(&self, nodes: usize) -> Share {
        let fair = || connection_pool::most(nodes.min(self.parallel));
        Share {
            limits: Limits::default().and(self.rate),
            connections: self.connections.map_or_else(fair, NonZeroUsize::get),
        }
    }

    /// Pushes to one node, within what all share.
    pub(crate) async fn one(
        &self,
        node: Node,
        share: &Share,
        connect: &(impl Fn(&Node) -> Box<dyn Transport> + Sync),
        watch: &(impl Fn(&Node, Event<'_>) + Sync),
        cancel: &CancellationToken,
    ) -> Outcome {
        let sent = Arc::new(Sent::within(share.limits.and(self.rate_per_node)));
        let begun = Instant::now();
        let mut progress = Progress { connections: share.connections, ..Progress::default() };
        let on_event = |event: Event<'_>| watch(&node, event);
        let mut attempts = 0;
        let error = loop {
            match self.to(&node, connect, &on_event, &sent, &mut progress, cancel).await {
                Ok(()) => break None,
                Err(why) if attempts < self.retries && why.is_transient(progress.planned.is_some()) => {
                    let pause = pause(&node.name, attempts);
                    on_event(Event::Retrying { why: &why.to_string(), pause });
                    tokio::select! {
                        () = tokio::time::sleep(pause) => attempts += 1,
                        () = cancel.cancelled() => break Some(Error::Interrupted),
                    }
                    // It may have been one too many.
                    progress.connections /= 2;
                }
                Err(error) => break Some(error),
            }
        };
        on_event(Event::Ended { succeeded: error.is_none() });
        let Progress { planned, via, .. } = progress;
        Outcome {
            planned,
            via,
            blobs_sent: sent.blobs(),
            bytes_sent: sent.bytes(),
            elapsed: begun.elapsed(),
            error,
            node,
        }
    }

    async fn to(
        &self,
        node: &Node,
        connect: &(impl Fn(&Node) -> Box<dyn Transport> + Sync),
        on_event: &(dyn Fn(Event<'_>) + Sync),
        sent: &Arc<Sent>,
        progress: &mut Progress,
        cancel: &CancellationToken,
    ) -> Result<(), Error> {
        let engine = engine_of(node)?;
        if let Some(architecture) = &node.architecture {
            plan::check_platform(&self.images, &Platform::linux(architecture))?;
        }
        if node.ready == Some(false) {
            let doing = if self.dry_run { "asking" } else { "pushing to" };
            tracing::warn!("{} is not Ready; {doing} it all the same", node.name);
        }
        let transport = connect(node);
        let transport = transport.as_ref();
        if let Some(engine) = engine {
            return unless(cancel, self.through(engine, transport, on_event, sent, progress)).await;
        }
        if self.helper == UseHelper::Never {
            return unless(cancel, self.without_helper(transport, on_event, sent, progress)).await;
        }
        let opening = async { Ok(Session::open(transport, &self.binary, &self.settings).await) };
        let session = match unless(cancel, opening).await? {
            Ok(session) => session,
            Err(why) if why.means_no_helper() => {
                on_event(Event::WithoutHelper { why: &why.to_string() });
                return unless(cancel, self.without_helper(transport, on_event, sent, progress)).await;
            }
            Err(error) => return Err(error.into()),
        };
        let result = unless(cancel, self.with(&session, transport, on_event, sent, progress)).await;
        if matches!(result, Err(Error::Interrupted)) {
            // The helper gives its lease back anyway when it is left; asked for, it has done so before this ends.
            if let Err(error) = transfer::release(&session.client()).await {
                tracing::debug!("{}: {error}", node.name);
            }
        }
        match (result, session.close().await) {
            (Err(why @ Error::Helper { retry: RetryHint::OtherRuntime, .. }), _) => {
                match unless(cancel, async { Ok(Engine::found(transport).await?) }).await? {
                    Some(engine) => unless(cancel, self.through(engine, transport, on_event, sent, progress)).await,
                    None => Err(why),
                }
            }
            // A connection that breaks is known here by its silence; ssh knows why.
            (Err(Error::Connection(_)), Err(ended)) => Err(session::Error::from(ended).into()),
            (result, Err(ended @ transport::Error::Command { .. })) if result.is_ok() => {
                tracing::debug!("{}: {ended}", node.name);
                result
            }
            (result, _) => result,
        }
    }

    async fn with(
        &self,
        session: &Session,
        transport: &dyn Transport,
        on_event: &(dyn Fn(Event<'_>) + Sync),
        sent: &Arc<Sent>,
        progress: &mut Progress,
    ) -> Result<(), Error> {
        let client = session.client();
        let target = PoolTarget { session, transport, binary: &self.binary, most: progress.connections };
        for _ in 0..ATTEMPTS {
            let inventory = transfer::take_inventory(&client, &self.images).await?;
            let Some(plan) = self.plan(&inventory, Via::Helper, progress).await? else { return Ok(()) };
            if !transfer::hold(&client, &plan).await? {
                tracing::info!("the node lost blobs since its inventory; planning anew");
                continue;
            }
            let (blobs, bytes) = (plan.sends().count(), plan.bytes_to_send());
            on_event(Event::Sending { blobs, bytes, total: plan.total_bytes, sent });
            match transfer::carry_out(target, &self.store, &plan, self.at, sent, on_event).await {
                Ok(()) => return transfer::release(&client).await,
                Err(Error::Helper { message, retry: RetryHint::FromStart, .. }) => {
                    tracing::warn!("{message}; sending it again");
                }
                Err(error) => return Err(error),
            }
        }
        Err(Error::Unsteady)
    }

    async fn without_helper(
        &self,
        transport: &dyn Transport,
        on_event: &(dyn Fn(Event<'_>) + Sync),
        sent: &Arc<Sent>,
        progress: &mut Progress,
    ) -> Result<(), Error> {
        for _ in 0..ATTEMPTS {
            let (ctr, inventory) = Ctr::probe(transport, &self.images, &self.settings).await?;
            let Some(plan) = self.plan(&inventory, Via::Ctr, progress).await? else { return Ok(()) };
            let (blobs, bytes) = (plan.sends().count(), plan.bytes_to_send());
            on_event(Event::Sending { blobs, bytes, total: plan.total_bytes, sent });
            if ctr.import(&self.store, &plan, &inventory, self.at, sent, on_event).await? {
                return Ok(());
            }
        }
        Err(Error::Unsteady)
    }

    async fn through(
        &self,
        engine: Engine,
        transport: &dyn Transport,
        on_event: &(dyn Fn(Event<'_>) + Sync),
        sent: &Arc<Sent>,
        progress: &mut Progress,
    ) -> Result<(), Error> {
        let node = engine::Node::probe(transport, engine, &self.images).await?;
        let has = |wanted: &DesiredImage| node.has(wanted);
        let lacking: Vec<Image> = plan::lacking(&self.images, &node.inventory.platform, has).cloned().collect();
        let layers = plan::layers_to_unpack(&lacking, &node.inventory);
        let unpacked_sizes = self.unpacked_sizes.of(&self.store, layers).await;
        let plan = plan::for_engine(&self.images, &node.inventory, has, &unpacked_sizes)?;
        if let Some(plan) = self.planned(plan, &node.inventory, node.via(), progress)? {
            let (blobs, bytes) = (plan.sends().count(), plan.bytes_to_send());
            on_event(Event::Sending { blobs, bytes, total: plan.total_bytes, sent });
            node.load(&self.store, &plan, self.at, sent, on_event).await?;
        }
        if !self.dry_run {
            node.note(&self.images, self.at).await?;
        }
        Ok(())
    }

    /// What is to be done on a node that has this; nothing when nothing is.
    async fn plan(&self, inventory: &Inventory, via: Via, progress: &mut Progress) -> Result<Option<Plan>, Error> {
        let unpacked_sizes = self.unpacked_sizes.of(&self.store, plan::layers_to_unpack(&self.images, inventory)).await;
        self.planned(plan::plan(&self.images, inventory, &unpacked_sizes)?, inventory, via, progress)
    }

    /// Notes a plan; nothing is left of it where nothing is to be done.
    fn planned(
        &self,
        plan: Plan,
        inventory: &Inventory,
        via: Via,
        progress: &mut Progress,
    ) -> Result<Option<Plan>, Error> {
        progress.via = Some(via);
        progress.planned.get_or_insert_with(|| Planned { plan: plan.clone(), inventory: inventory.clone() });
        tracing::debug!(blobs = plan.sends().count(), bytes = plan.bytes_to_send(), "planned");
        if plan.is_done() {
            return Ok(None);
        }
        plan.check_disk(inventory)?;
        Ok((!self.dry_run).then_some(plan))
    }
}

/// What a node has of what all nodes share.
#[derive(Debug)]
pub(crate) struct Share {
    /// What bounds blobs on their way to all nodes together.
    pub(crate) limits: Limits,
    /// How many connections it may have.
    pub(crate) connections: usize,
}

/// What the API says that a node's kubelet uses in containerd's place; nothing where it says nothing.
pub(crate) fn engine_of(node: &Node) -> Result<Option<Engine>, Error> {
    match &node.runtime {
        Some(Runtime { name, version }) if name != "containerd" => {
            let unknown = || Error::Runtime { name: name.clone(), version: version.clone() };
            Engine::named(name).map(Some).ok_or_else(unknown)
        }
        _ => Ok(None),
    }
}

/// How far a push to one node has come.
#[derive(Debug, Default)]
struct Progress {
    planned: Option<Planned>,
    via: Option<Via>,
    /// How many connections it may have.
    connections: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_broke_is_tried_again_and_what_was_never_there_is_not() {
        let transport = |error| Error::from(session::Error::Transport(error));
        let (host, said) = (|| "w1".to_owned(), || "words".to_owned());
        let lost = transport(transport::Error::Lost { host: host(), said: said() });
        let in_script = ctr::Error::Transport(transport::Error::Lost { host: host(), said: said() });
        let of_engine = Error::from(engine::Error::Script(in_script));
        let refused = transport(transport::Error::Refused { host: host(), said: said() });
        let denied = transport(transport::Error::Denied { destination: host(), said: said() });
        let away = Error::Helper { message: said(), help: said(), retry: RetryHint::Later };
        let is_transient = |error: &Error| (error.is_transient(false), error.is_transient(true));
        assert_eq!(is_transient(&lost), (true, true));
        assert_eq!(is_transient(&of_engine), (true, true));
        assert_eq!(is_transient(&refused), (true, true));
        let silent = transport(transport::Error::Unreachable { host: host(), said: said() });
        assert_eq!(is_transient(&silent), (false, true));
        assert_eq!(is_transient(&away), (false, true));
        assert_eq!(is_transient(&denied), (false, false));
    }

    #[tokio::test]
    async fn a_node_is_asked_again_as_often_as_is_said_and_not_where_that_cannot_help() {
        let asked = std::cell::Cell::new(0);
        let ask = async |retries: u32, fails: u32, error: fn() -> transport::Error| {
            asked.set(0);
            let work = || async {
                asked.set(asked.get() + 1);
                let fails = asked.get() <= fails;
                if fails { Err(Error::from(session::Error::Transport(error()))) } else { Ok(()) }
            };
            (persist("w1", retries, work).await.is_ok(), asked.get())
        };
        let lost = || transport::Error::Lost { host: "w1".into(), said: "words".into() };
        let denied = || transport::Error::Denied { destination: "w1".into(), said: "words".into() };
        assert_eq!(ask(1, 1, lost).await, (true, 2));
        assert_eq!(ask(0, 9, lost).await, (false, 1));
        assert_eq!(ask(3, 9, denied).await, (false, 1));
    }

    #[test]
    fn pauses_grow_to_a_bound_and_differ_between_nodes() {
        let whole = |attempts| pause("w1", attempts).as_secs();
        assert_eq!([0, 1, 2, 3, 4, 5, 60].map(whole), [1, 2, 4, 8, 16, 30, 30]);
        assert_ne!(pause("w1", 0), pause("w2", 0));
    }
}
