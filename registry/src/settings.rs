//! What a user may say of registries and caches. The file that says it is the caller's to read.

use std::collections::BTreeMap;

use camino::Utf8PathBuf;
use serde::Deserialize;

/// How registries are reached, by the host in an image's reference.
pub type Registries = BTreeMap<String, Registry>;

/// `[caches]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct CacheSettings {
    /// Addresses of caches that are asked before an action runs.
    #[serde(default)]
    pub substituters: Vec<String>,
    /// Public keys whose records are taken.
    #[serde(default)]
    pub trusted_keys: Vec<String>,
    /// The file of the secret key that signs what is pushed.
    pub sign_key: Option<Utf8PathBuf>,
    /// How many seconds a cache may be silent before it is left out for the rest of a run.
    pub timeout: Option<u64>,
}

/// `[registries."HOST"]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Registry {
    /// Whether it is spoken to without TLS. Loopback addresses are unless this says false.
    pub plain_http: Option<bool>,
    /// Registries, as HOST or HOST/PREFIX, that are asked before it.
    #[serde(default)]
    pub mirrors: Vec<String>,
    /// A file of certificates that vouch for it besides the system's.
    pub ca: Option<Utf8PathBuf>,
}
