//! `cargo xtask reference`: the pages of the documentation that list every command and option, from the programs themselves.

use std::fs;
use std::process::Command;

use vcterminal::Exit;

use crate::command::{self, cargo, root, target_dir};
use crate::error::Error;

/// Write docs/reference/vcbuild.md and docs/reference/vcdist.md from the command lines of both programs.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {}

/// The task. A unit test of each program compares its page.
pub(crate) fn run(_arguments: &Arguments) -> Result<Exit, Error> {
    // As the tests are compiled: another selection of packages would compile hundreds of dependencies anew.
    command::run(cargo().args(["test", "--workspace", "--no-run", "--quiet"]))?;
    for name in ["vcbuild", "vcdist"] {
        let page = command::capture(Command::new(target_dir().join("debug").join(name)).arg("reference"))?;
        let path = root().join("docs/reference").join(format!("{name}.md"));
        fs::write(&path, page).map_err(Error::io("writing", &path))?;
        vcterminal::tell(&path);
    }
    Ok(Exit::Done)
}
