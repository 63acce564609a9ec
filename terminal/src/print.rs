//! The only functions that write to standard output and standard error.

use std::fmt::Display;
use std::io::{self, Write};
use std::sync::OnceLock;

use clap::ValueEnum;
use serde::Serialize;

use crate::json::Escaped;
use crate::{Text, live};

/// The first error of writing progress output on stdout.
static LOST: OnceLock<io::Error> = OnceLock::new();

/// The output format of a command on stdout.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Text for people.
    #[default]
    Text,
    /// One JSON document with stable keys.
    Json,
}

impl Output {
    /// Prints the result of a command: the document, or the text that `text` creates from it.
    ///
    /// # Errors
    /// Returns an error like [`print()`].
    pub fn print<T: Serialize>(self, document: &T, text: impl FnOnce(&T) -> Text) -> io::Result<()> {
        match self {
            Self::Json => print_json(document),
            Self::Text => print(&text(document)),
        }
    }
}

/// Prints text for people on stdout.
///
/// # Errors
/// Returns an error if stdout cannot be written to. A reader that closes the pipe, such as `head`, does not cause an
/// error: the command continues to its end.
pub fn print(text: &Text) -> io::Result<()> {
    to_stdout(text.as_str().as_bytes())
}

/// Prints one JSON document and a newline on stdout.
///
/// # Errors
/// Returns an error like [`print()`].
pub fn print_json<T: Serialize + ?Sized>(document: &T) -> io::Result<()> {
    let mut bytes = Vec::new();
    document.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, Escaped::default()))?;
    bytes.push(b'\n');
    to_stdout(&bytes)
}

/// Prints a line on stdout while a command runs. A write error does not stop the command: [`crate::start`] reports it
/// at the end.
pub fn tell(line: impl Display) {
    tell_text(&Text::of(line));
}

/// Prints text on stdout while a command runs, like [`tell`].
pub fn tell_text(text: &Text) {
    if let Err(error) = print(text) {
        // The first error contains the reason.
        let _ = LOST.set(error);
    }
}

/// Returns the first error of writing progress output, if any.
pub(crate) fn lost() -> Option<&'static io::Error> {
    LOST.get()
}

/// Prints one line on stderr, above the live lines. Ignores errors, because nobody would see them.
pub fn say(line: impl Display) {
    to_stderr(Text::of(line).as_str().as_bytes());
}

/// Prints text on stderr, like [`say`].
pub fn say_text(text: &Text) {
    to_stderr(text.as_str().as_bytes());
}

pub(crate) fn to_stderr(bytes: &[u8]) {
    live::above(|| {
        // Only the exit code can still report a failure.
        let _ = io::stderr().lock().write_all(bytes);
    });
}

fn to_stdout(bytes: &[u8]) -> io::Result<()> {
    let mut written = Ok(());
    live::above(|| {
        let mut stdout = io::stdout().lock();
        written = unless_left(stdout.write_all(bytes).and_then(|()| stdout.flush()));
    });
    written
}

pub(crate) fn unless_left(written: io::Result<()>) -> io::Result<()> {
    written.or_else(|error| if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) })
}

#[cfg(test)]
mod tests {
    use super::unless_left;

    #[test]
    fn a_reader_that_went_away_is_no_error_and_a_full_disk_is() {
        let written = |kind: std::io::ErrorKind| unless_left(Err(kind.into())).is_ok();
        assert!(written(std::io::ErrorKind::BrokenPipe));
        assert!(!written(std::io::ErrorKind::StorageFull));
    }
}
