//! The command line: one file a subcommand.

mod allow;
mod base;
mod build_args;
mod build_host;
mod built_in;
mod caches;
mod check;
mod debian;
mod diff;
mod fetch;
mod gc;
mod graph;
mod images;
mod init;
mod inputs;
mod inspect;
mod key;
mod lock;
mod opened;
mod push;
mod report;
mod sandbox;
mod schema;
mod store;
mod why;

use std::env::VarError;

use camino::Utf8PathBuf;
use clap::{Args, Parser, Subcommand};
use serde::Serialize;
use vcstore::{Image, Platform, Store};
use vcterminal::{Exit, Output, Text};

use crate::project::{self, Project};
use crate::{Error, platform};

/// Build VirtualCluster's container images reproducibly, without a daemon.
#[derive(Debug, Parser)]
#[command(name = "vcbuild", version, propagate_version = true, max_term_width = 100)]
struct Cli {
    /// Increase the verbosity: -v for steps, -vv for details, -vvv for everything.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build images from source, into the store and into one archive for each component.
    Images(images::Arguments),
    /// Fetch or build a base into the store, and show its digest, size and packages.
    Base(base::Arguments),
    /// Update the lock file to the current inputs, and show the changes.
    Lock(lock::Arguments),
    /// Fetch every input that the lock file pins into one folder, from which `images --inputs` builds without a network.
    Fetch(fetch::Arguments),
    /// Build again in another environment and compare the outputs, to find outputs that are not reproducible.
    Check(check::Arguments),
    /// Show the layers, sizes and configuration of an image or an archive.
    Inspect(inspect::Arguments),
    /// Run a program in the sandbox that actions use.
    #[command(hide = true)]
    Sandbox(sandbox::Arguments),
    /// Run the programs of actions for vcbuild on another machine.
    #[command(hide = true)]
    BuildHost(build_host::Arguments),
    /// Write a vcbuild.toml for the project in a folder.
    Init(init::Arguments),
    /// Print the JSON Schema of vcbuild.toml, for editors.
    Schema(schema::Arguments),
    /// Show what differs between two images: files, packages, configuration and layers.
    Diff(diff::Arguments),
    /// Draw the graph of inputs, actions and images.
    Graph(graph::Arguments),
    /// Write an HTML report about the images: their content, changes and the last build.
    Report(report::Arguments),
    /// Show why an image contains a file, a package or a blob.
    Why(why::Arguments),
    /// Say what the store holds and how much of the disk it takes, check it, and let images go.
    #[command(subcommand)]
    Store(store::Command),
    /// Collect garbage: remove data that no image, root, recent action or running build references.
    Gc(gc::Arguments),
    /// Push images to registries, or the outputs of their actions to a cache.
    Push(push::Arguments),
    /// Manage the keys that sign the content of caches.
    Key(key::Arguments),
}

/// Options that every subcommand has.
#[derive(Debug, Args)]
struct Common {
    /// The store, a folder that vcbuild and vcdist share [default: $VCBUILD_STORE, else vcbuild/store in the cache folder].
    #[arg(long, value_name = "DIR")]
    store: Option<Utf8PathBuf>,

    /// The output format.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    output: Output,
}

/// Where the project and its lock are.
#[derive(Debug, Args)]
struct ProjectFiles {
    /// The project file [default: vcbuild.toml in the current folder, else in --source-dir, else the built-in project of
    /// VirtualCluster].
    #[arg(long, value_name = "FILE")]
    project: Option<Utf8PathBuf>,

    /// The lock file, which pins the resolved bases and sources [default: vcbuild.lock next to the project file, else in the
    /// current folder].
    #[arg(long, value_name = "FILE")]
    lock: Option<Utf8PathBuf>,
}

/// Runs the command line of this process and returns how it ended.
#[must_use]
pub fn run() -> Exit {
    vcterminal::start_documented(|cli: Cli| {
        vcterminal::log_to_stderr(cli.verbose);
        let result = check_environment().and_then(|()| dispatch(&cli.command));
        result.unwrap_or_else(|error| {
            vcterminal::report(&error);
            error.exit()
        })
    })
}

fn dispatch(command: &Command) -> Result<Exit, Error> {
    match command {
        Command::Images(arguments) => images::run(arguments),
        Command::Base(arguments) => base::run(arguments),
        Command::Lock(arguments) => lock::run(arguments),
        Command::Fetch(arguments) => fetch::run(arguments),
        Command::Check(arguments) => check::run(arguments),
        Command::Inspect(arguments) => inspect::run(arguments),
        Command::Sandbox(arguments) => sandbox::run(arguments),
        Command::BuildHost(arguments) => build_host::run(arguments),
        Command::Init(arguments) => init::run(arguments),
        Command::Schema(arguments) => schema::run(arguments),
        Command::Diff(arguments) => diff::run(arguments),
        Command::Graph(arguments) => graph::run(arguments),
        Command::Report(arguments) => report::run(arguments),
        Command::Why(arguments) => why::run(arguments),
        Command::Store(command) => store::run(command),
        Command::Gc(arguments) => gc::run(arguments),
        Command::Push(arguments) => push::run(arguments),
        Command::Key(arguments) => key::run(arguments),
    }
}

/// Refuses paths of the environment that are no text, as all paths are that are worked with here: passing over one would use
/// another store, or other settings, than who set it has in mind.
fn check_environment() -> Result<(), Error> {
    for name in ["VCBUILD_STORE", "VCBUILD_CONFIG", "VCBUILD_SSH_CONFIG", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "HOME"] {
        if let Err(VarError::NotUnicode(value)) = std::env::var(name) {
            return Err(Error::Environment { name, value });
        }
    }
    Ok(())
}

impl Common {
    fn store(&self) -> Result<Store, Error> {
        Ok(Store::open(&self.path())?)
    }

    /// The store, if there is one: none is made by looking.
    fn store_if_any(&self) -> Result<Option<Store>, Error> {
        let path = self.path();
        if path.join("oci-layout").is_file() { Ok(Some(Store::open(&path)?)) } else { Ok(None) }
    }

    /// The store, for commands that have nothing to do in a new one.
    fn existing_store(&self) -> Result<Store, Error> {
        self.store_if_any()?.ok_or_else(|| Error::NoStore { path: self.path() })
    }

    /// The store, for commands that only read what is in it: also one that cannot be written to.
    fn store_to_read(&self) -> Result<Store, Error> {
        self.store_to_read_if_any()?.ok_or_else(|| Error::NoStore { path: self.path() })
    }

    /// The same, if there is one.
    fn store_to_read_if_any(&self) -> Result<Option<Store>, Error> {
        let path = self.path();
        if path.join("oci-layout").is_file() { Ok(Some(Store::open_to_read(&path)?)) } else { Ok(None) }
    }

    fn path(&self) -> Utf8PathBuf {
        self.store.clone().unwrap_or_else(Store::default_path)
    }
}

impl ProjectFiles {
    /// The project: of the file that is named or found, or the built-in one.
    fn project(&self, source_dir: Option<&Utf8PathBuf>) -> Result<Project, Error> {
        let beside = [Some(Utf8PathBuf::new()), source_dir.cloned()].into_iter().flatten();
        let mut found = beside.map(|folder| folder.join(project::FILE_NAME)).filter(|path| path.is_file());
        match self.project.clone().or_else(|| found.next()) {
            Some(path) => Project::read(&path),
            None => Project::built_in(),
        }
    }
}

/// The image of this name, or all images of the store.
fn images_of(store: &Store, name: Option<&str>) -> Result<Vec<Image>, Error> {
    match name {
        Some(name) => Ok(vec![store.image(name)?]),
        None => store.images()?.iter().map(|(name, target)| Ok(Image::open(store, name, target)?)).collect(),
    }
}

/// Prints what a command found, as it was asked to.
fn show<T: Serialize>(output: Output, document: &T, text: impl FnOnce(&T) -> Text) -> Result<(), Error> {
    output.print(document, text).map_err(Error::Print)
}

/// Reads a platform for clap.
fn parse_platform(text: &str) -> Result<Platform, String> {
    platform::parse(text)
}
