//! `vcdist push`: sends images from the store to the nodes, only what each of them lacks. `vcdist plan`: the same
//! without a transfer.

use std::convert::Infallible;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use vcterminal::{Exit, Output, Text};

use crate::cli::error::Error;
use crate::cli::images::Images;
use crate::cli::nodes::{Containerd, Nodes, Ssh};
use crate::cli::progress::Progress;
use crate::cli::via::Via;
use crate::cli::watched;
use crate::duration::parse_duration;
use crate::images::push_label::Time;
use crate::images::unpacked_size;
use crate::nodes::{self, Node};
use crate::push;
use crate::push::report;
use crate::relay::{self, RelayOutcome};
use crate::runtime::Rate;
use crate::runtime::{Event, UseHelper};
use crate::session::Binary;
use crate::transport;
use crate::watch::Watch;

/// What the help shows of its use.
const EXAMPLES: &str = "\
Examples:
  vcdist push                                  # manager, syncer and vn-agent to all workers
  vcdist push hello --nodes worker1,worker2    # an image of the store to two nodes
  vcdist push out/hello-amd64.tar --host root@10.0.0.11
  vcdist push --watch                          # nodes that join later too";

/// Push images to nodes, sending to each only what it lacks.
///
/// vcdist finds the workers through the Kubernetes API, or as --host or --inventory name them, and logs in over SSH. Each
/// node runs vcdist for the duration of the push. Exit codes: 0 every node has the images, 1 no node could be served, 4
/// some could not.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Push {
    /// Show what would be sent, and send nothing, as `vcdist plan`
    #[arg(long)]
    dry_run: bool,

    /// Run until Ctrl-C: serve nodes that join or lose an image later
    #[arg(long, conflicts_with_all = ["dry_run", "host", "inventory"])]
    watch: bool,

    /// Look at every node again after this time
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = parse_duration, requires = "watch")]
    recheck: Duration,

    #[command(flatten)]
    work: Work,

    /// Send no faster: 500k, 10M (bytes per second), 100Mbit
    ///
    /// To all nodes together.
    #[arg(long, help_heading = "Speed", value_name = "RATE")]
    limit_rate: Option<Rate>,

    /// Send no faster to each node
    #[arg(long, help_heading = "Speed", value_name = "RATE")]
    limit_rate_per_node: Option<Rate>,

    /// Open at most so many connections to each node [default: 4]
    ///
    /// vcdist opens additional ones only while they speed the push up, and fewer if it serves many nodes at once.
    #[arg(long, help_heading = "Speed", value_name = "N")]
    connections: Option<NonZeroUsize>,
}

/// Show what a push would send to each node, and send nothing.
///
/// Exit codes: 0 a push would succeed on every node, 1 on none, 4 on some.
#[derive(Debug, Args)]
pub(super) struct Plan {
    #[command(flatten)]
    work: Work,
}

/// What is pushed, where to, and how.
#[derive(Debug, Args)]
struct Work {
    #[command(flatten)]
    images: Images,

    /// What to print
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    output: Output,

    #[command(flatten)]
    nodes: Nodes,

    #[command(flatten)]
    ssh: Ssh,

    /// Retry so often after a connection broke
    #[arg(long, help_heading = "SSH", value_name = "N", default_value_t = 3)]
    retries: u32,

    #[command(flatten)]
    via: Via,

    #[command(flatten)]
    containerd: Containerd,

    /// Run vcdist there
    ///
    /// Where the helper does not run, the node's ctr does the work.
    #[arg(long, help_heading = "On the node", value_enum, value_name = "WHEN", default_value_t)]
    helper: UseHelper,

    /// Work on so many nodes at once
    #[arg(short = 'j', long, help_heading = "Speed", value_name = "N", default_value = "32")]
    parallel: NonZeroUsize,
}

/// The rate limits for blobs, and the number of connections.
#[derive(Debug, Clone, Copy, Default)]
struct Speed {
    all: Option<Rate>,
    per_node: Option<Rate>,
    connections: Option<NonZeroUsize>,
}

impl Push {
    pub(super) async fn run(self) -> Result<Exit, Error> {
        let speed = Speed { all: self.limit_rate, per_node: self.limit_rate_per_node, connections: self.connections };
        if self.watch { self.work.watch(speed, self.recheck).await } else { self.work.run(speed, self.dry_run).await }
    }
}

impl Plan {
    pub(super) async fn run(self) -> Result<Exit, Error> {
        self.work.run(Speed::default(), true).await
    }
}

impl Work {
    async fn run(self, speed: Speed, dry_run: bool) -> Result<Exit, Error> {
        let begun = Instant::now();
        let push = self.push(speed, dry_run)?;
        let nodes = self.nodes.find(&self.ssh).await?;
        let progress = Progress::new(self.output);
        let ssh = self.ssh.options();
        let cancel = CancellationToken::new();
        let via = self.via.find(&self.nodes, &self.ssh).await?;
        let watch = |node: &Node, event: Event<'_>| progress.show(node, event);
        let pushing = async {
            match &via {
                Some(via) => relay::push(&push, via, nodes, &ssh, watch, &cancel).await,
                None => {
                    let outcomes = push.run(nodes, |node| transport::to_node(node, &ssh), watch, &cancel).await;
                    Ok(RelayOutcome::without(outcomes, begun.elapsed()))
                }
            }
        };
        let relayed = tokio::select! {
            relayed = pushing => relayed,
            never = progress.draw() => match never {},
            never = heed_signals(&cancel) => match never {},
        };
        progress.end();
        self.report(&relayed?, dry_run)
    }

    async fn watch(self, speed: Speed, recheck: Duration) -> Result<Exit, Error> {
        let push = self.push(speed, false)?;
        // Wrong names are reported at once; but if no node exists yet, the watch waits for one.
        match self.nodes.find(&self.ssh).await {
            Ok(_) | Err(nodes::Error::NoWorker { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let cluster = self.nodes.cluster().await?.ok_or(Error::NoCluster)?;
        let choice = self.nodes.choice();
        let via = self.via.find(&self.nodes, &self.ssh).await?;
        let ssh = self.ssh.options();
        let watch = Watch { push: &push, cluster: &cluster, choice: &choice, ssh: &ssh, via: via.as_ref(), recheck };
        let cancel = CancellationToken::new();
        let watching = watch.run(|event| watched::notify(&event), &cancel);
        let watched = tokio::select! {
            watched = watching => watched,
            never = heed_signals(&cancel) => match never {},
        };
        self.report(&watched, false)
    }

    fn push(&self, speed: Speed, dry_run: bool) -> Result<push::Push, Error> {
        let (store, images) = self.images.find()?;
        Ok(push::Push {
            store,
            images,
            binary: Binary::this()?,
            settings: self.containerd.settings(&self.ssh),
            parallel: self.parallel.get(),
            retries: self.retries,
            helper: self.helper,
            unpacked_sizes: unpacked_size::KnownSizes::default(),
            rate: speed.all,
            connections: speed.connections,
            rate_per_node: speed.per_node,
            at: Time::now(),
            dry_run,
        })
    }

    fn report(&self, RelayOutcome { outcomes, pushed, planned }: &RelayOutcome, dry_run: bool) -> Result<Exit, Error> {
        let printed = if dry_run {
            self.output.print(planned, |planned| Text::from(&planned.table()))
        } else {
            self.output.print(pushed, |pushed| Text::from(&pushed.table()))
        };
        for error in report::errors(outcomes, dry_run) {
            vcterminal::report(&error);
        }
        printed.map_err(Error::Print)?;
        Ok(report::exit(outcomes))
    }
}

/// Handles SIGINT and SIGTERM: the first signal stops the push in an orderly way, the second at once.
async fn heed_signals(cancel: &CancellationToken) -> Infallible {
    let mut terminate = signal(SignalKind::terminate()).ok();
    let mut count = 0;
    loop {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            () = received(&mut terminate) => {}
        }
        count += 1;
        if count > 1 {
            // The exit status that shells use for SIGINT.
            std::process::exit(130);
        }
        vcterminal::say("stopping: leases are given back and what has arrived is kept; once more to stop at once");
        cancel.cancel();
    }
}

async fn received(signal: &mut Option<Signal>) {
    let event = match signal {
        Some(signal) => signal.recv().await,
        None => None,
    };
    if event.is_none() {
        std::future::pending::<()>().await;
    }
}
