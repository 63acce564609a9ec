//! What must hold whoever's SSH is used, over the system's ssh.

#[path = "push.rs"]
mod push;
#[path = "reach.rs"]
mod reach;

/// As `--ssh` has it.
const SSH: &str = "system";
