//! The log on standard error: one line per event, regardless of its contents.

use std::io::{self, Write};

use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{Format, Full, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::escape::visible;
use crate::print::to_stderr;
use crate::report::shows_colours;

/// The name prefix of the crates to which `-v` applies.
const OURS: &str = "vc";

/// Sends log events to stderr: warnings by default, more with `-v` (`verbosity` 1 and up) or as set by `RUST_LOG`.
pub fn log_to_stderr(verbosity: u8) {
    let level = match verbosity {
        0 => "warn",
        1 => "info",
        2 => "debug",
        _ => "trace",
    };
    // The logs of libraries are for their authors; the Kubernetes client even logs a failed request as an error, which
    // the program's own error repeats with its context.
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(format!("warn,kube_client=off,{OURS}={level}")));
    let plain = Format::default().without_time().with_target(false).with_ansi(false);
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        // Otherwise, a log that cannot be written would be reported on the same stderr, with a panic.
        .log_internal_errors(false)
        .event_format(Line { plain, colours: shows_colours() })
        .with_env_filter(filter)
        .with_writer(|| Log)
        .finish();
    // A second call in one process, as in tests, keeps the first subscriber.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// Formats an event as one line without hidden characters.
struct Line {
    plain: Format<Full, ()>,
    colours: bool,
}

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        let mut line = String::new();
        self.plain.format_event(context, Writer::new(&mut line), event)?;
        let (line, level) = (line.trim(), event.metadata().level().as_str());
        let message = visible(line.strip_prefix(level).unwrap_or(line));
        let (on, off) = match *event.metadata().level() {
            _ if !self.colours => ("", ""),
            tracing::Level::ERROR => ("\u{1b}[31m", "\u{1b}[0m"),
            tracing::Level::WARN => ("\u{1b}[33m", "\u{1b}[0m"),
            tracing::Level::INFO => ("\u{1b}[32m", "\u{1b}[0m"),
            _ => ("\u{1b}[34m", "\u{1b}[0m"),
        };
        writeln!(writer, "{on}{level:>5}{off}{message}")
    }
}

/// Standard error, for the log.
struct Log;

impl Write for Log {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        to_stderr(buffer);
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
