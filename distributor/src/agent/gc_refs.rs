//! References between blobs and snapshots on a node: the labels that containerd's garbage collection follows (containerd,
//! docs/garbage-collection.md).

use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The prefix of labels that refer to other content.
const CONTENT: &str = "containerd.io/gc.ref.content";
/// The prefix of labels that refer to snapshots; the name of the snapshotter follows.
const SNAPSHOT: &str = "containerd.io/gc.ref.snapshot.";
/// The label that marks a root.
const ROOT: &str = "containerd.io/gc.root";

/// All blobs and snapshots of a node's containerd in the namespace.
#[derive(Debug, Default)]
pub(crate) struct GcRefs {
    blobs: BTreeMap<String, Blob>,
    snapshots: BTreeMap<String, Snapshot>,
}

#[derive(Debug, Default)]
struct Blob {
    size: u64,
    /// The blobs that it keeps: the suffix of the label, and the digest.
    content: Vec<(String, String)>,
    snapshot: Option<String>,
    root: bool,
}

#[derive(Debug, Default)]
struct Snapshot {
    parent: String,
    committed: bool,
    root: bool,
}

/// Blobs and snapshots that are reachable.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Reachable {
    pub(crate) blobs: BTreeSet<String>,
    pub(crate) snapshots: BTreeSet<String>,
}

/// The state of an image according to its labels.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ImageState {
    pub(crate) complete: bool,
    pub(crate) unpacked: bool,
    /// The digest of its configuration, and the chain id of all its layers; empty if they are not present.
    pub(crate) config: String,
    pub(crate) chain: String,
}

impl GcRefs {
    /// Adds a blob with its labels. Ignores references to snapshots of other snapshotters.
    pub(crate) fn blob(&mut self, digest: String, size: u64, labels: HashMap<String, String>, snapshotter: &str) {
        self.blobs.insert(digest, Blob::new(size, labels, snapshotter));
    }

    /// Adds a snapshot with its labels.
    pub(crate) fn snapshot(&mut self, name: String, parent: String, committed: bool, labels: &HashMap<String, String>) {
        self.snapshots.insert(name, Snapshot { parent, committed, root: labels.contains_key(ROOT) });
    }

    /// Returns what is reachable from these blobs and snapshots, including themselves.
    pub(crate) fn kept<'a>(
        &'a self,
        targets: impl IntoIterator<Item = &'a str>,
        snapshots: impl IntoIterator<Item = &'a str>,
    ) -> Reachable {
        let mut kept = Reachable::default();
        let mut blobs: Vec<&str> = targets.into_iter().collect();
        let mut chains: Vec<&str> = snapshots.into_iter().collect();
        while let Some(digest) = blobs.pop() {
            let Some(blob) = self.blobs.get(digest) else { continue };
            if kept.blobs.insert(digest.to_owned()) {
                blobs.extend(blob.content.iter().map(|(_, child)| child.as_str()));
                chains.extend(blob.snapshot.as_deref());
            }
        }
        while let Some(name) = chains.pop() {
            let Some(snapshot) = self.snapshots.get(name) else { continue };
            if kept.snapshots.insert(name.to_owned()) {
                chains.push(&snapshot.parent);
            }
        }
        kept
    }

    /// Returns the blobs and snapshots that are labelled as roots.
    pub(crate) fn roots(&self) -> (impl Iterator<Item = &str>, impl Iterator<Item = &str>) {
        let blobs = self.blobs.iter().filter(|(_, blob)| blob.root).map(|(digest, _)| digest.as_str());
        let snapshots = self.snapshots.iter().filter(|(_, snapshot)| snapshot.root).map(|(name, _)| name.as_str());
        (blobs, snapshots)
    }

    /// Returns the state of the image with this target.
    pub(crate) fn image_state(&self, target: &str) -> ImageState {
        let mut state = ImageState { complete: true, ..ImageState::default() };
        let (mut open, mut seen, mut layers_missing) = (vec![target], BTreeSet::new(), false);
        while let Some(digest) = open.pop() {
            let Some(blob) = self.blobs.get(digest) else {
                state.complete = false;
                continue;
            };
            if !seen.insert(digest) {
                continue;
            }
            for (label, child) in &blob.content {
                let is_there = self.blobs.contains_key(child);
                match label.as_str() {
                    "config" if is_there => state.config.clone_from(child),
                    layer if layer.starts_with("l.") && !is_there => {
                        layers_missing = true;
                        continue;
                    }
                    _ => {}
                }
                open.push(child);
            }
            if let Some(chain) = &blob.snapshot
                && self.snapshots.get(chain).is_some_and(|snapshot| snapshot.committed)
            {
                state.chain.clone_from(chain);
                state.unpacked = true;
            }
        }
        // Some distributions discard layers after they are unpacked.
        state.complete &= state.unpacked || !layers_missing;
        state
    }

    /// Returns the total size of these blobs in bytes.
    pub(crate) fn bytes<'a>(&self, blobs: impl IntoIterator<Item = &'a String>) -> u64 {
        blobs.into_iter().filter_map(|digest| self.blobs.get(digest)).map(|blob| blob.size).sum()
    }

    /// Returns the parent of a snapshot, or `None` if the snapshot is not present.
    pub(crate) fn parent(&self, name: &str) -> Option<&str> {
        self.snapshots.get(name).map(|snapshot| snapshot.parent.as_str())
    }

    /// Whether a blob is present.
    pub(crate) fn has_blob(&self, digest: &str) -> bool {
        self.blobs.contains_key(digest)
    }

    /// Whether a snapshot is present.
    pub(crate) fn has_snapshot(&self, name: &str) -> bool {
        self.snapshots.contains_key(name)
    }
}

impl Blob {
    fn new(size: u64, labels: HashMap<String, String>, snapshotter: &str) -> Self {
        let mut this = Self { size, ..Self::default() };
        for (key, value) in labels {
            if key == ROOT {
                this.root = true;
            } else if let Some(label) = key.strip_prefix(CONTENT) {
                this.content.push((label.trim_start_matches(['.', '/']).to_owned(), value));
            } else if key.strip_prefix(SNAPSHOT) == Some(snapshotter) {
                this.snapshot = Some(value);
            }
        }
        this
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SNAPSHOTTER: &str = "overlayfs";

    fn blob(size: u64, labels: &[(&str, &str)]) -> Blob {
        let labels = labels.iter().map(|(key, value)| (format!("containerd.io/{key}"), (*value).to_owned()));
        Blob::new(size, labels.collect(), SNAPSHOTTER)
    }

    /// Returns two images on one base, each with a configuration and a layer of its own.
    fn two() -> GcRefs {
        let mut refs = GcRefs::default();
        for name in ["a", "b"] {
            let (config, own, top) = (format!("{name} config"), format!("{name} layer"), format!("{name} top"));
            let labels = [
                ("gc.ref.content.config", config.as_str()),
                ("gc.ref.content.l.0", "base layer"),
                ("gc.ref.content.l.1", own.as_str()),
            ];
            refs.blobs.insert(name.into(), blob(1, &labels));
            refs.blobs.insert(config, blob(10, &[("gc.ref.snapshot.overlayfs", &top)]));
            refs.blobs.insert(own, blob(100, &[]));
            refs.snapshots.insert(top, Snapshot { parent: "base".into(), committed: true, root: false });
        }
        refs.blobs.insert("base layer".into(), blob(1000, &[]));
        refs.snapshots.insert("base".into(), Snapshot { committed: true, ..Snapshot::default() });
        refs.snapshots.insert("container".into(), Snapshot { parent: "a top".into(), ..Snapshot::default() });
        refs
    }

    #[test]
    fn what_one_image_keeps_alone_is_what_goes_with_it() {
        let refs = two();
        let (gone, stays) = (refs.kept(["a"], []), refs.kept(["b"], []));
        let alone: BTreeSet<String> = gone.blobs.difference(&stays.blobs).cloned().collect();
        assert_eq!(alone.iter().map(String::as_str).collect::<Vec<_>>(), ["a", "a config", "a layer"]);
        assert_eq!(refs.bytes(&alone), 111);
        let snapshots: Vec<_> = gone.snapshots.difference(&stays.snapshots).collect();
        assert_eq!(snapshots, ["a top"]);
        let held = refs.kept(["b"], ["container"]);
        assert_eq!(gone.snapshots.difference(&held.snapshots).count(), 0, "a container stands on it");
        assert_eq!(refs.kept(["nothing"], ["nothing"]), Reachable::default());
    }

    #[test]
    fn an_image_is_complete_when_what_its_labels_name_is_there() {
        let mut refs = two();
        let whole = ImageState { complete: true, unpacked: true, config: "a config".into(), chain: "a top".into() };
        assert_eq!(refs.image_state("a"), whole);
        refs.blobs.remove("a layer");
        assert_eq!(refs.image_state("a"), whole, "an unpacked layer may be dropped");
        refs.snapshots.remove("a top");
        let unpacked = refs.image_state("a");
        assert_eq!((unpacked.complete, unpacked.unpacked, unpacked.chain.as_str()), (false, false, ""));
        refs.blobs.remove("b config");
        assert_eq!(refs.image_state("b"), ImageState::default());
        assert!(!refs.image_state("gone").complete);
    }

    #[test]
    fn what_is_rooted_is_found() {
        let mut refs = two();
        refs.blobs.insert("rooted".into(), blob(1, &[("gc.root", "x")]));
        let (blobs, mut snapshots) = refs.roots();
        assert_eq!((blobs.collect::<Vec<_>>(), snapshots.next()), (vec!["rooted"], None));
    }
}
