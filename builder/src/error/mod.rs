//! Errors of a build, each with advice. They refer to no other module, so that every module can return them.

mod cargo;
mod command;
mod files;
mod host_inputs;
mod lock;
mod offline_inputs;
mod placement;
mod prebuilt;
mod private;
mod provenance;
mod source;
mod toolchain;

use std::ffi::OsString;
use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use vcsandbox::process;
use vcstore::Platform;
use vcterminal::Exit;

pub(crate) use self::cargo::CargoError;
pub(crate) use self::command::CommandError;
pub(crate) use self::files::FilesError;
pub(crate) use self::host_inputs::HostInputError;
pub(crate) use self::lock::LockError;
pub(crate) use self::offline_inputs::InputsError;
pub(crate) use self::placement::{Location, PlacementError};
pub(crate) use self::prebuilt::PrebuiltError;
pub(crate) use self::private::PrivateInput;
pub(crate) use self::provenance::ProvenanceError;
pub(crate) use self::source::SourceError;
pub(crate) use self::toolchain::ToolchainError;

/// An error of vcbuild.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub(crate) enum Error {
    #[error(transparent)]
    #[diagnostic(transparent)]
    File(#[from] vcstore::FileError),

    #[error(transparent)]
    #[diagnostic(transparent)]
    Store(#[from] vcstore::Error),

    #[error(transparent)]
    #[diagnostic(transparent)]
    Debian(#[from] vcdebian::Error),

    /// A program failed; its whole output is in a file.
    #[error("{error}")]
    #[diagnostic(help("{}the whole output is in {log}", error.help().map(|help| format!("{help}\n")).unwrap_or_default()))]
    Action {
        error: Box<Error>,
        #[source]
        shown: OutputExcerpt,
        log: Utf8PathBuf,
    },
    #[error(transparent)]
    #[diagnostic(transparent)]
    Lock(#[from] LockError),

    #[error(transparent)]
    #[diagnostic(transparent)]
    Source(#[from] SourceError),

    #[error(transparent)]
    #[diagnostic(transparent)]
    Toolchain(#[from] ToolchainError),

    #[error(transparent)]
    #[diagnostic(transparent)]
    Offline(#[from] vcnetwork::Offline),

    #[error(transparent)]
    #[diagnostic(transparent)]
    Inputs(#[from] InputsError),

    #[error(transparent)]
    #[diagnostic(transparent)]
    Sandbox(#[from] vcsandbox::Error),

    #[error(transparent)]
    #[diagnostic(transparent)]
    BuildHost(#[from] vcsandbox::remote::Error),

    #[error(transparent)]
    #[diagnostic(transparent)]
    Inspect(#[from] vcinspect::Error),

    #[error("running the program")]
    #[diagnostic(help("{}", source.advice().unwrap_or_else(|| "`vcbuild sandbox --help` lists the options for its inputs".to_owned())))]
    Program { source: Box<process::Failure> },

    #[error(transparent)]
    #[diagnostic(transparent)]
    Files(#[from] FilesError),

    #[error(transparent)]
    #[diagnostic(transparent)]
    Placement(#[from] PlacementError),

    #[error(transparent)]
    #[diagnostic(transparent)]
    Cargo(#[from] CargoError),

    #[error(transparent)]
    #[diagnostic(transparent)]
    Command(#[from] CommandError),

    #[error(transparent)]
    #[diagnostic(transparent)]
    Host(#[from] HostInputError),

    #[error(transparent)]
    #[diagnostic(transparent)]
    Private(#[from] PrivateInput),

    #[error(transparent)]
    #[diagnostic(transparent)]
    Provenance(#[from] ProvenanceError),

    #[error(transparent)]
    #[diagnostic(transparent)]
    Prebuilt(#[from] PrebuiltError),

    #[error("writing the result")]
    #[diagnostic(help("standard output was closed, or the disk that it writes to is full"))]
    Print(#[source] io::Error),

    /// A defect of vcbuild itself.
    #[error("internal error: {0}")]
    #[diagnostic(help("this is a defect in vcbuild: please report it with the command that caused it"))]
    Internal(String),

    #[error("using {name}: {value:?} is not UTF-8")]
    #[diagnostic(help("set it to a path in UTF-8, or unset it"))]
    Environment { name: &'static str, value: OsString },

    /// The user named the file, or it stands in for command-line options.
    #[error("reading {what} {path}")]
    #[diagnostic(help("check that the file exists, that you can read it, and that it is the intended file"))]
    Unreadable { what: &'static str, path: Utf8PathBuf, source: io::Error },

    #[error("reading project {path}")]
    #[diagnostic(help("correct the line; docs/reference/vcbuild.toml.md describes the keys of a project file"))]
    ProjectSyntax { path: Utf8PathBuf, source: Box<toml::de::Error> },

    #[error("reading project {path}: {why}")]
    #[diagnostic(help("correct the file; docs/reference/vcbuild.toml.md describes the keys of a project file"))]
    ProjectContent { path: Utf8PathBuf, why: String },

    #[error("opening the store {path}: there is no store")]
    #[diagnostic(help("name the folder of a store with --store or VCBUILD_STORE; `vcbuild images` creates one"))]
    NoStore { path: Utf8PathBuf },

    #[error("removing root {name}: the store has {}", if known.is_empty() { "none".to_owned() } else { known.join(", ") })]
    #[diagnostic(help("`vcbuild store list` lists images and roots"))]
    NoRoot { name: String, known: Vec<String> },

    #[error("writing project {path}: the file already exists")]
    #[diagnostic(help("keep the file, or replace it with --force"))]
    ProjectExists { path: Utf8PathBuf },

    #[error("writing a project for {dir}: found no Go program and no Cargo binary in it")]
    #[diagnostic(help(
        "name the folder that contains the go.mod or Cargo.toml, or write VirtualCluster's project with --preset \
         virtualcluster and edit it"
    ))]
    NoPrograms { dir: Utf8PathBuf },

    #[error("selecting component {name}: the project has {}", known.join(", "))]
    #[diagnostic(help("name existing components, or add this one to vcbuild.toml"))]
    NoSuchComponent { name: String, known: Vec<String> },

    #[error("leaving out edit {name}: the project {}", match known.as_slice() { [] => "has no named edits".to_owned(), known => format!("has {}", known.join(", ")) })]
    #[diagnostic(help("name existing edits: `name` of an entry of [[edits]]"))]
    NoSuchEdit { name: String, known: Vec<String> },

    #[error("{0}")]
    #[diagnostic(help("`vcbuild help images` lists the options"))]
    Usage(String),

    #[error("opening the source: its address contains credentials, which the lock file and the images would expose")]
    #[diagnostic(help("remove the credentials, and use a git credential helper (`git help credentials`)"))]
    SecretInAddress,

    #[error("opening the source {path}")]
    #[diagnostic(help("name the folder of the source with --source-dir, and a folder within it with --source-subdir"))]
    NoSource { path: Utf8PathBuf, source: io::Error },

    #[error("opening the source {path}: the folder has no {file}{}", and(why))]
    #[diagnostic(help("{}", not_there_help(file, folders, why)))]
    NotThere { path: Utf8PathBuf, file: &'static str, folders: Vec<Utf8PathBuf>, why: Option<String> },

    #[error(
        "opening the source {path}: no vcbuild.toml found, and the folder is not VirtualCluster, the built-in project: it \
         has no {what}"
    )]
    #[diagnostic(help("{}", other_project_help(path, above, folders)))]
    OtherProject { path: Utf8PathBuf, what: String, above: Option<Utf8PathBuf>, folders: Vec<Utf8PathBuf> },

    #[error("opening the source {top}: its subfolder {subdir} is outside the source")]
    #[diagnostic(help("--source-subdir names a folder within the source"))]
    SubdirOutside { subdir: Utf8PathBuf, top: Utf8PathBuf },

    #[error("using {path}, an output of a build: it {why}")]
    #[diagnostic(help(
        "change the build to write a regular file there, without links; --max-disk, or `max-disk` in the user's settings, \
         raises the size limit"
    ))]
    BuildOutput { path: Utf8PathBuf, why: String },

    #[error("{attempt}: git is not installed")]
    #[diagnostic(help(
        "install git (Debian: apt-get install git), or clone the repository yourself and use --source-dir"
    ))]
    NoGit { attempt: String },

    #[error("{attempt}")]
    #[diagnostic(help(
        "check the address, the version and your access: vcbuild runs git with your settings and credentials"
    ))]
    Git { attempt: String, source: Box<process::Failure> },

    #[error("looking for Go: the go command is not installed")]
    #[diagnostic(help(
        "name a version for vcbuild to fetch (--go 1.26.x, or go = \"1.26.x\" in vcbuild.toml), or install Go and add it \
         to PATH"
    ))]
    NoGo,

    #[error("{attempt}")]
    #[diagnostic(help("{}", go_help(source)))]
    Go { attempt: String, source: Box<process::Failure> },

    #[error("fetching the Go modules of the source")]
    #[diagnostic(help(
        "Go fetches modules as configured (`go env GOPROXY`), and they must match go.sum; behind a proxy set HTTPS_PROXY, \
         without network access fill Go's module cache beforehand"
    ))]
    FetchModules { source: Box<process::Failure> },

    #[error("linking component {component}: {why}")]
    #[diagnostic(help("change its ldflags or stamps in vcbuild.toml, or --stamp"))]
    Flag { component: String, why: String },

    #[error("compiling {component}: {file} is a Git LFS pointer, not the file itself")]
    #[diagnostic(help("fetch the file with `git lfs pull`, and build again"))]
    Pointer { component: String, file: Utf8PathBuf },

    #[error("compiling {component} for {platform}")]
    #[diagnostic(help("{}", compile_help(source)))]
    Compile { component: String, platform: Platform, source: Box<process::Failure> },

    #[error("reading base {base:?}: {why}")]
    #[diagnostic(help(
        "a base is debian, scratch, oci:PATH, docker-archive:PATH, registry, or an image reference such as \
         docker.io/library/debian:bookworm-slim"
    ))]
    BadBase { base: String, why: String },

    #[error("pulling base {reference} from {registry}")]
    #[diagnostic(help(
        "{}; or use --base debian, which needs no registry, or --base oci:PATH or docker-archive:PATH for an image you \
         have as a file",
        miette::Diagnostic::help(source.as_ref()).map(|help| help.to_string()).unwrap_or_default()
    ))]
    Pull { reference: String, registry: String, source: Box<vcregistry::Error> },

    #[error(transparent)]
    #[diagnostic(transparent)]
    Registry(#[from] vcregistry::Error),

    #[error(transparent)]
    #[diagnostic(transparent)]
    Cache(#[from] vcregistry::caches::Error),

    #[error("reading the settings {path}")]
    #[diagnostic(help("correct the line; docs/reference/settings.md describes the keys of the file"))]
    ConfigSyntax { path: Utf8PathBuf, source: Box<toml::de::Error> },

    #[error("reading the settings {path}: {why}")]
    #[diagnostic(help("correct the file; docs/reference/settings.md describes its keys"))]
    Config { path: Utf8PathBuf, why: String },

    #[error("using base {base}: it has no image for {platform}{}", list_platforms(has))]
    #[diagnostic(help(
        "build for another --platform, or on another --base; `vcbuild base --update` resolves a base again that the lock \
         file pins"
    ))]
    NoPlatform { base: String, platform: Platform, has: Vec<String> },

    #[error("using base {base}: the file contains {} images, but a base is a single image", names.len())]
    #[diagnostic(help("save the image into a separate file; this file contains {}", names.join(", ")))]
    ManyImages { base: String, names: Vec<String> },

    #[error("using base {base} for {platform}: {lock} pins it to {pinned}, but the file is {found}")]
    #[diagnostic(help("if the new file is intended, pin it with `vcbuild base --update {base}`"))]
    BaseDrift { base: String, platform: String, lock: Utf8PathBuf, pinned: String, found: String },

    #[error("looking for {what}: no inspected image contains it{}", list(images))]
    #[diagnostic(help(
        "name the absolute path of a file, a Debian package, a Go module or package, or a digest; `vcbuild inspect` and \
         `vcbuild base` list them"
    ))]
    NotInImages { what: String, images: Vec<String> },

    #[error("using base {base}: it is {kind}, not an image")]
    #[diagnostic(help(
        "registries also contain artifacts that are not images, such as Helm charts, signatures and attestations: check \
         the repository and the tag"
    ))]
    NotAnImage { base: String, kind: String },

    #[error("using base {base}: its manifest has Docker's schema 1, which current tools do not support")]
    #[diagnostic(help("convert it by pulling and pushing it with Docker 1.10 to 25, or use a newer image"))]
    OldManifest { base: String },

    #[error("reading base {base}: {why}")]
    #[diagnostic(help("the image does not conform to the OCI image specification: use another image"))]
    BaseImage { base: String, why: String },
}

/// The excerpt of a program's output that an error shows.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct OutputExcerpt(pub(crate) String);

impl Error {
    /// Returns the exit status for this error.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::ProjectSyntax { .. }
            | Self::ProjectContent { .. }
            | Self::NoSuchComponent { .. }
            | Self::NoSuchEdit { .. }
            | Self::Usage(_)
            | Self::Environment { .. }
            | Self::Unreadable { .. }
            | Self::ProjectExists { .. }
            | Self::BadBase { .. }
            | Self::BuildHost(vcsandbox::remote::Error::BadAddress(_))
            | Self::SecretInAddress
            | Self::Config { .. }
            | Self::ConfigSyntax { .. } => Exit::Usage,
            Self::Source(error) if error.is_usage() => Exit::Usage,
            Self::Lock(error) => error.exit(),
            Self::Cache(error) if error.is_usage() => Exit::Usage,
            Self::Provenance(error) if error.is_usage() => Exit::Usage,
            Self::Action { error, .. } => error.exit(),
            _ => Exit::Failed,
        }
    }

    /// Wraps an I/O error with the attempted operation and its path.
    pub(crate) fn io(attempt: &'static str, path: impl AsRef<Utf8Path>) -> impl FnOnce(io::Error) -> Self {
        vcstore::FileError::wrap(attempt, path)
    }

    /// Wraps an I/O error of a file that the user named with the file's purpose.
    pub(crate) fn unreadable(what: &'static str, path: impl AsRef<Utf8Path>) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::Unreadable { what, path, source }
    }

    /// Reports a source file that another program changed during the build.
    pub(crate) fn source_changed(path: impl Into<Utf8PathBuf>) -> Self {
        vcsandbox::Error::SourceChanged { path: path.into() }.into()
    }

    /// Reports why an output of a build is refused.
    pub(crate) fn made(path: &Utf8Path, why: &vcsandbox::plain::Refusal) -> Self {
        Self::BuildOutput { path: path.to_owned(), why: why.to_string() }
    }

    /// Wraps the failure of a Go command with the attempted operation.
    pub(crate) fn go(attempt: &str) -> impl FnOnce(process::Failure) -> Self {
        move |failure| Self::Go { attempt: attempt.to_owned(), source: Box::new(failure) }
    }

    /// Wraps the failure to fetch Go modules.
    pub(crate) fn fetch_modules(failure: process::Failure) -> Self {
        Self::FetchModules { source: Box::new(failure) }
    }
}

fn go_help(failure: &process::Failure) -> String {
    let known = || "correct the source, or name other components with --components".to_owned();
    failure.advice().unwrap_or_else(known)
}

fn compile_help(failure: &process::Failure) -> String {
    let known = "correct the source and run the command again: completed compilations are kept";
    failure.advice().unwrap_or_else(|| known.to_owned())
}

/// Formats the optional reason of an error.
fn and(why: &Option<String>) -> String {
    why.as_ref().map(|why| format!("; {why}")).unwrap_or_default()
}

fn not_there_help(file: &str, folders: &[Utf8PathBuf], why: &Option<String>) -> String {
    match folders {
        _ if why.is_some() => "make the file part of the source: `git ls-files` lists the files that are".to_owned(),
        [] if file == "Cargo.lock" => {
            "Cargo.lock pins the crates: create it with `cargo generate-lockfile` in the folder of the workspace, and commit it"
                .to_owned()
        }
        [] => "name the folder that contains it with --source-dir, or with --source-subdir if it is below the source".to_owned(),
        folders => {
            let ways: Vec<_> = folders.iter().map(|folder| format!("--source-subdir {folder}")).collect();
            format!("folders below it contain one: {}", ways.join(", "))
        }
    }
}

fn other_project_help(path: &Utf8Path, above: &Option<Utf8PathBuf>, folders: &[Utf8PathBuf]) -> String {
    let above = above
        .as_ref()
        .map(|file| format!("or run the command in the folder of {file}, or name that file with --project; "));
    let (above, there) = (above.unwrap_or_default(), not_there_help("go.mod", folders, &None));
    format!(
        "to build another project, create its vcbuild.toml with `vcbuild init {path}`; {above}for VirtualCluster, {there}"
    )
}

fn list(images: &[String]) -> String {
    if images.is_empty() { " (the store has no images)".to_owned() } else { format!(" (of {})", images.join(", ")) }
}

fn list_platforms(has: &[String]) -> String {
    if has.is_empty() { String::new() } else { format!(" (it has {})", has.join(", ")) }
}
