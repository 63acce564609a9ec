//! `vcbuild.toml` as it is written. Reading it checks names and types; [`super::Project`] checks what they say.

use std::collections::BTreeMap;

use camino::Utf8PathBuf;
use serde::Deserialize;
use vcstore::Compression;

use super::files::FileTable;

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    /// The base to build on where the command line names none.
    pub(super) base: Option<String>,
    /// The platforms to build for where the command line names none.
    #[serde(default)]
    pub(super) platforms: Vec<String>,
    /// How layers are compressed where the command line does not say.
    pub(super) compression: Option<Compression>,
    /// Where the code is, where the command line does not say.
    pub(super) source: Option<SourceTable>,
    /// What the binaries are stamped with.
    #[serde(default)]
    pub(super) version: VersionTable,
    /// What holds for every component that does not say otherwise.
    #[serde(default)]
    pub(super) defaults: ComponentTable,
    /// The components by name.
    #[serde(default)]
    pub(super) components: BTreeMap<String, ComponentTable>,
}

/// `[source]`: a folder, or a git repository and a version of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SourceTable {
    /// A folder; beside the project file when relative.
    pub(crate) dir: Option<Utf8PathBuf>,
    /// The address of a git repository.
    pub(crate) repo: Option<String>,
    /// A branch, tag or commit of `repo`.
    pub(crate) version: Option<String>,
    /// The folder with the code's `go.mod`, below the top of the source.
    pub(crate) subdir: Option<Utf8PathBuf>,
}

impl SourceTable {
    /// Whether it names no place at all.
    pub(crate) fn is_nowhere(&self) -> bool {
        self.dir.is_none() && self.repo.is_none()
    }
}

/// `[version]`: the values that stamps use. Fixed unless somebody says otherwise, so that a binary depends on its code
/// alone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct VersionTable {
    /// `{version}`
    pub(crate) version: Option<String>,
    /// `{commit}`
    pub(crate) commit: Option<String>,
    /// `{date}`
    pub(crate) date: Option<String>,
}

impl VersionTable {
    /// The values by the names that stand for them in templates.
    pub(crate) fn values(&self) -> [(&'static str, &str); 3] {
        let named = [("version", &self.version), ("commit", &self.commit), ("date", &self.date)];
        named.map(|(name, value)| (name, value.as_deref().unwrap_or_default()))
    }
}

/// `[defaults]` or `[components.NAME]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ComponentTable {
    pub(super) package: Option<String>,
    pub(super) binary: Option<String>,
    pub(super) image: Option<String>,
    pub(super) archive: Option<String>,
    pub(super) ldflags: Option<Vec<String>>,
    pub(super) tags: Option<Vec<String>>,
    #[serde(default)]
    pub(super) stamps: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) env: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) labels: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) entrypoint: Option<Vec<String>>,
    pub(super) cmd: Option<Vec<String>>,
    pub(super) ports: Option<Vec<String>>,
    pub(super) volumes: Option<Vec<String>>,
    pub(super) workdir: Option<String>,
    pub(super) user: Option<String>,
    pub(super) stop_signal: Option<String>,
    #[serde(default)]
    pub(super) files: BTreeMap<String, FileTable>,
}

impl ComponentTable {
    /// This table, with what it does not say taken from `defaults`; maps are merged name by name.
    pub(super) fn over(self, defaults: &Self) -> Self {
        fn merge<T: Clone>(ours: BTreeMap<String, T>, theirs: &BTreeMap<String, T>) -> BTreeMap<String, T> {
            theirs.clone().into_iter().chain(ours).collect()
        }
        Self {
            package: self.package.or_else(|| defaults.package.clone()),
            binary: self.binary.or_else(|| defaults.binary.clone()),
            image: self.image.or_else(|| defaults.image.clone()),
            archive: self.archive.or_else(|| defaults.archive.clone()),
            ldflags: self.ldflags.or_else(|| defaults.ldflags.clone()),
            tags: self.tags.or_else(|| defaults.tags.clone()),
            stamps: merge(self.stamps, &defaults.stamps),
            env: merge(self.env, &defaults.env),
            labels: merge(self.labels, &defaults.labels),
            annotations: merge(self.annotations, &defaults.annotations),
            entrypoint: self.entrypoint.or_else(|| defaults.entrypoint.clone()),
            cmd: self.cmd.or_else(|| defaults.cmd.clone()),
            ports: self.ports.or_else(|| defaults.ports.clone()),
            volumes: self.volumes.or_else(|| defaults.volumes.clone()),
            workdir: self.workdir.or_else(|| defaults.workdir.clone()),
            user: self.user.or_else(|| defaults.user.clone()),
            stop_signal: self.stop_signal.or_else(|| defaults.stop_signal.clone()),
            files: merge(self.files, &defaults.files),
        }
    }
}
