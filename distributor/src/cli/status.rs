//! `vcdist status`: the state of the images on the nodes, compared with the latest push and with the store, and the state of what
//! was rolled out, compared with its revision.

use std::num::NonZeroUsize;

use clap::Args;
use serde::Serialize;
use vcmanifests::NamespaceName;
use vcterminal::{Exit, Output, Text};

use crate::cli::changes;
use crate::cli::error::Error;
use crate::cli::images::{self, Images};
use crate::cli::nodes::{Containerd, Nodes, Ssh};
use crate::cli::release::ReleaseName;
use crate::cli::values::namespace;
use crate::cluster::Cluster;
use crate::nodes;
use crate::rollout::{self, Change, Health, ObjectHealth};
use crate::session::Binary;
use crate::status::{self, StatusQuery, StatusReport};
use crate::transport;

/// Which images, where none are named: not those of a push.
const IMAGES: &str = "Images, by full or short names, or archives [default: all that were pushed]";

/// What the help shows of its use.
const EXAMPLES: &str = "\
Examples:
  vcdist status                                # every image that was pushed, on all workers
  vcdist status hello --host root@10.0.0.11";

/// Show the state of images on each node, and of what is rolled out.
///
/// The nodes know what was pushed last, so it does not matter who pushed. vcdist also compares with the images of the store,
/// as a push would send them. Without names, it shows every image that was pushed, and whether the objects of the current
/// revision work and are as they were applied. Exit codes: 0 no difference, 1 no node could be asked, 3 something differs or
/// does not work, 4 some nodes or the rollout could not be asked.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, mut_arg("images", |images| images.help(IMAGES).long_help(IMAGES)))]
pub(super) struct Status {
    #[command(flatten)]
    images: Images,

    /// The namespace of the installation
    #[arg(short, long, value_name = "NAME", default_value_t, value_parser = namespace)]
    namespace: NamespaceName,

    #[command(flatten)]
    release: ReleaseName,

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

    /// Work on so many nodes at once
    #[arg(short = 'j', long, help_heading = "SSH", value_name = "N", default_value = "32")]
    parallel: NonZeroUsize,

    #[command(flatten)]
    containerd: Containerd,
}

/// `vcdist status --output json`.
#[derive(Debug, Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    nodes: &'a StatusReport,
    /// Null if the cluster was not asked, or nothing is rolled out.
    rollout: Option<Health>,
}

impl Status {
    pub(super) async fn run(self) -> Result<Exit, Error> {
        let images = self.images.known()?;
        let (nodes, cluster) = match self.nodes.find_without_api(&self.ssh)? {
            Some(nodes) => (nodes, None),
            None => {
                let cluster = self.nodes.any_cluster().await?;
                (nodes::from_api(&cluster, &self.nodes.choice()).await?, Some(cluster))
            }
        };
        let question = StatusQuery {
            images,
            binary: Binary::this()?,
            settings: self.containerd.settings(&self.ssh),
            parallel: self.parallel.get(),
            retries: self.retries,
        };
        let ssh = self.ssh.options();
        let (answers, rollout) =
            tokio::join!(question.ask(nodes, |node| transport::to_node(node, &ssh)), self.rollout(cluster.as_ref()));
        // An archive stands for the images in it.
        let is_asked = |name: &str| question.images.iter().any(|image| image.name == name);
        let report = StatusReport::new(&answers, |name| is_asked(name) || self.images.mean(name));
        if report.nodes.iter().all(|node| node.error.is_none()) {
            let known: Vec<&str> = report.names().collect();
            let names: Vec<String> = self.images.unknown(&known).map(str::to_owned).collect();
            if !names.is_empty() {
                return Err(images::Error::Unknown { names }.into());
            }
        }
        let (rollout, unknown) = match rollout {
            Ok(rollout) => (rollout, None),
            Err(error) => (None, Some(error)),
        };
        let document = Document { nodes: &report, rollout };
        let printed = self.output.print(&document, text);
        for error in status::errors(&answers) {
            vcterminal::report(&error);
        }
        if let Some(error) = &unknown {
            vcterminal::report(error);
        }
        printed.map_err(Error::Print)?;
        let is_well = document.rollout.is_none_or(|rollout| rollout.healthy);
        Ok(match report.exit() {
            Exit::Done | Exit::Difference if unknown.is_some() => Exit::SomeNodes,
            Exit::Done if !is_well => Exit::Difference,
            exit => exit,
        })
    }

    /// The health of the rollout; none if only images are asked for, there is no cluster to ask, or nothing is rolled out.
    async fn rollout(&self, cluster: Option<&Cluster>) -> Result<Option<Health>, rollout::Error> {
        match cluster {
            Some(cluster) if self.images.are_all() => {
                let release = self.release.release(&self.namespace);
                let health = rollout::health(cluster, &release).await?;
                if health.is_none() && release.name.is_some() {
                    return Err(rollout::Error::NoRevisions { namespace: release.to_string() });
                }
                Ok(health)
            }
            _ => Ok(None),
        }
    }
}

fn text(document: &Document<'_>) -> Text {
    let mut text = Text::from(&document.nodes.table());
    let Some(rollout) = &document.rollout else { return text };
    let of = rollout.release.as_ref().map(|release| format!(" of {release}")).unwrap_or_default();
    let (revision, namespace, all) = (rollout.revision, &rollout.namespace, rollout.objects.len());
    let unwell: Vec<&ObjectHealth> = rollout.objects.iter().filter(|object| !object.is_well()).collect();
    text.line(format_args!(""));
    if unwell.is_empty() {
        text.line(format_args!("revision {revision}{of} in {namespace}: all {all} objects work, as they were applied"));
        return text;
    }
    let count = unwell.len();
    text.line(format_args!("revision {revision}{of} in {namespace}: {count} of {all} objects do not work or differ"));
    for object in unwell {
        let title = format!("{}/{}", object.difference.kind.to_lowercase(), object.difference.name);
        match &object.difference.change {
            Change::Created => text.line(format_args!("{title} does not exist")),
            Change::Removed => text.line(format_args!("{title} is left: {}", object.state)),
            _ if object.ready => text.line(format_args!("{title} works ({})", object.state)),
            _ => text.line(format_args!("{title} does not work: {}", object.state)),
        };
        for cause in &object.causes {
            text.line(format_args!("    {cause}"));
        }
        if let Change::Configured(fields) | Change::Recreated(fields) = &object.difference.change {
            text.text(&changes::describe_fields(fields));
        }
        for conflict in &object.difference.conflicts {
            text.line(format_args!("    {} belongs to {:?}", conflict.field, conflict.manager));
        }
    }
    text
}
