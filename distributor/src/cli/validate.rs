//! `vcdist validate`: finds what would make an installation fail, and changes nothing in the cluster.

use std::io;
use std::num::NonZeroUsize;

use clap::Args;
use miette::Diagnostic;
use thiserror::Error;
use vcmanifests::{NamespaceName, Object, Parameters};
use vcterminal::{Exit, Output};

use crate::cli::images::{self, Images};
use crate::cli::nodes::{Containerd, Nodes, Ssh};
use crate::cli::values::namespace;
use crate::cluster;
use crate::images::push_label::Time;
use crate::images::unpacked_size;
use crate::push::Push;
use crate::rollout::images as components;
use crate::runtime::UseHelper;
use crate::session::Binary;
use crate::validate::{OnNodes, Report, Validation};
use crate::{nodes, session};

/// What the help shows of its use.
const EXAMPLES: &str = "\
Examples:
  vcdist validate --api-timeout 10m            # also wait for the API server
  vcdist validate --no-ssh --output json";

/// Find what would make an installation fail, before anything is changed.
///
/// It checks the API server, its version, the clocks, this user's rights, Pod Security, admission webhooks and the workers; over
/// SSH, each worker's login, sudo, runtime, disk space and ports. Each finding names its effect and its remedy. Exit codes: 0 no
/// error was found, 1 it could not begin, 3 at least one error was found.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Validate {
    #[command(flatten)]
    images: Images,

    /// The namespace of the installation
    #[arg(short, long, value_name = "NAME", default_value_t, value_parser = namespace)]
    namespace: NamespaceName,

    /// The port for vn-agent's metrics
    #[arg(long, value_name = "N", default_value_t = Parameters::METRICS_PORT)]
    vn_agent_metrics_port: u16,

    /// Do not log in to the nodes
    #[arg(long, conflicts_with_all = ["host", "inventory"])]
    no_ssh: bool,

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
    containerd: Containerd,

    /// Work on so many nodes at once
    #[arg(short = 'j', long, help_heading = "Speed", value_name = "N", default_value = "32")]
    parallel: NonZeroUsize,
}

/// Why nothing could be checked.
#[derive(Debug, Error, Diagnostic)]
pub(super) enum Error {
    #[error(transparent)]
    #[diagnostic(transparent)]
    Images(#[from] images::Error),

    #[error(transparent)]
    #[diagnostic(transparent)]
    Cluster(#[from] cluster::Error),

    #[error(transparent)]
    #[diagnostic(transparent)]
    Nodes(#[from] nodes::Error),

    #[error(transparent)]
    #[diagnostic(transparent)]
    Helper(#[from] session::Error),

    #[error("printing the report")]
    Print(#[from] io::Error),
}

impl Validate {
    pub(super) async fn run(self) -> Result<Exit, Error> {
        let cluster = self.nodes.any_cluster().await?;
        let (push, objects) = (self.push()?, self.objects());
        let (binary, settings, ssh) = (Binary::this()?, self.containerd.settings(&self.ssh), self.ssh.options());
        let on_nodes = OnNodes {
            nodes: self.nodes.find_without_api(&self.ssh)?,
            ssh: &ssh,
            binary: &binary,
            settings: &settings,
            push,
            parallel: self.parallel.get(),
            retries: self.retries,
        };
        let choice = self.nodes.choice();
        let validation = Validation {
            namespace: &self.namespace,
            objects: &objects,
            choice: &choice,
            on_nodes: (!self.no_ssh).then_some(on_nodes),
        };
        let report = validation.run(&cluster, |check| tracing::info!("checking {check}")).await;
        self.output.print(&report, Report::text)?;
        Ok(report.exit())
    }

    /// The push to plan for; none if the images, or some of them, are not built yet.
    fn push(&self) -> Result<Option<Push>, Error> {
        if self.no_ssh {
            return Ok(None);
        }
        let (store, images) = match self.images.find() {
            Ok(found) => found,
            Err(error) if error.is_missing() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        Ok(Some(Push {
            store,
            images,
            binary: Binary::this()?,
            settings: self.containerd.settings(&self.ssh),
            parallel: self.parallel.get(),
            retries: self.retries,
            helper: UseHelper::default(),
            unpacked_sizes: unpacked_size::KnownSizes::default(),
            rate: None,
            connections: None,
            rate_per_node: None,
            at: Time::now(),
            dry_run: true,
        }))
    }

    /// What a deployment would apply, with the images of the store if it has them.
    fn objects(&self) -> Vec<Object> {
        let found = components::resolve(&[], &[], &self.images.store_path()).ok();
        let parameters = match found {
            Some((images, architectures)) => {
                Some(Parameters { namespace: self.namespace.clone(), architectures, ..Parameters::new(images) })
            }
            None => components::without_images(self.namespace.clone()),
        };
        let parameters =
            parameters.map(|parameters| Parameters { vn_agent_metrics_port: self.vn_agent_metrics_port, ..parameters });
        parameters.map(|parameters| vcmanifests::objects(&parameters)).unwrap_or_default()
    }
}
