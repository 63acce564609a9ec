//! Whether nodes have the images that a revision names, asked as `vcdist status` asks; what they lack is pushed, or refused.

use std::collections::{BTreeMap, BTreeSet};

use camino::Utf8Path;
use miette::Diagnostic;
use oci_spec::image::{Descriptor, MediaType};
use serde_json::Value;
use thiserror::Error;
use tokio_util::sync::CancellationToken;
use vcstore::{Digest, Image, Store};
use vcterminal::Output;

use crate::cli::nodes::{Containerd, Nodes, Ssh};
use crate::cli::progress::Progress;
use crate::images::push_label::Time;
use crate::images::unpacked_size;
use crate::push::{self, report};
use crate::runtime::UseHelper;
use crate::session::Binary;
use crate::status::StatusQuery;
use crate::{nodes, session, transport};

/// Which images, on which nodes.
pub(super) struct NodeImages<'a> {
    /// The images, by name and digest.
    pub(super) images: &'a BTreeSet<String>,
    pub(super) nodes: &'a Nodes,
    pub(super) ssh: &'a Ssh,
    pub(super) containerd: &'a Containerd,
    pub(super) parallel: usize,
    pub(super) retries: u32,
}

/// Why not all nodes have the images. Nothing was changed in the cluster.
#[derive(Debug, Error, Diagnostic)]
pub(super) enum Error {
    #[error(transparent)]
    #[diagnostic(transparent)]
    Nodes(#[from] nodes::Error),

    #[error(transparent)]
    #[diagnostic(transparent)]
    Helper(#[from] session::Error),

    #[error("asking the nodes for the revision's images: {}", failures.join("; "))]
    #[diagnostic(help(
        "nothing was changed in the cluster; see that the nodes can be reached (`vcdist status`), or go on without asking: \
         --ignore-nodes"
    ))]
    Unanswered { failures: Vec<String> },

    #[error("not every node has the revision's images: {}", lacks(missing))]
    #[diagnostic(help(
        "nothing was changed in the cluster; send the images with --push, if the store has them, or go on where nodes fetch \
         images from a registry: --ignore-nodes"
    ))]
    Missing { missing: BTreeMap<String, Vec<String>> },

    #[error("nodes lack images of the revision, and the store {store} does not have {}", images.join(", "))]
    #[diagnostic(help(
        "nothing was changed in the cluster; build or import the images again, or name another --store"
    ))]
    NotInStore { store: String, images: Vec<String> },

    #[error("reading the store {store}")]
    #[diagnostic(help("nothing was changed in the cluster; name another --store"))]
    Store { store: String, source: vcstore::Error },

    #[error("pushing the revision's images: {}", failures.join("; "))]
    #[diagnostic(help("nothing was changed in the cluster; run the same command again: it goes on where it ended"))]
    Push { failures: Vec<String> },
}

impl NodeImages<'_> {
    /// Has every node have every image: asks them all, and pushes from the store, where there is one, what some lack. What
    /// was pushed to each node.
    pub(super) async fn ensure(
        &self,
        store: Option<&Utf8Path>,
        output: Output,
    ) -> Result<BTreeMap<String, Vec<String>>, Error> {
        let missing = self.missing().await?;
        if missing.is_empty() {
            return Ok(missing);
        }
        let Some(path) = store else { return Err(Error::Missing { missing }) };
        let wanted: BTreeSet<&String> = missing.values().flatten().collect();
        let failed = |source| Error::Store { store: path.to_string(), source };
        let store = Store::open_to_give(path).map_err(failed)?;
        let (mut images, mut absent) = (Vec::new(), Vec::new());
        for reference in wanted {
            match find(&store, reference) {
                Ok(Some(image)) => images.push(image),
                Ok(None) => absent.push(reference.clone()),
                Err(source) => return Err(failed(source)),
            }
        }
        if !absent.is_empty() {
            return Err(Error::NotInStore { store: path.to_string(), images: absent });
        }
        self.push(store, images, output).await?;
        let still = self.missing().await?;
        if still.is_empty() { Ok(missing) } else { Err(Error::Missing { missing: still }) }
    }

    /// What each node lacks; nodes that lack nothing are not in it.
    async fn missing(&self) -> Result<BTreeMap<String, Vec<String>>, Error> {
        let query = StatusQuery {
            images: Vec::new(),
            binary: Binary::this()?,
            settings: self.containerd.settings(self.ssh),
            parallel: self.parallel,
            retries: self.retries,
        };
        let ssh = self.ssh.options();
        let answers = query.ask(self.nodes.find(self.ssh).await?, |node| transport::to_node(node, &ssh)).await;
        let (mut missing, mut failures) = (BTreeMap::new(), Vec::new());
        for answer in answers {
            match answer.state {
                Ok(state) => {
                    let lacks: Vec<String> = self.images.iter().filter(|image| !state.has(image)).cloned().collect();
                    if !lacks.is_empty() {
                        missing.insert(answer.node.name, lacks);
                    }
                }
                Err(error) => failures.push(format!("{}: {}", answer.node.name, report::one_line(&error))),
            }
        }
        if failures.is_empty() { Ok(missing) } else { Err(Error::Unanswered { failures }) }
    }

    async fn push(&self, store: Store, images: Vec<Image>, output: Output) -> Result<(), Error> {
        let push = push::Push {
            store,
            images,
            binary: Binary::this()?,
            settings: self.containerd.settings(self.ssh),
            parallel: self.parallel,
            retries: self.retries,
            helper: UseHelper::default(),
            unpacked_sizes: unpacked_size::KnownSizes::default(),
            rate: None,
            connections: None,
            rate_per_node: None,
            at: Time::now(),
            dry_run: false,
        };
        let ssh = self.ssh.options();
        let nodes = self.nodes.find(self.ssh).await?;
        let progress = Progress::new(output);
        let cancel = CancellationToken::new();
        let pushing =
            push.run(nodes, |node| transport::to_node(node, &ssh), |node, event| progress.show(node, event), &cancel);
        let outcomes = tokio::select! {
            outcomes = pushing => outcomes,
            never = progress.draw() => match never {},
        };
        progress.end();
        let failures: Vec<String> = report::errors(&outcomes, false).map(|error| report::one_line(&error)).collect();
        if failures.is_empty() { Ok(()) } else { Err(Error::Push { failures }) }
    }
}

/// The image of a reference by digest: the store's, whatever names stand for it by now.
fn find(store: &Store, reference: &str) -> Result<Option<Image>, vcstore::Error> {
    let Some(digest) = reference.split_once('@').and_then(|(_, digest)| digest.parse::<Digest>().ok()) else {
        return Ok(None);
    };
    let Some(size) = store.size(&digest) else { return Ok(None) };
    let document: Value = store.document(&digest)?;
    let is_index = document["manifests"].is_array();
    let kind = if is_index { MediaType::ImageIndex } else { MediaType::ImageManifest };
    let kind = document["mediaType"].as_str().map_or(kind, MediaType::from);
    let image = Image::open(store, reference, &Descriptor::new(kind, size, digest))?;
    Ok(image.check_complete(store).is_ok().then_some(image))
}

fn lacks(missing: &BTreeMap<String, Vec<String>>) -> String {
    let each = missing.iter().map(|(node, images)| format!("{node} lacks {}", images.join(" and ")));
    each.collect::<Vec<_>>().join("; ")
}
