//! The user's settings: trusted caches and keys, access to registries, sandbox limits, and private files that projects
//! may use. A project file cannot contain these settings, because its author would control the inputs of other
//! projects' builds.

use std::io;

use camino::Utf8PathBuf;
use serde::Deserialize;
use vcregistry::settings::{CacheSettings, Registries};
use vcsandbox::{SandboxTable, Settings};
use vcstore::text;
use vcstore::{config_folder, path_variable};

use crate::Error;

/// The settings file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Caches of records and blobs.
    #[serde(default)]
    pub(crate) caches: CacheSettings,
    /// Access to registries, by the host in an image reference.
    #[serde(default)]
    pub(crate) registries: Registries,
    /// Files and folders that projects may read although other users of this machine cannot.
    #[serde(default, rename = "allow-paths")]
    pub(crate) allow_paths: Vec<Utf8PathBuf>,
    /// The confinement of compilers and build commands of all projects.
    #[serde(default)]
    sandbox: SandboxTable,
    /// The path of the settings file, or empty if there is none.
    #[serde(skip)]
    path: Utf8PathBuf,
}

impl Config {
    /// Reads the settings of the current user: from `$VCBUILD_CONFIG`, or else from `vcbuild/config.toml` in the
    /// configuration folder (`$XDG_CONFIG_HOME` or `~/.config`). Without `$VCBUILD_CONFIG`, a missing file counts as
    /// empty.
    ///
    /// # Errors
    /// When the file cannot be read or is invalid; the message contains the line.
    pub(crate) fn of_user() -> Result<Self, Error> {
        let named = path_variable("VCBUILD_CONFIG");
        let Some(path) = named.clone().or_else(|| Some(config_folder()?.join("vcbuild/config.toml"))) else {
            return Ok(Self::default());
        };
        let text = match text::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound && named.is_none() => return Ok(Self::default()),
            Err(error) => return Err(Error::unreadable("the settings", &path)(error)),
        };
        let mut config: Self = toml::from_str(&text)
            .map_err(|source| Error::ConfigSyntax { path: path.clone(), source: Box::new(source) })?;
        config.path.clone_from(&path);
        // Paths in the file are relative to its folder.
        let beside = |file: &mut Option<Utf8PathBuf>| {
            *file = file.take().map(|file| path.parent().map_or_else(|| file.clone(), |folder| folder.join(&file)));
        };
        beside(&mut config.caches.sign_key);
        if let Some(folder) = path.parent() {
            config.allow_paths.iter_mut().for_each(|allowed| *allowed = folder.join(&allowed));
        }
        config.registries.values_mut().for_each(|registry| beside(&mut registry.ca));
        Ok(config)
    }

    /// Returns the sandbox settings.
    ///
    /// # Errors
    /// When a value is invalid.
    pub(crate) fn sandbox(&self) -> Result<Settings, Error> {
        self.sandbox
            .settings()
            .map_err(|why| Error::Config { path: self.path.clone(), why: format!("[sandbox]: {why}") })
    }
}

#[cfg(test)]
mod tests {
    use super::Config;

    #[test]
    fn what_a_user_may_set() {
        let config: Config = toml::from_str(
            r#"
            allow-paths = ["/srv/modules"]
            [caches]
            substituters = ["https://cache.example"]
            trusted-keys = ["cache-1:AAAA"]
            sign-key = "cache.key"
            timeout = 5
            [registries."registry.example:5000"]
            plain-http = true
            mirrors = ["mirror.example/prefix"]
            ca = "ca.pem"
            [sandbox]
            mode = "required"
            max-memory = "8G"
            max-disk = "10G"
            "#,
        )
        .unwrap();
        assert_eq!(config.caches.timeout, Some(5));
        assert_eq!(config.registries["registry.example:5000"].mirrors, ["mirror.example/prefix"]);
        assert_eq!(config.allow_paths, ["/srv/modules"]);
        let sandbox = config.sandbox().unwrap();
        assert_eq!((sandbox.memory, sandbox.disk), (Some(8 << 30), Some(10 << 30)));
        assert!(toml::from_str::<Config>("[sandbox]\ntimeout = \"soon\"").unwrap().sandbox().is_err());
        assert!(toml::from_str::<Config>("[caches]\ntrust = []").is_err(), "a name that means nothing is refused");
    }
}
