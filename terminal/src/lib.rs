//! How vcbuild and vcdist speak to people: exit codes, errors with their causes and a way out, output formats, and the
//! few text forms (byte counts, tables) that both print or read.

mod exit;
mod quantity;
mod report;
mod text;

pub use exit::Exit;
pub use quantity::{parse_bytes, parse_number};
pub use report::{Output, around_log, log_to_stderr, print_json, print_text, report};
pub use text::{Table, bytes, duration};
