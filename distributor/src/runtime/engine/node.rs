//! A node's engine as a push finds it: what the engine has, how it loads images, and how a push is recorded.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::mpsc;
use vcstore::{Image, Platform, Store};

use super::archive::Archive;
use super::{ANSWER_WITHIN, Engine, Error, LOADED_WITHIN, Tool, docker, note, storage};
use crate::images::desired_image::DesiredImage;
use crate::images::inventory::Inventory;
use crate::images::plan::Plan;
use crate::images::push_label::{PushLabel, Time};
use crate::runtime::facts::{architecture, disk};
use crate::runtime::script::{self, ScriptReply, run};
use crate::runtime::{Event, Load, Via};
use crate::transport::Transport;

/// A node's engine and its images.
#[derive(Debug)]
pub(super) struct EngineNode<'a> {
    transport: &'a dyn Transport,
    /// The command that runs the program on the node.
    call: String,
    tool: Tool,
    /// Facts about the node, and the blobs that need not be sent.
    pub(super) inventory: Inventory,
    /// The configuration or target digest for each name.
    images: BTreeMap<String, String>,
    /// The pushes that are recorded on the node.
    notes: Vec<PushLabel>,
}

impl<'a> EngineNode<'a> {
    /// Queries what the node has of `images`.
    pub(super) async fn probe(transport: &'a dyn Transport, engine: Engine, images: &[Image]) -> Result<Self, Error> {
        let desired = DesiredImage::on_any_platform(images);
        let script = match engine {
            Engine::Docker => docker::probe(&desired),
            Engine::CriO => storage::probe(&desired),
        };
        let replies = run(transport, &script, None, ANSWER_WITHIN).await?;
        let word = |word: &str| replies.iter().find_map(|reply| reply.label.strip_prefix(word)).map(str::trim);
        if word("no-tool").is_some() {
            return Err(Error::NoTool);
        }
        if let Some(message) = word("no-docker") {
            return Err(Error::NoDocker { message: message.to_owned() });
        }
        let answers = script::Error::Answers;
        let (Some(call), Some(machine)) = (word("call "), word("machine ")) else { return Err(answers.into()) };
        let tool = match engine {
            Engine::Docker => Tool::Docker { zstd: word("version ").is_some_and(docker::reads_zstd) },
            Engine::CriO if call.ends_with("podman") => Tool::Podman,
            Engine::CriO => Tool::Skopeo,
        };
        let lines = |word: &str| replies.iter().find(|reply| reply.label == word).map_or(&[][..], |reply| &reply.lines);
        let blobs = if tool == Tool::Skopeo { storage::layers(lines("layers"), &desired) } else { BTreeMap::new() };
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
        Ok(Self { transport, call, tool, inventory, images: named(&replies), notes })
    }

    /// The way by which images are loaded.
    pub(super) fn tool_via(&self) -> Via {
        match self.tool {
            Tool::Docker { .. } => Via::Docker,
            Tool::Skopeo => Via::Skopeo,
            Tool::Podman => Via::Podman,
        }
    }

    /// Whether an image is present under every name that the engine can give it.
    pub(super) fn has(&self, desired: &DesiredImage) -> bool {
        self.tool.names(desired).all(|name| self.images.get(name).is_some_and(|found| is(desired, found)))
    }

    /// The id of an image that is present.
    pub(super) fn id(&self, desired: &DesiredImage) -> Option<&str> {
        self.images.get(desired.name()).filter(|_| self.has(desired)).map(String::as_str)
    }

    /// Sends the images that are missing, for a push that began at the time `at`, and loads them.
    pub(super) async fn load_images(&self, load: &Load<'_>) -> Result<(), Error> {
        let &Load { store, plan, at, sent, on_event } = load;
        load.begin();
        let open: Vec<&DesiredImage> =
            plan.images.iter().map(|image| &image.desired).filter(|desired| !self.has(desired)).collect();
        let archive = self.archive(store, plan, &open).await?;
        let length = archive.length().map_err(script::Error::Store)?;
        let script = match self.tool {
            Tool::Docker { .. } => docker::load(&self.call, length, &open, at),
            Tool::Skopeo => storage::copy(&self.call, length, &open, at),
            Tool::Podman => storage::pull(&self.call, length, &open, at),
        };
        let (chunks, input) = mpsc::channel(2);
        let (store, counted) = (store.clone(), Arc::clone(sent));
        let feeding = tokio::task::spawn_blocking(move || archive.send(&store, &chunks, &counted));
        let replies = run(self.transport, &script, Some(input), LOADED_WITHIN).await;
        let fed = feeding.await.map_err(|error| script::Error::Store(std::io::Error::other(error)))?;
        let replies = match (replies, fed) {
            // What could not be read here is why the rest failed, unless the node stopped listening first.
            (Err(_), Err(error)) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                return Err(script::Error::Store(error).into());
            }
            (replies, _) => replies?,
        };
        let there = named(&replies);
        let lacks = |desired: &&&DesiredImage| {
            !self.tool.names(desired).all(|name| there.get(name).is_some_and(|found| is(desired, found)))
        };
        let names: Vec<String> = open.iter().filter(lacks).map(|desired| desired.name().to_owned()).collect();
        if !names.is_empty() {
            let failures = replies.iter().filter_map(|reply| reply.label.strip_prefix("failed "));
            return Err(Error::Incomplete { names, message: failures.collect::<Vec<_>>().join("; ") });
        }
        warn_of_unnoted(&replies);
        for desired in open {
            on_event(Event::Finished {
                image: desired.name(),
                unpacked: u32::try_from(desired.layers.len()).unwrap_or(u32::MAX),
            });
        }
        Ok(())
    }

    /// Records a push that began at the time `at` on those `images` that are already present and have no such record.
    pub(super) async fn note_push(&self, images: &[Image], at: Time) -> Result<(), Error> {
        let desired = images.iter().filter_map(|image| DesiredImage::new(image, &self.inventory.platform));
        let is_noted = |desired: &DesiredImage| {
            self.notes.iter().any(|note| note.name == desired.name() && note.digest == desired.target.blob.digest)
        };
        let unnoted: Vec<DesiredImage> = desired.filter(|desired| self.has(desired) && !is_noted(desired)).collect();
        if unnoted.is_empty() {
            return Ok(());
        }
        let noting = |desired: &DesiredImage| match self.tool {
            Tool::Docker { .. } => docker::note(desired, at),
            Tool::Skopeo | Tool::Podman => storage::note(self.tool, desired, at),
        };
        let script = [format!("x=\"$as {}\"", self.call)].into_iter().chain(unnoted.iter().map(noting));
        let replies = run(self.transport, &script.collect::<Vec<_>>().join("\n"), None, ANSWER_WITHIN).await?;
        warn_of_unnoted(&replies);
        Ok(())
    }

    async fn archive(&self, store: &Store, plan: &Plan, open: &[&DesiredImage]) -> Result<Archive, Error> {
        let (store, tool) = (store.clone(), self.tool);
        let (open, sends) =
            (open.iter().map(|&desired| desired.clone()).collect::<Vec<_>>(), plan.sends().map(|it| it.blob).collect());
        // Layers may have to be read in full to find their decompressed size.
        let making = tokio::task::spawn_blocking(move || match tool {
            Tool::Docker { zstd: false } => Archive::for_old_docker(&store, &open),
            Tool::Docker { zstd: true } => Ok(Archive::whole(&open, sends)),
            Tool::Skopeo | Tool::Podman => Ok(Archive::layout(&open, sends)),
        });
        let made = making.await.map_err(std::io::Error::other).flatten();
        made.map_err(|error| script::Error::Store(error).into())
    }
}

/// Whether `found` identifies this image. Docker and CRI-O identify images by their configuration; Docker with
/// containerd's image store identifies them by the target of the name.
fn is(desired: &DesiredImage, found: &str) -> bool {
    found == desired.config.to_string() || found == desired.target.blob.digest.to_string()
}

/// What could not be noted is there all the same.
fn warn_of_unnoted(replies: &[ScriptReply]) {
    for name in replies.iter().filter_map(|reply| reply.label.strip_prefix("unnoted ")) {
        tracing::warn!("it could not be noted on the node that {name} was pushed; vcdist prune will not know it");
    }
}

/// `image NAME DIGEST`, as scripts say it.
fn named(replies: &[ScriptReply]) -> BTreeMap<String, String> {
    let pairs = replies.iter().filter_map(|reply| reply.label.strip_prefix("image ")?.split_once(' '));
    pairs.map(|(name, digest)| (name.to_owned(), digest.to_owned())).collect()
}
