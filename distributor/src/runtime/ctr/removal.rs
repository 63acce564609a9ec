//! Removes pushed images through the node's `ctr` where no helper runs. The rules are the helper's; the guarantees are
//! those that `ctr` allows.

use std::collections::{BTreeMap, BTreeSet};

use super::{ANSWER_WITHIN, CtrNode, Error, PINNED, containers, probe};
use crate::agent::removal_plan::{ImageRecord, RemovalPlan, plan_removal};
use crate::protocol::proto::{Container, RemoveResponse};
use crate::runtime::script;

/// The time limit for containerd's garbage collection.
const COLLECTED_WITHIN: std::time::Duration = std::time::Duration::from_secs(1800);

/// The node's containers at one moment. A removal that was planned with them runs only while they are unchanged.
#[derive(Debug)]
pub(super) struct Containers {
    /// All containers, without sandboxes.
    pub(super) all: Vec<Container>,
    /// The ids of all containers, sandboxes included, as the node sorts them.
    ids: String,
}

impl CtrNode<'_> {
    /// Queries the containers.
    pub(super) async fn containers(&self) -> Result<Containers, Error> {
        let script = format!("x=\"$as {}\"\n{IDS}; say \"ids $(ids)\"\n{}", self.call, containers::SCRIPT);
        let replies = script::run(self.transport, &script, None, ANSWER_WITHIN).await?;
        let ids =
            replies.iter().find_map(|reply| reply.label.strip_prefix("ids ")).ok_or(script::Error::Answers)?.to_owned();
        let all = containers::read(&replies, &self.refs).ok_or(script::Error::Answers)?;
        Ok(Containers { all, ids })
    }

    /// Removes these records and waits for garbage collection; in a dry run, computes what would be freed. Returns
    /// `None` if the node has changed since the query. Containers that have ended also keep their images unless
    /// `running_only` is set.
    pub(super) async fn remove(
        &self,
        names: &[String],
        containers: &Containers,
        running_only: bool,
        dry_run: bool,
    ) -> Result<Option<RemoveResponse>, Error> {
        let Containers { all, ids } = containers;
        let mut containers = all.clone();
        let ended: Vec<String> = containers.iter().filter(|it| !it.running).map(|it| it.chain_id.clone()).collect();
        containers.retain(|container| container.running || !running_only);
        let going = plan_removal(self.images.clone(), names, &containers, &ended, &self.refs);
        let script = self.removal(&going, ids, dry_run);
        let replies = script::run(self.transport, &script, None, COLLECTED_WITHIN).await?;
        if replies.iter().any(|reply| reply.label == "changed") {
            return Ok(None);
        }
        let lines = |word: &str| replies.iter().find(|reply| reply.label == word).map_or(&[][..], |reply| &reply.lines);
        let sizes: BTreeMap<&str, u64> = lines("usage").iter().filter_map(|line| usage(line)).collect();
        let mut freed = going.frees.clone();
        if !dry_run && !going.records.is_empty() {
            let left: Vec<ImageRecord> = probe::named(lines("images"));
            let names: BTreeSet<&str> = left.iter().map(|image| image.name.as_str()).collect();
            let stays = going.records.iter().filter(|record| names.contains(record.name.as_str()));
            let names: Vec<String> = stays.map(|record| record.name.clone()).collect();
            if !names.is_empty() {
                let failures = replies.iter().filter_map(|reply| reply.label.strip_prefix("failed "));
                return Err(Error::Left { names, message: failures.collect::<Vec<_>>().join("; ") });
            }
            // A lease or another namespace may keep content that nothing in this inventory refers to.
            let left = probe::gc_refs(lines("content"), lines("snapshots"), &self.inventory.snapshotter);
            freed.blobs.retain(|digest| !left.has_blob(digest));
            freed.snapshots.retain(|name| !left.has_snapshot(name));
        }
        Ok(Some(RemoveResponse {
            removed: going.ours().map(|record| record.name.clone()).collect(),
            blobs: freed.blobs.len() as u64,
            blob_bytes: self.refs.bytes(&freed.blobs),
            snapshots: freed.snapshots.len() as u64,
            snapshot_bytes: freed.snapshots.iter().filter_map(|name| sizes.get(name.as_str())).sum(),
            refused: going.refused,
        }))
    }

    /// The script that queries the sizes of snapshots and then, if the node is unchanged, removes the records. The last
    /// removal waits for garbage collection.
    fn removal(&self, going: &RemovalPlan, ids: &str, dry_run: bool) -> String {
        let mut lines = vec![format!("x=\"$as {}\"", self.call)];
        let snapshotter = &self.inventory.snapshotter;
        if !going.frees.snapshots.is_empty() {
            let snapshots: Vec<&str> = going.frees.snapshots.iter().map(String::as_str).collect();
            lines.push(format!("say usage; $x snapshots --snapshotter {snapshotter} usage -b {}", snapshots.join(" ")));
        }
        if !dry_run && !going.records.is_empty() {
            lines.push(format!("{IDS}; stop() {{ say changed; say {}; exit 0; }}", script::END));
            lines.push(format!("[ \"$(ids)\" = {} ] || stop", quoted(ids)));
            lines.push(r#"is() { case $($x images ls "name==\"$1\"") in *"$2"*) ;; *) stop;; esac; }"#.to_owned());
            let pin = PINNED.split_once('=').map_or(PINNED, |(key, _)| key);
            lines.push(format!(
                r#"go() {{ $x images label "$1" {pin}= >/dev/null 2>&1; e=$($x images rm $2 "$1" 2>&1) || say "failed $(echo "$e" | tail -n 1)"; }}"#
            ));
            let records = || going.records.iter().map(|record| (quoted(&record.name), &record.target));
            lines.extend(records().map(|(name, target)| format!("is {name} {target}")));
            let last = going.records.len() - 1;
            let sync = |index| if index == last { " --sync" } else { "" };
            lines.extend(records().enumerate().map(|(index, (name, _))| format!("go {name}{}", sync(index))));
            lines.push("say images; $x images ls; say content; $x content ls; say snapshots".to_owned());
            lines.push(format!("$x snapshots --snapshotter {snapshotter} ls"));
        }
        lines.join("\n")
    }
}

/// Defines the shell function `ids`: the ids of all containers, in one word.
const IDS: &str = "ids() { echo \"of:$($x containers ls -q | LC_ALL=C sort | tr '\\n' ',')\"; }";

/// Parses `KEY SIZE INODES`; the size is in bytes.
fn usage(line: &str) -> Option<(&str, u64)> {
    let mut words = line.split_whitespace();
    Some((words.next()?, words.next()?.parse().ok()?))
}

fn quoted(text: &str) -> String {
    shlex::try_quote(text).unwrap_or_default().into_owned()
}
