//! A push to several nodes. Nodes are served in parallel and independently: a failure on one node does not affect
//! another. This module plans, loads and retries; `report` presents the result. Uses `crate::runtime` for all work on a
//! node.

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

/// The images of a push and its settings.
#[derive(Debug, Clone)]
pub struct Push {
    /// Contains the blobs.
    pub store: Store,
    /// The images, in the order in which they are sent.
    pub images: Vec<Image>,
    /// The program that becomes the helper.
    pub binary: Binary,
    /// How the helper finds containerd.
    pub settings: Settings,
    /// The number of nodes that are served at once.
    pub parallel: usize,
    /// The number of retries for a node whose connection broke.
    pub retries: u32,
    /// Whether nodes run the helper.
    pub helper: UseHelper,
    /// The unpacked sizes of the layers that were measured.
    pub(crate) unpacked_sizes: unpacked_size::KnownSizes,
    /// The rate limit for blobs to all nodes together.
    pub rate: Option<Rate>,
    /// The number of connections to each node; by default, as many as pay off.
    pub connections: Option<NonZeroUsize>,
    /// The rate limit for blobs to each node.
    pub rate_per_node: Option<Rate>,
    /// The start time by the operator's clock, which is recorded on the nodes.
    pub at: Time,
    /// Whether to stop once the plan is made.
    pub dry_run: bool,
}

/// The result for one node.
#[derive(Debug)]
pub struct Outcome {
    /// The node.
    pub node: Node,
    /// The plan, if one was made.
    pub planned: Option<PlannedPush>,
    /// The way by which the node was worked on, if it was reached.
    pub via: Option<Via>,
    /// The number of blobs that were sent completely.
    pub blobs_sent: u64,
    /// The number of bytes that were sent.
    pub bytes_sent: u64,
    /// The duration.
    pub elapsed: Duration,
    /// The error, if the push failed.
    pub error: Option<Error>,
}

/// The plan for a node, and the inventory that it is based on.
#[derive(Debug)]
pub struct PlannedPush {
    /// The first plan. The push may have sent more if the node lost content meanwhile.
    pub plan: Plan,
    /// The contents of the node.
    pub inventory: Inventory,
}

impl Push {
    /// Pushes to every node of `nodes` through the connection that `connect` opens, and reports events to `watch`. The
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

    /// Returns the share of the common limits for each of `nodes` nodes.
    pub(crate) fn share(&self, nodes: usize) -> Share {
        let fair = || connections_per_node(nodes.min(self.parallel));
        Share {
            limits: Limits::default().and(self.rate),
            connections: self.connections.map_or_else(fair, NonZeroUsize::get),
        }
    }

    /// Pushes to one node within its share.
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
                    // One connection may have been too many.
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

    /// Loads the images onto a node: inspects the node, makes a plan and carries it out; makes a new plan if the node
    /// changed meanwhile.
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

    /// Returns the plan for a node, or `None` if there is nothing to do or this is a dry run.
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

/// A node's share of what all nodes have in common.
#[derive(Debug)]
pub(crate) struct Share {
    /// The rate limits for blobs to all nodes together.
    pub(crate) limits: Limits,
    /// The maximum number of connections to the node.
    pub(crate) connections: usize,
}

/// The progress of a push to one node.
#[derive(Debug, Default)]
struct Progress {
    planned: Option<PlannedPush>,
    via: Option<Via>,
    /// The maximum number of connections to the node.
    connections: usize,
}
