//! What must hold whoever's SSH is used, over the embedded SSH.

#[path = "connection.rs"]
mod connection;
#[path = "push.rs"]
mod push;

/// As `--ssh` has it.
const SSH: &str = "embedded";
