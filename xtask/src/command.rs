//! Runs programs: their stderr goes to the terminal, and an error contains the whole command.

use std::process::{Command, Stdio};

use camino::{Utf8Path, Utf8PathBuf};
use serde::de::DeserializeOwned;
use vcterminal::Text;

use crate::error::Error;

/// Returns the root of the repository.
pub(crate) fn root() -> Utf8PathBuf {
    Utf8Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(|| Utf8PathBuf::from("."), Utf8Path::to_owned)
}

/// Returns cargo's target folder.
pub(crate) fn target_dir() -> Utf8PathBuf {
    root().join(std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".to_owned()))
}

/// Returns a command of the cargo that runs this task.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Runs a command to its end; its output goes to the terminal.
pub(crate) fn run(command: &mut Command) -> Result<(), Error> {
    let status = command.status().map_err(|source| Error::Start { program: program(command), source })?;
    if status.success() { Ok(()) } else { Err(Error::Failed { command: text(command), status: status.to_string() }) }
}

/// Runs a command to its end at low priority. Prints its output as a whole, and only if it fails.
pub(crate) fn run_beside(command: &Command) -> Result<(), Error> {
    let mut nice = Command::new("nice");
    nice.arg("-n19").arg(command.get_program()).args(command.get_args()).stdin(Stdio::null());
    nice.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if let Some(folder) = command.get_current_dir() {
        nice.current_dir(folder);
    }
    let output = nice.output().map_err(|source| Error::Start { program: program(&nice), source })?;
    if output.status.success() {
        return Ok(());
    }
    let printed = [output.stdout, output.stderr].concat();
    vcterminal::say_text(Text::default().program(&String::from_utf8_lossy(&printed)));
    Err(Error::Failed { command: text(command), status: output.status.to_string() })
}

/// Runs a command to its end. Returns its stdout.
pub(crate) fn capture(command: &mut Command) -> Result<String, Error> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|source| Error::Start { program: program(command), source })?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    vcterminal::say_text(Text::default().program(&stdout));
    Err(Error::Failed { command: text(command), status: output.status.to_string() })
}

/// Runs a command to its end. Parses the JSON document on its stdout.
pub(crate) fn json<T: DeserializeOwned>(command: &mut Command) -> Result<T, Error> {
    let printed = capture(command)?;
    serde_json::from_str(&printed).map_err(|source| Error::Printed { command: text(command), source })
}

fn program(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

fn text(command: &Command) -> String {
    let arguments = command.get_args().map(|argument| argument.to_string_lossy());
    std::iter::once(command.get_program().to_string_lossy()).chain(arguments).collect::<Vec<_>>().join(" ")
}
