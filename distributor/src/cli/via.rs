//! The options of a push through a relay.

use clap::Args;

use crate::cli::nodes::{Nodes, Ssh, ssh_option};
use crate::nodes::Error;
use crate::relay;
use crate::session::CachePath;

/// Which way the blobs go.
#[derive(Debug, Args)]
#[command(next_help_heading = "Relay")]
pub(super) struct Via {
    /// Send the blobs once, to this node, for all others
    ///
    /// It sends them to the others with its own SSH keys. Only this node needs to reach them.
    #[arg(long, value_name = "NODE")]
    via: Option<String>,

    /// The relay's cache folder [default: ~/.cache/vcdist-relay]
    #[arg(long, value_name = "DIR", requires = "via")]
    relay_cache: Option<CachePath>,

    /// The maximum size of the relay's cache
    ///
    /// A number and kB, MB, GB, TB, KiB, MiB, GiB or TiB. Above it, vcdist removes the images that were pushed longest
    /// ago; those of this push stay.
    #[arg(long, value_name = "SIZE", requires = "via", default_value = "10GiB", value_parser = vcterminal::parse_bytes)]
    relay_cache_limit: u64,

    /// An option for the relay's ssh, as after -o; repeatable
    ///
    /// Options of --ssh-option apply to the connection to the relay only.
    #[arg(long, value_name = "KEY=VALUE", requires = "via", value_parser = ssh_option)]
    relay_ssh_option: Vec<String>,
}

impl Via {
    /// Returns the relay, if one is requested.
    pub(super) async fn find(&self, nodes: &Nodes, ssh: &Ssh) -> Result<Option<relay::Via>, Error> {
        let Some(name) = &self.via else { return Ok(None) };
        Ok(Some(relay::Via {
            node: nodes.find_one(name, ssh).await?,
            cache: self.relay_cache.clone(),
            cache_limit: self.relay_cache_limit,
            ssh_options: self.relay_ssh_option.clone(),
        }))
    }
}
