//! `vcbuild` as its users run it: the real program on real sources, read by other people's tools.

#![expect(clippy::unwrap_used, reason = "test code: a panic is a failed test")]

mod archives;
mod bases;
mod bench;
mod build_output;
mod cargo;
mod carried_inputs;
mod check;
mod command;
mod errors;
mod excluded_files;
mod file_placement;
mod folders;
mod git;
mod go_workspaces;
#[path = "../../../terminal/tests/shared/help_commands.rs"]
mod help_commands;
mod hostile;
mod images;
mod inspection;
mod lock;
mod memory;
mod offline;
mod prebuilt;
mod private_files;
mod projects;
mod sandboxed;
mod sources;
mod store;
mod terminal;
mod toolchains;
