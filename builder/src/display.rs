//! What a build says on standard error while it runs: on a terminal one live line for each step at work, elsewhere plain
//! lines alone.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// How often live lines are drawn anew: often enough that they look alive, seldom enough to cost nothing.
const TICK: Duration = Duration::from_millis(120);

/// From when on what a step took is worth a line.
const LONG: Duration = Duration::from_secs(1);

/// Where lines go.
#[derive(Debug, Clone)]
pub(crate) struct Display {
    live: Option<MultiProgress>,
}

/// A step at work. Its live line goes when this is dropped.
#[derive(Debug)]
pub(crate) struct Running {
    line: Option<ProgressBar>,
    told: Option<Told>,
}

/// What is said of a step when it ends: it is no action, whose line would say it.
#[derive(Debug)]
struct Told {
    display: Display,
    text: String,
    start: Instant,
}

impl Display {
    /// Standard error, with live lines where somebody watches it: a terminal that can move its cursor, and no CI.
    pub(crate) fn on_stderr() -> Self {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb" || term.is_empty());
        let live = io::stderr().is_terminal() && !dumb && !set("CI");
        let live = live.then(MultiProgress::new);
        if let Some(lines) = live.clone() {
            // What is logged meanwhile goes above the live lines, not through them.
            vcterminal::around_log(move |write| lines.suspend(write));
        }
        Self { live }
    }

    /// Prints a line that stays, above the live ones.
    pub(crate) fn line(&self, text: &str) {
        let written = match &self.live {
            Some(lines) => lines.println(text),
            None => writeln!(io::stderr(), "{text}"),
        };
        // Who closed standard error does not want to be told.
        let _ = written;
    }

    /// Shows something without a name of its own as being at work; where there are no live lines it is said once. What it took
    /// is said at its end, if that was long.
    pub(crate) fn step(&self, text: &str) -> Running {
        if self.live.is_none() {
            self.line(text);
        }
        let told = Told { display: self.clone(), text: text.to_owned(), start: Instant::now() };
        let mut running = self.show(String::new(), text);
        running.told = Some(told);
        running
    }

    /// Shows an action as being at work: a spinner, its words, and how long it has been running.
    pub(crate) fn running(&self, kind: &str, name: &str) -> Running {
        self.show(format!("{kind:<9}"), name)
    }

    fn show(&self, prefix: String, message: &str) -> Running {
        let line = self.live.as_ref().map(|lines| {
            let line = lines.add(ProgressBar::new_spinner());
            line.set_style(style());
            line.set_prefix(prefix);
            line.set_message(message.to_owned());
            line.enable_steady_tick(TICK);
            line
        });
        Running { line, told: None }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(line) = &self.line {
            line.finish_and_clear();
        }
        if let Some(Told { display, text, start }) = &self.told
            && start.elapsed() >= LONG
        {
            display.line(&format!("{text}: {}", vcterminal::duration(start.elapsed())));
        }
    }
}

fn style() -> ProgressStyle {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let template =
        if plain { "{spinner} {prefix}{msg}  {elapsed}" } else { "{spinner:.cyan} {prefix}{msg}  {elapsed:.dim}" };
    // A template that does not parse would be a defect of this file, which the tests would show; the default is no harm.
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner());
    style.tick_chars("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ ")
}
