//! Removes images from nodes that a push created and that nothing needs any more: no revision, no workload and no
//! container uses them, and they are not the latest push. Never changes images that others created. Uses
//! [`crate::runtime`] and [`crate::rollout`].

use std::collections::BTreeMap;

use futures::{StreamExt, stream};
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use vcstore::Digest;
use vcterminal::{Exit, Table};

use crate::images::image_name::repository;
use crate::nodes::Node;
use crate::protocol::proto::{Container, RemoveResponse};
use crate::push::report::{self, NodeError};
use crate::rollout::ImagesInUse;
use crate::runtime::{ATTEMPTS, Access, Error, NodeRuntime, PushedImages, PushedRecord, Removal, Via, with_retries};
use crate::session::{Binary, Settings};
use crate::transport::Transport;

/// What is removed, and the settings for it.
#[derive(Debug, Clone)]
pub struct Prune {
    /// The images that the cluster's revisions and workloads use, or `None` if no cluster is queried.
    pub used: Option<ImagesInUse>,
    /// Whether to also remove the latest push of a name if nothing uses it.
    pub all: bool,
    /// Whether this is a dry run.
    pub dry_run: bool,
    /// The program that becomes the helper.
    pub binary: Binary,
    /// How the helper finds containerd.
    pub settings: Settings,
    /// The number of nodes that are worked on at once.
    pub parallel: usize,
    /// The number of retries for a node whose connection broke.
    pub retries: u32,
}

/// The result for one node.
#[derive(Debug)]
pub struct Outcome {
    /// The node.
    pub node: Node,
    /// What was removed and what was kept.
    pub result: Result<PruneResult, Error>,
}

/// What was removed from a node, and what was kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PruneResult {
    /// The way by which the node was worked on.
    pub via: Via,
    /// Every image that was pushed there.
    pub images: Vec<Decision>,
    /// The number of blobs that garbage collection removed.
    pub blobs: u64,
    /// The size of these blobs in bytes.
    pub blob_bytes: u64,
    /// The size of the unpacked layers that garbage collection removed, in bytes.
    pub unpacked_bytes: u64,
}

/// The decision for one image on one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// The name under which it was pushed.
    pub name: String,
    /// Its digest.
    pub digest: String,
    /// The records that refer to it.
    pub records: Vec<String>,
    /// Whether it is removed.
    pub removed: bool,
    /// What keeps it; null if it is removed.
    pub kept_by: Option<String>,
}

/// The document of `vcdist prune --output json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PruneReport {
    /// Every node, in the order of the request.
    pub nodes: Vec<NodePruned>,
    /// Whether this was a dry run.
    pub dry_run: bool,
    /// The number of bytes freed on all nodes.
    pub bytes_freed: u64,
}

/// The result for one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodePruned {
    /// Its name.
    pub name: String,
    /// The way by which it was worked on; null if it was not reached.
    pub via: Option<Via>,
    /// Every image that was pushed there.
    pub images: Vec<Decision>,
    /// The number of blobs freed.
    pub blobs_freed: u64,
    /// The size of these blobs in bytes.
    pub blob_bytes_freed: u64,
    /// The size of the unpacked layers freed, in bytes.
    pub unpacked_bytes_freed: u64,
    /// The error, if the work on the node failed.
    pub error: Option<String>,
}

impl Prune {
    /// Prunes every node through the connection that `connect` opens. The outcomes are in the order of the nodes.
    pub async fn run(&self, nodes: Vec<Node>, connect: impl Fn(&Node) -> Box<dyn Transport> + Sync) -> Vec<Outcome> {
        let connect = &connect;
        stream::iter(nodes)
            .map(|node| async move {
                let prune = || async { self.node(&node, connect(&node).as_ref()).await };
                Outcome { result: with_retries(&node.name, self.retries, prune).await, node }
            })
            .buffered(self.parallel.max(1))
            .collect()
            .await
    }

    async fn node(&self, node: &Node, transport: &dyn Transport) -> Result<PruneResult, Error> {
        let cancel = CancellationToken::new();
        let access = Access::for_questions(transport, &self.binary, &self.settings, &cancel);
        access.work_on(node, &|_| {}, async |runtime: &dyn NodeRuntime| self.prune(runtime).await).await
    }

    async fn prune(&self, runtime: &dyn NodeRuntime) -> Result<PruneResult, Error> {
        let removal = Removal { dry_run: self.dry_run, running_only: self.running_only() };
        for _ in 0..ATTEMPTS {
            let pushed = runtime.pushed().await?;
            let decisions = self.decide(pushed.as_ref());
            if let Some(answer) = pushed.remove(&going(&decisions), removal).await? {
                return Ok(PruneResult::new(pushed.via(), decisions, &answer));
            }
        }
        Err(Error::Changing { times: ATTEMPTS })
    }

    /// Whether only running containers keep images. A container that has ended may start again while its pod exists,
    /// which only the cluster reports.
    fn running_only(&self) -> bool {
        self.used.is_some()
    }

    fn decide(&self, pushed: &dyn PushedImages) -> Vec<Decision> {
        let used = self.used.as_ref();
        let keeps = |container: &&Container| pushed.ended_containers_keep() || counts(container, used);
        let containers: Vec<&Container> = pushed.containers().iter().filter(keeps).collect();
        let mut decisions = decide(&pushed.records(), &containers, used, self.all);
        let meant = going(&decisions);
        for decision in decisions.iter_mut().filter(|it| it.removed) {
            decision.kept_by = pushed.kept_by(&meant, &decision.records);
            decision.removed = decision.kept_by.is_none();
        }
        decisions
    }
}

/// Whether a container keeps its image. One that has ended does if its pod may start it again and the cluster does not
/// report the pod: static pods are missing from the API while the kubelet cannot reach it.
fn counts(container: &Container, used: Option<&ImagesInUse>) -> bool {
    let is_known = |used: &ImagesInUse| container.pod.is_empty() || used.knows_pod(&container.pod);
    container.running || !used.is_some_and(is_known)
}

/// Returns the records to remove.
fn going(decisions: &[Decision]) -> Vec<String> {
    decisions.iter().filter(|it| it.removed).flat_map(|it| it.records.clone()).collect()
}

/// Decides about each image that was pushed to a node, by its digest, regardless of the names that refer to it.
fn decide(pushes: &[PushedRecord], containers: &[&Container], used: Option<&ImagesInUse>, all: bool) -> Vec<Decision> {
    let mut images: BTreeMap<(&str, Option<Digest>), Vec<&PushedRecord>> = BTreeMap::new();
    for one in pushes {
        images.entry((&one.pushed, one.target)).or_default().push(one);
    }
    let decision = |((name, target), records): ((&str, Option<Digest>), Vec<&PushedRecord>)| {
        let named = records.iter().any(|one| one.name == name);
        let by = || {
            let configs = || records.iter().filter_map(|one| one.config.parse().ok());
            let by_digest = || target.into_iter().chain(configs()).find_map(|digest| used?.digest(&digest));
            let by_cluster = by_digest().or_else(|| used?.name(name).filter(|_| named));
            by_cluster.map(str::to_owned).or_else(|| container_of(&records, containers))
        };
        let kept_by = by().or_else(|| (named && !all).then(|| "the last push".to_owned()));
        Decision {
            name: name.to_owned(),
            digest: target.map(|digest| digest.to_string()).unwrap_or_default(),
            records: records.iter().map(|one| one.name.clone()).collect(),
            removed: kept_by.is_none(),
            kept_by,
        }
    };
    let mut decisions: Vec<Decision> = images.into_iter().map(decision).collect();
    keep_digests(&mut decisions);
    decisions
}

/// Keeps the records by digest of images that stay under another tag, because all tags of a repository share that
/// record.
fn keep_digests(decisions: &mut [Decision]) {
    let stays = |it: &Decision| ((repository(&it.name).to_owned(), it.digest.clone()), it.name.clone());
    let stay: BTreeMap<(String, String), String> = decisions.iter().filter(|it| !it.removed).map(stays).collect();
    for decision in decisions.iter_mut().filter(|it| it.removed) {
        let Some(by) = stay.get(&(repository(&decision.name).to_owned(), decision.digest.clone())) else { continue };
        decision.records.retain(|record| !record.contains('@'));
        if decision.records.is_empty() {
            decision.removed = false;
            decision.kept_by = Some(format!("the name {by}"));
        }
    }
}

/// Returns a container that was created from an image, if there is one.
fn container_of(records: &[&PushedRecord], containers: &[&Container]) -> Option<String> {
    let made_from = |container: &&&Container| {
        records.iter().any(|one| {
            container.image == one.name && container.config.is_empty() && container.chain_id.is_empty()
                || !one.config.is_empty() && container.config == one.config
                || !one.chain.is_empty() && container.chain_id == one.chain
        })
    };
    containers.iter().find(made_from).map(|container| match container.pod.as_str() {
        "" => format!("container {}", container.id),
        pod => format!("pod {pod}"),
    })
}

impl PruneResult {
    fn new(via: Via, mut images: Vec<Decision>, answer: &RemoveResponse) -> Self {
        for image in images.iter_mut().filter(|image| image.removed) {
            if image.records.iter().any(|record| answer.refused.contains(record)) {
                image.removed = false;
                image.kept_by = Some("a container made meanwhile".to_owned());
            }
        }
        Self { via, images, blobs: answer.blobs, blob_bytes: answer.blob_bytes, unpacked_bytes: answer.snapshot_bytes }
    }
}

impl PruneReport {
    /// Builds the report from the outcomes.
    #[must_use]
    pub fn new(outcomes: &[Outcome], dry_run: bool) -> Self {
        let nodes: Vec<NodePruned> = outcomes
            .iter()
            .map(|outcome| {
                let pruned = outcome.result.as_ref().ok();
                NodePruned {
                    name: outcome.node.name.clone(),
                    via: pruned.map(|pruned| pruned.via),
                    images: pruned.map(|pruned| pruned.images.clone()).unwrap_or_default(),
                    blobs_freed: pruned.map_or(0, |pruned| pruned.blobs),
                    blob_bytes_freed: pruned.map_or(0, |pruned| pruned.blob_bytes),
                    unpacked_bytes_freed: pruned.map_or(0, |pruned| pruned.unpacked_bytes),
                    error: outcome.result.as_ref().err().map(report::one_line),
                }
            })
            .collect();
        Self {
            bytes_freed: nodes.iter().map(|node| node.blob_bytes_freed + node.unpacked_bytes_freed).sum(),
            nodes,
            dry_run,
        }
    }

    /// The table for people.
    #[must_use]
    pub fn table(&self) -> Table {
        let mut table = Table::new(["node", "image", "digest", "result", "kept by"]);
        for node in &self.nodes {
            for image in &node.images {
                let result = match (image.removed, self.dry_run) {
                    (true, true) => "would go",
                    (true, false) => "removed",
                    (false, _) => "kept",
                };
                let digest = image.digest.trim_start_matches("sha256:").chars().take(12).collect();
                let kept_by = image.kept_by.clone().unwrap_or_else(|| "-".to_owned());
                table.row([node.name.clone(), image.name.clone(), digest, result.to_owned(), kept_by]);
            }
            if node.images.is_empty() {
                let nothing = if node.error.is_some() { "unknown" } else { "nothing of ours" };
                table.row([&node.name, "-", "-", nothing, "-"]);
            }
        }
        table
    }

    /// Returns one line for each node from which something was removed.
    pub fn freed(&self) -> impl Iterator<Item = String> {
        let would = if self.dry_run { "would free" } else { "freed" };
        self.nodes.iter().filter(|node| node.images.iter().any(|image| image.removed)).map(move |node| {
            let (blobs, unpacked) =
                (vcterminal::bytes(node.blob_bytes_freed), vcterminal::bytes(node.unpacked_bytes_freed));
            format!("{}: {would} {blobs} of {} blobs and {unpacked} of unpacked layers", node.name, node.blobs_freed)
        })
    }
}

/// Returns the errors, each with its node.
pub fn errors(outcomes: &[Outcome]) -> impl Iterator<Item = NodeError<'_>> {
    outcomes.iter().filter_map(|outcome| {
        Some(NodeError { doing: "pruning", node: &outcome.node.name, source: outcome.result.as_ref().err()? })
    })
}

/// Returns the exit status of the command: it is a failure if every node failed.
#[must_use]
pub fn exit(outcomes: &[Outcome]) -> Exit {
    match errors(outcomes).count() {
        0 => Exit::Done,
        failed if failed == outcomes.len() => Exit::Failed,
        _ => Exit::SomeNodes,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::images::image_name::by_digest;

    #[test]
    fn an_image_keeps_its_name_by_digest_as_long_as_one_of_its_tags_stays() {
        // Both tags were pushed, and the record that they share carries the label of the other tag, which now refers to
        // another image.
        let other = "docker.io/virtualcluster/manager-amd64:v2";
        let mut records = image("new", true);
        records.iter_mut().filter(|it| it.name.contains('@')).for_each(|it| it.pushed = other.into());
        let decisions = decide(&records, &[], None, false);
        assert_eq!(decisions.iter().map(|it| it.removed).collect::<Vec<_>>(), [false, false], "{decisions:?}");
        assert_eq!(decisions[1].kept_by.as_deref(), Some("the name docker.io/virtualcluster/manager-amd64:latest"));
        let all = decide(&records, &[], None, true);
        assert!(all.iter().all(|it| it.removed), "{all:?}");
    }

    const NAME: &str = "docker.io/virtualcluster/manager-amd64:latest";

    fn digest(content: &str) -> Digest {
        Digest::of(content.as_bytes())
    }

    /// Returns the records of an image of this content: by digest, and by its tag if that refers to it.
    fn image(content: &str, tagged: bool) -> Vec<PushedRecord> {
        let by_tag = tagged.then(|| NAME.to_owned());
        by_tag
            .into_iter()
            .chain([by_digest(NAME, &digest(content))])
            .map(|name| PushedRecord {
                name,
                pushed: NAME.into(),
                target: Some(digest(content)),
                config: format!("config {content}"),
                chain: format!("chain {content}"),
            })
            .collect()
    }

    fn kept(
        pushes: &[Vec<PushedRecord>],
        containers: &[Container],
        used: &ImagesInUse,
        all: bool,
    ) -> Vec<Option<String>> {
        let containers: Vec<&Container> = containers.iter().collect();
        let decisions = decide(&pushes.concat(), &containers, Some(used), all);
        let of = |content: &str| {
            let it = decisions.iter().find(|it| it.digest == digest(content).to_string()).expect("a decision");
            assert_eq!(it.removed, it.kept_by.is_none());
            it.kept_by.clone()
        };
        ["old", "new"].map(of).to_vec()
    }

    #[test]
    fn what_nothing_uses_goes_and_the_last_push_stays_unless_all_goes() {
        let pushes = [image("old", false), image("new", true)];
        assert_eq!(kept(&pushes, &[], &ImagesInUse::default(), false), [None, Some("the last push".into())]);
        assert_eq!(kept(&pushes, &[], &ImagesInUse::default(), true), [None, None]);
    }

    #[test]
    fn what_the_cluster_names_stays() {
        let pushes = [image("old", false), image("new", true)];
        let mut used = ImagesInUse::default();
        used.add(&by_digest(NAME, &digest("old")), "revision 1");
        used.add("virtualcluster/manager-amd64", "pod a/b");
        assert_eq!(kept(&pushes, &[], &used, true), [Some("revision 1".into()), Some("pod a/b".into())]);
    }

    #[test]
    fn what_a_container_was_made_from_stays_whatever_its_name_stands_for_now() {
        let pushes = [image("old", false), image("new", true)];
        let container = |config: &str, chain: &str| Container {
            id: "c".into(),
            image: NAME.into(),
            config: config.into(),
            chain_id: chain.into(),
            ..Default::default()
        };
        let none = ImagesInUse::default();
        let of_cri = Container { pod: "vc/manager-0".into(), ..container("config old", "") };
        assert_eq!(kept(&pushes, &[of_cri], &none, true), [Some("pod vc/manager-0".into()), None]);
        assert_eq!(kept(&pushes, &[container("", "chain old")], &none, true), [Some("container c".into()), None]);
        assert_eq!(kept(&pushes, &[container("", "")], &none, true), [None, Some("container c".into())]);
        assert_eq!(kept(&pushes, &[container("config other", "chain other")], &none, true), [None, None]);
    }

    #[test]
    fn a_container_that_has_ended_keeps_its_image_unless_the_cluster_knows_its_pod() {
        let mut used = ImagesInUse::default();
        let pod = json!({"metadata": {"namespace": "vc", "name": "manager-0"}, "spec": {}});
        used.add_pod(&serde_json::from_value(pod).expect("a pod"));
        let of = |pod: &str, running: bool| Container { pod: pod.into(), running, ..Default::default() };
        assert!(!counts(&of("vc/manager-0", false), Some(&used)), "what the pod needs, it names");
        assert!(counts(&of("kube-system/etcd-w1", false), Some(&used)), "a pod of the kubelet's own files");
        assert!(!counts(&of("", false), Some(&used)) && counts(&of("", true), Some(&used)));
        assert!(counts(&of("vc/manager-0", false), None), "no cluster was asked");
    }

    #[test]
    fn a_container_that_came_in_between_keeps_its_image() {
        let pushes = image("old", false);
        let decisions = decide(&pushes, &[], None, false);
        let refused = RemoveResponse { refused: vec![by_digest(NAME, &digest("old"))], ..Default::default() };
        let pruned = PruneResult::new(Via::Helper, decisions, &refused);
        assert_eq!(pruned.images[0].kept_by.as_deref(), Some("a container made meanwhile"));
        assert!(!pruned.images[0].removed);
    }
}
