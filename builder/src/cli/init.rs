//! `vcbuild init`: a first `vcbuild.toml`.

use std::io::ErrorKind;

use camino::{Utf8Path, Utf8PathBuf};
use clap::{Args, ValueEnum};
use serde::Serialize;
use vcterminal::{Exit, Output, Text};

use crate::Error;
use crate::cargo;
use crate::project::{BUILT_IN, FILE_NAME, FoundPrograms, Project, find};

/// What the help shows of its use.
const EXAMPLES: &str = "\
Examples:
  vcbuild init                                         # for the Go or Cargo programs in this folder
  vcbuild init --preset virtualcluster";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// The folder with the go.mod or Cargo.toml
    #[arg(value_name = "DIR", default_value = ".")]
    dir: Utf8PathBuf,

    /// Write the project file of a preset
    ///
    /// Whatever the folder contains.
    #[arg(long, value_name = "NAME")]
    preset: Option<Preset>,

    /// Replace an existing file
    #[arg(long)]
    force: bool,

    /// What to print
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    output: Output,
}

/// A project that is known.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Preset {
    /// VirtualCluster's manager, syncer and vn-agent.
    Virtualcluster,
}

/// What `--output json` prints.
#[derive(Serialize)]
struct Document<'a> {
    path: &'a Utf8Path,
    components: Vec<&'a String>,
}

/// The settings that most projects come to want, to be uncommented.
const MORE: &str = r#"
# What else can be said, for every component here or for one in its own table (docs/reference/vcbuild.toml.md):
# user = "65532"                      # who the program runs as
# env = { GOMAXPROCS = "2" }          # the environment, over the base's
# cmd = ["--help"]                    # arguments after the entrypoint
# labels = { team = "example" }
"#;

const TOP: &str = r#"# What `vcbuild images` builds here. `vcbuild schema` prints this file's JSON Schema, docs/reference/vcbuild.toml.md describes it.

# What images stand on: "debian" (Debian's signed packages, no registry needed), "registry" (debian:bookworm-slim), an image
# reference, "oci:PATH", "docker-archive:PATH", or "scratch" for nothing at all.
base = "debian"

# Which processors images are for: linux/amd64, linux/arm64, linux/arm/v7.
platforms = ["linux/amd64"]

# How layers are compressed: zstd (containerd 1.5 and newer), gzip (anything) or none.
compression = "zstd"
"#;

pub(super) fn run(arguments: &Arguments) -> Result<Exit, Error> {
    let path = arguments.dir.join(FILE_NAME);
    let text = match arguments.preset {
        Some(Preset::Virtualcluster) => preset(),
        None => match find(&arguments.dir)?.filter(|found| !found.programs.is_empty()) {
            Some(found) if is_virtualcluster(&found) => preset(),
            Some(found) => project(&found),
            None => workspace(&arguments.dir, &cargo::binaries(&arguments.dir)?)?,
        },
    };
    // A name that was found may be none that a component can have.
    let project = Project::parse(&text, &path)?;
    write(&path, &text, arguments.force)?;
    let document = Document { path: &path, components: project.components.keys().collect() };
    super::show(arguments.output, &document, |Document { path, components }| {
        let names = components.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
        let mut text = Text::of(format_args!("wrote {path}: {names}"));
        text.line("next: look through it, then run `vcbuild images` beside it");
        text
    })?;
    Ok(Exit::Done)
}

/// Whether the programs are those of the built-in project.
fn is_virtualcluster(found: &FoundPrograms) -> bool {
    ["manager", "syncer", "vn-agent"].iter().all(|name| found.programs.get(*name) == Some(&format!("./cmd/{name}")))
}

/// The built-in project, to be changed.
fn preset() -> String {
    let (_, tables) = BUILT_IN.split_once("\n\n").unwrap_or(("", BUILT_IN));
    format!(
        "{TOP}\n# VirtualCluster's components, built as its own build does and named as its users name them.\n{tables}"
    )
}

/// A project of the programs that were found.
fn project(found: &FoundPrograms) -> String {
    let name = found.module.rsplit('/').find(|part| !is_major(part)).unwrap_or("project").to_lowercase();
    let smaller = "ldflags = [\"-s\", \"-w\"]  # no symbols and no debugger's data: smaller binaries\n";
    let mut text = format!("{TOP}\n{}{smaller}{MORE}", defaults(&name));
    for (component, package) in &found.programs {
        let package = toml::Value::from(package.as_str());
        text += &format!("\n[components.{}]\npackage = {package}\n", key(component));
    }
    text
}

/// A project of the binaries of a Cargo workspace, each by its package and name.
fn workspace(dir: &Utf8Path, binaries: &[(String, String)]) -> Result<String, Error> {
    if binaries.is_empty() {
        return Err(Error::NoPrograms { dir: dir.to_owned() });
    }
    let real = dir.canonicalize_utf8().map_err(Error::io("finding", dir))?;
    let plain = |letter: char| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '-' };
    let name: String = real.file_name().unwrap_or("project").chars().map(plain).collect();
    let name = match name.trim_matches('-') {
        "" => "project",
        name => name,
    };
    let mut text = format!("{TOP}\n{}{MORE}", defaults(name));
    for (package, bin) in binaries {
        // Two packages may each have a binary of this name.
        let several = binaries.iter().filter(|(_, other)| other == bin).count() > 1;
        let (component, bin) =
            if several { (format!("{package}-{bin}"), format!("{package}/{bin}")) } else { (bin.clone(), bin.clone()) };
        text += &format!("\n[components.{}]\nbin = \"{bin}\"\n", key(&component));
    }
    Ok(text)
}

/// What holds for every component of the project `name`.
fn defaults(name: &str) -> String {
    format!(
        "# What holds for every component. {{component}}, {{arch}} and {{version}} stand for their values.\n[defaults]\n\
         image = \"registry.example/{name}/{{component}}-{{arch}}:{{version}}\"  # change this to your registry\n"
    )
}

/// Whether a part of a module's path is its major version.
fn is_major(part: &str) -> bool {
    part.strip_prefix('v').is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

/// A name as a key of TOML.
fn key(name: &str) -> String {
    if name.contains('.') { format!("\"{name}\"") } else { name.to_owned() }
}

/// Writes the file; over one that is there only when that is asked for.
fn write(path: &Utf8Path, text: &str, force: bool) -> Result<(), Error> {
    if force {
        return vcstore::atomic::replace(path, text.as_bytes()).map_err(Error::io("writing", path));
    }
    vcstore::atomic::create(path, text.as_bytes(), 0o644).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => Error::ProjectExists { path: path.to_owned() },
        _ => Error::io("writing", path)(error),
    })
}
