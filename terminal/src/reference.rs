//! What a command line says of itself, as a page of Markdown: every command and option with its help, default and values.

use std::fmt::Write;

use clap::builder::{PossibleValue, StyledStr};
use clap::{Arg, ArgAction, Command};

/// What every command has; the page says so once.
const EVERYWHERE: [&str; 3] = ["verbose", "help", "version"];
/// The heading of options that name none.
const OPTIONS: &str = "Options";

/// The page about a tool's whole command line, without what is hidden.
#[must_use]
pub fn reference(mut command: Command) -> String {
    command.build();
    let name = command.get_name().to_owned();
    let about = words(command.get_about());
    let mut page = format!(
        "# {name}\n\nFor users at a terminal: every command and option. {about}.\n\n\
         This page is generated: `cargo xtask reference` writes it from the program's own command line, and a test compares.\n\n\
         Every command has `-h` (one line for each option), `--help` (this text), `-v` (say more: `-v` steps, `-vv` details, \
         `-vvv` everything) and `--version`.\n\n| command | does |\n| --- | --- |\n"
    );
    let mut sections = String::new();
    add(&mut command, &name, &mut page, &mut sections);
    page + &sections
}

/// Adds a command's subcommands: each a row of the table, and a section unless it only has subcommands of its own.
fn add(command: &mut Command, path: &str, rows: &mut String, sections: &mut String) {
    for one in command.get_subcommands_mut().filter(|one| !one.is_hide_set() && one.get_name() != "help") {
        let path = format!("{path} {}", one.get_name());
        if one.has_subcommands() {
            add(one, &path, rows, sections);
        } else {
            let anchor = path.replace(' ', "-");
            let _ = writeln!(rows, "| [`{path}`](#{anchor}) | {} |", cell(&words(one.get_about())));
            section(one, &path, sections);
        }
    }
}

fn section(command: &mut Command, path: &str, page: &mut String) {
    let about = command.get_long_about().or(command.get_about()).map(ToString::to_string).unwrap_or_default();
    let about = about.trim_end().trim_end_matches('.');
    let usage = command.render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ");
    let _ = write!(page, "\n## `{path}`\n\n{about}.\n\n```text\n{usage}\n```\n");
    if let Some(more) = command.get_after_long_help().or(command.get_after_help()) {
        let more = more.to_string();
        let lines = more.lines().skip_while(|line| !line.starts_with("  ")).map(|line| line.trim_start_matches("  "));
        let _ = write!(page, "\nExamples:\n\n```sh\n{}\n```\n", lines.collect::<Vec<_>>().join("\n").trim_end());
    }
    let shown = |arg: &&Arg| !arg.is_hide_set() && !EVERYWHERE.contains(&arg.get_id().as_str());
    let arguments: Vec<&Arg> = command.get_arguments().filter(shown).collect();
    table(page, None, "argument", arguments.iter().copied().filter(|arg| arg.is_positional()));
    let options: Vec<&Arg> = arguments.into_iter().filter(|arg| !arg.is_positional()).collect();
    let mut headings: Vec<&str> = Vec::new();
    for arg in &options {
        let heading = arg.get_help_heading().unwrap_or(OPTIONS);
        if !headings.contains(&heading) {
            headings.push(heading);
        }
    }
    // As in the help itself, those without a heading come first.
    headings.sort_by_key(|heading| *heading != OPTIONS);
    for heading in headings {
        let under = options.iter().copied().filter(|arg| arg.get_help_heading().unwrap_or(OPTIONS) == heading);
        table(page, Some(heading), "option", under);
    }
}

fn table<'a>(page: &mut String, heading: Option<&str>, what: &str, arguments: impl Iterator<Item = &'a Arg>) {
    let mut arguments = arguments.peekable();
    if arguments.peek().is_none() {
        return;
    }
    if let Some(heading) = heading {
        let _ = write!(page, "\n**{heading}**\n");
    }
    let _ = write!(page, "\n| {what} | meaning |\n| --- | --- |\n");
    for arg in arguments {
        let _ = writeln!(page, "| `{}` | {} |", written(arg).replace('|', "\\|"), cell(&meaning(arg)));
    }
}

/// An argument as it is written on a command line.
fn written(arg: &Arg) -> String {
    let takes = arg.get_action().takes_values();
    let value = match arg.get_value_names() {
        Some(names) if takes => names.join(" "),
        _ if takes => arg.get_id().as_str().to_uppercase(),
        _ => String::new(),
    };
    if arg.is_positional() {
        let many = if arg.get_num_args().is_some_and(|count| count.max_values() > 1) { "..." } else { "" };
        return format!("{value}{many}");
    }
    let short = arg.get_short().map(|short| format!("-{short}, ")).unwrap_or_default();
    let optional = takes && arg.get_num_args().is_some_and(|count| count.min_values() == 0);
    let value = if optional { format!("[{value}...]") } else { value };
    format!("{short}--{} {value}", arg.get_long().unwrap_or_default()).trim_end().to_owned()
}

/// What an argument means, its values, its default and whether it may be repeated.
fn meaning(arg: &Arg) -> String {
    let help = arg.get_long_help().or(arg.get_help());
    let help = help.map(ToString::to_string).unwrap_or_default();
    let paragraphs = help.split("\n\n").map(|paragraph| with_sentences(&one_line(paragraph)));
    let mut text = paragraphs.collect::<Vec<_>>().join(" ");
    let values: Vec<PossibleValue> = if arg.is_hide_possible_values_set() || !arg.get_action().takes_values() {
        Vec::new()
    } else {
        arg.get_possible_values()
    };
    let shown = values.iter().filter(|value| !value.is_hide_set());
    let values: Vec<String> = shown
        .map(|value| match value.get_help() {
            Some(help) => format!("`{}` ({})", value.get_name(), words(Some(help))),
            None => format!("`{}`", value.get_name()),
        })
        .collect();
    if !values.is_empty() {
        let _ = write!(text, " Values: {}.", values.join(", "));
    }
    let defaults: Vec<_> = arg.get_default_values().iter().map(|value| format!("`{}`", value.display())).collect();
    if !defaults.is_empty() && arg.get_action().takes_values() {
        let _ = write!(text, " Default: {}.", defaults.join(", "));
    }
    if let Some(variable) = arg.get_env() {
        let _ = write!(text, " Environment: `{}`.", variable.display());
    }
    let is_said = text.to_lowercase().contains("repeatable");
    if matches!(arg.get_action(), ArgAction::Append) && !arg.is_positional() && !is_said {
        text.push_str(if arg.get_value_delimiter().is_some() {
            " Repeatable, or a list with commas."
        } else {
            " Repeatable."
        });
    }
    text
}

/// A text whose defaults in brackets, as help has them, are part of its sentences.
fn with_sentences(text: &str) -> String {
    let mut whole = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(" [default") {
        let (default, after) = after.split_once(']').unwrap_or((after, ""));
        whole += &format!("{before} (default{default}).");
        rest = after;
    }
    whole += rest;
    if !whole.ends_with('.') {
        whole.push('.');
    }
    whole
}

/// A help text as one line, without the last full stop that some have.
fn words(text: Option<&StyledStr>) -> String {
    one_line(&text.map(ToString::to_string).unwrap_or_default())
}

fn one_line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.strip_suffix('.').unwrap_or(&line).to_owned()
}

/// Text as it may stand in a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use clap::{Arg, ArgAction, Command};

    use super::reference;

    fn tool() -> Command {
        let push = Command::new("push")
            .about("Push images")
            .after_help("Examples:\n  tool push one")
            .arg(Arg::new("image").value_name("A|B").help("What to push").num_args(1..))
            .arg(
                Arg::new("jobs")
                    .short('j')
                    .long("jobs")
                    .value_name("N")
                    .default_value("4")
                    .help("How many at once [default: few]"),
            )
            .arg(
                Arg::new("how")
                    .long("how")
                    .value_parser(["fast", "slow"])
                    .help_heading("Speed")
                    .help("How fast\n\nBy night too [default: as now]"),
            )
            .arg(Arg::new("hidden").long("hidden").hide(true))
            .arg(Arg::new("dry").long("dry-run").action(ArgAction::SetTrue).help("Send <nothing>"))
            .arg(Arg::new("node").long("node").help("Where; repeatable").action(ArgAction::Append).env("TOOL_NODE"));
        let list = Command::new("list").about("List them");
        let store = Command::new("store").about("The store").subcommand(list);
        Command::new("tool").about("Work").subcommand(push).subcommand(store).subcommand(Command::new("x").hide(true))
    }

    #[test]
    fn a_page_has_every_command_and_option_that_is_shown() {
        let page = reference(tool());
        for line in [
            "# tool",
            "| [`tool push`](#tool-push) | Push images |",
            "| [`tool store list`](#tool-store-list) | List them |",
            "## `tool push`",
            "tool push [OPTIONS] [A|B]...",
            "```sh\ntool push one\n```",
            "| `A\\|B...` | What to push. |",
            "| `-j, --jobs N` | How many at once (default: few). Default: `4`. |",
            "**Speed**",
            "| `--how HOW` | How fast. By night too (default: as now). Values: `fast`, `slow`. |",
            "| `--dry-run` | Send &lt;nothing>. |",
            "| `--node NODE` | Where; repeatable. Environment: `TOOL_NODE`. |",
        ] {
            assert!(page.contains(&format!("{line}\n")), "{line} is not in:\n{page}");
        }
        for word in ["hidden", "tool x", "`tool store`", "TOOL_NODE=", "tool help"] {
            assert!(!page.contains(word), "{word} is in:\n{page}");
        }
        assert!(page.find("--jobs") < page.find("--how"), "options without a heading come first");
    }
}
