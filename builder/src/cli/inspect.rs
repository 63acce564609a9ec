//! `vcbuild inspect`: the layers, configuration and provenance of an image.

use std::collections::BTreeSet;

use camino::Utf8Path;
use clap::Args;
use oci_spec::image::ImageConfiguration;
use serde::Serialize;
use vcinspect::graph::{self, ProvenanceStep, Records, provenance};
use vcstore::{Digest, Image, Layer, Platform, PlatformImage, Store};
use vcterminal::{Exit, Table, Text};

use super::Common;
use super::opened::Opened;
use crate::Error;
use crate::provenance::Provenance;

/// What the help shows of its use.
const EXAMPLES: &str = "\
Examples:
  vcbuild inspect manager
  vcbuild inspect out/vc_manager-amd64.tar
  vcbuild inspect docker://registry.example/team/manager:v1";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// An image of the store such as "manager", a file, or docker://REFERENCE
    ///
    /// Of the store, a full name or a part of it. A file or folder is an archive of `vcbuild images` or `docker save`,
    /// or an OCI image layout; vcbuild verifies it completely. docker://REFERENCE is an image of a registry, for
    /// linux/amd64.
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
    /// The actions that made it, as this store has recorded them, or as the archive says.
    provenance: Vec<ProvenanceStep>,
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit, Error> {
    let opened = Opened::open(&arguments.image, &arguments.common)?;
    // What made the image of a file is known where the file was made.
    let records =
        arguments.common.store_to_read_if_any()?.map(|store| Records::read(&store)).transpose()?.unwrap_or_default();
    let path = Utf8Path::new(&arguments.image);
    let claimed = if path.exists() { Provenance::of_archive(path)?.map(|claimed| claimed.actions) } else { None };
    let claimed = claimed.unwrap_or_default();
    let images = opened.images.iter().map(|image| describe(image, &opened.store, &records, &claimed));
    let document = Document { images: images.collect::<Result<_, _>>()? };
    super::show(arguments.common.output, &document, text)?;
    Ok(Exit::Done)
}

fn describe(
    image: &Image,
    store: &Store,
    records: &Records,
    claimed: &[ProvenanceStep],
) -> Result<ImageDocument, Error> {
    let platforms =
        image.platforms.iter().map(|one| platform(one, store, records, claimed)).collect::<Result<_, _>>()?;
    Ok(ImageDocument { name: image.name.clone(), digest: image.digest(), platforms })
}

fn platform(
    one: &PlatformImage,
    store: &Store,
    records: &Records,
    claimed: &[ProvenanceStep],
) -> Result<PlatformDocument, Error> {
    let manifest = one.manifest_digest();
    let known = provenance(&manifest, records);
    Ok(PlatformDocument {
        platform: one.platform.clone(),
        manifest: manifest.to_string(),
        size: one.layers.iter().map(|layer| layer.size).sum(),
        layers: one.layers.clone(),
        config: store.document(&one.config_digest())?,
        provenance: if known.is_empty() { graph::made(&manifest, claimed) } else { known },
    })
}

fn text(document: &Document) -> Text {
    let mut text = Text::default();
    for image in &document.images {
        text.line(&image.name).line(format_args!("  digest      {}", image.digest));
        for one in &image.platforms {
            text.text(&platform_text(one));
        }
    }
    text
}

fn platform_text(one: &PlatformDocument) -> Text {
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
    let mut text: Text =
        lines.into_iter().filter_map(|(name, value)| Some(format!("  {name:<11} {}", value?))).collect();
    let mut table = Table::new(["layer", "size", "media type", "diff_id"]);
    for layer in &one.layers {
        let size = vcterminal::bytes(layer.size);
        table.row([layer.digest.to_string(), size, layer.media_type.clone(), layer.diff_id.to_string()]);
    }
    let mut made = Table::new(["made by", "of", "action"]);
    for step in &one.provenance {
        let key = step.key.to_string();
        made.row([format!("{} {}", step.kind, step.name), step.of(&one.provenance), key[..12].to_owned()]);
    }
    text.indented("  ", &Text::from(&table));
    if !one.provenance.is_empty() {
        text.indented("  ", &Text::from(&made));
    }
    // What confined each compiler, once where it was the same for all.
    let confined: BTreeSet<_> = one.provenance.iter().filter_map(|step| step.notes.get("sandbox")).collect();
    for sandbox in confined {
        text.line(format_args!("  sandbox: {sandbox}"));
    }
    text
}
