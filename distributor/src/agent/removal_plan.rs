//! The plan of a removal: which image records are removed (those that a push created and that no container was created
//! from), and which blobs and snapshots only they keep. The helper or the node's `ctr` carries it out.

use std::collections::BTreeSet;

use crate::agent::gc_refs::{GcRefs, ImageState, Reachable};
use crate::protocol::proto::Container;

/// The prefix of the record that the CRI creates for every image; the digest of its configuration follows.
const BY_ID: &str = "sha256:";

/// An image record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ImageRecord {
    /// Its name.
    pub(crate) name: String,
    /// The digest that it refers to.
    pub(crate) target: String,
    /// Whether a push created it.
    pub(crate) ours: bool,
}

/// What is removed, and what that frees.
#[derive(Debug, Default)]
pub(crate) struct RemovalPlan {
    /// The records to remove.
    pub(crate) records: Vec<ImageRecord>,
    /// Requested names that stay, because a container was created from the image or because no push created the record.
    pub(crate) refused: Vec<String>,
    /// The blobs and snapshots that nothing else keeps.
    pub(crate) frees: Reachable,
}

impl RemovalPlan {
    /// Returns the records to remove that a push created; the others are the CRI's own records of the same images.
    pub(crate) fn ours(&self) -> impl Iterator<Item = &ImageRecord> {
        self.records.iter().filter(|record| record.ours)
    }
}

/// Plans the removal of `names`. The `containers` keep their images; containers that have `ended` keep only their
/// snapshots.
pub(crate) fn plan_removal(
    images: Vec<ImageRecord>,
    names: &[String],
    containers: &[Container],
    ended: &[String],
    refs: &GcRefs,
) -> RemovalPlan {
    let names: BTreeSet<&str> = names.iter().map(String::as_str).collect();
    let used = |image: &ImageRecord| {
        let ImageState { config, chain, .. } = refs.image_state(&image.target);
        let made_from = |container: &Container| {
            (!config.is_empty() && container.config == config) || (!chain.is_empty() && container.chain_id == chain)
        };
        containers.iter().any(|container| container.image == image.name || made_from(container))
    };
    let mut plan = RemovalPlan::default();
    let (named, others): (Vec<ImageRecord>, Vec<ImageRecord>) =
        images.into_iter().partition(|image| names.contains(image.name.as_str()));
    let (going_by_name, refused): (Vec<ImageRecord>, Vec<ImageRecord>) =
        named.into_iter().partition(|image| image.ours && !used(image));
    plan.refused = refused.iter().map(|image| image.name.clone()).collect();
    plan.records = going_by_name;
    // The CRI's own record of an image is needed only while another name refers to the image.
    let gone: BTreeSet<String> = plan.records.iter().map(|image| image.target.clone()).collect();
    let (by_id, named): (Vec<ImageRecord>, Vec<ImageRecord>) =
        others.into_iter().partition(|image| image.name.starts_with(BY_ID) && gone.contains(&image.target));
    let staying: Vec<&ImageRecord> = named.iter().chain(&refused).collect();
    let reached = refs.kept(staying.iter().map(|image| image.target.as_str()), []);
    let (kept_by_id, gone_by_id): (Vec<ImageRecord>, Vec<ImageRecord>) =
        by_id.into_iter().partition(|image| reached.blobs.contains(&image.name));
    plan.records.extend(gone_by_id);
    let (rooted, held) = refs.roots();
    let targets = staying.iter().copied().chain(&kept_by_id).map(|image| image.target.as_str()).chain(rooted);
    let stood_on = containers.iter().map(|container| &container.chain_id).chain(ended).map(String::as_str);
    let stays = refs.kept(targets, held.chain(stood_on));
    let frees = refs.kept(plan.records.iter().map(|image| image.target.as_str()), []);
    plan.frees = Reachable {
        blobs: frees.blobs.difference(&stays.blobs).cloned().collect(),
        snapshots: frees.snapshots.difference(&stays.snapshots).cloned().collect(),
    };
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns two images on one base, unpacked: `old` and `new`.
    fn refs() -> GcRefs {
        let mut refs = GcRefs::default();
        let content = |key: &str, child: &str| (format!("containerd.io/gc.ref.content.{key}"), child.to_owned());
        for name in ["old", "new"] {
            let (config, layer) = (format!("config-{name}"), format!("layer-{name}"));
            let chain = ("containerd.io/gc.ref.snapshot.native".to_owned(), format!("chain-{name}"));
            let labels = [content("config", &config), content("l.0", "base"), content("l.1", &layer)];
            refs.blob(name.into(), 1, labels.into(), "native");
            refs.blob(config, 2, [chain].into(), "native");
            refs.blob(layer, 100, [].into(), "native");
            refs.snapshot(format!("chain-{name}"), "bottom".into(), true, &[].into());
        }
        refs.blob("base".into(), 1000, [].into(), "native");
        refs.snapshot("bottom".into(), String::new(), true, &[].into());
        refs
    }

    fn named(name: &str, target: &str, ours: bool) -> ImageRecord {
        ImageRecord { name: name.into(), target: target.into(), ours }
    }

    fn texts<'a>(items: impl IntoIterator<Item = &'a String>) -> Vec<&'a str> {
        items.into_iter().map(String::as_str).collect()
    }

    #[test]
    fn what_goes_frees_what_nothing_else_needs() {
        let images = vec![named("a:1", "new", true), named("a@old", "old", true), named("sha256:x", "old", false)];
        let plan = plan_removal(images, &["a@old".to_owned()], &[], &[], &refs());
        assert_eq!(texts(plan.ours().map(|record| &record.name)), ["a@old"]);
        assert_eq!(texts(plan.records.iter().map(|record| &record.name)), ["a@old", "sha256:x"]);
        assert_eq!(texts(&plan.frees.blobs), ["config-old", "layer-old", "old"]);
        assert_eq!(texts(&plan.frees.snapshots), ["chain-old"]);
    }

    #[test]
    fn others_records_and_what_containers_were_made_from_stay() {
        let images = || vec![named("a@old", "old", true), named("theirs:1", "old", false)];
        let names = ["a@old".to_owned(), "theirs:1".to_owned()];
        let plan = plan_removal(images(), &names, &[], &[], &refs());
        assert_eq!(
            (texts(plan.records.iter().map(|it| &it.name)), texts(&plan.refused)),
            (vec!["a@old"], vec!["theirs:1"])
        );
        assert_eq!(plan.frees, Reachable::default(), "the other name keeps it all");
        let container = Container { chain_id: "chain-old".into(), ..Default::default() };
        let plan = plan_removal(images(), &names, &[container], &[], &refs());
        assert!(plan.records.is_empty() && plan.refused.len() == 2, "{plan:?}");
        let plan = plan_removal(vec![named("a@old", "old", true)], &names, &[], &["chain-old".to_owned()], &refs());
        assert_eq!((plan.records.len(), plan.frees.snapshots.len()), (1, 0), "what has ended keeps its snapshot");
    }
}
