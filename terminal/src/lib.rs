//! How vcbuild and vcdist speak to people: exit codes, errors with their causes and a way out, output formats, and the
//! few text forms (byte counts, tables) that both print.

mod exit;
mod report;
mod text;

pub use exit::Exit;
pub use report::{Output, around_log, log_to_stderr, print_json, report};
pub use text::{Table, bytes, duration};
