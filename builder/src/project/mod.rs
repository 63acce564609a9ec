//! The project: its components, and how each becomes an image. Read from a `vcbuild.toml`, or built in.

mod edit;
mod file;
mod files;
mod found;
mod kind;
mod run;
mod schema;
mod template;

use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Path, Utf8PathBuf};
use vcdebian::Options;
use vcsandbox::Settings;
use vcstore::text;
use vcstore::{Compression, Platform};

pub(crate) use self::edit::{Change, Edit};
use self::file::{ComponentTable, File};
pub(crate) use self::file::{SourceTable, VersionTable};
pub(crate) use self::files::{Added, AddedKind, FileOrigin, Owner};
pub(crate) use self::found::{FoundPrograms, find};
pub(crate) use self::kind::{CargoProgram, CommandBuild, GoProgram, Kind, Prebuilt};
pub(crate) use self::run::Run;
pub(crate) use self::schema::schema;
pub(crate) use self::template::Template;
use crate::{Error, go_names, platform};

/// The name of a project file.
pub(crate) const FILE_NAME: &str = "vcbuild.toml";

/// The maximum length of an archive's name in bytes: the 255 of a file system, less what its temporary name adds.
const NAME_LIMIT: usize = 200;

pub(crate) const BUILT_IN: &str = include_str!("virtualcluster.toml");

/// A project: what to build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Project {
    /// The path of the project file; `None` for the built-in project.
    pub(crate) path: Option<Utf8PathBuf>,
    /// The base, unless the command line sets one.
    pub(crate) base: Option<String>,
    /// The options of bases that are built from Debian packages, unless the command line sets them.
    pub(crate) debian: Options,
    /// The platforms, unless the command line sets them.
    pub(crate) platforms: Vec<Platform>,
    /// The compression of layers, unless the command line sets it.
    pub(crate) compression: Option<Compression>,
    /// The location of the source, unless the command line sets it.
    pub(crate) source: SourceTable,
    /// The edits of the source.
    pub(crate) edits: Vec<Edit>,
    /// The version of Go to compile with; the installed Go if `None`.
    pub(crate) go: Option<String>,
    /// The URLs of caches for this project.
    pub(crate) substituters: Vec<String>,
    /// The confinement of compilers and build commands, unless the command line sets it.
    pub(crate) sandbox: Settings,
    /// The values of stamps, unless the command line sets them.
    pub(crate) version: VersionTable,
    /// The components by name; at least one.
    pub(crate) components: BTreeMap<String, Component>,
    /// The parsed content of the project file.
    pub(crate) table: serde_json::Value,
}

/// A component of the project and its image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Component {
    pub(crate) name: String,
    /// How its files are built.
    pub(crate) kind: Kind,
    /// The absolute path of its program in the image.
    pub(crate) binary: String,
    /// The image reference; a template of `{arch}` and `{version}`.
    pub(crate) image: Template,
    /// The archive's file name; a template of `{arch}` and `{version}`.
    pub(crate) archive: Template,
    /// The run configuration of the image.
    pub(crate) run: Run,
    /// The files that the project adds to the image, by absolute path.
    pub(crate) files: BTreeMap<String, Added>,
}

impl Project {
    /// Reads a project file.
    ///
    /// # Errors
    /// When the file cannot be read or is invalid; the message contains the line.
    pub(crate) fn read(path: &Utf8Path) -> Result<Self, Error> {
        let text = text::read(path).map_err(Error::unreadable("project", path))?;
        let mut project = Self::parse(&text, path)?;
        let beside = path.parent().unwrap_or(Utf8Path::new(""));
        for edit in &mut project.edits {
            if let Change::Patch(patch) = &mut edit.change {
                *patch = beside.join(&patch);
            }
        }
        if let Some(dir) = &mut project.source.dir {
            *dir = beside.join(&dir);
        }
        if let Some(keyring) = &mut project.debian.keyring {
            *keyring = beside.join(&keyring);
        }
        for component in project.components.values_mut() {
            component.kind.look_in(beside);
        }
        project.path = Some(path.to_owned());
        Ok(project)
    }

    /// Returns the built-in project: VirtualCluster.
    ///
    /// # Errors
    /// None: a test parses it.
    pub(crate) fn built_in() -> Result<Self, Error> {
        Self::parse(BUILT_IN, Utf8Path::new("virtualcluster.toml (built in)"))
    }

    /// Returns the folder of the project file; `None` for the built-in project.
    pub(crate) fn dir(&self) -> Option<&Utf8Path> {
        // The parent of a bare file name is the empty path: the current folder.
        self.path.as_deref().and_then(Utf8Path::parent)
    }

    /// Returns whether the project file has a `[debian]` table.
    pub(crate) fn says_debian(&self) -> bool {
        self.table.get("debian").is_some()
    }

    /// Returns the components with these names, in the project's order; all components if `names` is empty.
    ///
    /// # Errors
    /// When a component does not exist; the message lists the existing ones.
    pub(crate) fn select(&self, names: &[String]) -> Result<Vec<&Component>, Error> {
        if let Some(name) = names.iter().find(|name| !self.components.contains_key(*name)) {
            let known = self.components.keys().cloned().collect();
            return Err(Error::NoSuchComponent { name: name.clone(), known });
        }
        let asked = |component: &&Component| names.is_empty() || names.contains(&component.name);
        Ok(self.components.values().filter(asked).collect())
    }

    /// Leaves out the edits with these names.
    ///
    /// # Errors
    /// When no edit has one of the names; the message lists the existing ones.
    pub(crate) fn leave_out_edits(&mut self, names: &[String]) -> Result<(), Error> {
        let known: BTreeSet<String> = self.edits.iter().filter_map(|edit| edit.name.clone()).collect();
        if let Some(name) = names.iter().find(|name| !known.contains(*name)) {
            return Err(Error::NoSuchEdit { name: name.clone(), known: known.into_iter().collect() });
        }
        self.keep_edits(|name| !names.iter().any(|other| other == name));
        Ok(())
    }

    /// Keeps the named edits whose name `keep` accepts, and all edits without a name.
    pub(crate) fn keep_edits(&mut self, keep: impl Fn(&str) -> bool) {
        let kept: Vec<bool> = self.edits.iter().map(|edit| edit.name.as_deref().is_none_or(&keep)).collect();
        let mut each = kept.iter();
        self.edits.retain(|_| each.next().is_none_or(|kept| *kept));
        // The table is what a provenance records.
        if let Some(tables) = self.table.get_mut("edits").and_then(serde_json::Value::as_array_mut) {
            let mut each = kept.iter();
            tables.retain(|_| each.next().is_none_or(|kept| *kept));
        }
    }

    /// Resolves relative paths of this machine against `folder`.
    pub(crate) fn look_in(&mut self, folder: &Utf8Path) {
        self.components.values_mut().for_each(|component| component.kind.look_in(folder));
    }

    /// Returns the paths of this machine that the components refer to, outside the project's folder and the source.
    pub(crate) fn host_paths(&self) -> impl Iterator<Item = &Utf8PathBuf> {
        self.components.values().flat_map(|component| component.kind.host_paths())
    }

    /// Parses the text of a project file at `path`.
    ///
    /// # Errors
    /// When it is invalid; the message contains the line.
    pub(crate) fn parse(text: &str, path: &Utf8Path) -> Result<Self, Error> {
        let syntax = |source| Error::ProjectSyntax { path: path.to_owned(), source: Box::new(source) };
        let file: File = toml::from_str(text).map_err(syntax)?;
        Self::of_file(file, toml::from_str(text).map_err(syntax)?, path)
    }

    /// Creates a project from the parsed table of a project file at `path`.
    ///
    /// # Errors
    /// When it is not a valid project.
    pub(crate) fn of_table(table: serde_json::Value, path: &Utf8Path) -> Result<Self, Error> {
        let refuse = |why: serde_json::Error| Error::ProjectContent { path: path.to_owned(), why: why.to_string() };
        Self::of_file(serde_json::from_value(table.clone()).map_err(refuse)?, table, path)
    }

    fn of_file(file: File, table: serde_json::Value, path: &Utf8Path) -> Result<Self, Error> {
        let refuse = |why: String| Error::ProjectContent { path: path.to_owned(), why };
        if !table.is_object() {
            return Err(refuse("it is not a table".to_owned()));
        }
        if let Some(text) = with_nul(&table) {
            return Err(refuse(format!(
                "{text:?} contains a NUL, which paths, arguments and variables must not contain"
            )));
        }
        if file.components.is_empty() {
            return Err(refuse("it has no [components.NAME]".to_owned()));
        }
        let source = file.source.unwrap_or_default();
        check_source(&source).map_err(refuse)?;
        let edits = file.edits.into_iter().map(Edit::of).collect::<Result<_, _>>().map_err(refuse)?;
        let go = file.go.map(|version| go_names::parse_version(&version)).transpose().map_err(refuse)?;
        file.debian.check().map_err(|why| refuse(format!("[debian]: {why}")))?;
        let sandbox = file.sandbox.settings().map_err(|why| refuse(format!("[sandbox]: {why}")))?;
        let platforms = file.platforms.iter().map(|text| platform::parse(text)).collect::<Result<_, _>>();
        let components = file
            .components
            .into_iter()
            .map(|(name, table)| {
                let component = Component::new(&name, table, &file.defaults);
                component
                    .map(|component| (name.clone(), component))
                    .map_err(|why| format!("component {}: {why}", name.escape_debug()))
            })
            .collect::<Result<_, _>>();
        Ok(Self {
            path: None,
            base: file.base,
            debian: file.debian,
            platforms: platforms.map_err(refuse)?,
            compression: file.compression,
            source,
            edits,
            go,
            substituters: file.caches.substituters,
            sandbox,
            version: file.version,
            components: components.map_err(refuse)?,
            table,
        })
    }
}

impl Component {
    fn new(name: &str, table: ComponentTable, defaults: &ComponentTable) -> Result<Self, String> {
        let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || name.starts_with(['.', '-']) || !name.chars().all(word) {
            return Err("its name may contain only letters, digits, '-', '_' and '.'".to_owned());
        }
        let (kind, table) = Kind::new(name, table, defaults)?;
        let binary = named(name, table.binary.as_deref().unwrap_or("/usr/local/bin/{component}"))?;
        if !is_absolute(&binary) {
            return Err(format!("its binary {binary:?} is not an absolute path of a file"));
        }
        let binary = kind.program(binary, &table)?;
        let run = Run::new(&table, &binary)?;
        let files = files::files(name, &table.files)?;
        let outer = |text: &str| Template::parse(&text.replace("{component}", name), &["arch", "version"]);
        let image = outer(&table.image.ok_or("it has no image, such as \"registry.example/name:tag\"")?)?;
        vcstore::reference::full(&image.fill(&[("arch", "amd64"), ("version", "v0")]))?;
        let archive = outer(&table.archive.unwrap_or_else(|| format!("{name}-{{arch}}.tar")))?;
        let called = archive.fill(&[("arch", "amd64"), ("version", "v0")]);
        if !is_file_name(&called) {
            return Err(format!(
                "its archive {called:?} is not a file name without folders, of at most {NAME_LIMIT} bytes"
            ));
        }
        Ok(Self { name: name.to_owned(), kind, binary, image, archive, run, files })
    }
}

/// Finds a name or value of the table that contains a NUL.
fn with_nul(value: &serde_json::Value) -> Option<&str> {
    match value {
        serde_json::Value::String(text) => text.contains('\0').then_some(text),
        serde_json::Value::Array(values) => values.iter().find_map(with_nul),
        serde_json::Value::Object(fields) => fields
            .iter()
            .find_map(|(name, value)| name.contains('\0').then_some(name.as_str()).or_else(|| with_nul(value))),
        _ => None,
    }
}

/// Returns whether a text is an absolute, normalized path that is not a whiteout, which would delete a file of the
/// base.
fn is_absolute(path: &str) -> bool {
    let path = path.strip_prefix('/');
    path.is_some_and(|path| is_relative(path) && !path.split('/').any(|part| part.starts_with(".wh.")))
}

/// Returns whether a text is a relative, normalized path.
fn is_relative(path: &str) -> bool {
    path.split('/').all(|part| !matches!(part, "" | "." | "..")) && !path.contains(char::is_control)
}

/// Returns whether a text is a valid archive name without folders.
pub(crate) fn is_file_name(name: &str) -> bool {
    is_relative(name) && !name.contains('/') && name.len() <= NAME_LIMIT
}

/// Replaces `{component}` in a text by the component's name.
fn named(name: &str, text: &str) -> Result<String, String> {
    Template::parse(text, &["component"]).map(|template| template.fill(&[("component", name)]))
}

fn check_source(source: &SourceTable) -> Result<(), String> {
    let SourceTable { dir, repo, version, module, .. } = source;
    let places = [("a dir", dir.is_some()), ("a repo", repo.is_some()), ("a module", module.is_some())];
    let named: Vec<_> = places.iter().filter_map(|(name, there)| there.then_some(*name)).collect();
    if named.len() > 1 {
        return Err(format!("[source] has {}: use one of them", named.join(" and ")));
    }
    if version.is_some() && repo.is_none() {
        return Err("[source] has a version without a repo".to_owned());
    }
    match module {
        Some(module) if !module.contains('@') => {
            Err(format!("[source] has module {module:?} without its version, for example {module}@v1.2.3"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use camino::Utf8Path;

    use super::{Kind, Project};
    use crate::Error;

    fn parse(text: &str) -> Result<Project, Error> {
        Project::parse(text, Utf8Path::new("vcbuild.toml"))
    }

    fn refused(text: &str) -> String {
        let error = parse(text).unwrap_err();
        assert_eq!(error.exit(), vcterminal::Exit::Usage);
        std::error::Error::source(&error).map_or_else(|| error.to_string(), |why| format!("{error}: {why}"))
    }

    #[test]
    fn the_built_in_project_is_virtualcluster() {
        let project = Project::built_in().unwrap();
        assert_eq!(project.components.keys().collect::<Vec<_>>(), ["manager", "syncer", "vn-agent"]);
        let agent = &project.components["vn-agent"];
        let Kind::Go(program) = &agent.kind else { panic!("{agent:?}") };
        assert_eq!((program.package.as_str(), agent.binary.as_str()), ("./cmd/vn-agent", "/usr/local/bin/vn-agent"));
        let arm = [("arch", "arm64")];
        assert_eq!(agent.image.fill(&arm), "docker.io/virtualcluster/vn-agent-arm64:latest");
        assert_eq!(agent.archive.fill(&arm), "vc_vn-agent-arm64.tar");
        assert_eq!(agent.run.entrypoint, ["/usr/local/bin/vn-agent"]);
        let stamps: Vec<_> = program.stamps.keys().map(|name| name.fill(&[("module", "m")])).collect();
        assert_eq!(stamps, ["m/pkg/version.buildDate", "m/pkg/version.gitCommit", "m/pkg/version.gitVersion"]);
    }

    #[test]
    fn a_component_says_what_differs_from_the_defaults() {
        let project = parse(
            r#"
            base = "scratch"
            platforms = ["linux/arm64"]
            compression = "gzip"
            [defaults]
            image = "registry.example/{component}:{version}"
            ldflags = ["-s"]
            env = { A = "1", B = "1" }
            [components.web]
            package = "./web"
            env = { B = "2" }
            entrypoint = []
            cmd = ["web", "--serve"]
            user = "65532"
            "#,
        )
        .unwrap();
        let web = &project.components["web"];
        assert_eq!(web.image.fill(&[("version", "v1")]), "registry.example/web:v1");
        assert_eq!(web.archive.fill(&[("arch", "arm64")]), "web-arm64.tar");
        assert_eq!((web.run.env["A"].as_str(), web.run.env["B"].as_str()), ("1", "2"));
        assert_eq!((web.run.entrypoint.len(), web.run.cmd.len()), (0, 2));
        assert_eq!(project.platforms[0].to_string(), "linux/arm64");
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_its_place() {
        let image = "[components.web]\nimage = \"x/web\"\n";
        let unknown = refused(&format!("{image}binray = \"/web\"\n"));
        assert!(unknown.contains("line 3") && unknown.contains("binray"), "{unknown}");
        let cases = [
            ("", "it has no [components.NAME]"),
            ("[components.web]", "component web: it has no image"),
            ("[components.\"a b\"]\nimage = \"x\"", "component a b: its name may contain only letters"),
            ("[components.web]\nimage = \"X Y\"", "\"X Y\" is not a valid image reference"),
            (
                &format!("{image}package = \"github.com/x\""),
                "its package \"github.com/x\" is not a folder of the source",
            ),
            (&format!("{image}binary = \"bin/web\""), "its binary \"bin/web\" is not an absolute path"),
            (&format!("{image}archive = \"a/{{arch}}\""), "its archive \"a/amd64\" is not a file name without folders"),
            (&format!("{image}archive = \"\""), "its archive \"\" is not a file name"),
            (&format!("{image}archive = \"..\""), "its archive \"..\" is not a file name"),
            (&format!("{image}archive = \"{}\"", "a".repeat(201)), "of at most 200 bytes"),
            (&format!("{image}binary = \"/a\\nb\""), "its binary \"/a\\nb\" is not an absolute path"),
            (&format!("{image}binary = \"/etc/.wh.passwd\""), "is not an absolute path of a file"),
            (&format!("{image}env = {{ A = \"b\\u0000\" }}"), "\"b\\0\" contains a NUL"),
            (&format!("{image}entrypoint = [\"\"]"), "its entrypoint starts with an empty string"),
            ("[components.\"a\\nb\"]\nimage = \"x\"", "component a\\nb: its name may contain only letters"),
            (
                &format!("{image}stamps = {{ \"main.v\" = \"{{time}}\" }}"),
                "the allowed names are {version}, {commit}, {date}",
            ),
            (&format!("{image}[debian]\npackages = [\"a b\"]"), "[debian]: \"a b\" is not a package name"),
            (&format!("{image}user = \"a b\""), "\"a b\" is not a user such as"),
            (&format!("{image}workdir = \"srv\""), "\"srv\" is not an absolute path of a working directory"),
            (&format!("{image}volumes = [\"data\"]"), "its volume \"data\" is not an absolute path"),
            (&format!("{image}ports = [\"http\"]"), "\"http\" is not a port such as"),
            (&format!("{image}stop_signal = \"INT\""), "\"INT\" is not a signal such as"),
            (&format!("{image}labels = {{ \"\" = \"x\" }}"), "a label or an annotation has no name"),
            (
                &format!("{image}files.\"a\" = {{ from = \"x\" }}"),
                "component web: its file \"a\": the path is not absolute and normalized",
            ),
            (&format!("platforms = [\"linux/mips\"]\n{image}"), "\"linux/mips\" is not one of the platforms"),
            (&format!("{image}[source]\nversion = \"v1\""), "[source] has a version without a repo"),
            (
                &format!("{image}[source]\ndir = \"a\"\nmodule = \"b@v1\""),
                "[source] has a dir and a module: use one of them",
            ),
            (&format!("{image}[source]\nmodule = \"m\""), "[source] has module \"m\" without its version"),
            (
                &format!("{image}[[edits]]\nfile = \"a\"\nfind = \"b\""),
                "an entry of [[edits]] needs either patch, or file",
            ),
            (
                &format!("{image}[[edits]]\nname = \"a b\"\nfile = \"a\"\ncontent = \"b\""),
                "the name \"a b\" of an edit may contain only letters",
            ),
            (
                &format!("{image}[[edits]]\nname = \"a\"\npatch = \"b\""),
                "an entry of [[edits]] with a name cannot be a patch",
            ),
            (&format!("go = \"1.26\"\n{image}"), "\"1.26\" is not a Go version such as 1.26.3 or 1.26.x"),
        ];
        for (text, why) in cases {
            let said = refused(text);
            assert!(said.contains(why), "{text:?} gave {said:?}, not {why:?}");
        }
    }

    #[test]
    fn only_components_there_are_can_be_selected() {
        let project = Project::built_in().unwrap();
        let names = |selected: Vec<&super::Component>| selected.iter().map(|c| c.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(project.select(&[]).unwrap()).len(), 3);
        let asked = ["vn-agent".to_owned(), "manager".to_owned()];
        assert_eq!(names(project.select(&asked).unwrap()), ["manager", "vn-agent"]);
        let error = project.select(&["agent".to_owned()]).unwrap_err();
        assert_eq!(error.to_string(), "selecting component agent: the project has manager, syncer, vn-agent");
    }
}
