//! `vcdist status`: the state of the images on the nodes, compared with the latest push and with the store.

use std::num::NonZeroUsize;

use clap::Args;
use vcterminal::{Exit, Output, Text};

use crate::cli::error::Error;
use crate::cli::images::{self, Images};
use crate::cli::nodes::{Containerd, Nodes, Ssh};
use crate::session::Binary;
use crate::status::{self, StatusQuery, StatusReport};
use crate::transport;

/// Say of each node and image whether it is present, complete, unpacked and pinned, and which pods run it.
///
/// What was pushed last the nodes say themselves, so it does not matter who pushed; images that the store has are compared
/// with it too, as a push would send them. Without names, every image that was pushed is meant. Exit codes: 0 all is as it
/// should be, 1 no node could be asked, 3 something differs, 4 some nodes could not be asked.
#[derive(Debug, Args)]
pub(super) struct Status {
    #[command(flatten)]
    images: Images,

    #[command(flatten)]
    nodes: Nodes,

    #[command(flatten)]
    ssh: Ssh,

    #[command(flatten)]
    containerd: Containerd,

    /// Nodes to ask at once.
    #[arg(short = 'j', long, value_name = "N", default_value = "32")]
    parallel: NonZeroUsize,

    /// How often to try again with a node whose connection broke.
    #[arg(long, value_name = "N", default_value_t = 3)]
    retries: u32,

    /// What to print.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

impl Status {
    pub(super) async fn run(self) -> Result<Exit, Error> {
        let images = self.images.known()?;
        let nodes = self.nodes.find(&self.ssh).await?;
        let question = StatusQuery {
            images,
            binary: Binary::this()?,
            settings: self.containerd.settings(&self.ssh),
            parallel: self.parallel.get(),
            retries: self.retries,
        };
        let ssh = self.ssh.options();
        let answers = question.ask(nodes, |node| transport::to_node(node, &ssh)).await;
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
        let printed = self.output.print(&report, |report| Text::from(&report.table()));
        for error in status::errors(&answers) {
            vcterminal::report(&error);
        }
        printed.map_err(Error::Print)?;
        Ok(report.exit())
    }
}
