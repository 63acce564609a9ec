//! `vcdist render`: the objects of a deployment as plain YAML, without a cluster.

use std::collections::BTreeMap;
use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;
use miette::Diagnostic;
use thiserror::Error;
use vcterminal::{Exit, Text, tell};

use crate::cli::manifests::{self, ManifestArgs};

/// What the help shows of its use.
const EXAMPLES: &str = "\
Examples:
  vcdist render
  vcdist render --set syncer.replicas=2 --output-dir manifests
  vcdist render --show-values";

/// Print the objects of a deployment as YAML.
///
/// The objects are in the order in which `vcdist deploy` applies them, and the same input gives the same bytes. No cluster is
/// needed.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Render {
    #[command(flatten)]
    manifests: ManifestArgs,

    /// Write files to this folder instead
    ///
    /// namespace.yaml, clusterversion-crd.yaml, virtualcluster-crd.yaml and all-in-one.yaml.
    #[arg(long, value_name = "DIR")]
    output_dir: Option<Utf8PathBuf>,

    /// Print the values instead of the objects
    ///
    /// Each value that --values and --set change, with its default where nothing else is given.
    #[arg(long, conflicts_with = "output_dir")]
    show_values: bool,
}

/// Why nothing was rendered.
#[derive(Debug, Error, Diagnostic)]
pub(super) enum Error {
    #[error(transparent)]
    #[diagnostic(transparent)]
    Manifests(#[from] manifests::Error),

    #[error("writing the objects as YAML")]
    #[diagnostic(help("this is a defect: please report it"))]
    Yaml { source: Box<dyn std::error::Error + Send + Sync> },

    #[error(transparent)]
    #[diagnostic(transparent)]
    Write(#[from] WriteError),

    #[error("printing the objects")]
    Print(#[from] io::Error),
}

/// A file that was not written.
#[derive(Debug, Error, Diagnostic)]
#[error("writing {path}")]
#[diagnostic(help("give a folder that can be written to with --output-dir"))]
pub(crate) struct WriteError {
    path: Utf8PathBuf,
    source: io::Error,
}

impl Render {
    pub(super) fn run(self) -> Result<Exit, Error> {
        let failed = |error: vcmanifests::YamlError| Error::Yaml { source: error.into() };
        if self.show_values {
            let values = self.manifests.all_values()?;
            vcterminal::print(Text::default().program(&vcmanifests::to_yaml(&values).map_err(failed)?))?;
            return Ok(Exit::Done);
        }
        let objects = self.manifests.objects()?;
        if let Some(folder) = &self.output_dir {
            for path in write(&vcmanifests::files(&objects).map_err(failed)?, folder)? {
                tell(format_args!("wrote {path}"));
            }
        } else {
            vcterminal::print(Text::default().program(&vcmanifests::yaml(&objects).map_err(failed)?))?;
        }
        Ok(Exit::Done)
    }
}

/// Writes files into a folder, which is made where there is none. Their paths.
pub(super) fn write(files: &BTreeMap<String, String>, folder: &Utf8Path) -> Result<Vec<Utf8PathBuf>, WriteError> {
    let mut written = Vec::new();
    for (name, text) in files {
        let path = folder.join(name);
        let parent = path.parent().unwrap_or(folder);
        std::fs::create_dir_all(parent).map_err(|source| WriteError { path: parent.to_owned(), source })?;
        std::fs::write(&path, text).map_err(|source| WriteError { path: path.clone(), source })?;
        written.push(path);
    }
    Ok(written)
}
