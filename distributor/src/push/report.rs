//! The output of a push: a table and errors for people, and one document for programs. The document's keys are a
//! contract.

use std::borrow::Cow;
use std::time::Duration;

use miette::Diagnostic;
use serde::{Deserialize, Serialize};
use vcterminal::{Exit, Table};

use super::Outcome;
use crate::images::plan::{ImagePlan, State};
use crate::runtime::{Error, Via};

/// The document of `vcdist push --output json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PushReport {
    /// Every node, in the order of the request.
    pub nodes: Vec<NodeReport>,
    /// The number of bytes sent to all nodes.
    pub bytes_sent: u64,
    /// The relay, if the push used one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relay: Option<RelayReport>,
    /// The duration of the push.
    pub elapsed_seconds: f64,
}

/// The relay of a push.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RelayReport {
    /// Its name.
    pub name: String,
    /// The number of blobs that its cache lacked and that were sent to it.
    pub blobs_sent: u64,
    /// The size of these blobs in bytes.
    pub bytes_sent: u64,
}

/// One node of a push.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeReport {
    /// Its name.
    pub name: String,
    /// The result.
    pub result: NodeResult,
    /// The way by which the node was worked on; null if it was not reached.
    pub via: Option<Via>,
    /// The blobs of the push.
    pub blobs: Blobs,
    /// The bytes of these blobs.
    pub bytes: Bytes,
    /// The duration.
    pub elapsed_seconds: f64,
    /// The error, if the push failed.
    pub error: Option<String>,
}

/// The result of a push to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeResult {
    /// Something was done, and the images are complete.
    Pushed,
    /// Nothing had to be done.
    UpToDate,
    /// It failed.
    Failed,
}

/// Blobs of a push to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blobs {
    /// The number of blobs that the node lacked.
    pub needed: u64,
    /// The number of blobs that were sent.
    pub sent: u64,
}

/// Bytes of a push to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bytes {
    /// The size of all blobs of the images, present ones included.
    pub total: u64,
    /// The number of bytes that were sent.
    pub sent: u64,
}

/// The document of `vcdist push --dry-run --output json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlanReport {
    /// Every node, in the order of the request.
    pub nodes: Vec<NodePlan>,
    /// Bytes to send to all nodes.
    pub bytes_needed: u64,
}

/// The plan for one node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodePlan {
    /// Its name.
    pub name: String,
    /// Whether the API reports the node as Ready; null if no API was queried.
    pub ready: Option<bool>,
    /// The way by which the node was queried and would be worked on; null if it was not reached.
    pub via: Option<Via>,
    /// Every image.
    pub images: Vec<ImageReport>,
    /// The number of bytes that the layers yet to be unpacked need.
    pub bytes_unpacked: u64,
    /// The number of free bytes in containerd's content folder, if it is known.
    pub free_bytes: Option<u64>,
    /// The number of free bytes there after everything is sent and, if on the same file system, unpacked.
    pub free_bytes_after: Option<u64>,
    /// Why it cannot be planned or carried out.
    pub error: Option<String>,
}

/// The plan for one image on one node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImageReport {
    /// Its full name.
    pub name: String,
    /// What the node has of it.
    pub state: Cow<'static, str>,
    /// The number of its blobs.
    pub blobs_total: u64,
    /// The number of blobs to send for it. A blob that several images share counts for the first.
    pub blobs_needed: u64,
    /// The size of its blobs in bytes.
    pub bytes_total: u64,
    /// The number of bytes to send for it.
    pub bytes_needed: u64,
}

/// An error together with the node on which it occurred.
#[derive(Debug, thiserror::Error)]
#[error("{doing} {node}: {source}")]
pub struct NodeError<'a> {
    /// The operation on the node: "pushing to", "planning for", "asking".
    pub(crate) doing: &'static str,
    pub(crate) node: &'a str,
    pub(crate) source: &'a Error,
}

impl Diagnostic for NodeError<'_> {
    fn help<'b>(&'b self) -> Option<Box<dyn std::fmt::Display + 'b>> {
        self.source.help()
    }
}

impl PushReport {
    /// Builds the report from the outcomes.
    #[must_use]
    pub fn new(outcomes: &[Outcome], elapsed: Duration) -> Self {
        Self::of(outcomes.iter().map(NodeReport::new).collect(), None, elapsed)
    }

    /// Builds the report for nodes that were pushed to through `relay`.
    pub(crate) fn of(nodes: Vec<NodeReport>, relay: Option<RelayReport>, elapsed: Duration) -> Self {
        let bytes_sent = nodes.iter().map(|node| node.bytes.sent).sum();
        Self { bytes_sent, nodes, relay, elapsed_seconds: seconds(elapsed) }
    }

    /// The table for people.
    #[must_use]
    pub fn table(&self) -> Table {
        let mut table = Table::new(["node", "result", "via", "blobs", "bytes", "of", "time"]);
        for node in &self.nodes {
            let result = match node.result {
                NodeResult::Pushed => "pushed",
                NodeResult::UpToDate => "up to date",
                NodeResult::Failed => "failed",
            };
            table.row([
                node.name.clone(),
                result.into(),
                node.via.map_or("-", Via::name).into(),
                format!("{}/{}", node.blobs.sent, node.blobs.needed),
                vcterminal::bytes(node.bytes.sent),
                vcterminal::bytes(node.bytes.total),
                vcterminal::duration(Duration::from_secs_f64(node.elapsed_seconds)),
            ]);
        }
        table
    }
}

impl NodeReport {
    pub(crate) fn new(outcome: &Outcome) -> Self {
        let plan = outcome.planned.as_ref().map(|planned| &planned.plan);
        let result = match (&outcome.error, plan) {
            (Some(_), _) | (None, None) => NodeResult::Failed,
            (None, Some(plan)) if plan.is_done() => NodeResult::UpToDate,
            (None, Some(_)) => NodeResult::Pushed,
        };
        Self {
            name: outcome.node.name.clone(),
            result,
            via: outcome.via,
            blobs: Blobs { needed: plan.map_or(0, |plan| plan.sends().count() as u64), sent: outcome.blobs_sent },
            bytes: Bytes { total: plan.map_or(0, |plan| plan.total_bytes), sent: outcome.bytes_sent },
            elapsed_seconds: seconds(outcome.elapsed),
            error: outcome.error.as_ref().map(one_line),
        }
    }
}

impl PlanReport {
    /// Builds the report from the outcomes of a dry run.
    #[must_use]
    pub fn new(outcomes: &[Outcome]) -> Self {
        Self::of(outcomes.iter().map(NodePlan::new).collect())
    }

    pub(crate) fn of(nodes: Vec<NodePlan>) -> Self {
        let bytes_needed = nodes.iter().flat_map(|node| &node.images).map(|image| image.bytes_needed).sum();
        Self { nodes, bytes_needed }
    }

    /// The table for people.
    #[must_use]
    pub fn table(&self) -> Table {
        let mut table = Table::new(["node", "image", "state", "have", "need", "bytes", "disk free after"]);
        for node in &self.nodes {
            let after = node.free_bytes_after.map_or("unknown".into(), vcterminal::bytes);
            for image in &node.images {
                table.row([
                    node.name.clone(),
                    image.name.clone(),
                    image.state.clone().into_owned(),
                    (image.blobs_total - image.blobs_needed).to_string(),
                    image.blobs_needed.to_string(),
                    vcterminal::bytes(image.bytes_needed),
                    after.clone(),
                ]);
            }
            if node.images.is_empty() {
                table.row([&node.name, "-", "unknown", "-", "-", "-", "-"]);
            }
        }
        table
    }
}

impl NodePlan {
    pub(crate) fn new(outcome: &Outcome) -> Self {
        let planned = outcome.planned.as_ref();
        let unpacked = planned.map_or(0, |planned| planned.plan.unpacks_to.bytes);
        let free = planned.and_then(|planned| planned.inventory.disk.as_ref()).map(|disk| disk.free_bytes);
        let after = planned.zip(free).map(|(planned, free)| {
            let beside = planned.inventory.snapshot_disk.is_some();
            let taken = planned.plan.bytes_to_send() + if beside { 0 } else { unpacked };
            free.saturating_sub(taken)
        });
        Self {
            name: outcome.node.name.clone(),
            ready: outcome.node.ready,
            via: outcome.via,
            images: planned.map(|planned| planned.plan.images.iter().map(image).collect()).unwrap_or_default(),
            bytes_unpacked: unpacked,
            free_bytes: free,
            free_bytes_after: after,
            error: outcome.error.as_ref().map(one_line),
        }
    }
}

/// Returns the errors of a push, or of a plan, each with its node.
pub fn errors(outcomes: &[Outcome], is_plan: bool) -> impl Iterator<Item = NodeError<'_>> {
    let doing = if is_plan { "planning for" } else { "pushing to" };
    outcomes
        .iter()
        .filter_map(move |outcome| Some(NodeError { doing, node: &outcome.node.name, source: outcome.error.as_ref()? }))
}

/// Returns the exit status of the command: it is a failure if the push failed on every node.
#[must_use]
pub fn exit(outcomes: &[Outcome]) -> Exit {
    match outcomes.iter().filter(|outcome| outcome.error.is_some()).count() {
        0 => Exit::Done,
        failed if failed == outcomes.len() => Exit::Failed,
        _ => Exit::SomeNodes,
    }
}

fn image(image: &ImagePlan) -> ImageReport {
    ImageReport {
        name: image.desired.name().to_owned(),
        state: match image.state {
            State::UpToDate => "up-to-date",
            State::Unfinished => "unfinished",
            State::Incomplete => "incomplete",
        }
        .into(),
        blobs_total: image.desired.blobs.len() as u64,
        blobs_needed: image.send.len() as u64,
        bytes_total: image.desired.blobs.iter().map(|part| part.blob.size).sum(),
        bytes_needed: image.send.iter().map(|sending| sending.blob.size - sending.offset).sum(),
    }
}

/// Formats an error and its causes on one line.
pub(crate) fn one_line(error: &impl std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(this) = cause {
        let cause_text = this.to_string();
        if !text.ends_with(&cause_text) {
            text += &format!(": {cause_text}");
        }
        cause = this.source();
    }
    text
}

/// Rounds to whole milliseconds, because the measurement is no finer.
fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nodes::{Machine, Node, Reach};
    use crate::runtime::RetryHint;

    fn outcome(name: &str, error: Option<Error>) -> Outcome {
        Outcome {
            node: Node {
                name: name.into(),
                reach: Reach::Local,
                ready: None,
                machine: Machine::default(),
                architecture: None,
                runtime: None,
            },
            planned: None,
            via: None,
            blobs_sent: 3,
            bytes_sent: 4_000,
            elapsed: Duration::from_micros(1_234_567),
            error,
        }
    }

    fn failure() -> Error {
        Error::Helper { message: "no containerd on this node".into(), help: "start it".into(), retry: RetryHint::No }
    }

    #[test]
    fn the_document_has_the_keys_of_the_contract() {
        let report = PushReport::new(&[outcome("w1", Some(failure()))], Duration::from_millis(1500));
        insta::assert_snapshot!(serde_json::to_string_pretty(&report).expect("JSON"), @r#"
        {
          "nodes": [
            {
              "name": "w1",
              "result": "failed",
              "via": null,
              "blobs": {
                "needed": 0,
                "sent": 3
              },
              "bytes": {
                "total": 0,
                "sent": 4000
              },
              "elapsed_seconds": 1.235,
              "error": "no containerd on this node"
            }
          ],
          "bytes_sent": 4000,
          "elapsed_seconds": 1.5
        }
        "#);
        assert_eq!(serde_json::to_value(NodeResult::UpToDate).expect("JSON"), "up-to-date");
    }

    #[test]
    fn the_exit_code_tells_some_from_all() {
        let (good, bad) = (|| outcome("w1", None), || outcome("w2", Some(failure())));
        assert_eq!(exit(&[good(), good()]), Exit::Done);
        assert_eq!(exit(&[good(), bad()]), Exit::SomeNodes);
        assert_eq!(exit(&[bad(), bad()]), Exit::Failed);
    }

    #[test]
    fn an_error_names_its_node_and_keeps_its_help() {
        let outcomes = [outcome("w1", Some(failure()))];
        let error = errors(&outcomes, false).next().expect("an error");
        assert_eq!(error.to_string(), "pushing to w1: no containerd on this node");
        let planned = errors(&outcomes, true).next().expect("an error").to_string();
        assert_eq!(planned, "planning for w1: no containerd on this node");
        assert_eq!(error.help().expect("help").to_string(), "start it");
    }
}
