//! The options on every command line of the system's `ssh`, regardless of its user's configuration.

/// Disables forwarding, and commands on this machine.
pub const NOTHING_LENT: [&str; 4] =
    ["ClearAllForwardings=yes", "ForwardAgent=no", "ForwardX11=no", "PermitLocalCommand=no"];

/// The required options if a program of the project runs at the other end: no prompts, no other remote command, and no
/// forwarding. `ssh` uses the first value of a keyword, so these come before all others.
pub fn must() -> impl Iterator<Item = &'static str> {
    ["BatchMode=yes", "RequestTTY=no", "RemoteCommand=none", "EscapeChar=none"].into_iter().chain(NOTHING_LENT)
}

/// Returns the arguments for options in the form `KEYWORD=VALUE`.
pub fn arguments<S: AsRef<str>>(options: impl IntoIterator<Item = S>) -> impl Iterator<Item = String> {
    options.into_iter().flat_map(|option| ["-o".to_owned(), option.as_ref().to_owned()])
}
