//! The status of images on nodes: compared with the latest push, as the nodes' labels report it, and with the store.
//! Uses [`crate::runtime`], and the output of [`crate::push::report`].

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, stream};
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use vcstore::{Image, Platform};
use vcterminal::{Exit, Table};

use crate::images::desired_image::DesiredImage;
use crate::images::image_name::{by_digest, repository};
use crate::images::inventory::Inventory;
use crate::images::plan::{self, ImagePlan, State};
use crate::images::push_label::{self, PushLabel, PushedImage};
use crate::images::unpacked_size::UnpackedSizes;
use crate::nodes::Node;
use crate::protocol::proto::Container;
use crate::push::report::{self, NodeError};
use crate::runtime::{Access, Error, NodeRuntime, Survey, Via, with_retries};
use crate::session::{Binary, Settings};
use crate::transport::Transport;

/// What is queried, and the settings for it.
#[derive(Debug, Clone)]
pub struct StatusQuery {
    /// The images in the store; empty if there is no store.
    pub images: Vec<Image>,
    /// The program that becomes the helper.
    pub binary: Binary,
    /// How the helper finds containerd.
    pub settings: Settings,
    /// The number of nodes that are queried at once.
    pub parallel: usize,
    /// The number of retries for a node whose connection broke.
    pub retries: u32,
}

/// The answer of a node, or the error.
#[derive(Debug)]
pub struct Answer {
    /// The node.
    pub node: Node,
    /// Its state.
    pub state: Result<NodeState, Error>,
}

/// The state of a node.
#[derive(Debug)]
pub struct NodeState {
    /// The way by which it was queried.
    pub via: Via,
    /// Every image of the query.
    images: Vec<ImageStatus>,
    /// Every image that was pushed to it.
    pushes: Vec<PushedImage>,
    /// Its containers, if they are known.
    containers: Option<Vec<Container>>,
}

/// The document of `vcdist status --output json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StatusReport {
    /// Every node, in the order of the request.
    pub nodes: Vec<NodeStatus>,
    /// Whether anything on any node differs from what it should be.
    pub drift: bool,
}

/// The status of one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeStatus {
    /// Its name.
    pub name: String,
    /// The way by which it was queried; null if it was not reached.
    pub via: Option<Via>,
    /// Every image.
    pub images: Vec<ImageStatus>,
    /// The error, if the query failed.
    pub error: Option<String>,
}

/// The status of one image on one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImageStatus {
    /// Its full name.
    pub name: String,
    /// The digest that it should have: the store's, or else that of the latest push.
    pub digest: String,
    /// The latest push of this name to any of the nodes; null if there was none.
    pub pushed: Option<LastPush>,
    /// The digest that the name refers to on the node.
    pub found: Option<String>,
    /// Whether the name exists and refers to the right digest.
    pub present: bool,
    /// Whether every required blob is present.
    pub complete: bool,
    /// Whether its layers are unpacked.
    pub unpacked: bool,
    /// Whether the kubelet's garbage collection skips it under all its names; null if the runtime has no pins.
    pub pinned: Option<bool>,
    /// The pods that run it; null if containers are not known.
    pub running: Option<Vec<String>>,
    /// The pods that run another image of that name; null if containers are not known.
    pub running_other: Option<Vec<String>>,
    /// Whether it differs from the latest push, a push would change something, or another image of that name runs.
    pub drift: bool,
}

/// The latest push of a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LastPush {
    /// The digest that was pushed.
    pub digest: String,
    /// The time of the push.
    pub at: push_label::Time,
}

impl NodeState {
    /// Whether a node has everything of an image, by the digest that its reference ends in, and has it unpacked.
    #[must_use]
    pub fn has(&self, reference: &str) -> bool {
        let Some(digest) = reference.split_once('@').map(|(_, digest)| digest) else { return false };
        let is_pushed = |one: &PushedImage| {
            one.complete && one.unpacked && one.target.is_some_and(|target| target.to_string() == digest)
        };
        let is_there = |one: &ImageStatus| one.complete && one.unpacked && one.digest == digest;
        self.pushes.iter().any(is_pushed) || self.images.iter().any(is_there)
    }
}

impl StatusQuery {
    /// Queries every node through the connection that `connect` opens. The answers are in the order of the nodes.
    pub async fn ask(&self, nodes: Vec<Node>, connect: impl Fn(&Node) -> Box<dyn Transport> + Sync) -> Vec<Answer> {
        let connect = &connect;
        stream::iter(nodes)
            .map(|node| async move {
                let ask = || async { self.node(&node, connect(&node).as_ref()).await };
                Answer { state: with_retries(&node.name, self.retries, ask).await, node }
            })
            .buffered(self.parallel.max(1))
            .collect()
            .await
    }

    async fn node(&self, node: &Node, transport: &dyn Transport) -> Result<NodeState, Error> {
        if let Some(architecture) = &node.architecture {
            plan::check_platform(&self.images, &Platform::linux(architecture))?;
        }
        let cancel = CancellationToken::new();
        let access = Access::for_questions(transport, &self.binary, &self.settings, &cancel);
        let survey = async |runtime: &dyn NodeRuntime| self.survey(runtime).await;
        access.work_on(node, &|_| {}, survey).await
    }

    async fn survey(&self, runtime: &dyn NodeRuntime) -> Result<NodeState, Error> {
        let Survey { via, inventory, whole_images, pushed, containers } = runtime.survey(&self.images).await?;
        let images = match whole_images {
            None => self.read(&inventory, containers.as_deref().unwrap_or_default())?,
            Some(ids) => {
                let desired = self.images.iter().filter_map(|image| DesiredImage::new(image, &inventory.platform));
                let status = |desired: DesiredImage| {
                    of_engine(&desired, ids.get(desired.name()).map(String::as_str), &pushed, containers.as_deref())
                };
                desired.map(status).collect()
            }
        };
        Ok(NodeState { via, images, pushes: pushed, containers })
    }

    fn read(&self, inventory: &Inventory, containers: &[Container]) -> Result<Vec<ImageStatus>, Error> {
        let plan = plan::plan(&self.images, inventory, &UnpackedSizes::new())?;
        Ok(plan.images.iter().map(|image| of_store(image, inventory, containers)).collect())
    }
}

/// Compares an image on a node with the store.
fn of_store(image: &ImagePlan, inventory: &Inventory, containers: &[Container]) -> ImageStatus {
    let (desired, target) = (&image.desired, image.desired.target.blob.digest);
    let found = inventory.records.get(desired.name()).and_then(|record| record.target);
    let chain = desired.top().map(|top| top.to_string()).unwrap_or_default();
    let (running, running_other) = running(desired.name(), &desired.config.to_string(), &chain, Some(containers));
    ImageStatus {
        name: desired.name().to_owned(),
        digest: target.to_string(),
        pushed: None,
        found: found.map(|digest| digest.to_string()),
        present: found == Some(target),
        complete: image.state != State::Incomplete,
        unpacked: desired.top().is_none_or(|top| inventory.snapshots.contains(&top)),
        pinned: Some(desired.names.iter().all(|name| inventory.records.get(name).is_some_and(|record| record.pinned))),
        running,
        drift: image.state != State::UpToDate || running_other.as_ref().is_some_and(|pods| !pods.is_empty()),
        running_other,
    }
}

/// Compares an image of Docker or CRI-O with the store. They have an image as a whole, with this id, or not at all.
fn of_engine(
    desired: &DesiredImage,
    id: Option<&str>,
    pushes: &[PushedImage],
    containers: Option<&[Container]>,
) -> ImageStatus {
    let (has, target) = (id.is_some(), desired.target.blob.digest);
    let named = pushes.iter().find(|standing| standing.name == desired.name()).and_then(|standing| standing.target);
    let config = id.map_or_else(|| desired.config.to_string(), str::to_owned);
    let (running, running_other) = running(desired.name(), &config, "", containers);
    ImageStatus {
        name: desired.name().to_owned(),
        digest: target.to_string(),
        pushed: None,
        found: if has { Some(target) } else { named }.map(|digest| digest.to_string()),
        present: has,
        complete: has,
        unpacked: has,
        pinned: None,
        running,
        drift: !has || running_other.as_ref().is_some_and(|pods| !pods.is_empty()),
        running_other,
    }
}

/// Compares an image that is not in the store with the latest push.
fn of_push(last: &PushLabel, state: &NodeState) -> ImageStatus {
    let record = |name: &str| state.pushes.iter().find(|one| one.name == name);
    let named = record(&last.name);
    let found = named.and_then(|record| record.target);
    let both = [named, record(&by_digest(&last.name, &last.digest))]
        .map(|one| one.filter(|it| it.target == Some(last.digest)));
    let standing = both.iter().flatten().next();
    let (config, chain) = standing.map_or(("", ""), |it| (it.config.as_str(), it.chain.as_str()));
    let (running, running_other) = running(&last.name, config, chain, state.containers.as_deref());
    let (present, complete) = (found == Some(last.digest), standing.is_some_and(|it| it.complete));
    let pins = || both.iter().all(|it| it.is_some_and(|it| it.pinned));
    let (unpacked, pinned) = (standing.is_some_and(|it| it.unpacked), has_pins(state.via).then(pins));
    let others = running_other.as_ref().is_some_and(|pods| !pods.is_empty());
    ImageStatus {
        name: last.name.clone(),
        digest: last.digest.to_string(),
        pushed: None,
        found: found.map(|digest| digest.to_string()),
        present,
        complete,
        unpacked,
        pinned,
        running,
        running_other,
        drift: !(present && complete && unpacked && pinned != Some(false)) || others,
    }
}

/// Returns the pods that run the image with this configuration and chain id, and those that run another image of its
/// name. The name from which a container was created is not decisive, because it may since refer to another image.
fn running(
    name: &str,
    config: &str,
    chain: &str,
    containers: Option<&[Container]>,
) -> (Option<Vec<String>>, Option<Vec<String>>) {
    let runs = |container: &Container| match container.config.as_str() {
        "" => !chain.is_empty() && container.chain_id == chain,
        made_from => made_from == config,
    };
    let pods = |of: &dyn Fn(&Container) -> bool| {
        let name =
            |container: &Container| if container.pod.is_empty() { &container.id } else { &container.pod }.clone();
        let pods: BTreeSet<String> = containers?.iter().filter(|it| it.running && of(it)).map(name).collect();
        Some(pods.into_iter().collect())
    };
    let ours = |container: &Container| repository(&container.image) == repository(name);
    (pods(&runs), pods(&|container| ours(container) && !runs(container)))
}

impl StatusReport {
    /// Builds the report from the answers of the nodes: every image of the query, and every image that was pushed to
    /// any of the nodes under a name for which `meant` returns true.
    #[must_use]
    pub fn new(answers: &[Answer], meant: impl Fn(&str) -> bool) -> Self {
        let now = push_label::Time::now();
        let said = answers.iter().filter_map(|answer| answer.state.as_ref().ok());
        let each = said.flat_map(|state| push_label::last_on_node(&state.pushes, now).into_values());
        let last = push_label::last(each.filter(|pushed| meant(&pushed.name)), now);
        let nodes: Vec<NodeStatus> = answers
            .iter()
            .map(|answer| NodeStatus {
                name: answer.node.name.clone(),
                via: answer.state.as_ref().ok().map(|state| state.via),
                images: answer.state.as_ref().map(|state| images(state, &last)).unwrap_or_default(),
                error: answer.state.as_ref().err().map(report::one_line),
            })
            .collect();
        Self { drift: nodes.iter().flat_map(|node| &node.images).any(|image| image.drift), nodes }
    }

    /// Returns the exit status of the command. Nodes that could not be queried take precedence over differences on the
    /// others.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self.nodes.iter().filter(|node| node.error.is_some()).count() {
            0 if self.drift => Exit::Difference,
            0 => Exit::Done,
            failed if failed == self.nodes.len() => Exit::Failed,
            _ => Exit::SomeNodes,
        }
    }

    /// Returns the names of the images in the report.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.nodes.iter().flat_map(|node| &node.images).map(|image| image.name.as_str())
    }

    /// The table for people.
    #[must_use]
    pub fn table(&self) -> Table {
        let mut table =
            Table::new(["node", "image", "last push", "present", "complete", "unpacked", "pinned", "running"]);
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
                    image.last_push().to_owned(),
                    word(image.present),
                    word(image.complete),
                    word(image.unpacked),
                    image.pinned.map_or_else(|| "-".to_owned(), word),
                    running,
                ]);
            }
            if node.images.is_empty() {
                table.row([&node.name, "-", "unknown", "unknown", "unknown", "unknown", "unknown", "unknown"]);
            }
        }
        table
    }
}

impl ImageStatus {
    /// Whether the node has the latest push, and whether that is the store's image.
    fn last_push(&self) -> &'static str {
        match &self.pushed {
            None => "NEVER",
            Some(last) if self.found.as_deref() != Some(&last.digest) => "LOST",
            Some(last) if last.digest != self.digest => "OLDER",
            Some(_) => "yes",
        }
    }
}

/// Returns every image of a node, from the store and from the latest pushes to any node.
fn images(state: &NodeState, last: &BTreeMap<&str, &PushLabel>) -> Vec<ImageStatus> {
    let known = |name: &str| state.images.iter().any(|image| image.name == name);
    let pushed_only = last.values().filter(|last| !known(&last.name)).map(|last| of_push(last, state));
    state
        .images
        .iter()
        .cloned()
        .chain(pushed_only)
        .map(|mut image| {
            image.pushed =
                last.get(image.name.as_str()).map(|last| LastPush { digest: last.digest.to_string(), at: last.at });
            let moved = |last: &LastPush| image.found.as_ref() != Some(&last.digest);
            image.drift |= image.pushed.as_ref().is_some_and(moved);
            image
        })
        .collect()
}

/// Whether the runtime pins images.
fn has_pins(via: Via) -> bool {
    matches!(via, Via::Helper | Via::Ctr)
}

/// Returns the errors, each with its node.
pub fn errors(answers: &[Answer]) -> impl Iterator<Item = NodeError<'_>> {
    answers.iter().filter_map(|answer| {
        Some(NodeError { doing: "asking", node: &answer.node.name, source: answer.state.as_ref().err()? })
    })
}
