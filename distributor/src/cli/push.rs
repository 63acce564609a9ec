//! `vcdist push`: images from the store to the nodes, only what each of them lacks.

use std::io;
use std::num::NonZeroUsize;
use std::time::Instant;

use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;
use miette::Diagnostic;
use thiserror::Error;
use vcstore::{Image, Store};
use vcterminal::{Exit, Output};

use crate::cli::nodes::{Nodes, Ssh};
use crate::cluster;
use crate::nodes::{self, Node};
use crate::push::{self, Event, UseHelper};
use crate::report::{self, PlanReport, PushReport};
use crate::session::{self, Binary, Namespace, Settings, SocketPath};
use crate::transport;

/// The images of VirtualCluster, pushed when none are named.
const IMAGES: [&str; 3] = ["manager", "syncer", "vn-agent"];

/// Push images to the nodes of a cluster, sending only what each of them lacks.
///
/// Workers come from the Kubernetes API and are reached over SSH; each runs this program for the length of the push to
/// work on its containerd. Exit codes: 0 every node has the images, 1 none could be served, 4 some could not.
#[derive(Debug, Args)]
pub(super) struct Push {
    /// Images of the store, by name or short name, or archives to take into it first [default: manager, syncer and
    /// vn-agent].
    #[arg(value_name = "IMAGE|ARCHIVE")]
    images: Vec<String>,

    /// The store that has the images [default: $XDG_CACHE_HOME/vcbuild/store].
    #[arg(long, value_name = "DIR", env = "VCBUILD_STORE")]
    store: Option<Utf8PathBuf>,

    #[command(flatten)]
    nodes: Nodes,

    #[command(flatten)]
    ssh: Ssh,

    /// containerd's socket on the nodes [default: where containerd, k3s, rke2, k0s and microk8s have it].
    #[arg(long, value_name = "PATH")]
    containerd_address: Option<SocketPath>,

    /// containerd's namespace.
    #[arg(long, value_name = "NAME", default_value = "k8s.io")]
    containerd_namespace: Namespace,

    /// Nodes to work on at once.
    #[arg(short = 'j', long, value_name = "N", default_value = "32")]
    parallel: NonZeroUsize,

    /// Whether nodes run this program as their helper; where they do not, their ctr does the work.
    #[arg(long, value_enum, value_name = "WHEN", default_value_t)]
    helper: UseHelper,

    /// How often to go on with a node whose connection broke.
    #[arg(long, value_name = "N", default_value_t = 3)]
    retries: u32,

    /// Say what would be sent, and send nothing.
    #[arg(long)]
    dry_run: bool,

    /// What to print.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Why there was nothing to push, or nowhere to push to.
#[derive(Debug, Error, Diagnostic)]
pub(super) enum Error {
    #[error("finding the images to push")]
    #[diagnostic(transparent)]
    Store(#[from] vcstore::Error),
    #[error("finding the images to push: there is no store at {path}")]
    #[diagnostic(help("build the images with `vcbuild images`, give --store DIR, or name an archive"))]
    NoStore { path: Utf8PathBuf },
    #[error("{name:?} is no full image name, and kubelet would not find it")]
    #[diagnostic(help("name the image in full where it is built, as docker.io/virtualcluster/manager-amd64:latest"))]
    Unqualified { name: String },
    #[error(transparent)]
    #[diagnostic(transparent)]
    Cluster(#[from] cluster::Error),
    #[error(transparent)]
    #[diagnostic(transparent)]
    Nodes(#[from] nodes::Error),
    #[error(transparent)]
    #[diagnostic(transparent)]
    Helper(#[from] session::Error),
    #[error("printing the report")]
    Print(#[source] io::Error),
}

impl Push {
    pub(super) async fn run(self) -> Result<Exit, Error> {
        let begun = Instant::now();
        let path = self.store.clone().unwrap_or_else(Store::default_path);
        // Opening makes a store where there is none, and only what is put into it should.
        if !path.join("oci-layout").exists() && !self.images.iter().any(|name| is_archive(name)) {
            return Err(Error::NoStore { path });
        }
        let store = Store::open(&path)?;
        let images = find(&store, &self.images)?;
        let nodes = self.nodes.find(&self.ssh).await?;
        let push = push::Push {
            store,
            images,
            binary: Binary::this()?,
            settings: Settings { namespace: self.containerd_namespace, address: self.containerd_address },
            parallel: self.parallel.get(),
            retries: self.retries,
            helper: self.helper,
            dry_run: self.dry_run,
        };
        let ssh = self.ssh.options();
        let text = self.output == Output::Text;
        let watch = |node: &Node, event: Event<'_>| {
            if text {
                eprintln!("{}: {}", node.name, words(event));
            }
        };
        let outcomes = push.run(nodes, |node| transport::to(&node.reach, &ssh), watch).await;
        let pushed = PushReport::new(&outcomes, begun.elapsed());
        match (self.output, self.dry_run) {
            (Output::Json, false) => vcterminal::print_json(&pushed).map_err(Error::Print)?,
            (Output::Json, true) => vcterminal::print_json(&PlanReport::new(&outcomes)).map_err(Error::Print)?,
            (Output::Text, false) => print!("{}", pushed.table()),
            (Output::Text, true) => print!("{}", PlanReport::new(&outcomes).table()),
        }
        for error in report::errors(&outcomes) {
            vcterminal::report(&error);
        }
        Ok(report::exit(&outcomes))
    }
}

/// The images named, each once, in the order of their names on the command line. What an archive brings is named in the
/// store as it is in the archive.
fn find(store: &Store, named: &[String]) -> Result<Vec<Image>, Error> {
    let mut images: Vec<Image> = Vec::new();
    let defaults = IMAGES.map(str::to_owned);
    let named = if named.is_empty() { &defaults[..] } else { named };
    for name in named {
        let found = if is_archive(name) {
            let brought = vcstore::archive::import(store, Utf8Path::new(name))?;
            brought
                .iter()
                .try_for_each(|image| is_full(image).and_then(|()| Ok(store.tag(&image.name, &image.target)?)))?;
            brought
        } else {
            vec![store.image(name)?]
        };
        for image in found {
            is_full(&image)?;
            if images.iter().all(|known| known.name != image.name) {
                images.push(image);
            }
        }
    }
    for image in &images {
        image.check_complete(store)?;
    }
    Ok(images)
}

/// Names begin with a registry's host, or the container runtime looks for another one.
fn is_full(image: &Image) -> Result<(), Error> {
    let full = |(host, _): (&str, &str)| host.contains(['.', ':']) || host == "localhost";
    match image.name.split_once('/').is_some_and(full) {
        true => Ok(()),
        false => Err(Error::Unqualified { name: image.name.clone() }),
    }
}

/// Whether an argument means a file: it looks like a path, or is one.
fn is_archive(name: &str) -> bool {
    let path = Utf8Path::new(name);
    // A plain word is an image, also where a folder or program of that name stands beside.
    name.starts_with(['.', '/']) || path.extension() == Some("tar") || (name.contains('/') && path.exists())
}

fn words(event: Event<'_>) -> String {
    match event {
        Event::Sending { blobs: 0, .. } => "has every blob; finishing the images".to_owned(),
        Event::Sending { blobs, bytes, total } => {
            format!("sending {blobs} blobs, {} of {}", vcterminal::bytes(bytes), vcterminal::bytes(total))
        }
        Event::WithoutHelper { why } => format!("{why}; working through its ctr"),
        Event::Retrying { why, pause } => format!("{why}; going on in {}", vcterminal::seconds(pause)),
        Event::Finished { image, unpacked } => format!("{image} is complete ({unpacked} layers unpacked)"),
    }
}
