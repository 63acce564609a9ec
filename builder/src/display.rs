//! What a build says on standard error while it runs: on a terminal one live line for each step at work, elsewhere plain
//! lines alone.

use std::time::{Duration, Instant};

use vcterminal::{Live, Spinner};

/// From when on what a step took is worth a line.
const LONG: Duration = Duration::from_secs(1);

/// Where lines go.
#[derive(Debug, Clone)]
pub(crate) struct Display {
    live: Option<Live>,
}

/// A step at work. Its live line goes when this is dropped.
#[derive(Debug)]
pub(crate) struct Running {
    _line: Option<Spinner>,
    _told: Option<EndLine>,
}

/// What is said of a step when it ends: it is no action, whose line would say it.
#[derive(Debug)]
struct EndLine {
    text: String,
    start: Instant,
}

impl Display {
    /// Standard error, with live lines where somebody watches it.
    pub(crate) fn on_stderr() -> Self {
        Self { live: Live::on_stderr() }
    }

    /// Prints a line that stays, above the live ones.
    pub(crate) fn line(&self, text: &str) {
        vcterminal::say(text);
    }

    /// Shows something without a name of its own as being at work; where there are no live lines it is said once. What it took
    /// is said at its end, if that was long.
    pub(crate) fn step(&self, text: &str) -> Running {
        if self.live.is_none() {
            self.line(text);
        }
        let told = EndLine { text: text.to_owned(), start: Instant::now() };
        Running { _told: Some(told), ..self.show("", text) }
    }

    /// Shows an action as being at work: a spinner, its words, and how long it has been running.
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
