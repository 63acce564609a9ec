//! Help on a terminal.

use clap::Command;

/// The width that help is laid out for.
const WIDTH: usize = 100;

/// The lines of the short help (`-h`) of all commands that do not hold an option in one line, each with its command.
#[must_use]
pub fn wrapped(command: &Command) -> Vec<String> {
    let mut command = command.clone().term_width(WIDTH);
    command.build();
    let mut found = Vec::new();
    add(&mut command, &mut found);
    found
}

fn add(command: &mut Command, found: &mut Vec<String>) {
    let name = command.get_bin_name().unwrap_or_default().to_owned();
    let help = command.render_help().to_string();
    // What does not fit goes on below, further to the right than any option begins.
    let wrapped = help.lines().filter(|line| line.starts_with("            ") || line.chars().count() > WIDTH);
    found.extend(wrapped.map(|line| format!("{name}: {}", line.trim())));
    for one in command.get_subcommands_mut().filter(|one| !one.is_hide_set() && one.get_name() != "help") {
        add(one, found);
    }
}

#[cfg(test)]
mod tests {
    use clap::{Arg, Command};

    use super::wrapped;

    #[test]
    fn help_that_needs_two_lines_is_found() {
        let option = |help: String| Command::new("push").arg(Arg::new("option").long("option").help(help));
        assert!(wrapped(&Command::new("tool").subcommand(option("short".to_owned()))).is_empty());
        let found = wrapped(&Command::new("tool").subcommand(option("word ".repeat(30))));
        assert!(found[0].starts_with("tool push: word"), "{found:?}");
    }
}
