//! `vcbuild lock`: resolves and pins the inputs, without building.

use camino::Utf8Path;
use clap::Args;
use serde::Serialize;
use vcterminal::{Exit, Text};

use super::Common;
use super::inputs::{Inputs, ResolveArgs};
use crate::build;
use crate::lock::Changes;
use crate::progress::Progress;
use crate::source::OUT;
use crate::{Error, checkout};

/// What the help shows of its use.
const EXAMPLES: &str = "\
Examples:
  vcbuild lock                                         # pin what is not pinned yet
  vcbuild lock --update                                # move every pin to the newest version
  vcbuild lock --update debian go";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    #[command(flatten)]
    inputs: Inputs,

    /// Resolve these inputs again, or all if none is named
    ///
    /// The name of an input is its name in the lock file: `debian`, `source`, `go`, `image`, an image's reference, a
    /// repository's address …
    #[arg(long, value_name = "INPUT", num_args = 0.., help_heading = "Lock and network")]
    update: Option<Vec<String>>,

    #[command(flatten)]
    resolve_args: ResolveArgs,

    #[command(flatten, next_help_heading = "Store and output")]
    common: Common,
}

/// What `--output json` prints.
#[derive(Serialize)]
struct Document<'a> {
    lock: &'a Utf8Path,
    written: bool,
    changes: &'a Changes,
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit, Error> {
    let progress = Progress::start();
    let inputs = &arguments.inputs;
    let project = inputs.project()?;
    let store = arguments.common.store()?;
    let lock = inputs.files.lock(&project, &arguments.resolve_args, arguments.update.as_deref())?;
    let asked = inputs.source(&project, OUT.into())?;
    let source = checkout::open(&asked, &store, &lock, &progress)?;
    let request = inputs.request(&project, &asked, source)?;
    build::pin(&request, &store, &lock, &progress)?;
    lock.tidy();
    let changes = lock.changes();
    let written = lock.save()?;
    let document = Document { lock: lock.path(), written, changes: &changes };
    super::show(arguments.common.output, &document, |Document { lock, changes, .. }| {
        if changes.is_empty() { Text::of(format_args!("{lock}: nothing changed")) } else { changes.text() }
    })?;
    Ok(Exit::Done)
}
