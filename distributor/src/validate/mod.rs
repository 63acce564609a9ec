//! What would keep an installation from succeeding, found before anything is changed: the API server, the rights, the namespace,
//! the webhooks, and each worker by the API and over SSH. Each finding names its object, its effect and its remedy.
//! Uses [`crate::cluster`], [`crate::nodes`], [`crate::rights`], and a push's plan.

mod api;
mod clock;
mod node_script;
mod nodes;
mod on_node;
mod pod_security;
mod ports;
mod rights;
mod webhook_rules;
mod webhooks;
mod workers;

use serde::Serialize;
use vcmanifests::{NamespaceName, Object};
use vcterminal::{Exit, Text};

use crate::cluster::Cluster;
use crate::nodes::{Choice, Node};
use crate::push::Push;
use crate::session::{Binary, Settings};
use crate::transport::SshOptions;

/// Requests of one check under way at once.
const AT_ONCE: usize = 16;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// An installation works, or may work.
    Warning,
    /// An installation fails, or works in part.
    Error,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The object: a node, a namespace, a right.
    pub object: String,
    /// What is wrong with it.
    pub problem: String,
    /// What it leads to.
    pub effect: String,
    /// What to do.
    pub remedy: String,
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It found nothing.
    Passed,
    /// It found something.
    Failed,
    /// It could not be made.
    Skipped,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Its name, such as `ports`.
    pub name: &'static str,
    /// How it ended.
    pub status: Status,
    /// What was checked, or why it was not.
    pub detail: String,
    /// What it found.
    pub findings: Vec<Finding>,
}

/// All checks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The checks, in the order in which one depends on another.
    pub checks: Vec<Check>,
    /// Whether there is no finding of severity `error`.
    pub passed: bool,
}

/// What is validated.
#[derive(Debug)]
pub struct Validation<'a> {
    /// The namespace of the installation.
    pub namespace: &'a NamespaceName,
    /// What a deployment would apply.
    pub objects: &'a [Object],
    /// The nodes that are meant.
    pub choice: &'a Choice,
    /// How nodes are checked over SSH; none, if they are not.
    pub on_nodes: Option<OnNodes<'a>>,
}

/// How nodes are checked over SSH.
#[derive(Debug)]
pub struct OnNodes<'a> {
    /// The nodes, if they do not come from the API.
    pub nodes: Option<Vec<Node>>,
    /// How they are reached.
    pub ssh: &'a SshOptions,
    /// The program that becomes the helper.
    pub binary: &'a Binary,
    /// How containerd is found.
    pub settings: &'a Settings,
    /// The push whose plan is made for each node, a dry run; none, if the images are not built yet.
    pub push: Option<Push>,
    /// The number of nodes that are checked at once.
    pub parallel: usize,
    /// The number of retries after a connection broke.
    pub retries: u32,
}

impl Validation<'_> {
    /// Makes all checks. `progress` is told the name of each before it begins.
    pub async fn run(&self, cluster: &Cluster, mut progress: impl FnMut(&str)) -> Report {
        progress("api");
        let (mut checks, answers) = api::check(cluster).await;
        if answers {
            progress("rights");
            checks.push(rights::check(cluster, self.objects, self.namespace.as_str()).await);
            progress("pod-security");
            checks.push(pod_security::check(cluster, self.objects, self.namespace.as_str()).await);
            progress("webhooks");
            checks.push(webhooks::check(cluster, self.objects, self.namespace.as_str()).await);
            progress("workers");
            checks.push(workers::check(cluster, self.choice).await);
        } else {
            let why = "the API server does not answer";
            checks.extend(["rights", "pod-security", "webhooks", "workers"].map(|name| Check::skipped(name, why)));
        }
        progress("nodes");
        checks.extend(nodes::check(cluster, answers, self).await);
        let passed = !checks.iter().flat_map(|check| &check.findings).any(Finding::is_error);
        Report { checks, passed }
    }
}

impl Finding {
    /// Creates a finding of severity `error`.
    fn error(
        object: impl Into<String>,
        problem: impl Into<String>,
        effect: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let severity = Severity::Error;
        Self { severity, object: object.into(), problem: problem.into(), effect: effect.into(), remedy: remedy.into() }
    }

    /// Makes it a warning.
    fn warning(self) -> Self {
        Self { severity: Severity::Warning, ..self }
    }

    fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl Check {
    /// A check that was made.
    fn of(name: &'static str, detail: impl Into<String>, findings: Vec<Finding>) -> Self {
        let status = if findings.is_empty() { Status::Passed } else { Status::Failed };
        Self { name, status, detail: detail.into(), findings }
    }

    /// A check that could not be made.
    fn skipped(name: &'static str, why: impl Into<String>) -> Self {
        Self { name, status: Status::Skipped, detail: why.into(), findings: Vec::new() }
    }
}

impl Report {
    /// The findings of all checks.
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.checks.iter().flat_map(|check| &check.findings)
    }

    /// The exit status of `vcdist validate`.
    #[must_use]
    pub fn exit(&self) -> Exit {
        if self.passed { Exit::Done } else { Exit::Difference }
    }

    /// Formats the report for people.
    #[must_use]
    pub fn text(&self) -> Text {
        let mut text = Text::default();
        for check in &self.checks {
            let sign = match check.status {
                Status::Skipped => '-',
                _ if check.findings.iter().any(Finding::is_error) => '✗',
                Status::Failed => '!',
                Status::Passed => '✓',
            };
            let skipped = if check.status == Status::Skipped { "not checked: " } else { "" };
            text.line(format_args!("{sign} {}: {skipped}{}", check.name, check.detail));
            for finding in &check.findings {
                let word = if finding.is_error() { "error" } else { "warning" };
                text.line(format_args!("    {word}: {}: {}", finding.object, finding.problem));
                text.line(format_args!("      effect: {}", finding.effect));
                text.line(format_args!("      remedy: {}", finding.remedy));
            }
        }
        let errors = self.findings().filter(|finding| finding.is_error()).count();
        let warnings = self.findings().count() - errors;
        let skipped = self.checks.iter().filter(|check| check.status == Status::Skipped).count();
        text.line(format_args!("{errors} errors, {warnings} warnings, {skipped} checks not made"));
        text
    }
}
