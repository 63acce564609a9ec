//! `vcbuild images`: from source to images and archives.

use camino::Utf8PathBuf;
use clap::Args;
use serde::Serialize;
use vcinspect::journal;
use vcsandbox::remote;
use vcstore::{Digest, Layer, Platform, Store};
use vcterminal::{Exit, Table, Text};

use super::build_args::BuildArgs;
use super::build_host::BuildHostOptions;
use crate::Error;
use crate::build::{self, Built};
use crate::progress::{Actions, Progress};
use crate::request::Request;
use crate::source::OUT;

/// What the help shows of its use.
const EXAMPLES: &str = "\
Examples:
  vcbuild images                                       # what vcbuild.toml in this folder says
  vcbuild images --source-dir DIR --base debian        # VirtualCluster from a checkout
  vcbuild images --source-repo URL --source-version v1.2
  vcbuild images --components manager,syncer --platform linux/arm64";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// The components to build [default: all]
    #[arg(long, value_name = "NAMES", value_delimiter = ',', help_heading = "Images")]
    components: Vec<String>,

    /// The folder for archives
    #[arg(long, value_name = "DIR", default_value = OUT, help_heading = "Images")]
    out: Utf8PathBuf,

    #[command(flatten)]
    build_args: BuildArgs,

    #[command(flatten)]
    build_host: BuildHostOptions,
}

/// What `--output json` prints.
#[derive(Serialize)]
struct Document<'a> {
    images: Vec<ImageDocument<'a>>,
    actions: Actions,
    elapsed_seconds: f64,
    /// What the build host did, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    build_host: Option<remote::Done>,
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
    let project = arguments.build_args.project()?;
    let (request, store, lock) =
        arguments.build_args.request(&project, &arguments.components, &arguments.out, &progress)?;
    let (sandbox, host) = arguments.build_host.attach(request.sandbox, &store, lock.network())?;
    let built = build::images(&Request { sandbox, ..request }, &store, &lock, &progress);
    // Also of a build that failed: the next one then resolves nothing again.
    let saved = lock.save();
    let built = built.and_then(|built| saved.map(|_| built)).and_then(|built| named(built, &store));
    let done = host.map(|host| host.done());
    if let Some(remote::Done { address, steps, sent, received }) = &done {
        let [sent, received] = [sent, received].map(|bytes| vcterminal::bytes(*bytes));
        progress.say(&format!("{address} ran {steps} programs: {sent} sent, {received} received"));
    }
    note(&store, &progress, built.as_deref().ok());
    let built = built?;
    let document = document(&built, &progress, done);
    super::show(arguments.build_args.common.output, &document, |_| text(&built, &progress))?;
    Ok(Exit::Done)
}

/// Has the names of images stand for those that were built.
fn named(built: Vec<Built>, store: &Store) -> Result<Vec<Built>, Error> {
    built.iter().try_for_each(|built| store.tag(&built.image.name, &built.image.target))?;
    Ok(built)
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
        tracing::warn!("cannot record the build in the journal: {error}");
    }
}

fn document<'a>(built: &'a [Built], progress: &Progress, build_host: Option<remote::Done>) -> Document<'a> {
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
        build_host,
    }
}

fn text(built: &[Built], progress: &Progress) -> Text {
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
    let elapsed = vcterminal::duration(progress.elapsed());
    let mut text = Text::from(&table);
    text.line(format_args!("{total} actions: {run} run, {fetched}{reused} reused, {elapsed}"));
    text
}
