//! What must hold whoever's SSH is used, over the system's ssh.

#[path = "connection.rs"]
mod connection;
#[path = "push.rs"]
mod push;

/// As `--ssh` has it.
const SSH: &str = "system";
