//! The tables of `vcbuild.toml`. Parsing checks names and types; [`super::Project`] validates the values.

use std::collections::BTreeMap;

use camino::Utf8PathBuf;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use vcdebian::Options;
use vcsandbox::SandboxTable;
use vcstore::Compression;

use super::files::FileTable;

/// The whole file: what `vcbuild images` builds.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    /// The base to build on where the command line names none.
    pub(super) base: Option<String>,
    /// What bases of Debian's packages are made of.
    #[serde(default)]
    pub(super) debian: Options,
    /// The platforms to build for where the command line names none.
    #[serde(default)]
    pub(super) platforms: Vec<String>,
    /// How layers are compressed where the command line does not say.
    #[schemars(with = "Option<super::schema::Compression>")]
    pub(super) compression: Option<Compression>,
    /// Where the code is, where the command line does not say.
    pub(super) source: Option<SourceTable>,
    /// What is changed in the source before it is built.
    #[serde(default)]
    pub(super) edits: Vec<EditTable>,
    /// The version of Go to compile with, `1.26.3` or `1.26.x`; the installed one where nothing is said.
    pub(super) go: Option<String>,
    /// Caches of what this project is built of.
    #[serde(default)]
    pub(super) caches: CachesTable,
    /// How compilers and build commands are confined.
    #[serde(default)]
    pub(super) sandbox: SandboxTable,
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

/// `[source]`: a folder, a git repository and a version of it, or a Go module.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SourceTable {
    /// A folder; beside the project file when relative.
    #[schemars(with = "Option<String>")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) dir: Option<Utf8PathBuf>,
    /// The address of a git repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) repo: Option<String>,
    /// A branch, tag or commit of `repo`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) version: Option<String>,
    /// A Go module and its version, as `example.org/module@v1.2.3`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) module: Option<String>,
    /// The folder with the code's `go.mod`, below the top of the source.
    #[schemars(with = "Option<String>")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) subdir: Option<Utf8PathBuf>,
}

impl SourceTable {
    /// Returns the folder or repository of this machine that the source refers to.
    pub(crate) fn host_path(&self) -> Option<Utf8PathBuf> {
        let repository = self.repo.as_deref().filter(|repository| {
            let far = ["http://", "https://", "ssh://", "git://", "ftp://", "ftps://"];
            let scp = repository.split_once(':').is_some_and(|(host, _)| !host.is_empty() && !host.contains('/'));
            !far.iter().any(|scheme| repository.starts_with(scheme)) && (!scp || repository.starts_with("file:"))
        });
        let local = |repository: &str| repository.strip_prefix("file://").unwrap_or(repository).into();
        self.dir.clone().or_else(|| repository.map(local))
    }

    /// Returns whether no location is set.
    pub(crate) fn is_nowhere(&self) -> bool {
        self.dir.is_none() && self.repo.is_none() && self.module.is_none()
    }
}

/// `[[edits]]`: a patch, a text in a file and what takes its place, or a new file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EditTable {
    /// A name for `--without-edit`. Edits of one name apply together, below the folder with the code, and are skipped if
    /// the source has none of their files.
    pub(super) name: Option<String>,
    /// A file with a unified diff; beside the project file when relative.
    #[schemars(with = "Option<String>")]
    pub(super) patch: Option<Utf8PathBuf>,
    /// A file of the source.
    #[schemars(with = "Option<String>")]
    pub(super) file: Option<Utf8PathBuf>,
    /// The text in `file` that is replaced: it stands there exactly once.
    pub(super) find: Option<String>,
    /// The text in its place.
    pub(super) replace: Option<String>,
    /// The content of `file`, which the source lacks.
    pub(super) content: Option<String>,
}

/// `[caches]`: where others may have built this project. Whose word is taken for it is not the project's to say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CachesTable {
    /// Addresses of caches, which are asked if the user trusts a key.
    #[serde(default)]
    pub(super) substituters: Vec<String>,
}

/// `[version]`: the values that stamps use. Fixed unless somebody says otherwise, so that a binary depends on its code
/// alone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct VersionTable {
    /// `{version}`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) version: Option<String>,
    /// `{commit}`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) commit: Option<String>,
    /// `{date}`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) date: Option<String>,
}

impl VersionTable {
    /// Returns the values, by their names in templates.
    pub(crate) fn values(&self) -> [(&'static str, &str); 3] {
        let named = [("version", &self.version), ("commit", &self.commit), ("date", &self.date)];
        named.map(|(name, value)| (name, value.as_deref().unwrap_or_default()))
    }
}

/// `[defaults]` or `[components.NAME]`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ComponentTable {
    /// The folder of the Go program, with `{component}` [without it `./cmd/{component}`].
    pub(super) package: Option<String>,
    /// Where the binary is in the image, with `{component}` [without it `/usr/local/bin/{component}`].
    pub(super) binary: Option<String>,
    /// The image's reference, with `{component}`, `{arch}` and `{version}`. Must be there.
    pub(super) image: Option<String>,
    /// The archive's file name, with `{component}`, `{arch}` and `{version}` [without it `{component}-{arch}.tar`].
    pub(super) archive: Option<String>,
    /// Flags for Go's linker, one a word.
    pub(super) ldflags: Option<Vec<String>>,
    /// Go build tags.
    pub(super) tags: Option<Vec<String>>,
    /// Go variables (with `{module}`) that the linker sets, and their values (with `{version}`, `{commit}`, `{date}`).
    #[serde(default)]
    pub(super) stamps: BTreeMap<String, String>,
    /// Environment variables, over those of the base.
    #[serde(default)]
    pub(super) env: BTreeMap<String, String>,
    /// Labels, over those of the base.
    #[serde(default)]
    pub(super) labels: BTreeMap<String, String>,
    /// Annotations of the manifest.
    #[serde(default)]
    pub(super) annotations: BTreeMap<String, String>,
    /// The program and its first arguments [without it the binary]; an empty list keeps the base's.
    pub(super) entrypoint: Option<Vec<String>>,
    /// The arguments after the entrypoint; an entrypoint takes the base's away.
    pub(super) cmd: Option<Vec<String>>,
    /// Ports that are listened on, as `8080/tcp`.
    pub(super) ports: Option<Vec<String>>,
    /// Folders that hold data.
    pub(super) volumes: Option<Vec<String>>,
    /// The folder that the program starts in [without it the base's].
    pub(super) workdir: Option<String>,
    /// Who the program runs as, as `65532` or `65532:65532` [without it the base's].
    pub(super) user: Option<String>,
    /// The signal that stops the program, as `SIGTERM`.
    pub(super) stop_signal: Option<String>,
    /// Files, folders and links that are put into the image, by their paths in it.
    #[serde(default)]
    pub(super) files: BTreeMap<String, FileTable>,
    /// The Cargo binary, or `PACKAGE/BINARY`, with `{component}`.
    pub(super) bin: Option<String>,
    /// Features of its package.
    pub(super) features: Option<Vec<String>>,
    /// Whether its package's default features are on [without it: they are].
    pub(super) default_features: Option<bool>,
    /// The Cargo profile [without it `release`].
    pub(super) profile: Option<String>,
    /// Further flags for rustc, one a word.
    pub(super) rustflags: Option<Vec<String>>,
    /// Whether a Cargo binary is linked with the C library, so that it runs on any base [without it: it is].
    pub(super) link_static: Option<bool>,
    /// The command that makes the files, a word an item, with `{component}`, `{arch}`, `{version}`, `{commit}` and `{date}`.
    pub(super) command: Option<Vec<String>>,
    /// Variables of the environment that the command or Cargo runs in, with `{component}`, `{arch}`, `{version}`, `{commit}`
    /// and `{date}`.
    #[serde(default)]
    pub(super) build_env: BTreeMap<String, String>,
    /// Files or folders that the command makes in the source's folder (with `{component}` and `{arch}`), by their paths in
    /// the image.
    #[serde(default)]
    pub(super) outputs: BTreeMap<String, String>,
    /// Files and folders of this machine that the command or Cargo may read, by where it finds them.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, String>")]
    pub(super) inputs: BTreeMap<String, Utf8PathBuf>,
    /// Whether the command may read the machine's programs and libraries [without it: it may].
    pub(super) system: Option<bool>,
    /// Files in the source's folder that are taken as they are (with `{component}` and `{arch}`), by their paths in the
    /// image.
    #[serde(default)]
    pub(super) prebuilt: BTreeMap<String, String>,
    /// What prebuilt files must be: their SHA-256 in hexadecimal digits, by their paths in the source's folder.
    #[serde(default)]
    pub(super) sha256: BTreeMap<String, String>,
}

impl ComponentTable {
    /// Returns this table with unset values from `defaults`; maps are merged by name.
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
            bin: self.bin.or_else(|| defaults.bin.clone()),
            features: self.features.or_else(|| defaults.features.clone()),
            default_features: self.default_features.or(defaults.default_features),
            profile: self.profile.or_else(|| defaults.profile.clone()),
            rustflags: self.rustflags.or_else(|| defaults.rustflags.clone()),
            link_static: self.link_static.or(defaults.link_static),
            command: self.command.or_else(|| defaults.command.clone()),
            build_env: merge(self.build_env, &defaults.build_env),
            outputs: merge(self.outputs, &defaults.outputs),
            inputs: defaults.inputs.clone().into_iter().chain(self.inputs).collect(),
            system: self.system.or(defaults.system),
            prebuilt: merge(self.prebuilt, &defaults.prebuilt),
            sha256: merge(self.sha256, &defaults.sha256),
        }
    }
}
