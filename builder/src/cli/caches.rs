//! The cache options of commands that build: which caches to query, and which keys to trust.

use std::sync::Arc;
use std::time::Duration;

use camino::Utf8PathBuf;
use clap::Args;
use vcnetwork::Network;
use vcregistry::caches::{self, Address, Caches, Keyring, PublicKey, SecretKey, TIMEOUT};
use vcregistry::settings::CacheSettings;
use vcstore::Store;

use crate::Error;
use crate::config::Config;
use crate::project::Project;

#[derive(Debug, Args)]
pub(super) struct CacheOptions {
    /// Take results from this cache, such as https://HOST/PATH
    ///
    /// Also file:///PATH, ssh://USER@HOST/PATH and oci://HOST/REPOSITORY. Adds to the caches of vcbuild.toml and
    /// config.toml.
    #[arg(long, value_name = "URL")]
    substituter: Vec<String>,

    /// Accept results that this key signed: NAME:BASE64, or a file
    ///
    /// Adds to the keys of config.toml.
    #[arg(long, value_name = "KEY")]
    trust_key: Vec<String>,

    /// Use no caches.
    #[arg(long, conflicts_with = "substituter")]
    no_substituters: bool,

    /// Stop using a cache that is silent for so long [default: 10]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    cache_timeout: Option<u64>,
}

impl CacheOptions {
    /// An option that was given, if any was.
    pub(super) fn decisive(&self) -> Option<&'static str> {
        let given = [
            ("--substituter", !self.substituter.is_empty()),
            ("--trust-key", !self.trust_key.is_empty()),
            ("--no-substituters", self.no_substituters),
            ("--cache-timeout", self.cache_timeout.is_some()),
        ];
        given.into_iter().find_map(|(name, given)| given.then_some(name))
    }

    /// The store with the caches that it is to ask; offline, those in folders.
    pub(super) fn attach(&self, store: Store, project: &Project, network: &Network) -> Result<Store, Error> {
        if self.no_substituters {
            return Ok(store);
        }
        let config = Config::of_user()?;
        let trusted = self.trust_key.iter().chain(&config.caches.trusted_keys).map(|key| PublicKey::of(key));
        let trusted = Keyring::new(trusted.collect::<Result<Vec<_>, _>>()?);
        let mut addresses = parse(self.substituter.iter().chain(&config.caches.substituters))?;
        if trusted.is_empty() && addresses.is_empty() && !project.substituters.is_empty() {
            let caches = project.substituters.join(", ");
            tracing::info!("not using the caches that the project names, because no key is trusted: {caches}");
            return Ok(store);
        }
        for address in parse(&project.substituters)? {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        addresses.retain(|address| address.is_folder() || *network == Network::Open);
        if addresses.is_empty() {
            return Ok(store);
        }
        let timeout = self.cache_timeout.or(config.caches.timeout).map_or(TIMEOUT, Duration::from_secs);
        Ok(store.with_substituter(Arc::new(Caches::new(addresses, trusted, timeout, network, &config.registries)?)))
    }
}

/// The key that signs what is pushed, if any: of this file, else of the user's settings.
pub(super) fn sign_key(file: Option<&Utf8PathBuf>, caches: &CacheSettings) -> Result<Option<SecretKey>, Error> {
    Ok(file.or(caches.sign_key.as_ref()).map(|path| SecretKey::read(path)).transpose()?)
}

/// The addresses of caches.
pub(super) fn parse<'a>(texts: impl IntoIterator<Item = &'a String>) -> Result<Vec<Address>, Error> {
    let address = |text: &String| text.parse().map_err(|why| Error::from(caches::Error::BadAddress(why)));
    texts.into_iter().map(address).collect()
}
