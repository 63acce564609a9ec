//! `vcdist join`: the program that a further connection of `vcdist push` runs on a node. Not for direct use.

use clap::Args;
use vcterminal::Exit;

use crate::agent::{self, extra_connections};

/// Hand stdin and stdout on to the helper or relay that the first line of stdin names.
#[derive(Debug, Args)]
pub(super) struct Join {}

impl Join {
    pub(super) async fn run(self) -> Result<Exit, agent::Error> {
        extra_connections::join().await.map(|()| Exit::Done)
    }
}
