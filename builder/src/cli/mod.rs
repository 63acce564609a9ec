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

/// What the help shows of its use.
const EXAMPLES: &str = "\
Examples:
  vcbuild init    # write vcbuild.toml for the programs in this folder
  vcbuild images  # build their images
  vcbuild report  # write a page about them";

/// Build container images reproducibly, without a daemon: VirtualCluster's, or those of any project.
#[derive(Debug, Parser)]
#[command(name = "vcbuild", version, propagate_version = true, max_term_width = 100)]
#[command(after_help = EXAMPLES)]
struct Cli {
    /// Say more: -v steps, -vv details, -vvv everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count, display_order = 900)]
    verbose: u8,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build images into the store, and one archive for each component.
    Images(images::Arguments),
    /// Write a vcbuild.toml for the programs in a folder.
    Init(init::Arguments),
    /// Pin all inputs in the lock file, and show what changed.
    Lock(lock::Arguments),
    /// Collect all pinned inputs in a folder, for builds without a network.
    Fetch(fetch::Arguments),
    /// Build again, in another environment or from an archive, and compare.
    Check(check::Arguments),
    /// Show the layers, configuration and origin of an image or archive.
    Inspect(inspect::Arguments),
    /// Show what differs between two images.
    Diff(diff::Arguments),
    /// Show why a file, package or blob is in an image.
    Why(why::Arguments),
    /// Draw the graph of inputs, actions and images.
    Graph(graph::Arguments),
    /// Write an HTML page about images: content, changes, builds.
    Report(report::Arguments),
    /// Push images to registries, or results to a cache.
    Push(push::Arguments),
    /// Make the keys that sign the content of caches.
    Key(key::Arguments),
    /// Build or fetch a base alone, and show its packages.
    Base(base::Arguments),
    /// Show, check and free what the store holds.
    #[command(subcommand)]
    Store(store::Command),
    /// Free disk space: remove what nothing needs or used recently.
    Gc(gc::Arguments),
    /// Print the JSON Schema of vcbuild.toml, for editors.
    Schema(schema::Arguments),
    /// Run a program in the sandbox that actions use.
    #[command(hide = true)]
    Sandbox(sandbox::Arguments),
    /// Run the programs of actions for vcbuild on another machine.
    #[command(hide = true)]
    BuildHost(build_host::Arguments),
}

/// Options that every subcommand has.
#[derive(Debug, Args)]
struct Common {
    /// The store [default: $VCBUILD_STORE, else ~/.cache/vcbuild/store]
    ///
    /// A folder of images and results that vcbuild and vcdist share. $XDG_CACHE_HOME replaces ~/.cache.
    #[arg(long, value_name = "DIR")]
    store: Option<Utf8PathBuf>,

    /// What to print
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    output: Output,
}

/// Where the project and its lock are.
#[derive(Debug, Args)]
struct ProjectFiles {
    /// The project file [default: vcbuild.toml here or in --source-dir]
    ///
    /// If there is no such file, vcbuild builds VirtualCluster.
    #[arg(long, value_name = "FILE")]
    project: Option<Utf8PathBuf>,

    /// The lock file [default: vcbuild.lock beside the project file]
    ///
    /// It pins every input. Without a project file, the default is vcbuild.lock in the current folder.
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

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Cli;

    #[test]
    fn the_reference_page_is_that_of_this_command_line() {
        let is_current = vcterminal::reference(vcterminal::with_documents(Cli::command()))
            == include_str!("../../../docs/reference/vcbuild.md");
        assert!(is_current, "docs/reference/vcbuild.md differs from the command line: run `cargo xtask reference`");
    }

    #[test]
    fn what_the_documents_show_is_this_command_line() {
        let wrong = pages::wrong(&vcterminal::with_documents(Cli::command()), &pages::pages());
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn the_short_help_has_a_line_for_each_option() {
        let wrapped = pages::wrapped(&Cli::command());
        assert!(wrapped.is_empty(), "{wrapped:#?}");
    }
}
