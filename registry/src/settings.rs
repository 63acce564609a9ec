//! The settings of registries and caches. The caller reads the file that contains them.

use std::collections::BTreeMap;

use camino::Utf8PathBuf;
use serde::Deserialize;

/// The settings of registries, by the host in an image's reference.
pub type Registries = BTreeMap<String, Registry>;

/// `[caches]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct CacheSettings {
    /// Addresses of caches that are queried before an action runs.
    #[serde(default)]
    pub substituters: Vec<String>,
    /// Public keys whose records are accepted.
    #[serde(default)]
    pub trusted_keys: Vec<String>,
    /// The file of the secret key that signs pushed records.
    pub sign_key: Option<Utf8PathBuf>,
    /// How long a cache may be silent, in seconds, before it is excluded from the rest of a run.
    pub timeout: Option<u64>,
}

/// `[registries."HOST"]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Registry {
    /// Whether to use HTTP without TLS; true by default for loopback addresses.
    pub plain_http: Option<bool>,
    /// Registries, as HOST or HOST/PREFIX, that are tried first.
    #[serde(default)]
    pub mirrors: Vec<String>,
    /// A file of certificate authorities for it, in addition to the system's.
    pub ca: Option<Utf8PathBuf>,
}
