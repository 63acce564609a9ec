//! Removes pushed images from Docker and from CRI-O's storage. An image counts as pushed if it has a record of a push;
//! only the names in that record are removed. If the image has other names, they stay, and the image with them.

use std::collections::{BTreeMap, BTreeSet};

use super::inventory::{EngineImage, EngineInventory};
use super::{ANSWER_WITHIN, Engine, Error, docker, note, quoted, storage};
use crate::images::image_name::by_digest;
use crate::images::push_label::PushLabel;
use crate::protocol::proto::{Container, RemoveResponse};
use crate::runtime::script::{self, END, run};
use crate::runtime::{PushedImages, PushedRecord, Removal, Via};
use crate::transport::Transport;

/// The time limit for a removal.
const REMOVED_WITHIN: std::time::Duration = std::time::Duration::from_secs(1800);

/// A node's engine and its contents.
#[derive(Debug)]
pub(super) struct EngineStore<'a> {
    transport: &'a dyn Transport,
    engine: Engine,
    pub(super) via: Via,
    pub(super) inventory: EngineInventory,
}

impl<'a> EngineStore<'a> {
    /// Queries the contents of the node's engine.
    pub(super) async fn ask(transport: &'a dyn Transport, engine: Engine) -> Result<Self, Error> {
        let script = match engine {
            Engine::Docker => docker::inventory_script(),
            Engine::CriO => storage::inventory_script(),
        };
        let replies = run(transport, &script, None, ANSWER_WITHIN).await?;
        let word = |word: &str| replies.iter().find_map(|reply| reply.label.strip_prefix(word)).map(str::trim);
        if word("no-tool").is_some() {
            return Err(Error::NoRemover);
        }
        if let Some(message) = word("no-docker") {
            return Err(Error::NoDocker { message: message.to_owned() });
        }
        let (inventory, via) = match engine {
            Engine::Docker => (docker::read_inventory(&replies), Via::Docker),
            Engine::CriO if word("call ").is_some_and(|call| call.ends_with("podman")) => {
                (storage::read_inventory(&replies), Via::Podman)
            }
            Engine::CriO => (storage::read_inventory(&replies), Via::Skopeo),
        };
        Ok(Self { transport, engine, via, inventory: inventory.ok_or(script::Error::Answers)? })
    }

    /// Removes these names, and the images that have no other name; in a dry run, computes what would be freed. Returns
    /// `None` if the node has changed since the query.
    async fn remove_names(&self, names: &[String], dry_run: bool) -> Result<Option<RemoveResponse>, Error> {
        let going: BTreeSet<&str> = names.iter().map(String::as_str).collect();
        let stays = |image: &&EngineImage| {
            image.names.is_empty() || image.names.iter().any(|name| !going.contains(name.as_str()))
        };
        let mut left: Vec<&EngineImage> = self.inventory.images.iter().filter(stays).collect();
        let after;
        if !dry_run && !going.is_empty() {
            let replies = run(self.transport, &self.script(&going), None, REMOVED_WITHIN).await?;
            if replies.iter().any(|reply| reply.label == "changed") {
                return Ok(None);
            }
            after = Self::ask(self.transport, self.engine).await?;
            left = after.inventory.images.iter().collect();
            let names = left.iter().flat_map(|image| &image.names).filter(|name| going.contains(name.as_str()));
            let names: Vec<String> = names.cloned().collect();
            if !names.is_empty() {
                let failures = replies.iter().filter_map(|reply| reply.label.strip_prefix("failed "));
                return Err(Error::Left { names, message: failures.collect::<Vec<_>>().join("; ") });
            }
        }
        let kept: BTreeSet<&String> = left.iter().flat_map(|image| image.layers.keys()).collect();
        let layers = self.inventory.images.iter().flat_map(|image| &image.layers);
        let freed: BTreeMap<&String, &u64> = layers.filter(|(layer, _)| !kept.contains(layer)).collect();
        Ok(Some(RemoveResponse {
            removed: names.to_vec(),
            snapshots: freed.len() as u64,
            snapshot_bytes: freed.values().copied().sum(),
            ..Default::default()
        }))
    }

    /// The script that removes names if the state is unchanged. It removes the record last, so that an image whose
    /// removal is interrupted still counts as pushed.
    fn script(&self, going: &BTreeSet<&str>) -> String {
        let mut lines = vec![
            format!("x=\"$as {}\"; stop() {{ say changed; say {END}; exit 0; }}", self.inventory.call),
            self.inventory.state_script.clone(),
            format!("[ \"$(state)\" = {} ] || stop", quoted(&self.inventory.state)),
            r#"try() { e=$("$@" 2>&1) || say "failed $(echo "$e" | tail -n 1)"; }"#.to_owned(),
        ];
        for image in &self.inventory.images {
            let names = image.names.iter().filter(|name| going.contains(name.as_str()));
            let (notes, names): (Vec<&String>, Vec<&String>) = names.partition(|name| note::read(name).is_some());
            match self.via {
                Via::Podman => {
                    // Given only a name, `podman untag` removes all other names of the image too.
                    lines.extend(
                        names.iter().map(|name| format!("try $x untag {} {}", quoted(image.hex()), quoted(name))),
                    );
                    lines.extend(notes.iter().map(|note| format!("try $x rmi {}", quoted(note))));
                }
                Via::Skopeo => {
                    lines
                        .extend(notes.first().map(|note| format!("try $x delete containers-storage:{}", quoted(note))));
                }
                _ => lines.extend(names.iter().chain(&notes).map(|name| format!("try $x rmi {}", quoted(name)))),
            }
        }
        lines.join("\n")
    }
}

#[tonic::async_trait(?Send)]
impl PushedImages for EngineStore<'_> {
    fn via(&self) -> Via {
        self.via
    }

    /// Returns the records of every push: the record itself, and the names in it that still refer to the same image.
    fn records(&self) -> Vec<PushedRecord> {
        let of = |image: &EngineImage| -> Vec<PushedRecord> {
            let names = EngineInventory::notes(image).flat_map(|(note, PushLabel { name, digest, .. })| {
                let told = [name.clone(), by_digest(&name, &digest), note.clone()];
                let there = told.into_iter().filter(|name| image.names.contains(name));
                there.map(move |record| PushedRecord {
                    name: record,
                    pushed: name.clone(),
                    target: Some(digest),
                    config: image.id.clone(),
                    chain: String::new(),
                })
            });
            // If the same image was pushed twice, two records contain its names.
            let by_name: BTreeMap<String, PushedRecord> = names.map(|record| (record.name.clone(), record)).collect();
            by_name.into_values().collect()
        };
        self.inventory.images.iter().flat_map(of).collect()
    }

    fn containers(&self) -> &[Container] {
        &self.inventory.containers
    }

    /// The engines remove no image that has a container, running or not.
    fn ended_containers_keep(&self) -> bool {
        true
    }

    /// Returns the name outside `going` that keeps the image: skopeo removes an image with all its names.
    fn kept_by(&self, going: &[String], records: &[String]) -> Option<String> {
        let stays = |image: &&EngineImage| image.names.iter().any(|name| records.contains(name));
        let image = self.inventory.images.iter().find(stays).filter(|_| self.via == Via::Skopeo)?;
        image.names.iter().find(|name| !going.contains(name)).map(|name| format!("the name {name}"))
    }

    async fn remove(
        &self,
        names: &[String],
        removal: Removal,
    ) -> Result<Option<RemoveResponse>, crate::runtime::Error> {
        Ok(self.remove_names(names, removal.dry_run).await?)
    }
}
