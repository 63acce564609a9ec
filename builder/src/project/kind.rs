//! The kinds of components: how vcbuild obtains the files of a component.

use std::collections::BTreeMap;
use std::fmt;

use camino::{Utf8Path, Utf8PathBuf};
use vcstore::Digest;

use super::file::ComponentTable;
use super::template::Template;
use super::{is_absolute, is_relative, named};
use crate::platform;

/// The kind of a component: how its files are built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Programs that Go compiles.
    Go(GoProgram),
    /// Programs that Cargo compiles.
    Cargo(CargoProgram),
    /// Files that a command builds.
    Command(CommandBuild),
    /// Files of the source that are used unchanged.
    Prebuilt(Prebuilt),
}

/// A program of the source's Go module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GoProgram {
    /// The package of the program, such as `./cmd/manager`.
    pub(crate) package: String,
    /// Options of Go's linker.
    pub(crate) ldflags: Vec<String>,
    /// The Go variables that the linker sets (templates of `{module}`), and their values (templates of `{version}`,
    /// `{commit}` and `{date}`).
    pub(crate) stamps: BTreeMap<Template, Template>,
    /// Go build tags.
    pub(crate) tags: Vec<String>,
}

/// A program of the source's Cargo workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CargoProgram {
    /// The package of the binary, if it is set.
    pub(crate) package: Option<String>,
    pub(crate) bin: String,
    pub(crate) features: Vec<String>,
    pub(crate) default_features: bool,
    pub(crate) profile: String,
    /// Additional flags for rustc.
    pub(crate) rustflags: Vec<String>,
    /// Whether the C library is linked statically.
    pub(crate) link_static: bool,
    /// The environment of Cargo; templates of `{arch}`, `{version}`, `{commit}` and `{date}`.
    pub(crate) env: BTreeMap<String, Template>,
    /// Files and folders of this machine that Cargo may read, by their paths in the sandbox.
    pub(crate) inputs: BTreeMap<String, Utf8PathBuf>,
}

/// A command that runs in the source's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CommandBuild {
    /// The program and its arguments; templates of `{arch}`, `{version}`, `{commit}` and `{date}`.
    pub(crate) command: Vec<Template>,
    /// The environment; templates of the same names.
    pub(crate) env: BTreeMap<String, Template>,
    /// The files or folders that the command produces (templates of `{arch}`), by their paths in the image.
    pub(crate) outputs: BTreeMap<String, Template>,
    /// Files and folders of this machine that the command may read, by their paths in the sandbox.
    pub(crate) inputs: BTreeMap<String, Utf8PathBuf>,
    /// Whether the command may read the machine's programs and libraries.
    pub(crate) system: bool,
}

/// Files of the source that are used unchanged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Prebuilt {
    /// Paths in the source (templates of `{arch}`), by paths in the image.
    pub(crate) files: BTreeMap<String, Template>,
    /// The required digests of some of the files, by their paths in the source.
    pub(crate) sha256: BTreeMap<Utf8PathBuf, Digest>,
}

/// The name of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    Go,
    Cargo,
    Command,
    Prebuilt,
}

impl Kind {
    /// Parses the kind of component `name` from its table. Also returns the table with unset values from `defaults`.
    /// The defaults may have settings of several kinds; a component uses those of its own kind.
    pub(super) fn new(
        name: &str,
        table: ComponentTable,
        defaults: &ComponentTable,
    ) -> Result<(Self, ComponentTable), String> {
        let kind = match (decides(&table)?, decides(defaults)?) {
            (Some(kind), _) | (None, Some(kind)) => kind,
            (None, None) => Name::Go,
        };
        if let Some((field, of)) = said(&table).into_iter().find(|(_, of)| !of.contains(&kind)) {
            let of = of.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ");
            return Err(format!("its `{field}` applies to {of}, but its kind is {kind}"));
        }
        let table = table.over(defaults);
        let kind = match kind {
            Name::Go => Self::Go(GoProgram::new(name, &table)?),
            Name::Cargo => Self::Cargo(CargoProgram::new(name, &table)?),
            Name::Command => Self::Command(CommandBuild::new(name, &table)?),
            Name::Prebuilt => Self::Prebuilt(Prebuilt::new(name, &table)?),
        };
        Ok((kind, table))
    }

    /// Returns the paths of this machine that the kind refers to.
    pub(crate) fn host_paths(&self) -> impl Iterator<Item = &Utf8PathBuf> {
        match self {
            Self::Cargo(program) => Some(&program.inputs),
            Self::Command(build) => Some(&build.inputs),
            Self::Go(_) | Self::Prebuilt(_) => None,
        }
        .into_iter()
        .flat_map(BTreeMap::values)
    }

    /// Resolves relative paths of this machine against `folder`.
    pub(super) fn look_in(&mut self, folder: &Utf8Path) {
        let inputs = match self {
            Self::Cargo(program) => &mut program.inputs,
            Self::Command(build) => &mut build.inputs,
            Self::Go(_) | Self::Prebuilt(_) => return,
        };
        inputs.values_mut().for_each(|host| *host = folder.join(&host));
    }

    /// Returns the path of the component's program in the image: `binary` if it is compiled to that path or is one of
    /// the component's files, or else its only file.
    pub(super) fn program(&self, binary: String, table: &ComponentTable) -> Result<String, String> {
        let files: Vec<&String> = match self {
            Self::Go(_) | Self::Cargo(_) => return Ok(binary),
            Self::Command(build) => build.outputs.keys().collect(),
            Self::Prebuilt(prebuilt) => prebuilt.files.keys().collect(),
        };
        // An output may be a folder that contains the program.
        let in_folder = |path: &str| {
            let below = binary.strip_prefix(path).is_some_and(|below| below.starts_with('/'));
            below && matches!(self, Self::Command(_))
        };
        match files.as_slice() {
            files if files.iter().any(|path| **path == binary || in_folder(path)) => Ok(binary),
            _ if table.binary.is_some() => Err(format!("its binary {binary} is not one of its files")),
            [only] => Ok((*only).clone()),
            // The entrypoint determines which program runs.
            [first, ..] if table.entrypoint.is_some() => Ok((*first).clone()),
            _ => Err(format!("it has several files, and none is {binary}: name its program with `binary`")),
        }
    }
}

/// Returns the kind that a table selects, if it does.
fn decides(table: &ComponentTable) -> Result<Option<Name>, String> {
    let deciding = ["package", "bin", "command", "prebuilt"];
    let said: Vec<_> = said(table).into_iter().filter(|(field, _)| deciding.contains(field)).collect();
    match said.as_slice() {
        [] => Ok(None),
        [(_, kinds)] => Ok(kinds.first().copied()),
        [(one, _), (other, _), ..] => {
            Err(format!("`{one}` and `{other}` are different ways to build its files: use one of them"))
        }
    }
}

/// Returns the fields of a table that only some kinds support, with these kinds.
fn said(table: &ComponentTable) -> Vec<(&'static str, &'static [Name])> {
    let fields: [(_, &[Name], _); 17] = [
        ("package", &[Name::Go], table.package.is_some()),
        ("ldflags", &[Name::Go], table.ldflags.is_some()),
        ("stamps", &[Name::Go], !table.stamps.is_empty()),
        ("tags", &[Name::Go], table.tags.is_some()),
        ("bin", &[Name::Cargo], table.bin.is_some()),
        ("features", &[Name::Cargo], table.features.is_some()),
        ("default_features", &[Name::Cargo], table.default_features.is_some()),
        ("profile", &[Name::Cargo], table.profile.is_some()),
        ("rustflags", &[Name::Cargo], table.rustflags.is_some()),
        ("link_static", &[Name::Cargo], table.link_static.is_some()),
        ("command", &[Name::Command], table.command.is_some()),
        ("outputs", &[Name::Command], !table.outputs.is_empty()),
        ("system", &[Name::Command], table.system.is_some()),
        ("build_env", &[Name::Cargo, Name::Command], !table.build_env.is_empty()),
        ("inputs", &[Name::Cargo, Name::Command], !table.inputs.is_empty()),
        ("prebuilt", &[Name::Prebuilt], !table.prebuilt.is_empty()),
        ("sha256", &[Name::Prebuilt], !table.sha256.is_empty()),
    ];
    fields.into_iter().filter(|(_, _, said)| *said).map(|(field, kinds, _)| (field, kinds)).collect()
}

impl GoProgram {
    fn new(name: &str, table: &ComponentTable) -> Result<Self, String> {
        let package = named(name, table.package.as_deref().unwrap_or("./cmd/{component}"))?;
        if !(package == "." || package.starts_with("./")) || package.contains("...") {
            return Err(format!("its package {package:?} is not a folder of the source such as ./cmd/{name}"));
        }
        let stamp = |(variable, value): (&String, &String)| {
            let value = Template::parse(value, &["version", "commit", "date"])?;
            Ok((Template::parse(variable, &["module"])?, value))
        };
        Ok(Self {
            package,
            ldflags: table.ldflags.clone().unwrap_or_default(),
            stamps: table.stamps.iter().map(stamp).collect::<Result<_, String>>()?,
            tags: table.tags.clone().unwrap_or_default(),
        })
    }
}

impl CargoProgram {
    fn new(name: &str, table: &ComponentTable) -> Result<Self, String> {
        let bin = named(name, table.bin.as_deref().unwrap_or("{component}"))?;
        let (package, bin) = match bin.split_once('/') {
            Some((package, bin)) => (Some(package.to_owned()), bin.to_owned()),
            None => (None, bin),
        };
        // The characters of a Cargo name: other arguments could be options or paths.
        let word = |text: &str| {
            let fits = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_');
            !text.is_empty() && !text.starts_with('-') && text.chars().all(fits)
        };
        let profile = table.profile.clone().unwrap_or_else(|| "release".to_owned());
        for (text, what) in [(Some(&bin), "binary"), (package.as_ref(), "package"), (Some(&profile), "profile")] {
            if let Some(text) = text.filter(|text| !word(text)) {
                return Err(format!("{text:?} is not a valid name of a Cargo {what}"));
            }
        }
        Ok(Self {
            package,
            bin,
            features: table.features.clone().unwrap_or_default(),
            default_features: table.default_features.unwrap_or(true),
            profile,
            rustflags: table.rustflags.clone().unwrap_or_default(),
            link_static: table.link_static.unwrap_or(true),
            env: environment(name, table)?,
            inputs: inputs(table)?,
        })
    }
}

impl CommandBuild {
    fn new(name: &str, table: &ComponentTable) -> Result<Self, String> {
        let command: Vec<_> = table.command.iter().flatten().map(|word| build_text(name, word)).collect();
        if command.first().is_none_or(|program| program.fill(&[]).is_empty()) {
            return Err("its command does not name a program".to_owned());
        }
        let outputs = mapping(name, &table.outputs)?;
        if outputs.is_empty() {
            return Err("its command has no `outputs`, such as { \"/usr/local/bin/x\" = \"bin/x\" }".to_owned());
        }
        let (env, inputs) = (environment(name, table)?, inputs(table)?);
        Ok(Self { command, env, outputs, inputs, system: table.system.unwrap_or(true) })
    }
}

/// Parses a text of a command or its environment.
fn build_text(name: &str, text: &str) -> Template {
    Template::with_own_braces(&text.replace("{component}", name), &["arch", "version", "commit", "date"])
}

fn environment(name: &str, table: &ComponentTable) -> Result<BTreeMap<String, Template>, String> {
    if let Some(variable) = table.build_env.keys().find(|name| name.is_empty() || name.contains('=')) {
        return Err(format!("{variable:?} is not a valid name of an environment variable"));
    }
    Ok(table.build_env.iter().map(|(variable, value)| (variable.clone(), build_text(name, value))).collect())
}

fn inputs(table: &ComponentTable) -> Result<BTreeMap<String, Utf8PathBuf>, String> {
    for inside in table.inputs.keys() {
        if !is_absolute(inside) {
            return Err(format!("its input {inside:?} is not an absolute path"));
        }
        if Utf8Path::new(inside).starts_with(vcsandbox::HOST) {
            return Err(format!(
                "its input {inside:?} is a path that the sandbox reserves for the machine's own files"
            ));
        }
    }
    Ok(table.inputs.clone())
}

impl Prebuilt {
    fn new(name: &str, table: &ComponentTable) -> Result<Self, String> {
        let files = mapping(name, &table.prebuilt)?;
        let sha256 = table.sha256.iter().map(|(file, sum)| {
            let file = Utf8PathBuf::from(named(name, file)?);
            let sum = Digest::from_hex(sum).map_err(|why| format!("its sha256 of {file}: {why}"))?;
            let known =
                platform::architectures().any(|arch| files.values().any(|known| known.fill(&[("arch", arch)]) == file));
            if known { Ok((file, sum)) } else { Err(format!("its sha256 names {file}, which is not one of its files")) }
        });
        Ok(Self { sha256: sha256.collect::<Result<_, String>>()?, files })
    }
}

/// Parses a table of relative paths in the source's folder (with `{component}` and `{arch}`), by absolute paths in the
/// image (with `{component}`).
fn mapping(name: &str, table: &BTreeMap<String, String>) -> Result<BTreeMap<String, Template>, String> {
    let read = |(path, file): (&String, &String)| {
        let path = named(name, path)?;
        if !is_absolute(&path) {
            return Err(format!("{path:?} is not an absolute path of a file in the image"));
        }
        let file = Template::parse(&file.replace("{component}", name), &["arch"])?;
        if !is_relative(&file.fill(&[("arch", "amd64")])) {
            return Err(format!("{:?} is not a path below the source's folder", file.fill(&[("arch", "amd64")])));
        }
        Ok((path, file))
    };
    table.iter().map(read).collect()
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Go => "a Go program",
            Self::Cargo => "a Cargo program",
            Self::Command => "the files of a command",
            Self::Prebuilt => "prebuilt files",
        })
    }
}

#[cfg(test)]
mod tests {
    use camino::Utf8Path;

    use super::Kind;
    use crate::project::Project;

    fn parse(text: &str) -> Result<Project, String> {
        let text = format!("[defaults]\nimage = \"x/{{component}}\"\n{text}");
        let error = |error| match error {
            crate::Error::ProjectContent { why, .. } => why,
            other => format!("{other:?}"),
        };
        Project::parse(&text, Utf8Path::new("vcbuild.toml")).map_err(error)
    }

    #[test]
    fn a_component_is_of_the_kind_that_it_or_else_the_defaults_decide_for() {
        let defaults =
            "ldflags = [\"-s\"]\nprebuilt = { \"/usr/local/bin/{component}\" = \"bin/{component}-{arch}\" }\n";
        let project = parse(&format!("{defaults}[components.a]\n[components.b]\npackage = \".\"\n")).unwrap();
        let Kind::Prebuilt(a) = &project.components["a"].kind else { panic!("{project:?}") };
        assert_eq!(a.files["/usr/local/bin/a"].fill(&[("arch", "arm64")]), "bin/a-arm64");
        let Kind::Go(b) = &project.components["b"].kind else { panic!("{project:?}") };
        assert_eq!((b.package.as_str(), b.ldflags.as_slice()), (".", &["-s".to_owned()][..]));
        assert!(matches!(parse("[components.a]").unwrap().components["a"].kind, Kind::Go(_)));
    }

    #[test]
    fn the_program_is_named_or_the_only_file_or_called_as_the_component() {
        let binary = |text: &str| parse(text).map(|project| project.components["a"].binary.clone());
        let one = "[components.a]\nprebuilt = { \"/opt/x\" = \"x\" }\n";
        assert_eq!(binary(one).unwrap(), "/opt/x");
        assert_eq!(
            binary(&format!("{one}binary = \"/y\"")).unwrap_err(),
            "component a: its binary /y is not one of its files"
        );
        let two = "[components.a]\nprebuilt = { \"/opt/x\" = \"x\", \"/opt/y\" = \"y\" }\n";
        assert_eq!(binary(&format!("{two}binary = \"/opt/y\"")).unwrap(), "/opt/y");
        assert_eq!(binary(&format!("{two}entrypoint = [\"/opt/y\", \"-v\"]")).unwrap(), "/opt/x");
        assert!(binary(two).unwrap_err().contains("none is /usr/local/bin/a: name its program with `binary`"));
        let folder = "[components.a]\ncommand = [\"make\"]\noutputs = { \"/opt\" = \"out\", \"/etc/x\" = \"x\" }\n";
        assert_eq!(binary(&format!("{folder}binary = \"/opt/bin/a\"")).unwrap(), "/opt/bin/a");
        assert!(binary(&format!("{folder}binary = \"/optional\"")).is_err());
        let called = "[components.a]\nprebuilt = { \"/opt/x\" = \"x\", \"/usr/local/bin/a\" = \"y\" }\n";
        assert_eq!(binary(called).unwrap(), "/usr/local/bin/a");
    }

    #[test]
    fn what_does_not_fit_a_kind_is_refused() {
        let sum = "0".repeat(64);
        let prebuilt = "prebuilt = { \"/x\" = \"x-{arch}\" }\n";
        let cases = [
            (
                format!("{prebuilt}package = \".\""),
                "`package` and `prebuilt` are different ways to build its files: use one of them",
            ),
            (format!("{prebuilt}tags = [\"a\"]"), "its `tags` applies to a Go program, but its kind is prebuilt files"),
            (
                format!("sha256 = {{ x = \"{sum}\" }}"),
                "its `sha256` applies to prebuilt files, but its kind is a Go program",
            ),
            (format!("{prebuilt}sha256 = {{ x = \"{sum}\" }}"), "its sha256 names x, which is not one of its files"),
            (format!("{prebuilt}sha256 = {{ x-arm64 = \"0\" }}"), "its sha256 of x-arm64: "),
            ("command = []\noutputs = { \"/x\" = \"x\" }".to_owned(), "its command does not name a program"),
            ("command = [\"make\"]".to_owned(), "its command has no `outputs`"),
            (
                "inputs = { \"/x\" = \"x\" }".to_owned(),
                "its `inputs` applies to a Cargo program or the files of a command",
            ),
            ("bin = \"a/b/c\"".to_owned(), "\"b/c\" is not a valid name of a Cargo binary"),
            ("bin = \"--all\"".to_owned(), "\"--all\" is not a valid name of a Cargo binary"),
            ("profile = \"dev\"".to_owned(), "its `profile` applies to a Cargo program, but its kind is a Go program"),
            (
                "command = [\"make\"]\noutputs = { \"/x\" = \"x\" }\ninputs = { x = \"x\" }".to_owned(),
                "its input \"x\" is no",
            ),
            (
                "command = [\"make\"]\noutputs = { \"/x\" = \"x\" }\ninputs = { \"/.host/etc/x\" = \"x\" }".to_owned(),
                "its input \"/.host/etc/x\" is a path that the sandbox reserves for the machine's own files",
            ),
            ("prebuilt = { \"x\" = \"x\" }".to_owned(), "\"x\" is not an absolute path of a file in the image"),
            ("prebuilt = { \"/x\" = \"../x\" }".to_owned(), "\"../x\" is not a path below the source's folder"),
            ("prebuilt = { \"/x\" = \"/x\" }".to_owned(), "\"/x\" is not a path below the source's folder"),
            ("prebuilt = { \"/x\" = \"{os}\" }".to_owned(), "the allowed names are {arch}"),
        ];
        for (text, why) in cases {
            let said = parse(&format!("[components.a]\n{text}")).unwrap_err();
            assert!(said.contains(why), "{text:?} gave {said:?}, not {why:?}");
        }
    }
}
