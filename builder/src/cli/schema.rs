//! `vcbuild schema`: the JSON Schema of `vcbuild.toml`.

use clap::Args;
use vcterminal::Exit;

use crate::{Error, project};

#[derive(Debug, Args)]
pub(super) struct Arguments {}

pub(super) fn run(_: &Arguments) -> Result<Exit, Error> {
    vcterminal::print_json(&project::schema()).map_err(Error::Print)?;
    Ok(Exit::Done)
}
