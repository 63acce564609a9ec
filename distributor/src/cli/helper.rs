//! `vcdist helper`: the program that `vcdist push` runs on a node. Not for direct use.

use std::time::Duration;

use camino::Utf8PathBuf;
use clap::Args;
use vcterminal::Exit;

use crate::agent::{self, Settings};
use crate::duration::parse_duration;

/// Serve one push over stdin and stdout.
#[derive(Debug, Args)]
pub(super) struct Helper {
    /// containerd's socket on this node [default: where the distributions have it].
    #[arg(long, value_name = "PATH")]
    containerd_address: Option<Utf8PathBuf>,

    /// containerd's namespace.
    #[arg(long, value_name = "NAME", default_value = "k8s.io")]
    containerd_namespace: String,

    /// How long the connection may be silent before the push counts as gone.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = parse_duration)]
    stall_timeout: Duration,
}

impl Helper {
    pub(super) async fn run(self) -> Result<Exit, agent::Error> {
        let settings = Settings {
            address: self.containerd_address,
            namespace: self.containerd_namespace,
            stall_timeout: self.stall_timeout,
        };
        agent::serve(settings).await.map(|()| Exit::Done)
    }
}
