//! `vcbuild check`: builds again in other surroundings, and compares.

use camino::Utf8PathBuf;
use clap::Args;
use vcterminal::{Exit, Output};

use super::choices::Choices;
use super::lock::OUT;
use crate::Error;
use crate::build::Request;
use crate::check::{self, Checked, Difference};
use crate::progress::Progress;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The components to check [default: all of the project].
    #[arg(value_name = "COMPONENT")]
    components: Vec<String>,

    #[command(flatten)]
    choices: Choices,
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit, Error> {
    let progress = Progress::start();
    let project = arguments.choices.project()?;
    // The archives are compared as everything else is, and go again.
    let folder = tempfile::tempdir().map_err(Error::io("making a folder in", "the folder for temporary files"))?;
    let out = Utf8PathBuf::try_from(folder.path().to_owned()).map_err(|error| {
        Error::io("using", folder.path().to_string_lossy().as_ref())(std::io::Error::other(error.to_string()))
    })?;
    // Of the source as `vcbuild images` builds it: without the archives that it writes.
    let (request, store, lock) = arguments.choices.request(&project, &arguments.components, OUT.into(), &progress)?;
    let request = Request { out: out.join("first"), ..request };
    let again = request.elsewhere(&store, check::OTHER, out.join("again"));
    let checked = check::check(&request, &again, &store, &lock, &progress)?;
    match arguments.choices.common.output {
        Output::Json => vcterminal::print_json(&checked).map_err(Error::Print)?,
        Output::Text => super::print(&text(&checked))?,
    }
    Ok(if checked.differences.is_empty() { Exit::Done } else { Exit::Difference })
}

fn text(checked: &Checked) -> String {
    let mut text: String = checked.differences.iter().map(difference).collect();
    let (actions, differences) = (checked.actions, checked.differences.len());
    text += &match differences {
        0 => format!("{actions} actions ran again, elsewhere and from nothing: the same outputs\n"),
        _ => format!("{actions} actions ran again, elsewhere and from nothing: {differences} outputs differ\n"),
    };
    text
}

fn difference(one: &Difference) -> String {
    let mut text = format!("{}: {} differs\n", one.action, one.output);
    let mut line = |name: &str, value: String| text += &format!("  {name:<9}{value}\n");
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
