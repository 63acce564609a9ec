//! `vcdist relay`: the program that `vcdist push --via` runs on a relay. Not for direct use.

use std::time::Duration;

use camino::Utf8PathBuf;
use clap::Args;
use vcterminal::Exit;

use crate::duration::parse_duration;
use crate::{agent, relay};

/// Relay one push over stdin and stdout.
#[derive(Debug, Args)]
pub(super) struct Relay {
    /// The folder of the cache [default: vcdist-relay in the user's cache folder].
    #[arg(long, value_name = "DIR")]
    cache: Option<Utf8PathBuf>,

    /// How long the connection may be silent before it counts as lost.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = parse_duration)]
    stall_timeout: Duration,
}

impl Relay {
    pub(super) async fn run(self) -> Result<Exit, agent::Error> {
        relay::serve(self.cache, self.stall_timeout).await.map(|()| Exit::Done)
    }
}
