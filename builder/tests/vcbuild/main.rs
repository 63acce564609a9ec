//! `vcbuild` as its users run it: the real program on real sources, read by other people's tools.

#![expect(clippy::unwrap_used, reason = "test code: a panic is a failed test")]

#[path = "../../../terminal/tests/shared/advice.rs"]
mod advice;
mod archives;
mod bases;
mod bench;
mod cargo;
mod carried;
mod check;
mod command;
mod confined;
mod errors;
mod folders;
mod git;
mod hostile;
mod images;
mod left_out;
mod lock;
mod memory;
mod offline;
mod placed;
mod prebuilt;
mod private;
mod projects;
mod see;
mod sources;
mod store;
mod terminal;
mod told;
mod toolchains;
mod workspaces;
