//! `vcdist vars`: what the variables of the Ansible role come to for a host, and where each value comes from.

use std::io;

use clap::{ArgGroup, Args};
use miette::Diagnostic;
use serde::Serialize;
use serde_json::Value as Json;
use thiserror::Error;
use vcterminal::{Exit, Output, Table, Text};
use vcvariables::table::Effect;
use vcvariables::{Definition, Explained, Report};

use crate::cli::role::RoleArgs;

/// The longest value that a line of the table shows, in characters.
const LONGEST: usize = 60;

/// Print the variables of the Ansible role for a host.
///
/// For each variable of the role k8s-virtual-cluster and its siblings: the value that Ansible would use, where it comes from, and
/// what it replaced. vcdist connects to nothing and changes nothing. Exit codes: 0 all variables can be used, 2 some cannot.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("given").args(["vars", "inventory"]).required(true).multiple(true)))]
pub(super) struct Vars {
    #[command(flatten)]
    role: RoleArgs,

    /// Only this variable, with all its definitions
    #[arg(long, value_name = "NAME")]
    explain: Option<String>,

    /// What to print
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    output: Output,
}

/// Why nothing could be told.
#[derive(Debug, Error, Diagnostic)]
pub(super) enum Error {
    #[error("printing the variables")]
    Print(#[source] io::Error),
}

/// What `--output json` prints.
#[derive(Debug, Serialize)]
struct Document<'a> {
    host: &'a str,
    variables: Vec<Variable<'a>>,
    warnings: &'a [String],
    errors: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Variable<'a> {
    name: &'a str,
    role: Option<&'static str>,
    value: Option<Json>,
    error: Option<&'a str>,
    source: Option<Origin>,
    replaced: Vec<Origin>,
    effect: Option<&'static str>,
    corresponds_to: Option<&'static str>,
}

/// A definition of a variable.
#[derive(Debug, Serialize)]
struct Origin {
    level: String,
    file: Option<String>,
    line: Option<usize>,
    text: String,
    older_name: Option<String>,
}

impl Vars {
    #[expect(clippy::unused_async, reason = "every command is run as a future")]
    pub(super) async fn run(self) -> Result<Exit, Error> {
        let report = match self.role.report(self.explain.as_deref()) {
            Ok(report) => report,
            Err(error) => {
                vcterminal::report(&error);
                return Ok(Exit::Usage);
            }
        };
        let explain = self.explain.is_some();
        let printed = match self.output {
            Output::Json => vcterminal::print_json(&document(&report)),
            Output::Text => vcterminal::print(&if explain { explained(&report) } else { table(&report) }),
        };
        for warning in &report.warnings {
            tracing::warn!("{warning}");
        }
        for error in &report.errors {
            vcterminal::report(error);
        }
        printed.map_err(Error::Print)?;
        Ok(if report.errors.is_empty() { Exit::Done } else { Exit::Usage })
    }
}

fn document(report: &Report) -> Document<'_> {
    Document {
        host: &report.host,
        variables: report.variables.iter().map(variable).collect(),
        warnings: &report.warnings,
        errors: report.errors.iter().map(ToString::to_string).collect(),
    }
}

fn variable(explained: &Explained) -> Variable<'_> {
    let (effect, corresponds_to) = match explained.row.map(|row| row.effect) {
        Some(Effect::Does(what)) => (Some("used"), Some(what)),
        Some(Effect::Nothing(why)) => (Some("none"), Some(why)),
        Some(Effect::Destroys(what)) => (Some("shown"), Some(what)),
        None => (None, None),
    };
    Variable {
        name: &explained.name,
        role: explained.row.map(|row| row.role.name()),
        value: explained.value.as_ref().map(vcvariables::value::Value::to_json),
        error: explained.error.as_deref(),
        source: explained.winner.as_ref().map(origin),
        replaced: explained.replaced.iter().map(origin).collect(),
        effect,
        corresponds_to,
    }
}

fn origin(definition: &Definition) -> Origin {
    let place = &definition.node.place;
    let file = place.file();
    Origin {
        level: definition.level.to_string(),
        file: file.map(ToString::to_string),
        line: file.map(|_| place.line),
        text: definition.node.text(),
        older_name: definition.older_name.clone(),
    }
}

/// A line for each variable.
fn table(report: &Report) -> Text {
    let mut table = Table::new(["variable", "value", "from", "replaced"]);
    for explained in &report.variables {
        let value = match (&explained.value, &explained.error) {
            (Some(value), _) => shortened(&value.to_json().to_string()),
            (None, Some(_)) => "error".to_owned(),
            (None, None) => "not defined".to_owned(),
        };
        let from = explained.winner.as_ref().map(whence).unwrap_or_default();
        let replaced: Vec<String> = explained.replaced.iter().map(whence).collect();
        table.row([explained.name.clone(), value, from, replaced.join(", ")]);
    }
    let mut text = Text::of(format_args!("host {}", report.host));
    text.table(&table);
    text
}

/// All that is known of each variable.
fn explained(report: &Report) -> Text {
    let mut text = Text::default();
    for explained in &report.variables {
        match (&explained.value, &explained.error) {
            (Some(value), _) => text.line(format_args!("{} = {}", explained.name, value.to_json())),
            (None, Some(_)) => text.line(format_args!("{} cannot be resolved", explained.name)),
            (None, None) => text.line(format_args!("{} is not defined", explained.name)),
        };
        text.line(format_args!("  host: {}", report.host));
        if let Some(winner) = &explained.winner {
            definition(&mut text, "from", winner);
        }
        for replaced in &explained.replaced {
            definition(&mut text, "replaces", replaced);
        }
        if let Some(row) = explained.row {
            text.line(format_args!("  role: {}", row.role));
            text.line(format_args!("  corresponds to: {}", row.effect));
        }
    }
    text
}

fn definition(text: &mut Text, word: &str, definition: &Definition) {
    let older = definition.older_name.as_ref().map(|name| format!(", as {name}")).unwrap_or_default();
    text.line(format_args!("  {word}: {} ({}{older})", whence(definition), definition.level));
    let mut written = Text::default();
    written.program(&definition.node.text());
    text.indented("    ", &written);
}

/// The place of a definition, in few words.
fn whence(definition: &Definition) -> String {
    let place = &definition.node.place;
    place.file().map_or_else(|| "default".to_owned(), |_| place.to_string())
}

fn shortened(text: &str) -> String {
    if text.chars().count() <= LONGEST {
        return text.to_owned();
    }
    text.chars().take(LONGEST - 1).chain(['…']).collect()
}
