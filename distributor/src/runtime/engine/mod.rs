//! Pushes to nodes whose kubelet uses no containerd of its own: Docker takes archives by `docker load`, CRI-O's storage is
//! filled by skopeo or podman. The node's own programs do the work, and no helper runs. What was pushed is removed by them too.

mod archive;
mod docker;
mod inventory;
mod note;
mod removal;
mod storage;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use miette::Diagnostic;
use thiserror::Error;
use tokio::sync::mpsc;
use vcstore::{Image, Platform, Store};

use crate::images::desired_image::DesiredImage;
use crate::images::inventory::Inventory;
use crate::images::plan::Plan;
use crate::images::push_label::{PushLabel, Time};
use crate::push::{Event, Via};
use crate::runtime::ctr::{self, architecture, disk};
use crate::runtime::script::{ScriptReply, run};
use crate::runtime::transfer::Sent;
use crate::transport::Transport;
use archive::Archive;

pub(crate) use removal::EngineStore;

/// How long a node may take to say what it has.
const ANSWER_WITHIN: Duration = Duration::from_secs(120);

/// How long loading may take in all.
const LOADED_WITHIN: Duration = Duration::from_secs(6 * 3600);

/// What a kubelet uses in containerd's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Engine {
    /// Docker, through dockershim or cri-dockerd.
    Docker,
    /// CRI-O.
    CriO,
}

/// Why a push through a node's own programs failed.
#[derive(Debug, Error, Diagnostic)]
#[non_exhaustive]
pub enum Error {
    /// The script on the node failed.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Script(#[from] ctr::Error),
    /// CRI-O, and nothing that fills its storage.
    #[error("its container runtime is CRI-O, and the node has neither skopeo nor podman to take images in")]
    #[diagnostic(help("install skopeo on the node (its package is called so on every distribution), then push again"))]
    NoTool,
    /// CRI-O, and nothing that takes images from its storage.
    #[error("its container runtime is CRI-O, and the node has neither podman nor skopeo to remove images with")]
    #[diagnostic(help("install podman on the node, which removes single names too, or skopeo; then prune again"))]
    NoRemover,
    /// A name is still there that was removed.
    #[error("{} still on the node after the removal: {said}", names.join(", "))]
    #[diagnostic(help(
        "see what the node's runtime says of them (`docker images`, `crictl images`), then prune again"
    ))]
    Left {
        /// The names.
        names: Vec<String>,
        /// The program's words.
        said: String,
    },
    /// Docker does not answer.
    #[error("its container runtime is Docker, and its docker does not answer: {said}")]
    #[diagnostic(help("`docker version` must work on the node, for root or by `sudo -n`; then push again"))]
    NoDocker {
        /// Its words.
        said: String,
    },
    /// The images are not there afterwards.
    #[error("{} not on the node as pushed: {said}", names.join(", "))]
    #[diagnostic(help("see what the node's runtime says of them (`docker images`, `crictl images`), then push again"))]
    Incomplete {
        /// Their names.
        names: Vec<String>,
        /// The program's words.
        said: String,
    },
}

/// A node's engine, what it is and what it has.
#[derive(Debug)]
pub(crate) struct Node<'a> {
    transport: &'a dyn Transport,
    /// How the program is called there.
    call: String,
    tool: Tool,
    /// What the node is; of blobs, what it needs not be sent.
    pub(crate) inventory: Inventory,
    /// What stands for each name, by configuration or target.
    images: BTreeMap<String, String>,
    /// The pushes that are noted there.
    notes: Vec<PushLabel>,
}

/// The program that takes images in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tool {
    Docker {
        /// Whether it reads layers that are compressed with zstd.
        zstd: bool,
    },
    Skopeo,
    Podman,
}

impl Engine {
    /// The engine that a kubelet names so in its node's status.
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "docker" => Some(Self::Docker),
            "cri-o" => Some(Self::CriO),
            _ => None,
        }
    }

    /// The engine of a node that has no containerd and says nothing of itself; nothing where it has none of ours.
    pub(crate) async fn found(transport: &dyn Transport) -> Result<Option<Self>, Error> {
        let said = run(transport, FIND, None, ANSWER_WITHIN).await?;
        let is_said = |word: &str| said.iter().any(|said| said.words == word);
        Ok(match (is_said("cri-o"), is_said("docker")) {
            (true, _) => Some(Self::CriO),
            (false, true) => Some(Self::Docker),
            (false, false) => None,
        })
    }
}

/// Looks for what another runtime leaves on a node.
const FIND: &str = "for s in /run/crio/crio.sock /var/run/crio/crio.sock; do if $as test -S $s; then say cri-o; break; fi; done\n\
                    if command -v docker >/dev/null 2>&1 && $as docker version >/dev/null 2>&1; then say docker; fi";

impl<'a> Node<'a> {
    /// Asks the node what it has of `images`.
    pub(crate) async fn probe(transport: &'a dyn Transport, engine: Engine, images: &[Image]) -> Result<Self, Error> {
        let wanted = DesiredImage::on_any_platform(images);
        let script = match engine {
            Engine::Docker => docker::probe(&wanted),
            Engine::CriO => storage::probe(&wanted),
        };
        let said = run(transport, &script, None, ANSWER_WITHIN).await?;
        let word = |word: &str| said.iter().find_map(|said| said.words.strip_prefix(word)).map(str::trim);
        if word("no-tool").is_some() {
            return Err(Error::NoTool);
        }
        if let Some(said) = word("no-docker") {
            return Err(Error::NoDocker { said: said.to_owned() });
        }
        let answers = ctr::Error::Answers;
        let (Some(call), Some(machine)) = (word("call "), word("machine ")) else { return Err(answers.into()) };
        let tool = match engine {
            Engine::Docker => Tool::Docker { zstd: word("version ").is_some_and(docker::reads_zstd) },
            Engine::CriO if call.ends_with("podman") => Tool::Podman,
            Engine::CriO => Tool::Skopeo,
        };
        let lines = |word: &str| said.iter().find(|said| said.words == word).map_or(&[][..], |said| &said.lines);
        let blobs = if tool == Tool::Skopeo { storage::layers(lines("layers"), &wanted) } else { BTreeMap::new() };
        let inventory = Inventory {
            platform: Platform::linux(architecture(machine)),
            snapshotter: String::new(),
            disk: disk(lines("disk")),
            snapshot_disk: None,
            blobs,
            partial: BTreeMap::new(),
            snapshots: std::collections::BTreeSet::new(),
            records: BTreeMap::new(),
        };
        let call = call.to_owned();
        let names = match engine {
            Engine::Docker => lines("names").to_vec(),
            Engine::CriO => storage::names(lines("names")),
        };
        let notes = names.iter().filter_map(|name| note::read(name)).collect();
        Ok(Self { transport, call, tool, inventory, images: named(&said), notes })
    }

    /// By which way images come there.
    pub(crate) fn via(&self) -> Via {
        match self.tool {
            Tool::Docker { .. } => Via::Docker,
            Tool::Skopeo => Via::Skopeo,
            Tool::Podman => Via::Podman,
        }
    }

    /// Whether an image is there by every name that the engine can give it.
    pub(crate) fn has(&self, wanted: &DesiredImage) -> bool {
        self.tool.names(wanted).all(|name| self.images.get(name).is_some_and(|found| is(wanted, found)))
    }

    /// By which id an image is there.
    pub(crate) fn id(&self, wanted: &DesiredImage) -> Option<&str> {
        self.images.get(wanted.name()).filter(|_| self.has(wanted)).map(String::as_str)
    }

    /// Sends what the plan of a push says that began `at` this time, and has it taken in.
    pub(crate) async fn load(
        &self,
        store: &Store,
        plan: &Plan,
        at: Time,
        sent: &Arc<Sent>,
        on_event: &(dyn Fn(Event<'_>) + Sync),
    ) -> Result<(), Error> {
        let open: Vec<&DesiredImage> =
            plan.images.iter().map(|image| &image.wanted).filter(|wanted| !self.has(wanted)).collect();
        let archive = self.archive(store, plan, &open).await?;
        let length = archive.length().map_err(ctr::Error::Store)?;
        let script = match self.tool {
            Tool::Docker { .. } => docker::load(&self.call, length, &open, at),
            Tool::Skopeo => storage::copy(&self.call, length, &open, at),
            Tool::Podman => storage::pull(&self.call, length, &open, at),
        };
        let (pieces, input) = mpsc::channel(2);
        let (store, counted) = (store.clone(), Arc::clone(sent));
        let feeding = tokio::task::spawn_blocking(move || archive.send(&store, &pieces, &counted));
        let said = run(self.transport, &script, Some(input), LOADED_WITHIN).await;
        let fed = feeding.await.map_err(|error| ctr::Error::Store(std::io::Error::other(error)))?;
        let said = match (said, fed) {
            // What could not be read here is why the rest failed, unless the node stopped listening first.
            (Err(_), Err(error)) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                return Err(ctr::Error::Store(error).into());
            }
            (said, _) => said?,
        };
        let there = named(&said);
        let lacks = |wanted: &&&DesiredImage| {
            !self.tool.names(wanted).all(|name| there.get(name).is_some_and(|found| is(wanted, found)))
        };
        let names: Vec<String> = open.iter().filter(lacks).map(|wanted| wanted.name().to_owned()).collect();
        if !names.is_empty() {
            let words = said.iter().filter_map(|said| said.words.strip_prefix("failed "));
            return Err(Error::Incomplete { names, said: words.collect::<Vec<_>>().join("; ") });
        }
        warn_of_unnoted(&said);
        for wanted in open {
            on_event(Event::Finished {
                image: wanted.name(),
                unpacked: u32::try_from(wanted.layers.len()).unwrap_or(u32::MAX),
            });
        }
        Ok(())
    }

    /// Notes a push that began `at` this time on the images that are there already, as far as nothing notes it.
    pub(crate) async fn note(&self, images: &[Image], at: Time) -> Result<(), Error> {
        let wanted = images.iter().filter_map(|image| DesiredImage::new(image, &self.inventory.platform));
        let is_noted = |wanted: &DesiredImage| {
            self.notes.iter().any(|note| note.name == wanted.name() && note.digest == wanted.target.blob.digest)
        };
        let unnoted: Vec<DesiredImage> = wanted.filter(|wanted| self.has(wanted) && !is_noted(wanted)).collect();
        if unnoted.is_empty() {
            return Ok(());
        }
        let noting = |wanted: &DesiredImage| match self.tool {
            Tool::Docker { .. } => docker::note(wanted, at),
            Tool::Skopeo | Tool::Podman => storage::note(self.tool, wanted, at),
        };
        let script = [format!("x=\"$as {}\"", self.call)].into_iter().chain(unnoted.iter().map(noting));
        let said = run(self.transport, &script.collect::<Vec<_>>().join("\n"), None, ANSWER_WITHIN).await?;
        warn_of_unnoted(&said);
        Ok(())
    }

    async fn archive(&self, store: &Store, plan: &Plan, open: &[&DesiredImage]) -> Result<Archive, Error> {
        let (store, tool) = (store.clone(), self.tool);
        let (open, sends) =
            (open.iter().map(|&wanted| wanted.clone()).collect::<Vec<_>>(), plan.sends().map(|it| it.blob).collect());
        // Layers may have to be read once for their length.
        let making = tokio::task::spawn_blocking(move || match tool {
            Tool::Docker { zstd: false } => Archive::for_old_docker(&store, &open),
            Tool::Docker { zstd: true } => Ok(Archive::whole(&open, sends)),
            Tool::Skopeo | Tool::Podman => Ok(Archive::layout(&open, sends)),
        });
        let made = making.await.map_err(std::io::Error::other).flatten();
        made.map_err(|error| ctr::Error::Store(error).into())
    }
}

impl Tool {
    /// The names that an image can have there: Docker knows a digest only of what it has pulled.
    fn names(self, wanted: &DesiredImage) -> impl Iterator<Item = &String> {
        wanted.names.iter().take(if matches!(self, Self::Docker { .. }) { 1 } else { usize::MAX })
    }
}

/// Whether what stands for a name is this image: Docker and CRI-O name images by their configuration, Docker with
/// containerd's store by what their names point at.
fn is(wanted: &DesiredImage, found: &str) -> bool {
    found == wanted.config.to_string() || found == wanted.target.blob.digest.to_string()
}

/// What could not be noted is there all the same.
fn warn_of_unnoted(said: &[ScriptReply]) {
    for name in said.iter().filter_map(|said| said.words.strip_prefix("unnoted ")) {
        tracing::warn!("it could not be noted on the node that {name} was pushed; vcdist prune will not know it");
    }
}

/// `image NAME DIGEST`, as scripts say it.
fn named(said: &[ScriptReply]) -> BTreeMap<String, String> {
    let pairs = said.iter().filter_map(|said| said.words.strip_prefix("image ")?.split_once(' '));
    pairs.map(|(name, digest)| (name.to_owned(), digest.to_owned())).collect()
}

/// What sets `c` to the first of these programs that is there. Shells differ in what they say of paths.
fn first(programs: &str) -> String {
    format!(
        "has() {{ case $1 in /*) [ -f \"$1\" ] && [ -x \"$1\" ];; *) command -v \"$1\" >/dev/null 2>&1;; esac; }}\n\
         c=; for p in {programs}; do if has \"$p\"; then c=$p; break; fi; done"
    )
}

/// A name as a shell takes it.
fn quoted(name: &str) -> String {
    shlex::try_quote(name).unwrap_or_default().into_owned()
}

/// Reads what a node answers of Docker, and of CRI-O's storage.
#[cfg(any(test, fuzzing))]
pub fn hostile(bytes: &[u8]) {
    let said = crate::runtime::script::said(bytes);
    for holding in [docker::held(&said), storage::held(&said)].into_iter().flatten() {
        let _ = (holding.pushes(), holding.running());
    }
}
