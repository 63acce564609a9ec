//! The start and end of a command: parses its command line, and ensures that every outcome has a message and an exit
//! code.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};

use clap::error::{ContextValue, ErrorKind};
use clap::{ArgMatches, Command, Parser};

use crate::documents::{self, with_documents};
use crate::escape::{visible, visible_lines};
use crate::print::{lost, to_stderr, unless_left};
use crate::report::style;
use crate::{Exit, Text, say_text};

/// Parses the command line of this process and runs `command` with it.
///
/// A panic is reported briefly as a defect, and ends the command like any other failure ([`Exit::Failed`]).
pub fn start<C: Parser>(command: impl FnOnce(C) -> Exit) -> Exit {
    run(C::command(), |_, given| C::from_arg_matches(given).map(command))
}

/// Does the same for a command that also prints its shell completions (`completions SHELL`) and writes its manual
/// pages.
pub fn start_documented<C: Parser>(command: impl FnOnce(C) -> Exit) -> Exit {
    run(with_documents(C::command()), |about, given| match documents::write(about, given) {
        Some(exit) => Ok(exit),
        None => C::from_arg_matches(given).map(command),
    })
}

fn run(mut about: Command, command: impl FnOnce(&mut Command, &ArgMatches) -> Result<Exit, clap::Error>) -> Exit {
    let program = format!("{} {}", about.get_name(), about.get_version().unwrap_or_default());
    panic::set_hook(Box::new(move |panic| say_text(&defect(&program, panic))));
    let started = panic::catch_unwind(AssertUnwindSafe(|| {
        let given = about.try_get_matches_from_mut(std::env::args_os());
        let ended = given.and_then(|given| command(&mut about, &given));
        ended.map_err(|error| error.format(&mut about)).unwrap_or_else(told)
    }));
    match (started.unwrap_or(Exit::Failed), lost()) {
        (Exit::Done, Some(why)) => unwritten(why),
        (exit, _) => exit,
    }
}

/// Prints clap's output: what was requested, or what is wrong with the command line.
fn told(mut error: clap::Error) -> Exit {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return match unless_left(error.print()) {
            Ok(()) => Exit::Done,
            Err(error) => unwritten(&error),
        };
    }
    let given: Vec<_> = error.context().map(|(kind, value)| (kind, value.clone())).collect();
    for (kind, value) in given {
        let value = match value {
            ContextValue::String(text) => ContextValue::String(visible(&text).into_owned()),
            ContextValue::Strings(texts) => {
                ContextValue::Strings(texts.iter().map(|text| visible(text).into_owned()).collect())
            }
            other => other,
        };
        error.insert(kind, value);
    }
    let (on, off) = style().unwrap_or_default();
    let text = visible_lines(&error.render().to_string());
    let text = match text.strip_prefix("error:") {
        Some(rest) => format!("{on}error:{off}{rest}"),
        None => text,
    };
    to_stderr(text.as_bytes());
    Exit::Usage
}

fn unwritten(why: &io::Error) -> Exit {
    let (on, off) = style().unwrap_or_default();
    to_stderr(format!("{on}error:{off} writing to standard output\n  because: {why}\n").as_bytes());
    Exit::Failed
}

/// Formats the message about a panic.
fn defect(program: &str, panic: &PanicHookInfo<'_>) -> Text {
    let payload = panic.payload();
    let message =
        payload.downcast_ref::<String>().map(String::as_str).or_else(|| payload.downcast_ref::<&str>().copied());
    let place = panic.location().map(|place| format!(" ({}:{})", place.file(), place.line())).unwrap_or_default();
    let mut text = Text::of(format_args!(
        "error: {program} has a defect: {}{place}",
        message.unwrap_or("it stopped without a message")
    ));
    text.line(
        "  help: please report it with this message, the command line, and what RUST_BACKTRACE=1 in the environment adds to it",
    );
    let trace = Backtrace::capture();
    if trace.status() == BacktraceStatus::Captured {
        text.program(&trace.to_string());
    }
    text
}
