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

/// Which images, where none are named: not those of a push.
const IMAGES: &str = "Images, by full or short names, or archives [default: all that were pushed]";

/// What the help shows of its use.
const EXAMPLES: &str = "\
Examples:
  vcdist status                                # every image that was pushed, on all workers
  vcdist status hello --host root@10.0.0.11";

/// Show the state of images on each node, and which pods run them.
///
/// The nodes know what was pushed last, so it does not matter who pushed. vcdist also compares with the images of the store,
/// as a push would send them. Without names, it shows every image that was pushed. Exit codes: 0 no difference, 1 no node
/// could be asked, 3 something differs, 4 some nodes could not be asked.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, mut_arg("images", |images| images.help(IMAGES).long_help(IMAGES)))]
pub(super) struct Status {
    #[command(flatten)]
    images: Images,

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
