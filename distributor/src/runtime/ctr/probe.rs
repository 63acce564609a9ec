//! Queries a node's contents through `ctr`. The inventory equals the helper's, as far as `ctr` reports it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use vcstore::{Digest, Platform};

use crate::agent::SOCKETS;
use crate::agent::gc_refs::{self, GcRefs};
use crate::agent::removal_plan::ImageRecord;
use crate::images::desired_image::DesiredImage;
use crate::images::inventory::{Inventory, Record, StoredBlob};
use crate::images::push_label::{PushLabel, PushedImage};
use crate::runtime::facts::{architecture, disk};
use crate::runtime::script::ScriptReply;
use crate::session::Settings;

/// The places of `ctr` that are tried after the login user's `PATH`.
const PROGRAMS: &str =
    "ctr /usr/local/bin/ctr /usr/bin/ctr /opt/bin/ctr /var/lib/rancher/rke2/bin/ctr k3s /usr/local/bin/k3s";

/// Facts about the node, and its contents.
#[derive(Debug)]
pub(super) struct Probe {
    /// The command that runs `ctr` on the node, with its socket and namespace.
    pub(super) ctr: String,
    pub(super) inventory: Inventory,
    /// All image records.
    pub(super) images: Vec<ImageRecord>,
    /// All listed blobs and snapshots, with their references.
    pub(super) refs: GcRefs,
    /// The images that were pushed to the node.
    pub(super) pushes: Vec<PushedImage>,
}

/// The script that queries the node.
pub(super) fn script(settings: &Settings) -> String {
    let sockets = match &settings.address {
        Some(address) => address.path().to_string(),
        None => SOCKETS.join(" "),
    };
    let namespace = &settings.namespace;
    [
        &format!(r#"a=; for s in {sockets}; do if $as test -S "$s"; then a=$s; break; fi; done"#),
        r#"[ -n "$a" ] || { echo "no containerd on this node: no socket at $s" >&2; exit 1; }"#,
        r#"has() { command -v "$1" >/dev/null 2>&1 || $as test -x "$1" 2>/dev/null; }"#,
        &format!(r#"c=; for p in {PROGRAMS}; do if has "$p"; then c=$p; break; fi; done"#),
        r#"case $c in "") echo "the node has no ctr" >&2; exit 1;; *k3s) c="$c ctr";; esac"#,
        &format!(r#"x="$c -a $a -n {namespace}"; say "ctr $x"; say "machine $(uname -m)""#),
        "say plugins; $as $x plugins ls || exit 1",
        r#"r=$($as $x plugins ls -d id==content | sed -n "s/^ *root  *//p" | head -n 1)"#,
        r#"while [ -n "$r" ] && ! $as test -e "$r"; do r=${r%/*}; done"#,
        r#"say disk; if [ -n "$r" ]; then echo "$r"; $as df -Pk "$r" | tail -n 1; $as df -Pi "$r" | tail -n 1; fi"#,
        "say content; $as $x content ls || exit 1",
        "say images; $as $x images ls || exit 1",
        "for s in overlayfs native; do say \"snapshots $s\"; $as $x snapshots --snapshotter $s ls 2>/dev/null; done",
    ]
    .join("\n")
}

/// Reads the answers. `ctr` does not tell the exact sizes of blobs: containerd checked them when they came, so a blob that is
/// there has the size it should.
pub(super) fn read<'a>(replies: &[ScriptReply], desired: impl IntoIterator<Item = &'a DesiredImage>) -> Option<Probe> {
    let after = |word: &str| replies.iter().find_map(|reply| reply.label.strip_prefix(word)).map(str::trim);
    let lines = |word: &str| replies.iter().find(|reply| reply.label == word).map_or(&[][..], |reply| &reply.lines);
    let sizes: BTreeMap<Digest, u64> =
        desired.into_iter().flat_map(|image| &image.blobs).map(|part| (part.blob.digest, part.blob.size)).collect();
    let snapshotter = snapshotter(lines("plugins"));
    let committed = |line: &String| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.last().filter(|kind| **kind == "Committed").and_then(|_| words.first()?.parse().ok())
    };
    let snapshots = lines(&format!("snapshots {snapshotter}")).iter().filter_map(committed).collect();
    let inventory = Inventory {
        platform: Platform::linux(architecture(after("machine ")?)),
        snapshotter,
        disk: disk(lines("disk")),
        snapshot_disk: None,
        blobs: lines("content").iter().filter_map(|line| blob(line, &sizes)).collect(),
        partial: BTreeMap::new(),
        snapshots,
        records: lines("images").iter().filter_map(|line| record(line)).collect(),
    };
    let refs =
        gc_refs(lines("content"), lines(&format!("snapshots {}", inventory.snapshotter)), &inventory.snapshotter);
    let standing = |(name, record): (&String, &Record)| {
        let (target, pushed) = (record.target?, record.pushed.clone()?);
        let gc_refs::ImageState { complete, unpacked, config, chain } = refs.image_state(&target.to_string());
        let (name, pinned) = (name.clone(), record.pinned);
        Some(PushedImage { name, pushed, target: Some(target), pinned, complete, unpacked, config, chain })
    };
    let pushes = inventory.records.iter().filter_map(standing).collect();
    let images = named(lines("images"));
    Some(Probe { ctr: after("ctr ")?.to_owned(), inventory, images, refs, pushes })
}

/// Returns the image records that `ctr` lists, no matter which client created them.
pub(super) fn named(lines: &[String]) -> Vec<ImageRecord> {
    let named = |(name, record): (String, Record)| ImageRecord {
        target: record.target.map(|target| target.to_string()).unwrap_or_default(),
        ours: record.pushed.is_some(),
        name,
    };
    lines.iter().filter_map(|line| record(line)).map(named).collect()
}

/// Returns the blobs and snapshots that `ctr` lists, with the references between them.
pub(super) fn gc_refs(content: &[String], snapshots: &[String], snapshotter: &str) -> GcRefs {
    let mut refs = GcRefs::default();
    for line in content {
        let mut words = line.split_whitespace();
        if let Some(digest) = words.next().filter(|word| word.parse::<Digest>().is_ok()) {
            let labels = labels(words.next_back().unwrap_or_default());
            let labels = labels.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
            let size = words.next().and_then(size).unwrap_or(0);
            refs.blob(digest.to_owned(), size, labels, snapshotter);
        }
    }
    // Each line is `KEY PARENT KIND`; the bottom of a chain has no parent.
    for line in snapshots {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (Some(key), Some(kind)) = (words.first(), words.last()) else { continue };
        let parent = words.get(1).filter(|_| words.len() == 3).copied().unwrap_or_default();
        refs.snapshot((*key).to_owned(), parent.to_owned(), *kind == "Committed", &HashMap::new());
    }
    refs
}

/// Parses a size that `ctr` rounded for display, such as `10.24kB`, into bytes.
fn size(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic())?);
    let power = ["B", "kB", "MB", "GB", "TB"].iter().position(|known| *known == unit)?;
    let bytes = number.parse::<f64>().ok()? * 1000_f64.powi(i32::try_from(power).ok()?);
    // Blob sizes are far below the limit of exact `f64` integers.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a size is no negative number")]
    Some(bytes.round() as u64)
}

/// Parses a list of labels as `ctr` prints it.
fn labels(text: &str) -> BTreeMap<&str, &str> {
    text.split(',').filter_map(|label| label.split_once('=')).collect()
}

/// Parses `DIGEST SIZE AGE LABEL=VALUE,…`; the labels are the last word.
fn blob(line: &str, sizes: &BTreeMap<Digest, u64>) -> Option<(Digest, StoredBlob)> {
    let digest: Digest = line.split_whitespace().next()?.parse().ok()?;
    let keeps: BTreeSet<Digest> = labels(line.split_whitespace().next_back()?)
        .into_iter()
        .filter(|(key, _)| key.starts_with("containerd.io/gc.ref."))
        .filter_map(|(_, value)| value.parse().ok())
        .collect();
    Some((digest, StoredBlob { size: *sizes.get(&digest)?, keeps, damaged: false }))
}

/// Parses `NAME TYPE DIGEST SIZE PLATFORMS LABEL=VALUE,…`.
fn record(line: &str) -> Option<(String, Record)> {
    let mut words = line.split_whitespace();
    let name = words.next()?.to_owned();
    let target = words.nth(1)?.parse().ok()?;
    let labels = labels(words.next_back()?);
    let pinned = super::PINNED.split_once('=').is_some_and(|(key, value)| labels.get(key) == Some(&value));
    let pushed = PushLabel::of(|key| labels.get(key).copied());
    Some((name, Record { target: Some(target), pinned, pushed }))
}

/// Returns containerd's default snapshotter, overlayfs, if it works; otherwise native, which works everywhere.
fn snapshotter(plugins: &[String]) -> String {
    let works = |line: &String| line.contains(" overlayfs ") && line.trim_end().ends_with(" ok");
    if plugins.iter().any(works) { "overlayfs".into() } else { "native".into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYER: &str = "sha256:8f2e9da746e8710a4ddb79f3dfc1faa05d21984121269c5da32bc5186feb0770";
    const CONFIG: &str = "sha256:4a5b61bb9532698d89ae0391cb25c9caffe9d231eb5215eb5b1c39a8d9faf432";

    #[test]
    fn ctrs_tables_are_read() {
        let digest = |text: &str| -> Digest { text.parse().expect("a digest") };
        let sizes = [(digest(CONFIG), 163)].into();
        let line = format!("{CONFIG}\t163B\tLess than a second\tcontainerd.io/gc.ref.snapshot.overlayfs={LAYER},a=b");
        let (config, present) = blob(&line, &sizes).expect("a blob of ours");
        assert_eq!((config, present.size), (digest(CONFIG), 163));
        assert_eq!(present.keeps, [digest(LAYER)].into());
        assert_eq!(blob(&format!("{LAYER}\t10.24kB\t2 hours\t-"), &sizes), None);
        assert_eq!(blob("DIGEST SIZE AGE LABELS", &sizes), None);

        let line =
            format!("docker.io/a:v1 application/x {LAYER} 10.5 KiB linux/amd64 a=b,io.cri-containerd.pinned=pinned ");
        let (name, found) = record(&line).expect("a record");
        assert_eq!((name.as_str(), found.target, found.pinned), ("docker.io/a:v1", Some(digest(LAYER)), true));
        assert_eq!(found.pushed, None);
        let noted = PushLabel {
            name: name.clone(),
            digest: digest(LAYER),
            at: "2026-11-23T13:10:05Z".parse().expect("a time"),
        };
        let labels = noted.labels().map(|(key, value)| format!("{key}={value}")).join(",");
        let (_, found) =
            record(&format!("{} {labels}", line.trim_end().rsplit_once(' ').expect("labels").0)).expect("ours");
        assert_eq!((found.pinned, found.pushed), (false, Some(noted)));
    }

    #[test]
    fn sizes_are_read_as_ctr_rounds_them() {
        let read = ["163B", "30.72kB", "1.001MB", "12.5GB", "-", "x", "5parsecs"].map(size);
        assert_eq!(read, [Some(163), Some(30_720), Some(1_001_000), Some(12_500_000_000), None, None, None]);
    }

    #[test]
    fn the_snapshotter_is_the_one_that_works() {
        let plugins =
            |state: &str| [format!("io.containerd.snapshotter.v1    overlayfs    linux/amd64    {state}      ")];
        assert_eq!(snapshotter(&plugins("ok")), "overlayfs");
        assert_eq!(snapshotter(&plugins("error")), "native");
    }
}
