//! The user's own settings: which caches and keys are trusted, how registries are reached, what sandboxes allow, and which
//! private files projects may use. A project's file cannot say these things: whoever wrote it would decide what other
//! projects' builds are made of.

use std::io;

use camino::Utf8PathBuf;
use serde::Deserialize;
use vcregistry::settings::{CacheSettings, Registries};
use vcsandbox::{SandboxTable, Settings};
use vcstore::text;
use vcstore::{config_folder, path_variable};

use crate::Error;

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Caches of records and blobs.
    #[serde(default)]
    pub(crate) caches: CacheSettings,
    /// How registries are reached, by the host in an image's reference.
    #[serde(default)]
    pub(crate) registries: Registries,
    /// Files and folders that a project's file may have read although other users of this machine cannot read them.
    #[serde(default, rename = "allow-paths")]
    pub(crate) allow_paths: Vec<Utf8PathBuf>,
    /// How compilers and build commands are confined, of whatever project.
    #[serde(default)]
    sandbox: SandboxTable,
    /// The file itself, if there is one.
    #[serde(skip)]
    path: Utf8PathBuf,
}

impl Config {
    /// The settings of the user who runs this: of `$VCBUILD_CONFIG`, else of `vcbuild/config.toml` in the configuration
    /// folder (`$XDG_CONFIG_HOME`, else `~/.config`). None are as good as an empty file, unless they were named.
    ///
    /// # Errors
    /// When the file cannot be read or used; the message has the line.
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
        // What the file names lies beside it.
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

    /// What it says of sandboxes.
    ///
    /// # Errors
    /// When a value cannot be used.
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
