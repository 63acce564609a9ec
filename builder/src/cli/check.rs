//! `vcbuild check`: builds again in another environment, and compares.

use camino::Utf8Path;
use clap::Args;
use vcterminal::{Exit, Text};

use super::build_args::BuildArgs;
use crate::Error;
use crate::check::{self, ChangedInputs, Checked, CheckedArchive, Difference};
use crate::progress::Progress;
use crate::provenance::Provenance;
use crate::request::Request;
use crate::source::OUT;

/// How many files of a kind are listed of an image that differs.
const LISTED: usize = 20;

/// What the help shows of its use.
const EXAMPLES: &str = "\
Examples:
  vcbuild check                                        # is every output of this project reproducible?
  vcbuild check out/vc_manager-amd64.tar --source-dir DIR";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Components [default: all], or one archive of `vcbuild images`
    ///
    /// vcbuild rebuilds the images of an archive from the archive's provenance, and compares. The programs that an
    /// archive requests run in a sandbox, unless --sandbox overrides this.
    #[arg(value_name = "COMPONENT|ARCHIVE")]
    checked: Vec<String>,

    #[command(flatten)]
    build_args: BuildArgs,
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit, Error> {
    let progress = Progress::start();
    // The archives are compared as everything else is, and go again.
    let store = arguments.build_args.common.store()?;
    let folder = store.temp_dir()?;
    let out = vcstore::utf8("using", folder.path())?;
    if let [one] = arguments.checked.as_slice()
        && Utf8Path::new(one).is_file()
        && !arguments.build_args.project().is_ok_and(|project| project.components.contains_key(one))
    {
        return archive(Utf8Path::new(one), &arguments.build_args, &out, &progress);
    }
    let project = arguments.build_args.project()?;
    // Of the source as `vcbuild images` builds it: without the archives that it writes.
    let (request, store, lock) = arguments.build_args.request(&project, &arguments.checked, OUT.into(), &progress)?;
    let request = Request { out: out.join("first"), ..request };
    let again = request.elsewhere(&store, check::OTHER, out.join("again"));
    let checked = check::check(&request, &again, &store, &lock, &progress);
    lock.save()?;
    let checked = checked?;
    super::show(arguments.build_args.common.output, &checked, text)?;
    Ok(if checked.differences.is_empty() { Exit::Done } else { Exit::Difference })
}

/// Checks an archive; `folder` is one for what is written meanwhile.
fn archive(path: &Utf8Path, build_args: &BuildArgs, folder: &Utf8Path, progress: &Progress) -> Result<Exit, Error> {
    let claimed = Provenance::read(path)?;
    let mut project = claimed.project(path, folder)?;
    build_args.allow_again(path, &claimed, &mut project, folder)?;
    let (request, store, lock) = build_args.again(path, &claimed, &project, folder, progress)?;
    let checked = check::check_archive(path, &claimed, &request, &store, &lock, progress)?;
    super::show(build_args.common.output, &checked, archive_text)?;
    Ok(if checked.is_same() { Exit::Done } else { Exit::Difference })
}

fn archive_text(checked: &CheckedArchive) -> Text {
    let mut text: Text = checked.differences.iter().map(difference).collect();
    text.text(&checked.images.iter().map(|changes| super::diff::text(changes, LISTED)).collect());
    for name in &checked.not_made {
        text.line(format_args!("{name} is in {}, but its provenance does not produce it", checked.archive));
    }
    for ChangedInputs { action, inputs } in &checked.otherwise {
        text.line(format_args!("{action} had different inputs: {}", inputs.join(", ")));
    }
    let (archive, actions) = (&checked.archive, checked.actions);
    let outcome = if checked.is_same() { "identical images" } else { "other images" };
    text.line(format_args!("{archive}: ran {actions} actions from its provenance: {outcome}"));
    text
}

fn text(checked: &Checked) -> Text {
    let mut text: Text = checked.differences.iter().map(difference).collect();
    let (actions, differences) = (checked.actions, checked.differences.len());
    let outcome = match differences {
        0 => "identical outputs".to_owned(),
        _ => format!("{differences} outputs differ"),
    };
    text.line(format_args!("ran {actions} actions again in another folder with an empty store: {outcome}"));
    text
}

fn difference(one: &Difference) -> Text {
    let mut text = Text::of(format_args!("{}: {} differs", one.action, one.output));
    let mut line = |name: &str, value: String| {
        text.line(format_args!("  {name:<9}{value}"));
    };
    for file in &one.files {
        line("file", format!("{} in layer {}", file.path, file.layer));
    }
    let digest = |digest: Option<vcstore::Digest>| digest.map_or("not there".to_owned(), |digest| digest.to_string());
    if one.before != one.after {
        line("before", digest(one.before));
        line("after", digest(one.after));
    }
    if let Some(first) = &one.first {
        let end = |bytes: &str| if bytes.is_empty() { "the end".to_owned() } else { bytes.to_owned() };
        line(
            "byte",
            format!("{} ({:#x}): {}, then {}", first.offset, first.offset, end(&first.before), end(&first.after)),
        );
    }
    if let Some(place) = &one.place {
        let symbol = place.symbol.as_ref().map(|symbol| format!(", symbol {symbol}")).unwrap_or_default();
        line("section", format!("{}{symbol}", place.section));
    }
    for report in one.diffoscope.iter().flat_map(|report| report.lines()) {
        line("", report.to_owned());
    }
    text
}
