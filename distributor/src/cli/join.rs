//! `vcdist join`: what a further connection of `vcdist push` runs on a node. Not for people.

use clap::Args;
use vcterminal::Exit;

use crate::helper::{self, joined};

/// Hand stdin and stdout on to the helper or relay that offers itself under this name.
#[derive(Debug, Args)]
pub(super) struct Join {
    name: String,
}

impl Join {
    pub(super) async fn run(self) -> Result<Exit, helper::Error> {
        joined::join(&self.name).await.map(|()| Exit::Done)
    }
}
