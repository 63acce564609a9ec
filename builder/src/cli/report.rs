//! `vcbuild report`: a page about the images of the store.

use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;
use serde::Serialize;
use vcinspect::report::{Report, page};
use vcterminal::{Exit, Text};

use super::Common;
use crate::Error;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The image, by its full name or a part of it [default: all]
    #[arg(value_name = "IMAGE")]
    image: Option<String>,

    /// The page to write
    ///
    /// One file, which needs no network.
    #[arg(long, value_name = "FILE", default_value = "vcbuild-report.html")]
    out: Utf8PathBuf,

    #[command(flatten)]
    common: Common,
}

/// What `--output json` prints.
#[derive(Serialize)]
struct Document<'a> {
    path: &'a Utf8Path,
    size: usize,
    images: Vec<&'a str>,
    builds: usize,
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit, Error> {
    let store = arguments.common.store_to_read()?;
    let images = super::images_of(&store, arguments.image.as_deref())?;
    let report = Report::of(&store, &images)?;
    let html = page(&report);
    vcstore::atomic::replace(&arguments.out, html.as_bytes()).map_err(Error::io("writing", &arguments.out))?;
    let document = Document {
        path: &arguments.out,
        size: html.len(),
        images: images.iter().map(|image| image.name.as_str()).collect(),
        builds: report.builds.len(),
    };
    super::show(arguments.common.output, &document, |document| {
        let (count, size) = (document.images.len(), vcterminal::bytes(document.size as u64));
        Text::of(format_args!("wrote {}: {count} images, {} builds, {size}", arguments.out, document.builds))
    })?;
    Ok(Exit::Done)
}
