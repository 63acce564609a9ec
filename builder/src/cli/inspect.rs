//! `vcbuild inspect`: what an image is made of.

use camino::Utf8Path;
use clap::Args;
use oci_spec::image::ImageConfiguration;
use serde::Serialize;
use vcstore::{Digest, Image, Layer, Platform, PlatformImage, Store};
use vcterminal::{Exit, Output, Table};

use super::Common;
use crate::Error;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// An image of the store, by its full name or a part of it such as "manager"; or a file or folder: what `vcbuild
    /// images` or `docker save` wrote, or an OCI image layout. A file is checked whole.
    #[arg(value_name = "IMAGE|ARCHIVE")]
    image: String,

    #[command(flatten)]
    common: Common,
}

/// What `--output json` prints.
#[derive(Serialize)]
struct Document {
    images: Vec<ImageDocument>,
}

#[derive(Serialize)]
struct ImageDocument {
    name: String,
    digest: Digest,
    platforms: Vec<PlatformDocument>,
}

#[derive(Serialize)]
struct PlatformDocument {
    platform: Platform,
    manifest: String,
    /// Of all layers, as stored.
    size: u64,
    layers: Vec<Layer>,
    config: ImageConfiguration,
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit, Error> {
    let path = Utf8Path::new(&arguments.image);
    let images = if path.exists() {
        // An archive is looked at in a store of its own, which goes again.
        let folder = tempfile::tempdir().map_err(Error::io("making a folder in", "the folder for temporary files"))?;
        let place = Utf8Path::from_path(folder.path()).ok_or_else(|| {
            Error::io("using", folder.path().to_string_lossy().as_ref())(std::io::Error::other("its name is not UTF-8"))
        })?;
        let store = Store::open(place)?;
        let images = vcstore::archive::import(&store, path)?;
        images.iter().map(|image| describe(image, &store)).collect::<Result<_, _>>()?
    } else {
        let store = arguments.common.store()?;
        vec![describe(&store.image(&arguments.image)?, &store)?]
    };
    let document = Document { images };
    match arguments.common.output {
        Output::Json => vcterminal::print_json(&document).map_err(Error::Print)?,
        Output::Text => super::print(&text(&document))?,
    }
    Ok(Exit::Done)
}

fn describe(image: &Image, store: &Store) -> Result<ImageDocument, Error> {
    let platforms = image.platforms.iter().map(|one| platform(one, store)).collect::<Result<_, _>>()?;
    Ok(ImageDocument { name: image.name.clone(), digest: image.digest(), platforms })
}

fn platform(one: &PlatformImage, store: &Store) -> Result<PlatformDocument, Error> {
    let config = Digest::try_from(one.config.digest()).map_err(|why| Error::Internal(why.to_string()))?;
    Ok(PlatformDocument {
        platform: one.platform.clone(),
        manifest: one.manifest.digest().to_string(),
        size: one.layers.iter().map(|layer| layer.size).sum(),
        layers: one.layers.clone(),
        config: store.document(&config)?,
    })
}

fn text(document: &Document) -> String {
    let mut text = String::new();
    for image in &document.images {
        text += &format!("{}\n  digest      {}\n", image.name, image.digest);
        for one in &image.platforms {
            text += &platform_text(one);
        }
    }
    text
}

fn platform_text(one: &PlatformDocument) -> String {
    let config = one.config.config().clone().unwrap_or_default();
    let words = |words: &Option<Vec<String>>| words.as_ref().map(|words| words.join(" "));
    let sorted = |list: &Option<Vec<String>>| {
        let mut list = list.clone().unwrap_or_default();
        list.sort();
        (!list.is_empty()).then(|| list.join(", "))
    };
    let mut labels: Vec<_> = config.labels().iter().flatten().map(|(name, value)| format!("{name}={value}")).collect();
    labels.sort();
    let lines = [
        ("platform", Some(one.platform.to_string())),
        ("manifest", Some(one.manifest.clone())),
        ("created", one.config.created().clone()),
        ("user", config.user().clone().filter(|user| !user.is_empty())),
        ("workdir", config.working_dir().clone().filter(|folder| !folder.is_empty())),
        ("entrypoint", words(config.entrypoint())),
        ("cmd", words(config.cmd())),
        ("env", words(config.env())),
        ("ports", sorted(config.exposed_ports())),
        ("volumes", sorted(config.volumes())),
        ("labels", (!labels.is_empty()).then(|| labels.join(", "))),
        ("size", Some(format!("{} in {} layers", vcterminal::bytes(one.size), one.layers.len()))),
    ];
    let mut text: String =
        lines.into_iter().filter_map(|(name, value)| Some(format!("  {name:<11} {}\n", value?))).collect();
    let mut table = Table::new(["layer", "size", "media type", "diff_id"]);
    for layer in &one.layers {
        let size = vcterminal::bytes(layer.size);
        table.row([layer.digest.to_string(), size, layer.media_type.clone(), layer.diff_id.to_string()]);
    }
    for line in table.to_string().lines() {
        text += &format!("  {line}\n");
    }
    text
}
