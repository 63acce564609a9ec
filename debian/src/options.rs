//! The options of a base that is created from Debian packages: `[debian]` in a project file.

use camino::Utf8PathBuf;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The options, and their defaults: debian:bookworm-slim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// The suite: `bookworm` or `trixie`; for `static` any.
    pub suite: String,
    /// The components packages may come from: `main`.
    pub components: Vec<String>,
    /// Packages beyond the base.
    pub packages: Vec<String>,
    /// Whether security updates are taken.
    pub security: bool,
    /// Whether the updates between point releases are taken.
    pub updates: bool,
    /// The mirror's address. Without one, `VCBUILD_DEBIAN_MIRROR`; without that, the machine's apt sources.
    #[serde(skip_serializing)]
    pub mirror: Option<String>,
    /// The file with the keys that releases must be signed with; beside the project's file when relative. Without one, what
    /// the apt source says; without that, Debian's own keys.
    #[schemars(with = "Option<String>")]
    #[serde(skip_serializing)]
    pub keyring: Option<Utf8PathBuf>,
    /// How packages are spread over layers.
    pub layers: Layering,
}

/// How packages are spread over layers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Layering {
    /// All in one.
    #[default]
    One,
    /// The base in one, and above it one for each further package that was asked for, with what it needs: adding a package
    /// changes no other layer.
    PerPackageSet,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            suite: "bookworm".to_owned(),
            components: vec!["main".to_owned()],
            packages: Vec::new(),
            security: true,
            updates: true,
            mirror: None,
            keyring: None,
            layers: Layering::One,
        }
    }
}

impl Options {
    /// Checks names, which become parts of URLs and paths.
    ///
    /// # Errors
    /// Returns a message about the value that is invalid.
    pub fn check(&self) -> Result<(), String> {
        let word = |text: &&String| {
            text.starts_with(|first: char| first.is_ascii_alphanumeric())
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-._".contains(&byte))
        };
        if !word(&&self.suite) {
            return Err(format!("{:?} is not a Debian suite such as \"bookworm\"", self.suite));
        }
        if self.components.is_empty() {
            return Err("at least one component is required, such as \"main\"".to_owned());
        }
        if let Some(bad) = self.components.iter().find(|one| !word(one)) {
            return Err(format!("{bad:?} is not a Debian component such as \"main\""));
        }
        match self.packages.iter().find(|one| !word(one)) {
            Some(bad) => Err(format!("{bad:?} is not a package name such as \"ca-certificates\"")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Layering, Options};

    #[test]
    fn options_are_read_and_checked() {
        let options: Options =
            toml::from_str("packages = [\"ca-certificates\"]\nlayers = \"per-package-set\"").unwrap();
        assert_eq!(
            (options.suite.as_str(), options.layers, options.security),
            ("bookworm", Layering::PerPackageSet, true)
        );
        options.check().unwrap();
        for (text, why) in [
            ("suite = \"../x\"", "\"../x\" is not a Debian suite"),
            ("components = []", "at least one component"),
            ("components = [\"a/b\"]", "\"a/b\" is not a Debian component"),
            ("packages = [\"a b\"]", "\"a b\" is not a package name"),
        ] {
            let said = toml::from_str::<Options>(text).unwrap().check().unwrap_err();
            assert!(said.contains(why), "{said}");
        }
        assert!(toml::from_str::<Options>("suit = \"x\"").is_err());
        assert!(toml::from_str::<Options>("layers = \"many\"").is_err());
    }
}
