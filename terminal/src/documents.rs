//! Generates files from the definition of a command line: shell completions and manual pages.

use std::io;
use std::path::PathBuf;

use clap::{Arg, ArgMatches, Command, value_parser};
use clap_complete::Shell;

use crate::print::unless_left;
use crate::{Exit, say};

const COMPLETIONS: &str = "completions";
const MANUAL: &str = "manual";

/// Adds the two subcommands that write these files.
pub(crate) fn with_documents(command: Command) -> Command {
    let shell = Arg::new("shell").required(true).value_parser(value_parser!(Shell)).help("The shell");
    let folder = Arg::new("dir").required(true).value_name("DIR").value_parser(value_parser!(PathBuf));
    command
        .subcommand(
            Command::new(COMPLETIONS).about("Print the script by which a shell completes this command").arg(shell),
        )
        .subcommand(Command::new(MANUAL).hide(true).about("Write the manual pages into a folder").arg(folder))
}

/// Runs one of these subcommands, if it was given; `command` is the whole command line.
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
