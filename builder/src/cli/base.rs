//! `vcbuild base`: a base alone.

use clap::Args;
use serde::Serialize;
use vcinspect::packages::{Package, packages};
use vcstore::{Compression, Digest, Layer, Platform, Store};
use vcterminal::{Exit, Table, Text};

use super::caches::CacheOptions;
use super::debian::DebianOptions;
use super::inputs::ResolveArgs;
use super::{Common, ProjectFiles, parse_platform};
use crate::Error;
use crate::base::{Base, DEFAULT_REFERENCE, Spec};
use crate::progress::Progress;
use crate::request::platforms;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The base: debian, static, scratch, or a reference [default: registry]
    ///
    /// `debian` is assembled from Debian's signed packages, `static` has certificates, zone data and accounts for
    /// static programs, `scratch` is empty, `registry` is debian:bookworm-slim. Others are an image reference,
    /// `oci:PATH` and `docker-archive:PATH` [default: the project's, else `registry`]
    #[arg(value_name = "REF")]
    base: Option<String>,

    /// For linux/amd64, linux/arm64, linux/arm/v7 [default: amd64]
    ///
    /// By default, vcbuild builds for the project's platforms, else for linux/amd64.
    #[arg(long, value_name = "PLATFORMS", value_delimiter = ',', value_parser = parse_platform)]
    platform: Vec<Platform>,

    /// Compress the layers of debian and static with zstd, gzip or none
    ///
    /// By default as the project says, else zstd.
    #[arg(long, value_name = "FORMAT")]
    compression: Option<Compression>,

    #[command(flatten)]
    debian: DebianOptions,

    #[command(flatten, next_help_heading = "Lock and network")]
    files: ProjectFiles,

    /// Resolve the base again, and update the lock file
    #[arg(long, help_heading = "Lock and network")]
    update: bool,

    #[command(flatten, next_help_heading = "Caches")]
    caches: CacheOptions,

    #[command(flatten)]
    resolve_args: ResolveArgs,

    #[command(flatten, next_help_heading = "Store and output")]
    common: Common,
}

/// What `--output json` prints.
#[derive(Serialize)]
struct Document {
    base: String,
    platforms: Vec<PlatformDocument>,
}

#[derive(Serialize)]
struct PlatformDocument {
    platform: Platform,
    /// Of the manifest.
    digest: Digest,
    /// Of all layers, as stored.
    size: u64,
    layers: Vec<Layer>,
    packages: Vec<Package>,
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit, Error> {
    let progress = Progress::start();
    let project = arguments.files.project(None)?;
    let base = arguments.base.as_ref().or(project.base.as_ref()).map_or(DEFAULT_REFERENCE, String::as_str);
    let spec = base.parse::<Spec>()?.with_debian(arguments.debian.over(&project.debian)?)?;
    let compression = arguments.compression.or(project.compression).unwrap_or_default();
    let store = arguments.caches.attach(arguments.common.store()?, &project, &arguments.resolve_args.network()?)?;
    let lock = arguments.files.lock(&project, &arguments.resolve_args, arguments.update.then_some(&[][..]))?;
    let mut document = Document { base: spec.to_string(), platforms: Vec::new() };
    for platform in platforms(&arguments.platform, &project) {
        let base = spec.realise(&platform, compression, &store, &lock, &progress)?;
        document.platforms.push(describe(platform, &base, &store)?);
    }
    lock.save()?;
    super::show(arguments.common.output, &document, text)?;
    Ok(Exit::Done)
}

fn describe(platform: Platform, base: &Base, store: &Store) -> Result<PlatformDocument, Error> {
    Ok(PlatformDocument {
        platform,
        digest: base.digest()?,
        size: base.layers().iter().map(|layer| layer.size).sum(),
        layers: base.layers().to_vec(),
        packages: packages(store, base.layers())?,
    })
}

fn text(document: &Document) -> Text {
    let mut text = Text::default();
    for one in &document.platforms {
        let (base, platform) = (&document.base, &one.platform);
        let (layers, size) = (one.layers.len(), vcterminal::bytes(one.size));
        text.line(format_args!("{base} for {platform}: {}, {size} in {layers} layers", one.digest));
        if !one.packages.is_empty() {
            let mut table = Table::new(["package", "version", "architecture"]);
            for package in &one.packages {
                table.row([package.name.as_str(), &package.version, &package.architecture]);
            }
            text.table(&table).line(format_args!("{} packages", one.packages.len()));
        }
    }
    text
}
