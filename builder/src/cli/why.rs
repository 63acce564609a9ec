//! `vcbuild why`: why an image contains a file, a package or a blob.

use clap::Args;
use serde::Serialize;
use vcinspect::graph::{Asker, Reason, Records, What};
use vcinspect::image_fs::Layers;
use vcstore::Image;
use vcterminal::{Exit, Text};

use super::Common;
use crate::Error;

/// What the help shows of its use.
const EXAMPLES: &str = "\
Examples:
  vcbuild why /usr/local/bin/manager
  vcbuild why libc6 syncer
  vcbuild why golang.org/x/net";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// /PATH in the image, a package or module, or a digest
    ///
    /// A file by its absolute path, a Debian package, a Go module or package, or a digest, of which 12 digits are
    /// enough.
    #[arg(value_name = "PATH|PACKAGE|DIGEST")]
    what: String,

    /// The image, by its full name or a part of it [default: all]
    #[arg(value_name = "IMAGE")]
    image: Option<String>,

    #[command(flatten)]
    common: Common,
}

/// What `--output json` prints.
#[derive(Serialize)]
struct Document<'a> {
    what: &'a str,
    reasons: Vec<Reason>,
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit, Error> {
    let store = arguments.common.store_to_read()?;
    let images = super::images_of(&store, arguments.image.as_deref())?;
    let (records, layers) = (Records::read(&store)?, Layers::default());
    let asker = Asker { store: &store, records: &records, layers: &layers };
    let what = What::parse(&arguments.what);
    let mut reasons = Vec::new();
    for image in &images {
        reasons.extend(asker.reasons(image, &what)?);
    }
    if reasons.is_empty() {
        let images = images.iter().map(|image: &Image| image.name.clone()).collect();
        return Err(Error::NotInImages { what: arguments.what.clone(), images });
    }
    let document = Document { what: &arguments.what, reasons };
    super::show(arguments.common.output, &document, |document| document.reasons.iter().map(text).collect())?;
    Ok(Exit::Done)
}

fn text(reason: &Reason) -> Text {
    let mut text = Text::of(format_args!("{} ({})", reason.image, reason.platform));
    for link in &reason.chain {
        let line = format!("  {:<9}{}  {}", link.kind, link.name, link.detail);
        text.line(line.trim_end());
    }
    text
}
