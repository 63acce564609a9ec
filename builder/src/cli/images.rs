//! `vcbuild images`: from source to images and archives.

use std::num::NonZeroUsize;

use camino::Utf8PathBuf;
use clap::Args;
use serde::Serialize;
use vcstore::{Compression, Digest, Layer, Platform, Store};
use vcterminal::{Exit, Output, Table};

use super::caches::CacheOptions;
use super::inputs::{Freedom, Inputs, unstamped};
use super::sandbox::SandboxOptions;
use super::{Common, platforms};
use crate::build::{self, Built, Request};
use crate::image::About;
use crate::progress::{Actions, Progress};
use crate::project::{Project, SourceTable, VersionTable};
use crate::source::Source;
use crate::{Error, journal};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// What the binaries are stamped with, in the place of the project's or the revision's: version=…, commit=… or date=….
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_stamp, help_heading = "Source")]
    stamp: Vec<(Stamp, String)>,

    #[command(flatten)]
    inputs: Inputs,

    /// The components to build [default: all of the project].
    #[arg(long, value_name = "NAMES", value_delimiter = ',', help_heading = "Images")]
    components: Vec<String>,

    /// How layers are compressed: `zstd` (containerd 1.5, Docker 23.0 and newer), `gzip` or `none` [default: the
    /// project's, else zstd].
    #[arg(long, help_heading = "Images")]
    compression: Option<Compression>,

    /// The folder that archives are written to.
    #[arg(long, value_name = "DIR", default_value = "out", help_heading = "Images")]
    out: Utf8PathBuf,

    /// How many components, and compilers within each, are at work at once [default: one a processor].
    #[arg(short, long, value_name = "N", help_heading = "Images")]
    jobs: Option<NonZeroUsize>,

    /// Resolve bases and sources anew instead of using what the lock pins, and pin what they are now.
    #[arg(long, help_heading = "Lock and network")]
    update: bool,

    #[command(flatten)]
    freedom: Freedom,

    #[command(flatten, next_help_heading = "Sandbox")]
    sandbox: SandboxOptions,

    #[command(flatten, next_help_heading = "Caches")]
    caches: CacheOptions,

    #[command(flatten, next_help_heading = "Store and output")]
    common: Common,
}

/// A value that stamps use.
#[derive(Debug, Clone, Copy)]
enum Stamp {
    Version,
    Commit,
    Date,
}

/// What `--output json` prints.
#[derive(Serialize)]
struct Document<'a> {
    images: Vec<ImageDocument<'a>>,
    actions: Actions,
    elapsed_seconds: f64,
}

#[derive(Serialize)]
struct ImageDocument<'a> {
    component: &'a str,
    reference: &'a str,
    digest: Digest,
    archive: &'a Utf8PathBuf,
    platforms: Vec<PlatformDocument<'a>>,
}

#[derive(Serialize)]
struct PlatformDocument<'a> {
    platform: &'a Platform,
    manifest: String,
    layers: &'a [Layer],
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit, Error> {
    let progress = Progress::start();
    let inputs = &arguments.inputs;
    let project = inputs.files.project(inputs.source_dir.as_ref())?;
    let components = project.select(&arguments.components)?;
    let base = inputs.base(&project)?;
    let source = inputs.source(&project, &arguments.out)?;
    let epoch = epoch()?;
    let store = arguments.caches.attach(arguments.common.store()?, &project, arguments.freedom.network())?;
    let update = arguments.update.then_some(&[][..]);
    let lock = inputs.files.lock(&project, &arguments.freedom, update)?;
    let opened = Source::open(&source, &store, &lock, &progress)?;
    lock.save()?;
    let jobs = arguments.jobs.or_else(|| std::thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get);
    let request = Request {
        components,
        project_dir: project.dir().map_or_else(Utf8PathBuf::new, ToOwned::to_owned),
        about: arguments.about(&project, &opened, &source.table),
        version: arguments.version(&project, &opened),
        source: opened,
        go: inputs.go(&project),
        base,
        platforms: platforms(&inputs.platform, &project),
        compression: arguments.compression.or(project.compression).unwrap_or_default(),
        out: arguments.out.clone(),
        epoch,
        jobs,
        sandbox: arguments.sandbox.sandbox(),
    };
    let built = build::images(&request, &store, &lock, &progress);
    note(&store, &progress, built.as_deref().ok());
    let built = built?;
    match arguments.common.output {
        Output::Json => vcterminal::print_json(&document(&built, &progress)).map_err(Error::Print)?,
        Output::Text => super::print(&text(&built, &progress))?,
    }
    Ok(Exit::Done)
}

impl Arguments {
    /// What images say of their source: nothing that is not known.
    fn about(&self, project: &Project, source: &Source, asked: &SourceTable) -> About {
        let revision = source.revision.as_ref();
        let cloned = revision.map(|revision| revision.version.clone()).filter(|version| version != "HEAD");
        let commit = revision.and_then(|revision| revision.commit.clone());
        let known = &project.version;
        About {
            source: asked.repo.as_deref().and_then(About::address),
            revision: self.stamp(|stamp| matches!(stamp, Stamp::Commit)).or_else(|| known.commit.clone()).or(commit),
            version: self.stamp(|stamp| matches!(stamp, Stamp::Version)).or_else(|| known.version.clone()).or(cloned),
        }
    }

    /// What the command line stamps with; the last word counts.
    fn stamp(&self, wanted: fn(Stamp) -> bool) -> Option<String> {
        self.stamp.iter().rev().find(|(stamp, _)| wanted(*stamp)).map(|(_, value)| value.clone())
    }

    /// What stamps say: as the command line has it, else what is known without it.
    fn version(&self, project: &Project, source: &Source) -> VersionTable {
        let known = unstamped(project, source);
        VersionTable {
            version: self.stamp(|stamp| matches!(stamp, Stamp::Version)).or(known.version),
            commit: self.stamp(|stamp| matches!(stamp, Stamp::Commit)).or(known.commit),
            date: self.stamp(|stamp| matches!(stamp, Stamp::Date)).or(known.date),
        }
    }
}

fn parse_stamp(text: &str) -> Result<(Stamp, String), String> {
    let stamp = match text.split_once('=') {
        Some(("version", value)) => (Stamp::Version, value),
        Some(("commit", value)) => (Stamp::Commit, value),
        Some(("date", value)) => (Stamp::Date, value),
        _ => return Err("give version=VALUE, commit=VALUE or date=VALUE".to_owned()),
    };
    Ok((stamp.0, stamp.1.to_owned()))
}

/// Notes the build in the store's journal. A build is as good without.
fn note(store: &Store, progress: &Progress, built: Option<&[Built]>) {
    let image = |built: &Built| (built.image.name.clone(), built.image.target.clone());
    let build = journal::Build {
        began: journal::milliseconds(progress.began()),
        took: u64::try_from(progress.elapsed().as_millis()).unwrap_or(u64::MAX),
        succeeded: built.is_some(),
        images: built.unwrap_or_default().iter().map(image).collect(),
        steps: progress.steps(),
    };
    if let Err(error) = journal::add(store, &build) {
        tracing::warn!("the build is not noted in the journal: {error}");
    }
}

/// The time in what is made: `SOURCE_DATE_EPOCH` (reproducible-builds.org) where it is set, else 1970.
fn epoch() -> Result<u64, Error> {
    match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) if !text.is_empty() => {
            text.parse().map_err(|_| Error::Usage(format!("SOURCE_DATE_EPOCH is {text:?}, and no number of seconds")))
        }
        _ => Ok(0),
    }
}

fn document<'a>(built: &'a [Built], progress: &Progress) -> Document<'a> {
    let images = built.iter().map(|built| ImageDocument {
        component: &built.component,
        reference: &built.image.name,
        digest: built.image.digest(),
        archive: &built.archive,
        platforms: built
            .image
            .platforms
            .iter()
            .map(|one| PlatformDocument {
                platform: &one.platform,
                manifest: one.manifest.digest().to_string(),
                layers: &one.layers,
            })
            .collect(),
    });
    Document {
        images: images.collect(),
        actions: progress.actions(),
        elapsed_seconds: progress.elapsed().as_secs_f64(),
    }
}

fn text(built: &[Built], progress: &Progress) -> String {
    let mut table = Table::new(["component", "image", "digest", "size", "archive"]);
    for built in built {
        let size = built.image.platforms.iter().flat_map(|one| &one.layers).map(|layer| layer.size).sum();
        let digest = built.image.digest().to_string();
        table.row([
            built.component.as_str(),
            &built.image.name,
            &digest[..19],
            &vcterminal::bytes(size),
            built.archive.as_str(),
        ]);
    }
    let Actions { total, run, reused, substituted } = progress.actions();
    let fetched = if substituted > 0 { format!("{substituted} fetched, ") } else { String::new() };
    let elapsed = vcterminal::seconds(progress.elapsed());
    format!("{table}{total} actions: {run} run, {fetched}{reused} reused, {elapsed}\n")
}
