//! What must hold whoever's SSH is used, over the embedded SSH.

#[path = "push.rs"]
mod push;
#[path = "reach.rs"]
mod reach;

/// As `--ssh` has it.
const SSH: &str = "embedded";
