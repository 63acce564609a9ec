//! `cargo xtask reference`: the pages of the documentation that list every command and option, from the programs themselves.

use std::fs;

use vcterminal::Exit;

use crate::command::{self, cargo, root};
use crate::error::Error;

/// Write docs/reference/vcbuild.md and docs/reference/vcdist.md from the command lines of both programs.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {}

/// The task. A unit test of each program compares its page.
pub(crate) fn run(_arguments: &Arguments) -> Result<Exit, Error> {
    for name in ["vcbuild", "vcdist"] {
        let page =
            command::capture(cargo().args(["run", "--quiet", "--package", name, "--bin", name, "--", "reference"]))?;
        let path = root().join("docs/reference").join(format!("{name}.md"));
        fs::write(&path, page).map_err(Error::io("writing", &path))?;
        vcterminal::tell(&path);
    }
    Ok(Exit::Done)
}
