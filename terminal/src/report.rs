//! What a command prints when it ends: one JSON document on stdout, or an error on stderr.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;

use clap::ValueEnum;
use miette::Diagnostic;
use serde::Serialize;

/// The crates whose log `-v` is about.
const OURS: [&str; 3] = ["vcbuild", "vcdist", "vcstore"];

/// What a command prints on stdout.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Text for people.
    #[default]
    Text,
    /// One JSON document with stable keys.
    Json,
}

impl Output {
    /// Prints what a command found: the document, or what `text` makes of it for people.
    ///
    /// # Errors
    /// As [`print_text`].
    pub fn print<T: Serialize>(self, document: &T, text: impl FnOnce(&T) -> String) -> io::Result<()> {
        match self {
            Self::Json => print_json(document),
            Self::Text => print_text(&text(document)),
        }
    }
}

/// Prints `error` on stderr: what was attempted, then each cause on its own line, then what to do about it.
///
/// A cause whose text its parent already ends with is left out, so that no reader meets the same words twice.
pub fn report(error: &dyn Diagnostic) {
    // Where stderr cannot be written to, the exit code says what can still be said.
    let _ = io::stderr().lock().write_all(describe(error, style()).as_bytes());
}

/// Prints one JSON document and a newline on stdout.
///
/// # Errors
/// As [`print_text`].
pub fn print_json<T: Serialize>(document: &T) -> io::Result<()> {
    let write = || {
        let mut stdout = io::stdout().lock();
        serde_json::to_writer_pretty(&mut stdout, document)?;
        writeln!(stdout)
    };
    unless_left(write())
}

/// Prints text for people on stdout, without control characters that may be in what it is about.
///
/// # Errors
/// When stdout cannot be written to; not when who read it went away, as `head` does: they have read enough.
pub fn print_text(text: &str) -> io::Result<()> {
    unless_left(io::stdout().lock().write_all(visible(text).as_bytes()))
}

fn unless_left(written: io::Result<()>) -> io::Result<()> {
    written.or_else(|error| if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) })
}

/// The text with control characters spelt out, other than those that part lines and columns: a name out of an archive or a
/// registry must not move the cursor, hide what was printed, or retitle the terminal of whoever looks at it.
fn visible(text: &str) -> Cow<'_, str> {
    let hidden = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if !text.contains(hidden) {
        return Cow::Borrowed(text);
    }
    let spelt = |c: char| if hidden(c) { c.escape_unicode().to_string() } else { c.to_string() };
    Cow::Owned(text.chars().map(spelt).collect())
}

/// Sends log events to stderr: warnings by default, more with `-v` (`verbosity` 1 and up) or as `RUST_LOG` says.
pub fn log_to_stderr(verbosity: u8) {
    let level = match verbosity {
        0 => "warn",
        1 => "info",
        2 => "debug",
        _ => "trace",
    };
    // What the libraries below log is for their authors; the Kubernetes client even calls a failed request an error, which
    // ours says again with what it was for.
    let ours = OURS.map(|name| format!("{name}={level}")).join(",");
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(format!("warn,kube_client=off,{ours}")));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| Log)
        // Of a log that cannot be written it would tell on the same stderr, and panic.
        .log_internal_errors(false)
        .with_ansi(style().is_some())
        .without_time()
        .with_target(false)
        .finish();
    // A second call in one process, as tests make, keeps the first subscriber.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// What has to be done around a line of the log: whoever draws on the terminal makes room for it.
type Around = dyn Fn(&mut dyn FnMut()) + Send + Sync;

static AROUND: OnceLock<Box<Around>> = OnceLock::new();

/// From now on lines of the log are written by calling the given function within `around`. The first call in a process
/// counts.
pub fn around_log(around: impl Fn(&mut dyn FnMut()) + Send + Sync + 'static) {
    let _ = AROUND.set(Box::new(around));
}

/// Standard error, for the log.
struct Log;

impl Write for Log {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let mut written = Ok(0);
        let mut write = || written = io::stderr().write(buffer);
        match AROUND.get() {
            Some(around) => around(&mut write),
            None => write(),
        }
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Bold red and reset, where the terminal shows colours and the user has not set `NO_COLOR`.
fn style() -> Option<(&'static str, &'static str)> {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty()) || !io::stderr().is_terminal();
    (!plain).then_some(("\u{1b}[1;31m", "\u{1b}[0m"))
}

fn describe(error: &dyn Diagnostic, style: Option<(&str, &str)>) -> String {
    let (on, off) = style.unwrap_or_default();
    let mut text = format!("{on}error:{off} {}\n", visible(&error.to_string()));
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(this) = cause {
        let words = this.to_string();
        if !said.ends_with(&words) {
            text += &format!("  because: {}\n", visible(words.trim_end()).replace('\n', "\n    "));
            said = words;
        }
        cause = this.source();
    }
    if let Some(help) = error.help() {
        text += &format!("  help: {}\n", visible(help.to_string().trim_end()).replace('\n', "\n    "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{describe, unless_left, visible};

    #[derive(Debug)]
    struct Boxed(&'static str, Option<Box<Boxed>>);
    impl std::fmt::Display for Boxed {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(self.0)
        }
    }
    impl std::error::Error for Boxed {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            self.1.as_deref().map(|e| e as _)
        }
    }
    impl miette::Diagnostic for Boxed {
        fn help<'a>(&'a self) -> Option<Box<dyn std::fmt::Display + 'a>> {
            Some(Box::new("do this"))
        }
    }

    #[test]
    fn an_error_shows_its_causes_once_and_what_to_do() {
        let error =
            Boxed("reading a: not found", Some(Box::new(Boxed("not found", Some(Box::new(Boxed("ENOENT", None)))))));
        assert_eq!(describe(&error, None), "error: reading a: not found\n  because: ENOENT\n  help: do this\n");
    }

    #[test]
    fn what_would_steer_a_terminal_is_spelt_out() {
        assert_eq!(visible("a\tb\nç €"), "a\tb\nç €");
        assert_eq!(visible("\u{1b}]0;x\u{7} \r\u{9b}2J"), "\\u{1b}]0;x\\u{7} \\u{d}\\u{9b}2J");
        let error = Boxed("reading \u{1b}[2J", Some(Box::new(Boxed("\u{8}", None))));
        let shown = describe(&error, Some(("<", ">")));
        assert_eq!(shown, "<error:> reading \\u{1b}[2J\n  because: \\u{8}\n  help: do this\n");
    }

    #[test]
    fn a_reader_that_went_away_is_no_error_and_a_full_disk_is() {
        let written = |kind: std::io::ErrorKind| unless_left(Err(kind.into())).is_ok();
        assert!(written(std::io::ErrorKind::BrokenPipe));
        assert!(!written(std::io::ErrorKind::StorageFull));
    }
}
