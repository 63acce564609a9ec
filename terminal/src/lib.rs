//! The terminal output of vcbuild and vcdist: exit codes, errors with their causes and a help text, output formats, and
//! the common text forms (byte counts, tables) that both print or parse.
//!
//! All output goes through this crate, and a lint forbids other ways. So untrusted text is always escaped: [`Text`]
//! consists of lines, and no value in a line can end it, hide in it or control the terminal. The same applies to
//! errors, the log, live lines, JSON documents and clap's messages. Passwords and tokens in URLs are masked in the same
//! way.

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
mod reference;
mod report;
mod start;
mod text;

pub use address::{has_secret, masked};
pub use documents::with_documents;
pub use escape::visible;
pub use exit::Exit;
pub use live::{Bar, Live, Spinner, ask_hidden};
pub use log::log_to_stderr;
pub use page::Text;
pub use print::{Output, print, print_json, say, say_text, tell, tell_text};
pub use quantity::{parse_bytes, parse_number};
pub use reference::reference;
pub use report::report;
pub use start::{start, start_documented};
pub use text::{Table, bytes, duration};
