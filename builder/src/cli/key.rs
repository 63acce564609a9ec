//! `vcbuild key`: the keys that sign records.

use camino::{Utf8Path, Utf8PathBuf};
use clap::{Args, Subcommand};
use serde::Serialize;
use vcregistry::caches::SecretKey;
use vcterminal::{Exit, Output, Text};

use crate::Error;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,

    /// What to print
    #[arg(long, value_name = "FORMAT", default_value = "text", global = true)]
    output: Output,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a key pair: NAME.key signs, NAME.pub is for users of the cache.
    Generate {
        /// The name of the key, such as cache.example.org-1
        name: String,
        /// The folder for both files
        #[arg(long, value_name = "DIR", default_value = ".")]
        dir: Utf8PathBuf,
    },
    /// Print the public key of a secret key.
    Public {
        /// The file of the secret key
        file: Utf8PathBuf,
    },
}

/// What `--output json` prints.
#[derive(Serialize)]
struct Document {
    name: String,
    public_key: String,
    /// The files that were made.
    files: Vec<Utf8PathBuf>,
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit, Error> {
    let (key, files) = match &arguments.command {
        Command::Generate { name, dir } => generate(name, dir)?,
        Command::Public { file } => (SecretKey::read(file)?, Vec::new()),
    };
    let document = Document { name: key.name().to_owned(), public_key: key.public().to_string(), files };
    super::show(arguments.output, &document, |document| Text::of(&document.public_key))?;
    Ok(Exit::Done)
}

fn generate(name: &str, dir: &Utf8Path) -> Result<(SecretKey, Vec<Utf8PathBuf>), Error> {
    let key = SecretKey::generate(name)?;
    let (secret, public) = (dir.join(format!("{name}.key")), dir.join(format!("{name}.pub")));
    key.write(&secret)?;
    vcstore::atomic::replace(&public, format!("{}\n", key.public()).as_bytes())
        .map_err(Error::io("writing", &public))?;
    Ok((key, vec![secret, public]))
}
