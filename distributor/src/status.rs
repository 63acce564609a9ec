//! How images stand on the nodes: what a push would find, and what runs there.

use futures::{StreamExt, stream};
use serde::Serialize;
use vcstore::{Image, Platform};
use vcterminal::{Exit, Table};

use crate::fallback::Ctr;
use crate::footprint::Footprints;
use crate::inventory::Inventory;
use crate::nodes::Node;
use crate::plan::{self, ImagePlan, State};
use crate::protocol::proto::Container;
use crate::push::{Error, Via};
use crate::report::NodeError;
use crate::session::{Binary, Session, Settings};
use crate::transfer;
use crate::transport::Transport;
use crate::wanted::repository;

/// What is asked about, and how.
#[derive(Debug, Clone)]
pub struct Question {
    /// The images as they should be.
    pub images: Vec<Image>,
    /// The program that becomes the helper.
    pub binary: Binary,
    /// How the helper finds containerd.
    pub settings: Settings,
    /// Nodes under way at once.
    pub parallel: usize,
}

/// How a node stands, or why that is not known.
#[derive(Debug)]
pub struct Answer {
    /// The node.
    pub node: Node,
    /// By which way it was asked, and every image.
    pub images: Result<(Via, Vec<ImageStatus>), Error>,
}

/// `vcdist status --output json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StatusReport {
    /// Every node, in the order they were asked for.
    pub nodes: Vec<NodeStatus>,
    /// Whether something on some node is not as it should be.
    pub drift: bool,
}

/// How one node stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeStatus {
    /// Its name.
    pub name: String,
    /// By which way it was asked; null where it was not reached.
    pub via: Option<Via>,
    /// Every image.
    pub images: Vec<ImageStatus>,
    /// Why nothing is known of it.
    pub error: Option<String>,
}

/// How one image stands on one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImageStatus {
    /// Its full name.
    pub name: String,
    /// The digest it should have.
    pub digest: String,
    /// The digest the name stands for on the node.
    pub found: Option<String>,
    /// Whether the name is there and stands for the right digest.
    pub present: bool,
    /// Whether every blob is there that must be.
    pub complete: bool,
    /// Whether its layers are unpacked.
    pub unpacked: bool,
    /// Whether kubelet's garbage collection passes it over, by all its names.
    pub pinned: bool,
    /// The pods that run it; null where containers are not known.
    pub running: Option<Vec<String>>,
    /// The pods that run another image of that name; null where containers are not known.
    pub running_other: Option<Vec<String>>,
    /// Whether a push would change something, or another image of that name runs.
    pub drift: bool,
}

impl Question {
    /// Asks every node, reached by what `connect` makes. The answers are in the order of the nodes.
    pub async fn ask(&self, nodes: Vec<Node>, connect: impl Fn(&Node) -> Box<dyn Transport> + Sync) -> Vec<Answer> {
        let connect = &connect;
        stream::iter(nodes)
            .map(|node| async move { Answer { images: self.node(&node, connect(&node).as_ref()).await, node } })
            .buffered(self.parallel.max(1))
            .collect()
            .await
    }

    async fn node(&self, node: &Node, transport: &dyn Transport) -> Result<(Via, Vec<ImageStatus>), Error> {
        if let Some(architecture) = &node.architecture {
            plan::check_platform(&self.images, &Platform::linux(architecture))?;
        }
        match Session::open(transport, &self.binary, &self.settings).await {
            Ok(session) => {
                let client = session.client();
                let asked = async {
                    tokio::try_join!(
                        transfer::take_inventory(&client, &self.images),
                        transfer::list_containers(&client)
                    )
                };
                let asked = asked.await;
                drop(client);
                let ended = session.close().await;
                let (inventory, containers) = match (asked, ended) {
                    (Err(Error::Connection(_)), Err(ended)) => return Err(crate::session::Error::from(ended).into()),
                    (asked, _) => asked?,
                };
                Ok((Via::Helper, self.read(&inventory, Some(&containers))?))
            }
            Err(why) if why.means_no_helper() => {
                let (_, inventory) = Ctr::probe(transport, &self.images, &self.settings).await?;
                Ok((Via::Ctr, self.read(&inventory, None)?))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn read(&self, inventory: &Inventory, containers: Option<&[Container]>) -> Result<Vec<ImageStatus>, Error> {
        let plan = plan::plan(&self.images, inventory, &Footprints::new())?;
        Ok(plan.images.iter().map(|image| status(image, inventory, containers)).collect())
    }
}

fn status(image: &ImagePlan, inventory: &Inventory, containers: Option<&[Container]>) -> ImageStatus {
    let (wanted, target) = (&image.wanted, image.wanted.target.blob.digest);
    let found = inventory.records.get(wanted.name()).and_then(|record| record.target);
    let pods = |of: &dyn Fn(&Container) -> bool| {
        let name =
            |container: &Container| if container.pod.is_empty() { &container.id } else { &container.pod }.clone();
        let mut pods: Vec<String> = containers?.iter().filter(|container| of(container)).map(name).collect();
        pods.sort();
        pods.dedup();
        Some(pods)
    };
    let runs = |container: &Container| container.target == target.to_string();
    let ours = |container: &Container| repository(&container.image) == repository(wanted.name());
    let running_other = pods(&|container| ours(container) && !runs(container));
    ImageStatus {
        name: wanted.name().to_owned(),
        digest: target.to_string(),
        found: found.map(|digest| digest.to_string()),
        present: found == Some(target),
        complete: image.state != State::Incomplete,
        unpacked: wanted.top().is_none_or(|top| inventory.snapshots.contains(&top)),
        pinned: wanted.names.iter().all(|name| inventory.records.get(name).is_some_and(|record| record.pinned)),
        running: pods(&runs),
        drift: image.state != State::UpToDate || running_other.as_ref().is_some_and(|pods| !pods.is_empty()),
        running_other,
    }
}

impl StatusReport {
    /// From what the nodes answered.
    #[must_use]
    pub fn new(answers: &[Answer]) -> Self {
        let nodes: Vec<NodeStatus> = answers
            .iter()
            .map(|answer| NodeStatus {
                name: answer.node.name.clone(),
                via: answer.images.as_ref().ok().map(|(via, _)| *via),
                images: answer.images.as_ref().map(|(_, images)| images.clone()).unwrap_or_default(),
                error: answer.images.as_ref().err().map(crate::report::words),
            })
            .collect();
        Self { drift: nodes.iter().flat_map(|node| &node.images).any(|image| image.drift), nodes }
    }

    /// How the command ends: nodes that could not be asked come before what was found on the others.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self.nodes.iter().filter(|node| node.error.is_some()).count() {
            0 if self.drift => Exit::Difference,
            0 => Exit::Done,
            failed if failed == self.nodes.len() => Exit::Failed,
            _ => Exit::SomeNodes,
        }
    }

    /// The table for people.
    #[must_use]
    pub fn table(&self) -> Table {
        let mut table = Table::new(["node", "image", "present", "complete", "unpacked", "pinned", "running"]);
        let word = |yes: bool| if yes { "yes" } else { "NO" }.to_owned();
        for node in &self.nodes {
            for image in &node.images {
                let others = image.running_other.iter().flatten().map(|pod| format!("{pod} (ANOTHER)"));
                let pods: Vec<String> = image.running.iter().flatten().cloned().chain(others).collect();
                let running = match (&image.running, pods.as_slice()) {
                    (None, _) => "unknown".to_owned(),
                    (Some(_), []) => "nowhere".to_owned(),
                    (Some(_), pods) => pods.join(", "),
                };
                table.row([
                    node.name.clone(),
                    image.name.clone(),
                    word(image.present),
                    word(image.complete),
                    word(image.unpacked),
                    word(image.pinned),
                    running,
                ]);
            }
            if node.images.is_empty() {
                table.row([&node.name, "-", "unknown", "unknown", "unknown", "unknown", "unknown"]);
            }
        }
        table
    }
}

/// The errors, each with its node.
pub fn errors(answers: &[Answer]) -> impl Iterator<Item = NodeError<'_>> {
    answers.iter().filter_map(|answer| {
        Some(NodeError { doing: "asking", node: &answer.node.name, source: answer.images.as_ref().err()? })
    })
}
