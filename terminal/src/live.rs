//! What is drawn on standard error while a command runs, where somebody watches it: spinners and bars, and lines above them.

use std::io::{self, IsTerminal};
use std::sync::OnceLock;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::escape::visible;

/// How often spinners are drawn anew: often enough that they look alive, seldom enough to cost nothing.
const TICK: Duration = Duration::from_millis(120);

/// A bar's line: whose, how far, how much, how fast, how long yet, what was said last.
const BAR: &str = "{prefix:<20!} {bar:24} {bytes:>10}/{total_bytes:<10} {bytes_per_sec:>12} {eta:>4} {msg}";

/// All lines of the process that are drawn.
static LINES: OnceLock<MultiProgress> = OnceLock::new();

/// The live lines of standard error.
#[derive(Debug, Clone)]
pub struct Live(&'static MultiProgress);

/// A step at work: a spinner, its message, and how long it has been running. It goes when this is dropped.
#[derive(Debug)]
pub struct Spinner(ProgressBar);

/// A bar of bytes that stays where it is. Clones are the same bar.
#[derive(Debug, Clone)]
pub struct Bar(ProgressBar);

impl Live {
    /// Standard error, where somebody watches it: a terminal that can move its cursor, and no CI.
    #[must_use]
    pub fn on_stderr() -> Option<Self> {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb" || term.is_empty());
        let live = io::stderr().is_terminal() && !dumb && !set("CI");
        live.then(|| Self(LINES.get_or_init(MultiProgress::new)))
    }

    /// A spinner with this message.
    #[must_use]
    pub fn spinner(&self, prefix: &str, message: &str) -> Spinner {
        let line = self.0.add(ProgressBar::new_spinner());
        line.set_style(spinner_style());
        line.set_prefix(visible(prefix).into_owned());
        line.set_message(visible(message).into_owned());
        line.enable_steady_tick(TICK);
        Spinner(line)
    }

    /// A bar of this name, below all others or above `below`.
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
    /// How many bytes are all.
    pub fn set_length(&self, bytes: u64) {
        self.0.set_length(bytes);
    }

    /// How many bytes have gone.
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

/// Asks on the terminal for something that is not shown while it is typed. What is drawn goes out of the way meanwhile.
///
/// # Errors
/// When there is no terminal, or it cannot be read from.
pub fn ask_hidden(prompt: &str) -> io::Result<String> {
    let prompt = visible(prompt);
    let Some(lines) = LINES.get() else { return rpassword::prompt_password(prompt) };
    // That nothing can be cleared is no reason not to ask.
    let _ = lines.clear();
    lines.set_draw_target(ProgressDrawTarget::hidden());
    let answer = rpassword::prompt_password(prompt);
    lines.set_draw_target(ProgressDrawTarget::stderr());
    answer
}

/// Writes to the terminal above what is drawn on it.
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
    // A template that does not parse would be a defect of this file, which the tests would show; the default is no harm.
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
