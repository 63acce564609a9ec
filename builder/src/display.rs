//! The progress of a build on standard error: a live line for each running step on a terminal, otherwise plain lines
//! only.

use std::time::{Duration, Instant};

use vcterminal::{Live, Spinner};

/// The minimum duration of a step that is reported when it ends.
const LONG: Duration = Duration::from_secs(1);

/// The output of progress lines.
#[derive(Debug, Clone)]
pub(crate) struct Display {
    live: Option<Live>,
}

/// A running step. Removes its live line on drop.
#[derive(Debug)]
pub(crate) struct Running {
    _line: Option<Spinner>,
    _told: Option<EndLine>,
}

/// The line that reports the end of a step that is not an action; actions have their own lines.
#[derive(Debug)]
struct EndLine {
    text: String,
    start: Instant,
}

impl Display {
    /// Returns a display on standard error, with live lines if it is a terminal.
    pub(crate) fn on_stderr() -> Self {
        Self { live: Live::on_stderr() }
    }

    /// Prints a permanent line above the live ones.
    pub(crate) fn line(&self, text: &str) {
        vcterminal::say(text);
    }

    /// Shows a step that is not an action as running. Without live lines, prints its text once. Reports its duration at
    /// the end, if it was long.
    pub(crate) fn step(&self, text: &str) -> Running {
        if self.live.is_none() {
            self.line(text);
        }
        let told = EndLine { text: text.to_owned(), start: Instant::now() };
        Running { _told: Some(told), ..self.show("", text) }
    }

    /// Shows an action as running: a spinner, its kind and name, and the elapsed time.
    pub(crate) fn running(&self, kind: &str, name: &str) -> Running {
        self.show(&format!("{kind:<9}"), name)
    }

    fn show(&self, prefix: &str, message: &str) -> Running {
        Running { _line: self.live.as_ref().map(|live| live.spinner(prefix, message)), _told: None }
    }
}

impl Drop for EndLine {
    fn drop(&mut self) {
        if self.start.elapsed() >= LONG {
            vcterminal::say(format_args!("{}: {}", self.text, vcterminal::duration(self.start.elapsed())));
        }
    }
}
