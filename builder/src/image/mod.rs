//! Assembles images: stacks a component's layers on its base, and writes the image configuration and the manifest.

mod annotations;
mod run;

use chrono::{DateTime, SecondsFormat};
use oci_spec::image::{
    Arch, Descriptor, History, ImageConfiguration, ImageIndex, MediaType, Os, PlatformBuilder, RootFs,
};
use serde::Serialize;
use serde_json::Value;
use vcstore::{Action, Blob, Layer, Platform, Store};

pub(crate) use self::annotations::About;
use crate::base::Base;
use crate::progress::Progress;
use crate::project::Component;
use crate::{Error, manifest};

/// The version of the documents. Increment it when a change of this file changes them; it is part of every action key.
const RECIPE: u32 = 2;

/// A layer of a component, with a short description of its content for the image history.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct OwnLayer {
    pub(crate) layer: Layer,
    pub(crate) holds: String,
}

/// The parts of an image for one platform.
#[derive(Debug)]
pub(crate) struct ImageBuild<'a> {
    pub(crate) component: &'a Component,
    pub(crate) platform: &'a Platform,
    pub(crate) base: &'a Base,
    /// The layers that are stacked on the base's, lowest first.
    pub(crate) layers: &'a [OwnLayer],
    pub(crate) about: &'a About,
    /// The only time stamp in the image, in seconds since 1970.
    pub(crate) epoch: u64,
}

impl ImageBuild<'_> {
    /// Returns the manifest of the image.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub(crate) fn realise(&self, store: &Store, progress: &Progress) -> Result<Descriptor, Error> {
        let Self { component, platform, base, .. } = self;
        let action = Action::new("image", format!("{} {platform}", component.name))
            .input("recipe", RECIPE)?
            .input("title", &component.name)?
            .input("base", base.digest()?)?
            .input("reference", &base.reference)?
            .input("layers", self.layers)?
            .input("run", &component.run)?
            .input("about", self.about)?
            .input("platform", platform)?
            .input("epoch", self.epoch)?;
        let outputs = progress.realise(store, &action, || {
            let of_base: Value = store.document(&base.image.config_digest())?;
            let config = serde_json::to_value(self.configuration());
            let mut config = config.map_err(|why| Error::Internal(format!("writing a configuration: {why}")))?;
            run::inherit(&mut config, &of_base);
            let layers = base.layers().iter().chain(self.layers.iter().map(|own| &own.layer));
            manifest::put(store, &config, layers, self.about.annotations(component, Some(base))?)
        })?;
        manifest::of(&outputs)
    }

    fn configuration(&self) -> ImageConfiguration {
        let Self { component, platform, base, .. } = self;
        let created = i64::try_from(self.epoch).ok().and_then(|seconds| DateTime::from_timestamp(seconds, 0));
        let created = created.map(|time| time.to_rfc3339_opts(SecondsFormat::Secs, true));
        let own = || self.layers.iter();
        let diff_ids = base.layers().iter().chain(own().map(|own| &own.layer)).map(|layer| layer.diff_id.to_string());
        let mut rootfs = RootFs::default();
        rootfs.set_typ("layers".to_owned()).set_diff_ids(diff_ids.collect());
        let history = |own: &OwnLayer| {
            let mut history = History::default();
            history.set_created(created.clone()).set_created_by(Some(format!("vcbuild: {}", own.holds)));
            history
        };
        let mut image = ImageConfiguration::default();
        image
            .set_created(created.clone())
            .set_os(Os::from(platform.os.as_str()))
            .set_architecture(Arch::from(platform.architecture.as_str()))
            .set_variant(platform.variant.clone().or_else(|| base.config.variant().clone()))
            .set_os_version(base.config.os_version().clone())
            .set_config(Some(run::over(&component.run, base.config.config().clone().unwrap_or_default())))
            .set_rootfs(rootfs)
            .set_history(base_history(base).map(|theirs| theirs.into_iter().chain(own().map(history)).collect()));
        image
    }
}

/// Returns the target of a reference: the only manifest, or an index of several in the order of their platforms.
///
/// # Errors
/// When the store cannot be written.
pub(crate) fn target(
    store: &Store,
    component: &Component,
    about: &About,
    manifests: &[(Platform, Descriptor)],
) -> Result<Descriptor, Error> {
    if let [(_, one)] = manifests {
        return Ok(one.clone());
    }
    let listed = manifests.iter().map(|(platform, manifest)| {
        let mut manifest = manifest.clone();
        let mut listed = PlatformBuilder::default()
            .os(Os::from(platform.os.as_str()))
            .architecture(Arch::from(platform.architecture.as_str()));
        if let Some(variant) = &platform.variant {
            listed = listed.variant(variant.as_str());
        }
        manifest.set_platform(listed.build().ok());
        manifest
    });
    let mut index = ImageIndex::default();
    index.set_schema_version(2).set_media_type(Some(MediaType::ImageIndex)).set_manifests(listed.collect());
    let annotations = about.annotations(component, None)?;
    index.set_annotations((!annotations.is_empty()).then_some(annotations));
    let Blob { digest, size } = store.put_document(&index)?;
    Ok(Descriptor::new(MediaType::ImageIndex, size, digest))
}

/// Returns the history of the base, or `None` if it does not match the base's layers: then entries cannot be appended.
fn base_history(base: &Base) -> Option<Vec<History>> {
    let history = base.config.history().clone().unwrap_or_default();
    let layers = history.iter().filter(|entry| entry.empty_layer() != Some(true)).count();
    (layers == base.layers().len()).then_some(history)
}
