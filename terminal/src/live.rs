//! Live output on standard error while a command runs on an interactive terminal: spinners and bars, and lines above
//! them.

use std::io::{self, IsTerminal};
use std::sync::OnceLock;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::escape::visible;

/// The interval at which spinners are redrawn: short enough to look smooth, long enough to cost nothing.
const TICK: Duration = Duration::from_millis(120);

/// The template of a bar's line: name, bar, size, rate, remaining time, last message.
const BAR: &str = "{prefix:<20!} {bar:24} {bytes:>10}/{total_bytes:<10} {bytes_per_sec:>12} {eta:>4} {msg}";

/// All live lines of the process.
static LINES: OnceLock<MultiProgress> = OnceLock::new();

/// The live lines of standard error.
#[derive(Debug, Clone)]
pub struct Live(&'static MultiProgress);

/// A spinner for a running step, with its text and elapsed time. It disappears when dropped.
#[derive(Debug)]
pub struct Spinner(ProgressBar);

/// A bar of bytes that stays on the screen. Clones are the same bar.
#[derive(Debug, Clone)]
pub struct Bar(ProgressBar);

impl Live {
    /// Returns the live lines if standard error is interactive: a terminal that can move its cursor, outside of CI.
    #[must_use]
    pub fn on_stderr() -> Option<Self> {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb" || term.is_empty());
        let live = io::stderr().is_terminal() && !dumb && !set("CI");
        live.then(|| Self(LINES.get_or_init(MultiProgress::new)))
    }

    /// Adds a spinner with this text.
    #[must_use]
    pub fn spinner(&self, prefix: &str, message: &str) -> Spinner {
        let line = self.0.add(ProgressBar::new_spinner());
        line.set_style(spinner_style());
        line.set_prefix(visible(prefix).into_owned());
        line.set_message(visible(message).into_owned());
        line.enable_steady_tick(TICK);
        Spinner(line)
    }

    /// Adds a bar with this name, below all others or above `below`.
    #[must_use]
    pub fn bar(&self, name: &str, below: Option<&Bar>) -> Bar {
        let style = ProgressStyle::with_template(BAR).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::new(0).with_style(style).with_prefix(visible(name).into_owned());
        Bar(match below {
            Some(below) => self.0.insert_before(&below.0, bar),
            None => self.0.add(bar),
        })
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

impl Bar {
    /// Sets the total number of bytes.
    pub fn set_length(&self, bytes: u64) {
        self.0.set_length(bytes);
    }

    /// Sets the number of transferred bytes.
    pub fn set_position(&self, bytes: u64) {
        self.0.set_position(bytes);
    }

    /// Says something behind the bar.
    pub fn say(&self, message: &str) {
        self.0.set_message(visible(message).into_owned());
    }

    /// Leaves the bar as it is, with this last message or the one it has.
    pub fn finish(&self, message: Option<&str>) {
        match message {
            Some(message) => self.0.finish_with_message(visible(message).into_owned()),
            None => self.0.finish(),
        }
    }
}

/// Prompts on the terminal for input without echo. Hides the live lines meanwhile.
///
/// # Errors
/// Returns an error if there is no terminal, or if it cannot be read from.
pub fn ask_hidden(prompt: &str) -> io::Result<String> {
    let prompt = visible(prompt);
    let Some(lines) = LINES.get() else { return rpassword::prompt_password(prompt) };
    // A failure to clear the lines must not prevent the prompt.
    let _ = lines.clear();
    lines.set_draw_target(ProgressDrawTarget::hidden());
    let answer = rpassword::prompt_password(prompt);
    lines.set_draw_target(ProgressDrawTarget::stderr());
    answer
}

/// Writes to the terminal above the live lines.
pub(crate) fn above(write: impl FnOnce()) {
    match LINES.get() {
        Some(lines) => lines.suspend(write),
        None => write(),
    }
}

fn spinner_style() -> ProgressStyle {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let template =
        if plain { "{spinner} {prefix}{msg}  {elapsed}" } else { "{spinner:.cyan} {prefix}{msg}  {elapsed:.dim}" };
    // A template that cannot be parsed would be a defect, which the tests would detect; the default does no harm.
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner());
    style.tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ ")
}

#[cfg(test)]
mod tests {
    use indicatif::ProgressStyle;

    #[test]
    fn templates_parse() {
        assert!(ProgressStyle::with_template(super::BAR).is_ok());
        super::spinner_style();
    }
}
