//! A transport to a node whose machine identity is known.

use futures::future::BoxFuture;

use super::{Error, RunningCommand, Transport};
use crate::nodes::{Machine, Node};

/// A wrapper that adds the expected node and machine to another transport.
#[derive(Debug)]
pub(super) struct IdentifiedNode {
    inner: Box<dyn Transport>,
    node: String,
    machine: Machine,
}

impl IdentifiedNode {
    pub(super) fn new(inner: Box<dyn Transport>, node: &Node) -> Self {
        Self { inner, node: node.name.clone(), machine: node.machine.clone() }
    }
}

impl Transport for IdentifiedNode {
    fn destination(&self) -> &str {
        self.inner.destination()
    }

    fn expects(&self) -> Option<(&str, &Machine)> {
        Some((&self.node, &self.machine))
    }

    fn run<'a>(&'a self, command: &'a str) -> BoxFuture<'a, Result<RunningCommand, Error>> {
        self.inner.run(command)
    }

    fn apart(&self) -> Option<Box<dyn Transport>> {
        let inner = self.inner.apart()?;
        Some(Box::new(Self { inner, node: self.node.clone(), machine: self.machine.clone() }))
    }
}
