//! The option `--build-host`, and the command that it starts on the build host: `vcbuild build-host`.

use std::sync::Arc;

use camino::Utf8PathBuf;
use clap::Args;
use vcnetwork::Network;
use vcsandbox::Sandbox;
use vcsandbox::remote::{self, Host};
use vcstore::Store;
use vcterminal::Exit;

use crate::Error;

/// Where programs run that make files.
#[derive(Debug, Args)]
pub(super) struct BuildHostOptions {
    /// Compile on another machine: ssh://[USER@]HOST[:PORT][/FOLDER]
    ///
    /// vcbuild sends it the missing inputs and fetches the outputs. The machine needs an SSH server and a shell.
    #[arg(long, value_name = "URL", conflicts_with_all = ["offline", "inputs"], help_heading = "Sandbox")]
    build_host: Option<String>,
}

/// What is run there.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The folder of the build host's store.
    #[arg(long, value_name = "DIR")]
    store: Utf8PathBuf,
}

impl BuildHostOptions {
    /// The sandbox that runs programs where they are to run, and that place when it is another machine.
    pub(super) fn attach(
        &self,
        sandbox: Sandbox,
        store: &Store,
        network: &Network,
    ) -> Result<(Sandbox, Option<Arc<Host>>), Error> {
        let Some(text) = &self.build_host else { return Ok((sandbox, None)) };
        let address: remote::Address = text.parse().map_err(remote::Error::BadAddress)?;
        let permit = network.permit(format!("using build host {address}"))?;
        let host = Arc::new(Host::connect(address, sandbox.mode(), store, permit)?);
        Ok((sandbox.at(Arc::clone(&host)), Some(host)))
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit, Error> {
    let store = Store::open(&arguments.store)?;
    remote::serve(&store).map_err(Error::io("serving the requesting machine, with the store", &arguments.store))?;
    Ok(Exit::Done)
}
