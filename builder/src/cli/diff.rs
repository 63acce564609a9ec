//! `vcbuild diff`: what differs between two images.

use clap::Args;
use serde::Serialize;
use serde_json::Value;
use vcinspect::compare::{self, Change, ImageChanges, PlatformChanges, Presence, Shape, Side};
use vcinspect::image_fs::Layers;
use vcterminal::{Exit, Text};

use super::Common;
use super::opened::Opened;
use crate::Error;

/// What the help shows of its use.
const EXAMPLES: &str = "\
Examples:
  vcbuild diff manager out/vc_manager-amd64.tar        # of the store, and of an archive
  vcbuild diff old.tar new.tar --exit-code";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// The first image, in a form that `vcbuild inspect` reads
    ///
    /// An image of the store, by its full name or a part of it; a file or folder; or docker://REFERENCE, an image of a
    /// registry for linux/amd64.
    #[arg(value_name = "BEFORE")]
    before: String,

    /// The second image, in the same forms
    #[arg(value_name = "AFTER")]
    after: String,

    /// Exit with code 3 if the images differ
    #[arg(long)]
    exit_code: bool,

    /// List at most so many files of each kind; 0 lists all
    ///
    /// JSON output always lists all.
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,

    #[command(flatten)]
    common: Common,
}

/// What `--output json` prints.
#[derive(Serialize)]
struct Document {
    identical: bool,
    images: Vec<ImageChanges>,
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit, Error> {
    let before = Opened::open(&arguments.before, &arguments.common)?;
    let after = Opened::open(&arguments.after, &arguments.common)?;
    let layers = Layers::default();
    let images = pairs(arguments, &before, &after)?
        .into_iter()
        .map(|(old, new)| compare::images(old, new, &layers))
        .collect::<Result<Vec<_>, _>>()?;
    let document = Document { identical: images.iter().all(|one| one.identical), images };
    let limit = if arguments.limit == 0 { usize::MAX } else { arguments.limit };
    super::show(arguments.common.output, &document, |document| {
        document.images.iter().map(|one| text(one, limit)).collect()
    })?;
    Ok(if arguments.exit_code && !document.identical { Exit::Difference } else { Exit::Done })
}

/// Which image is compared with which: the one with the other, and of files that hold several those of one name.
fn pairs<'a>(arguments: &Arguments, before: &'a Opened, after: &'a Opened) -> Result<Vec<(Side<'a>, Side<'a>)>, Error> {
    let side = |opened: &'a Opened, image| Side { store: &opened.store, image };
    if let ([old], [new]) = (before.images.as_slice(), after.images.as_slice()) {
        return Ok(vec![(side(before, old), side(after, new))]);
    }
    let find = |name: &str| after.images.iter().find(|image| image.name == name);
    let pairs: Vec<_> =
        before.images.iter().filter_map(|old| Some((side(before, old), side(after, find(&old.name)?)))).collect();
    if pairs.is_empty() {
        let names =
            |opened: &Opened| opened.images.iter().map(|image| image.name.clone()).collect::<Vec<_>>().join(", ");
        return Err(Error::Usage(format!(
            "{} contains {}, and {} contains {}: they have no image name in common",
            arguments.before,
            names(before),
            arguments.after,
            names(after)
        )));
    }
    Ok(pairs)
}

pub(super) fn text(changes: &ImageChanges, limit: usize) -> Text {
    let mut text = Text::of(format_args!("--- {} {}", changes.before.name, changes.before.digest));
    text.line(format_args!("+++ {} {}", changes.after.name, changes.after.digest));
    if changes.identical {
        text.line("identical");
        return text;
    }
    for one in &changes.platforms {
        text.text(&platform_text(one, limit));
    }
    text
}

fn platform_text(changes: &PlatformChanges, limit: usize) -> Text {
    let size = |size: Option<u64>| size.map_or("not there".to_owned(), vcterminal::bytes);
    let sizes = from_to(&size(changes.size.before), &size(changes.size.after));
    let mut text = Text::of(format_args!("{}: {sizes}", changes.platform));
    text.line("  layers");
    for layer in &changes.layers {
        let (sign, size) = match layer.change {
            Presence::Same => ("=", layer.size.after),
            Presence::Removed => ("-", layer.size.before),
            Presence::Added => ("+", layer.size.after),
        };
        let digest = layer.digest.after.or(layer.digest.before).unwrap_or(layer.diff_id);
        let packed = layer.change == Presence::Same && layer.digest.before != layer.digest.after;
        let note = if packed { "  compressed otherwise" } else { "" };
        text.line(format_args!("  {sign} {digest}  {}{note}", vcterminal::bytes(size.unwrap_or(0))));
    }
    section(
        &mut text,
        "configuration",
        changes.config.iter().map(|setting| {
            let (name, before, after) = (&setting.name, words(&setting.before), words(&setting.after));
            match (&setting.before, &setting.after) {
                (Value::Null, _) => format!("+ {name}  {after}"),
                (_, Value::Null) => format!("- {name}  {before}"),
                _ => format!("~ {name}  {before} → {after}"),
            }
        }),
        usize::MAX,
    );
    let packages = &changes.packages;
    let removed = packages.removed.iter().map(|one| format!("- {} {}", one.name, one.version));
    let added = packages.added.iter().map(|one| format!("+ {} {}", one.name, one.version));
    let changed =
        packages.changed.iter().map(|one| format!("~ {}  {} → {}", one.name, one.version.before, one.version.after));
    section(&mut text, "packages", removed.chain(added).chain(changed), usize::MAX);
    let files = &changes.files;
    let (in_time_alone, others): (Vec<_>, Vec<_>) =
        files.changed.iter().partition(|change| change.changes == [Change::Time]);
    section(&mut text, "files removed", files.removed.iter().map(|shape| format!("- {}", shape_text(shape))), limit);
    section(&mut text, "files added", files.added.iter().map(|shape| format!("+ {}", shape_text(shape))), limit);
    section(
        &mut text,
        "files changed",
        others.iter().map(|change| {
            let (old, new) = (&change.shape.before, &change.shape.after);
            let what = change.changes.iter().map(|what| match what {
                Change::Kind => from_to(&old.kind, &new.kind),
                Change::Content if old.size == new.size => format!("content, {}", vcterminal::bytes(new.size)),
                Change::Content => {
                    format!("content, {}", from_to(&vcterminal::bytes(old.size), &vcterminal::bytes(new.size)))
                }
                Change::Target => from_to(old.target.as_deref().unwrap_or(""), new.target.as_deref().unwrap_or("")),
                Change::Mode => from_to(&old.mode, &new.mode),
                Change::Owner => from_to(&old.owner, &new.owner),
                Change::Attributes => "extended attributes".to_owned(),
                Change::Time => "time".to_owned(),
            });
            format!("~ {}  {}", change.path, what.collect::<Vec<_>>().join("; "))
        }),
        limit,
    );
    if !in_time_alone.is_empty() {
        text.line(format_args!("  {} files differ only in their time", in_time_alone.len()));
    }
    if changes.size.before.is_some() && changes.size.after.is_some() && files.is_empty() && packages.is_empty() {
        text.line("  all files are identical");
    }
    text
}

fn section(text: &mut Text, title: &str, lines: impl Iterator<Item = String>, limit: usize) {
    let lines: Vec<String> = lines.collect();
    if lines.is_empty() {
        return;
    }
    text.line(format_args!("  {title}"));
    for line in lines.iter().take(limit) {
        text.line(format_args!("  {line}"));
    }
    if lines.len() > limit {
        text.line(format_args!("  … {} more (--limit 0 shows all)", lines.len() - limit));
    }
}

fn shape_text(shape: &Shape) -> String {
    let target = shape.target.as_ref().map(|target| format!(" → {target}")).unwrap_or_default();
    match shape.kind.as_str() {
        "file" => format!("{}  {}  {}", shape.path, shape.mode, vcterminal::bytes(shape.size)),
        "directory" => format!("{}/  {}", shape.path, shape.mode),
        _ => format!("{}{target}", shape.path),
    }
}

fn from_to(before: &str, after: &str) -> String {
    if before == after { before.to_owned() } else { format!("{before} → {after}") }
}

/// A setting's value as people write it.
fn words(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(list) => list.iter().map(words).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}
