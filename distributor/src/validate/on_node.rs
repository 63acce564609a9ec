//! What one node answers over SSH, and what is wrong with it.

use std::collections::BTreeSet;

use tokio_util::sync::CancellationToken;

use super::node_script::{self, Answer};
use super::ports::{self, NodePort};
use super::{Finding, OnNodes, clock};
use crate::images::plan;
use crate::nodes::Node;
use crate::push::report::one_line;
use crate::runtime::{Error, script};
use crate::status::StatusQuery;
use crate::transport::{self, Transport};

/// What is common to all nodes.
#[derive(Debug)]
pub(super) struct Common<'a> {
    pub(super) access: &'a OnNodes<'a>,
    pub(super) ports: &'a BTreeSet<NodePort>,
    /// The UIDs of the pods that may hold these ports.
    pub(super) pods: &'a BTreeSet<String>,
}

/// What was found on a node, by check; `None` for a check that was not made.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) login: Vec<Finding>,
    pub(super) sudo: Option<Vec<Finding>>,
    pub(super) runtime: Option<Vec<Finding>>,
    pub(super) disk: Option<Vec<Finding>>,
    pub(super) ports: Option<Vec<Finding>>,
    pub(super) clock: Option<Vec<Finding>>,
    /// The version of control groups.
    pub(super) cgroup: Option<u8>,
}

impl Common<'_> {
    /// Checks one node.
    pub(super) async fn check(&self, node: &Node) -> Found {
        let transport = transport::to_node(node, self.access.ssh);
        let mut found = Found::default();
        let answer = match node_script::look(transport.as_ref()).await {
            Ok(answer) => answer,
            Err(script::Error::Session(error)) => {
                found.sudo = Some(vec![Finding::error(
                    &node.name,
                    one_line(&error),
                    "vcdist works on the node's container runtime as root",
                    "let the login user run programs as root without a password (sudoers: `USER ALL=(root) NOPASSWD: ALL`), or log in \
                     as root (--ssh-user root)",
                )]);
                return found;
            }
            Err(error) => {
                found.login = vec![Finding::error(
                    &node.name,
                    one_line(&error),
                    "no image can be pushed to the node",
                    format!(
                        "`ssh {} true` must work without a password; --ssh-user, --ssh-option and --ssh-config say how",
                        transport.destination()
                    ),
                )];
                return found;
            }
        };
        found.sudo = Some(Vec::new());
        found.cgroup = Some(answer.cgroup);
        found.clock = answer.clock.map(|seconds| clock::finding(&node.name, seconds).into_iter().collect());
        found.ports = self.taken(node, transport.as_ref(), &answer).await;
        self.plan(node, &mut found).await;
        found
    }

    /// The ports that others hold; none if that cannot be told.
    async fn taken(&self, node: &Node, transport: &dyn Transport, answer: &Answer) -> Option<Vec<Finding>> {
        let holders = |port: &NodePort| {
            answer.listeners.iter().filter(|one| one.port == port.number).map(|one| one.inode).collect::<Vec<_>>()
        };
        let inodes: Vec<u64> = self.ports.iter().flat_map(holders).collect();
        if inodes.is_empty() {
            return Some(Vec::new());
        }
        let owners = node_script::owners(transport, &inodes).await.ok()?;
        let mut findings = Vec::new();
        for port in self.ports {
            let inodes = holders(port);
            let is_foreign = |inode: &&u64| owners.get(inode).is_none_or(|owner| !owner.is_of(self.pods));
            if let Some(inode) = inodes.iter().find(is_foreign) {
                findings.push(ports::taken(&node.name, port, owners.get(inode)));
            }
        }
        Some(findings)
    }

    /// Makes the plan of a push to the node, which asks its runtime and its disk; without images, asks its runtime.
    async fn plan(&self, node: &Node, found: &mut Found) {
        let access = self.access;
        let connect = |node: &Node| transport::to_node(node, access.ssh);
        let error = match &access.push {
            Some(push) => {
                let cancel = CancellationToken::new();
                push.run(vec![node.clone()], connect, |_, _| {}, &cancel).await.pop().and_then(|outcome| outcome.error)
            }
            None => {
                let query = StatusQuery {
                    images: Vec::new(),
                    binary: access.binary.clone(),
                    settings: access.settings.clone(),
                    parallel: 1,
                    retries: access.retries,
                };
                query.ask(vec![node.clone()], connect).await.pop().and_then(|answer| answer.state.err())
            }
        };
        found.runtime = Some(Vec::new());
        found.disk = access.push.is_some().then(Vec::new);
        let Some(error) = error else { return };
        let finding =
            Finding::error(&node.name, one_line(&error), "no image can be pushed to the node", remedy(&error));
        match error {
            Error::Plan(plan::Error::DiskFull { .. } | plan::Error::InodesFull { .. }) => {
                found.disk = Some(vec![finding]);
            }
            _ => {
                found.runtime = Some(vec![finding]);
                found.disk = None;
            }
        }
    }
}

/// The help of the error.
fn remedy(error: &Error) -> String {
    let help = miette::Diagnostic::help(error).map(|help| help.to_string());
    help.unwrap_or_else(|| "`vcdist plan` shows the whole error".to_owned())
}
