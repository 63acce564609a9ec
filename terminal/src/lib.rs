//! How vcbuild and vcdist speak to people: exit codes, errors with their causes and a way out, output formats, and the
//! few text forms (byte counts, tables) that both print or read.
//!
//! Everything that either prints goes through here, and a lint refuses the other ways. What comes from outside is therefore shown
//! escaped without anybody thinking of it: [`Text`] is made of lines, and no value in a line can end it, hide in it or steer the
//! terminal; errors, the log, live lines, JSON documents and what clap says of a command line are treated alike. Passwords
//! and tokens of addresses are masked on the same way.

#![allow(clippy::disallowed_methods, reason = "this is where it is printed")]

mod address;
mod documents;
mod escape;
mod exit;
mod json;
mod live;
mod log;
mod page;
mod print;
mod quantity;
mod report;
mod start;
mod text;

pub use address::{has_secret, masked};
pub use escape::visible;
pub use exit::Exit;
pub use live::{Bar, Live, Spinner, ask_hidden};
pub use log::log_to_stderr;
pub use page::Text;
pub use print::{Output, print, print_json, say, say_text, tell, tell_text};
pub use quantity::{parse_bytes, parse_number};
pub use report::report;
pub use start::{start, start_documented};
pub use text::{Table, bytes, duration};
