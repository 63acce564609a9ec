//! The way to a node of which it is known which machine it is.

use futures::future::BoxFuture;

use super::{Error, Running, Transport};
use crate::nodes::{Machine, Node};

/// Another way, with what is known of the node at its end.
#[derive(Debug)]
pub(super) struct Known {
    way: Box<dyn Transport>,
    node: String,
    machine: Machine,
}

impl Known {
    pub(super) fn new(way: Box<dyn Transport>, node: &Node) -> Self {
        Self { way, node: node.name.clone(), machine: node.machine.clone() }
    }
}

impl Transport for Known {
    fn destination(&self) -> &str {
        self.way.destination()
    }

    fn expects(&self) -> Option<(&str, &Machine)> {
        Some((&self.node, &self.machine))
    }

    fn run<'a>(&'a self, command: &'a str) -> BoxFuture<'a, Result<Running, Error>> {
        self.way.run(command)
    }

    fn apart(&self) -> Option<Box<dyn Transport>> {
        let way = self.way.apart()?;
        Some(Box::new(Self { way, node: self.node.clone(), machine: self.machine.clone() }))
    }
}
