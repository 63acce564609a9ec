//! Puts a component's layer on its base: the configuration and the manifest of the image.

use std::collections::HashMap;

use chrono::{DateTime, SecondsFormat};
use oci_spec::image::{
    Arch, Config, Descriptor, History, ImageConfiguration, ImageIndex, ImageManifestBuilder, MediaType, Os,
    PlatformBuilder, RootFs,
};
use vcstore::{Action, Blob, Layer, Outputs, Platform, Store};

use crate::Error;
use crate::base::Base;
use crate::progress::Progress;
use crate::project::Component;

/// Where programs are found in an image whose base does not say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A change in how this file writes documents changes this number, and with it every key.
const RECIPE: u32 = 1;

/// The manifest of the image with `layer` on `base`. It holds no time but `epoch`, in seconds since 1970.
///
/// # Errors
/// When the store cannot be used.
pub(crate) fn assemble(
    store: &Store,
    component: &Component,
    platform: &Platform,
    base: &Base,
    layer: &Layer,
    epoch: u64,
    progress: &Progress,
) -> Result<Descriptor, Error> {
    let action = Action::new("image", format!("{} {platform}", component.name))
        .input("recipe", RECIPE)?
        .input("base", base.digest()?)?
        .input("reference", &base.reference)?
        .input("layer", layer)?
        .input("binary", &component.binary)?
        .input("run", &component.run)?
        .input("platform", platform)?
        .input("epoch", epoch)?;
    let outputs = progress.realise(store, &action, || {
        let config = configuration(component, platform, base, layer, epoch);
        put(store, &config, base.layers().iter().chain([layer]), base_annotations(base)?)
    })?;
    manifest_of(&outputs)
}

/// Puts the configuration and the manifest of an image with these layers into the store.
///
/// # Errors
/// When the store cannot be written.
pub(crate) fn put<'a>(
    store: &Store,
    config: &ImageConfiguration,
    layers: impl IntoIterator<Item = &'a Layer>,
    annotations: HashMap<String, String>,
) -> Result<Outputs, Error> {
    let config = store.put_document(config)?;
    let layers = layers.into_iter().map(|layer| {
        let media_type = MediaType::from(in_oci_words(&layer.media_type));
        Descriptor::new(media_type, layer.size, layer.digest)
    });
    let mut manifest = ImageManifestBuilder::default()
        .schema_version(2u32)
        .media_type(MediaType::ImageManifest)
        .config(Descriptor::new(MediaType::ImageConfig, config.size, config.digest))
        .layers(layers.collect::<Vec<_>>())
        .build()
        .map_err(|why| Error::Internal(format!("making a manifest: {why}")))?;
    manifest.set_annotations((!annotations.is_empty()).then_some(annotations));
    Ok(Outputs::new().with_blob("config", config).with_blob("manifest", store.put_document(&manifest)?))
}

/// The manifest among an image's outputs.
///
/// # Errors
/// When there is none.
pub(crate) fn manifest_of(outputs: &Outputs) -> Result<Descriptor, Error> {
    let manifest = outputs.blob("manifest");
    let manifest = manifest.ok_or_else(|| Error::Internal("an image without a manifest".to_owned()))?;
    Ok(Descriptor::new(MediaType::ImageManifest, manifest.size, manifest.digest))
}

/// What a reference points at: the one manifest, or an index of several in the order of their platforms.
///
/// # Errors
/// When the store cannot be written.
pub(crate) fn target(store: &Store, manifests: &[(Platform, Descriptor)]) -> Result<Descriptor, Error> {
    if let [(_, one)] = manifests {
        return Ok(one.clone());
    }
    let listed = manifests.iter().map(|(platform, manifest)| {
        let mut manifest = manifest.clone();
        let platform = PlatformBuilder::default()
            .os(Os::from(platform.os.as_str()))
            .architecture(Arch::from(platform.architecture.as_str()))
            .build();
        manifest.set_platform(platform.ok());
        manifest
    });
    let mut index = ImageIndex::default();
    index.set_schema_version(2).set_media_type(Some(MediaType::ImageIndex)).set_manifests(listed.collect());
    let Blob { digest, size } = store.put_document(&index)?;
    Ok(Descriptor::new(MediaType::ImageIndex, size, digest))
}

fn configuration(
    component: &Component,
    platform: &Platform,
    base: &Base,
    layer: &Layer,
    epoch: u64,
) -> ImageConfiguration {
    let created = i64::try_from(epoch).ok().and_then(|seconds| DateTime::from_timestamp(seconds, 0));
    let created = created.map(|time| time.to_rfc3339_opts(SecondsFormat::Secs, true));
    let diff_ids = base.layers().iter().chain([layer]).map(|layer| layer.diff_id.to_string()).collect();
    let mut rootfs = RootFs::default();
    rootfs.set_typ("layers".to_owned()).set_diff_ids(diff_ids);
    let mut ours = History::default();
    ours.set_created(created.clone()).set_created_by(Some(format!("vcbuild: {}", component.binary)));
    let mut image = ImageConfiguration::default();
    image
        .set_created(created)
        .set_os(Os::from(platform.os.as_str()))
        .set_architecture(Arch::from(platform.architecture.as_str()))
        .set_variant(base.config.variant().clone())
        .set_os_version(base.config.os_version().clone())
        .set_config(Some(run(component, base.config.config().clone().unwrap_or_default())))
        .set_rootfs(rootfs)
        .set_history(base_history(base).map(|history| history.into_iter().chain([ours]).collect()));
    image
}

/// The base's history as it is; none if it does not fit the base's layers, because then nothing could be added to it.
fn base_history(base: &Base) -> Option<Vec<History>> {
    let history = base.config.history().clone().unwrap_or_default();
    let layers = history.iter().filter(|entry| entry.empty_layer() != Some(true)).count();
    (layers == base.layers().len()).then_some(history)
}

/// How a container runs: as the base says, where the component does not say otherwise.
fn run(component: &Component, mut config: Config) -> Config {
    let run = &component.run;
    let mut env = config.env().clone().unwrap_or_default();
    let is = |line: &str, name: &str| line.split_once('=').is_some_and(|(known, _)| known == name);
    if !run.env.contains_key("PATH") && !env.iter().any(|line| is(line, "PATH")) {
        env.insert(0, format!("PATH={DEFAULT_PATH}"));
    }
    for (name, value) in &run.env {
        let line = format!("{name}={value}");
        match env.iter_mut().find(|line| is(line, name)) {
            Some(known) => *known = line,
            None => env.push(line),
        }
    }
    config.set_env(Some(env));
    if !run.labels.is_empty() {
        let labels: HashMap<_, _> =
            config.labels().clone().unwrap_or_default().into_iter().chain(run.labels.clone()).collect();
        config.set_labels(Some(labels));
    }
    // The base's command is an argument of the base's entrypoint, and of no other.
    if !run.entrypoint.is_empty() {
        config.set_entrypoint(Some(run.entrypoint.clone())).set_cmd(None);
    }
    if !run.cmd.is_empty() {
        config.set_cmd(Some(run.cmd.clone()));
    }
    if run.workdir.is_some() {
        config.set_working_dir(run.workdir.clone());
    }
    if run.user.is_some() {
        config.set_user(run.user.clone());
    }
    config
}

/// The annotations that name the base (image specification, annotations.md). A base without a reference is found by nobody.
fn base_annotations(base: &Base) -> Result<HashMap<String, String>, Error> {
    let Some(reference) = &base.reference else { return Ok(HashMap::new()) };
    let names = [("name", reference.clone()), ("digest", base.digest()?.to_string())];
    Ok(names.into_iter().map(|(name, value)| (format!("org.opencontainers.image.base.{name}"), value)).collect())
}

/// A layer's media type in the OCI's words: Docker's layers are the same bytes, and one manifest speaks one language.
fn in_oci_words(media_type: &str) -> &str {
    match media_type {
        "application/vnd.docker.image.rootfs.diff.tar.gzip" => "application/vnd.oci.image.layer.v1.tar+gzip",
        "application/vnd.docker.image.rootfs.diff.tar" => "application/vnd.oci.image.layer.v1.tar",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use oci_spec::image::Config;

    use super::{DEFAULT_PATH, run};
    use crate::project::Project;

    #[test]
    fn a_component_runs_as_its_base_where_it_does_not_say_otherwise() {
        let mut component = Project::built_in().unwrap().components["manager"].clone();
        let mut base = Config::default();
        base.set_env(Some(vec!["PATH=/bin".to_owned(), "A=1".to_owned()]))
            .set_cmd(Some(vec!["bash".to_owned()]))
            .set_working_dir(Some("/srv".to_owned()));
        component.run.env = [("A".to_owned(), "2".to_owned()), ("B".to_owned(), "3".to_owned())].into();
        component.run.user = Some("65532".to_owned());
        let config = run(&component, base.clone());
        assert_eq!(config.env().as_deref().unwrap(), ["PATH=/bin", "A=2", "B=3"]);
        assert_eq!(config.entrypoint().as_deref().unwrap(), ["/usr/local/bin/manager"]);
        assert_eq!((config.cmd(), config.working_dir().as_deref()), (&None, Some("/srv")));
        component.run.entrypoint.clear();
        assert_eq!(run(&component, base).cmd().as_deref().unwrap(), ["bash"]);
        let bare = run(&component, Config::default());
        assert_eq!(bare.env().as_deref().unwrap()[0], format!("PATH={DEFAULT_PATH}"));
    }
}
