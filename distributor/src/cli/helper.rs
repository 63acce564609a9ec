//! `vcdist helper`: what `vcdist push` runs on a node. Not for people.

use camino::Utf8PathBuf;
use clap::Args;
use vcterminal::Exit;

use crate::helper::{self, Settings};

/// Serve one push over stdin and stdout.
#[derive(Debug, Args)]
pub(super) struct Helper {
    /// containerd's socket on this node [default: where the distributions have it].
    #[arg(long, value_name = "PATH")]
    containerd_address: Option<Utf8PathBuf>,

    /// containerd's namespace.
    #[arg(long, value_name = "NAME", default_value = "k8s.io")]
    containerd_namespace: String,
}

impl Helper {
    pub(super) async fn run(self) -> Result<Exit, helper::Error> {
        let settings = Settings { address: self.containerd_address, namespace: self.containerd_namespace };
        helper::serve(settings).await.map(|()| Exit::Done)
    }
}
