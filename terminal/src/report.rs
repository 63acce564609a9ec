//! The display of an error on stderr: what was attempted, each cause, and what to do about it.

use std::io::{self, IsTerminal};

use miette::Diagnostic;

use crate::escape::visible_lines;
use crate::print::to_stderr;

/// Prints `error` on stderr: what was attempted, then each cause on its own line, then what to do about it.
///
/// A cause is left out if the message above it already ends with the same text. The messages of programs and parsers
/// may have several lines: all but the first are indented, so that none looks like the program's own.
pub fn report(error: &dyn Diagnostic) {
    to_stderr(describe(error, style()).as_bytes());
}

/// Whether stderr is a terminal and the user has not set `NO_COLOR`.
pub(crate) fn shows_colours() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Returns the sequences for bold red and reset, if colours are shown.
pub(crate) fn style() -> Option<(&'static str, &'static str)> {
    shows_colours().then_some(("\u{1b}[1;31m", "\u{1b}[0m"))
}

fn describe(error: &dyn Diagnostic, style: Option<(&str, &str)>) -> String {
    let (on, off) = style.unwrap_or_default();
    let mut text = format!("{on}error:{off} {}\n", indented(&error.to_string()));
    let mut last = error.to_string();
    let mut cause = error.source();
    while let Some(this) = cause {
        let message = this.to_string();
        if !last.ends_with(&message) {
            text += &format!("  because: {}\n", indented(&message));
            last = message;
        }
        cause = this.source();
    }
    if let Some(help) = error.help() {
        text += &format!("  help: {}\n", indented(&help.to_string()));
    }
    text
}

fn indented(message: &str) -> String {
    visible_lines(message.trim_end()).replace('\n', "\n    ")
}

#[cfg(test)]
mod tests {
    use super::describe;

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
        let error = Boxed("reading \u{1b}[2J\nhelp: run this\u{202e}", Some(Box::new(Boxed("\u{8}", None))));
        let shown = describe(&error, Some(("<", ">")));
        assert_eq!(
            shown,
            "<error:> reading \\u{1b}[2J\n    help: run this\\u{202e}\n  because: \\u{8}\n  help: do this\n"
        );
    }
}
