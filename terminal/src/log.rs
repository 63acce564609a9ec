//! The log on standard error: one line an event, whatever is in it.

use std::io::{self, Write};

use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{Format, Full, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::escape::visible;
use crate::print::to_stderr;
use crate::report::shows_colours;

/// What the names of the crates begin with whose log `-v` is about.
const OURS: &str = "vc";

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
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(format!("warn,kube_client=off,{OURS}={level}")));
    let plain = Format::default().without_time().with_target(false).with_ansi(false);
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        // Of a log that cannot be written it would tell on the same stderr, and panic.
        .log_internal_errors(false)
        .event_format(Line { plain, colours: shows_colours() })
        .with_env_filter(filter)
        .with_writer(|| Log)
        .finish();
    // A second call in one process, as tests make, keeps the first subscriber.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// An event as one line that shows all that is in it.
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
