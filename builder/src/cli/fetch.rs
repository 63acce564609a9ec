//! `vcbuild fetch`: copies every input that the lock file pins into one folder, for builds on another machine.

use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;
use serde::Serialize;
use vcterminal::{Exit, Text};

use super::Common;
use super::inputs::{Inputs, LockedArgs, ResolveArgs};
use crate::offline_inputs_writer::{InputsDirWriter, Summary};
use crate::progress::Progress;
use crate::{Error, checkout};

/// What the help shows of its use.
const EXAMPLES: &str = "\
Examples:
  vcbuild fetch --to inputs                            # with a network
  vcbuild images --inputs inputs --locked              # without";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// The folder to create; it must not exist, or be empty
    #[arg(long, value_name = "DIR")]
    to: Utf8PathBuf,

    #[command(flatten)]
    inputs: Inputs,

    #[command(flatten)]
    locked_args: LockedArgs,

    #[command(flatten, next_help_heading = "Store and output")]
    common: Common,
}

/// What `--output json` prints.
#[derive(Serialize)]
struct Document<'a> {
    folder: &'a Utf8Path,
    #[serde(flatten)]
    summary: Summary,
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit, Error> {
    let progress = Progress::start();
    let Arguments { to, inputs, locked_args, common } = arguments;
    let project = inputs.project()?;
    let resolve_args = ResolveArgs { locked_args: *locked_args, offline: false, inputs: None };
    let lock = inputs.files.lock(&project, &resolve_args, None)?;
    let writer = InputsDirWriter::begin(to, common.store()?)?;
    if let Some(version) = inputs.go(&project) {
        writer.toolchain(&version, &lock, &progress)?;
    }
    let asked = inputs.source(&project, crate::source::OUT.into())?;
    let source = checkout::open(&asked, &writer.store, &lock, &progress)?;
    let request = inputs.request(&project, &asked, source)?;
    let summary = writer.finish(&asked, &request, &lock, &progress)?;
    lock.save()?;
    super::show(common.output, &Document { folder: to, summary }, |Document { folder, summary }| {
        Text::of(format_args!("{folder}: {} files, {}", summary.files, vcterminal::bytes(summary.bytes)))
    })?;
    Ok(Exit::Done)
}
