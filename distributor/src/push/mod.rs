//! A push to several nodes. Nodes are served in parallel and independently: a failure on one node does not affect another. It
//! plans, loads and retries; `report` tells the result. Uses `crate::runtime` for all that happens on a node.

pub mod report;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use tokio_util::sync::CancellationToken;
use vcstore::{Image, Platform, Store};

use crate::images::inventory::Inventory;
use crate::images::plan::{self, Plan};
use crate::images::push_label::Time;
use crate::images::unpacked_size;
use crate::nodes::Node;
use crate::runtime::transfer::{Limits, connections_per_node};
use crate::runtime::{
    ATTEMPTS, Access, Error, Event, ImageTarget, Load, Loaded, NodeRuntime, OnEvent, Rate, SentCounter, UseHelper, Via,
    check_supported, pause,
};
use crate::session::{Binary, Settings};
use crate::transport::Transport;

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
    /// The unpacked sizes of the layers that were measured.
    pub(crate) unpacked_sizes: unpacked_size::KnownSizes,
    /// How fast blobs may leave for all nodes together.
    pub rate: Option<Rate>,
    /// How many connections may go to each node; by default as many as pay.
    pub connections: Option<NonZeroUsize>,
    /// How fast blobs may leave for each node.
    pub rate_per_node: Option<Rate>,
    /// When it began, by the operator's clock: noted on the nodes.
    pub at: Time,
    /// Stop once the plan is made.
    pub dry_run: bool,
}

/// How it went on one node.
#[derive(Debug)]
pub struct Outcome {
    /// The node.
    pub node: Node,
    /// What was planned, where it came to that.
    pub planned: Option<PlannedPush>,
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
pub struct PlannedPush {
    /// The first plan; a push may have had to send more when the node lost something meanwhile.
    pub plan: Plan,
    /// What was there.
    pub inventory: Inventory,
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
        let fair = || connections_per_node(nodes.min(self.parallel));
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
        let sent = Arc::new(SentCounter::within(share.limits.and(self.rate_per_node)));
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
        on_event: OnEvent<'_>,
        sent: &Arc<SentCounter>,
        progress: &mut Progress,
        cancel: &CancellationToken,
    ) -> Result<(), Error> {
        check_supported(node)?;
        if let Some(architecture) = &node.architecture {
            plan::check_platform(&self.images, &Platform::linux(architecture))?;
        }
        if node.ready == Some(false) {
            let doing = if self.dry_run { "asking" } else { "pushing to" };
            tracing::warn!("{} is not Ready; {doing} it all the same", node.name);
        }
        let transport = connect(node);
        let access = Access {
            transport: transport.as_ref(),
            binary: &self.binary,
            settings: &self.settings,
            helper: self.helper,
            connections: progress.connections,
            cancel,
        };
        let work = async |runtime: &dyn NodeRuntime| self.load(runtime, on_event, sent, progress).await;
        access.work_on(node, on_event, work).await
    }

    /// Brings the images to a node: plans by what is there, loads, and plans anew where the node changed meanwhile.
    async fn load(
        &self,
        runtime: &dyn NodeRuntime,
        on_event: OnEvent<'_>,
        sent: &Arc<SentCounter>,
        progress: &mut Progress,
    ) -> Result<(), Error> {
        for _ in 0..ATTEMPTS {
            let target = runtime.inspect(&self.images).await?;
            if let Some(plan) = self.plan(target.as_ref(), progress).await? {
                let load = Load { store: &self.store, plan: &plan, at: self.at, sent, on_event };
                if target.load(&load).await? == Loaded::NodeChanged {
                    continue;
                }
            }
            return if self.dry_run { Ok(()) } else { target.note(&self.images, self.at).await };
        }
        Err(Error::Unsteady)
    }

    /// What is to be done on a node; nothing where nothing is, or in a dry run.
    async fn plan(&self, target: &dyn ImageTarget, progress: &mut Progress) -> Result<Option<Plan>, Error> {
        let unpacked_sizes = self.unpacked_sizes.of(&self.store, target.layers_to_unpack(&self.images)).await;
        let (plan, inventory) = (target.plan(&self.images, &unpacked_sizes)?, target.inventory());
        progress.via = Some(target.via());
        progress.planned.get_or_insert_with(|| PlannedPush { plan: plan.clone(), inventory: inventory.clone() });
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

/// How far a push to one node has come.
#[derive(Debug, Default)]
struct Progress {
    planned: Option<PlannedPush>,
    via: Option<Via>,
    /// How many connections it may have.
    connections: usize,
}
