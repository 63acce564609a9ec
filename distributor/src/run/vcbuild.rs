//! Builds images by `vcbuild images`, the other tool of this workspace, as a child process. Uses nothing else of this crate.

use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use camino::Utf8Path;
use miette::Diagnostic;
use serde::Deserialize;
use thiserror::Error;
use tokio::process::Command;

/// Why nothing was built.
#[derive(Debug, Error, Diagnostic)]
#[non_exhaustive]
pub enum Error {
    /// There is no such program.
    #[error("building the images: starting {program}")]
    #[diagnostic(help("install vcbuild beside vcdist, or into a folder of PATH"))]
    Start {
        /// The program.
        program: String,
        /// Why.
        source: io::Error,
    },

    /// It failed.
    #[error("building the images: `{command}` ended with {status}")]
    #[diagnostic(help("its messages are above; nothing was changed in the cluster"))]
    Failed {
        /// The command line.
        command: String,
        /// How it ended.
        status: String,
    },

    /// It took too long.
    #[error("building the images: `{command}` was ended after {}", vcterminal::duration(*after))]
    #[diagnostic(help(
        "virtualcluster_build_timeout sets the limit; what was built until then is kept and used again"
    ))]
    TooLong {
        /// The command line.
        command: String,
        /// The limit.
        after: Duration,
    },

    /// Its document cannot be read.
    #[error("building the images: reading what `{command}` printed")]
    #[diagnostic(help(
        "vcbuild and vcdist have to be of the same release: compare `vcbuild --version` with `vcdist --version`"
    ))]
    Document {
        /// The command line.
        command: String,
        /// Why.
        source: serde_json::Error,
    },
}

/// What vcbuild prints, as far as it is read here.
#[derive(Debug, Deserialize)]
pub struct Built {
    /// The images.
    pub images: Vec<BuiltImage>,
}

/// An image that it built.
#[derive(Debug, Deserialize)]
pub struct BuiltImage {
    /// The component.
    pub component: String,
    /// Its name in the store.
    pub reference: String,
}

/// The program: beside this one, else in `PATH`.
fn program() -> PathBuf {
    let beside = std::env::current_exe().ok().and_then(|this| Some(this.parent()?.join("vcbuild")));
    beside.filter(|path| path.is_file()).unwrap_or_else(|| "vcbuild".into())
}

/// The command line for people.
#[must_use]
pub fn command_line(arguments: &[String]) -> String {
    let words = ["vcbuild", "images"].into_iter().chain(arguments.iter().map(String::as_str));
    shlex::try_join(words).unwrap_or_else(|_| "vcbuild images".to_owned())
}

/// Runs `vcbuild images` with these arguments on the store, and ends it after `limit`.
///
/// # Errors
/// When it is not there, fails, or takes too long.
pub async fn build(arguments: &[String], store: &Utf8Path, limit: Option<Duration>) -> Result<Built, Error> {
    let (program, command) = (program(), command_line(arguments));
    let start = |source| Error::Start { program: program.display().to_string(), source };
    let mut child = Command::new(&program);
    child.args(["images", "--output", "json", "--store", store.as_str()]).args(arguments);
    child.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    let ended = child.spawn().map_err(start)?.wait_with_output();
    let output = match limit {
        Some(after) => {
            let ended = tokio::time::timeout(after, ended).await;
            ended.map_err(|_| Error::TooLong { command: command.clone(), after })?
        }
        None => ended.await,
    };
    let output = output.map_err(start)?;
    if !output.status.success() {
        return Err(Error::Failed { command, status: output.status.to_string() });
    }
    serde_json::from_slice(&output.stdout).map_err(|source| Error::Document { command, source })
}

#[cfg(test)]
mod tests {
    use super::command_line;

    #[test]
    fn people_can_run_the_command_line_themselves() {
        let arguments = ["--source-dir".to_owned(), "a folder".to_owned()];
        assert_eq!(command_line(&arguments), "vcbuild images --source-dir 'a folder'");
    }
}
