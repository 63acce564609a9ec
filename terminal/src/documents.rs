//! What a command line says of itself, as files: completions for shells, manual pages, and the page of the documentation.

use std::io;
use std::path::PathBuf;

use clap::{Arg, ArgMatches, Command, value_parser};
use clap_complete::Shell;

use crate::print::unless_left;
use crate::reference::reference;
use crate::{Exit, say};

const COMPLETIONS: &str = "completions";
const MANUAL: &str = "manual";
const REFERENCE: &str = "reference";

/// A command with the three that write these files.
#[must_use]
pub fn with_documents(command: Command) -> Command {
    let shell =
        Arg::new("shell").value_name("SHELL").required(true).value_parser(value_parser!(Shell)).help("The shell");
    let folder = Arg::new("dir").required(true).value_name("DIR").value_parser(value_parser!(PathBuf));
    command
        .subcommand(
            Command::new(COMPLETIONS).about("Print the script by which a shell completes this command").arg(shell),
        )
        .subcommand(Command::new(MANUAL).hide(true).about("Write the manual pages into a folder").arg(folder))
        .subcommand(Command::new(REFERENCE).hide(true).about("Print the reference page of the documentation"))
}

/// Writes what a command line asks for, where it is one of these; `command` is the whole of it.
pub(crate) fn write(command: &mut Command, given: &ArgMatches) -> Option<Exit> {
    match given.subcommand()? {
        (COMPLETIONS, given) => {
            let shell = *given.get_one::<Shell>("shell")?;
            let name = command.get_name().to_owned();
            let mut script = Vec::new();
            clap_complete::generate(shell, command, name, &mut script);
            ended(&unless_left(io::Write::write_all(&mut io::stdout(), &script)))
        }
        (MANUAL, given) => {
            let folder = given.get_one::<PathBuf>("dir")?;
            let written =
                std::fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(command.clone(), folder));
            if let Err(error) = &written {
                say(format_args!("error: writing manual pages into {}: {error}", folder.display()));
            }
            Some(if written.is_ok() { Exit::Done } else { Exit::Failed })
        }
        (REFERENCE, _) => {
            let page = reference(command.clone());
            ended(&unless_left(io::Write::write_all(&mut io::stdout(), page.as_bytes())))
        }
        _ => None,
    }
}

fn ended(written: &io::Result<()>) -> Option<Exit> {
    if let Err(error) = written {
        say(format_args!("error: writing the result: {error}"));
    }
    Some(if written.is_ok() { Exit::Done } else { Exit::Failed })
}

#[cfg(test)]
mod tests {
    use clap::Command;

    use super::{with_documents, write};
    use crate::Exit;

    fn tool() -> Command {
        let hidden = Command::new("helper").hide(true);
        with_documents(Command::new("tool").subcommand(Command::new("push").about("Push images")).subcommand(hidden))
    }

    #[test]
    fn a_manual_has_a_page_for_each_command_that_is_shown() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("man1");
        let given = tool().try_get_matches_from(["tool", "manual", to.to_str().unwrap()]).unwrap();
        assert_eq!(write(&mut tool(), &given), Some(Exit::Done));
        let mut pages: Vec<_> =
            to.read_dir().unwrap().map(|page| page.unwrap().file_name().into_string().unwrap()).collect();
        pages.sort();
        assert_eq!(pages, ["tool-completions.1", "tool-push.1", "tool.1"]);
        assert!(std::fs::read_to_string(to.join("tool-push.1")).unwrap().contains("Push images"));
    }

    #[test]
    fn other_commands_are_left_to_the_tool() {
        let given = tool().try_get_matches_from(["tool", "push"]).unwrap();
        assert_eq!(write(&mut tool(), &given), None);
        assert!(tool().try_get_matches_from(["tool", "completions", "tcsh"]).is_err());
    }
}
