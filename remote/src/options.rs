//! What the system's `ssh` is told on every command line of ours, whatever its user's configuration says.

/// What must hold: nothing is asked, nothing is forwarded, nothing runs on this machine, and what runs there is what we say.
/// `ssh` takes the first value it is given for a keyword, so these come before all others.
pub const MUST: [&str; 8] = [
    "BatchMode=yes",
    "RequestTTY=no",
    "RemoteCommand=none",
    "ClearAllForwardings=yes",
    "ForwardAgent=no",
    "ForwardX11=no",
    "PermitLocalCommand=no",
    "EscapeChar=none",
];

/// The arguments behind options, `KEYWORD=VALUE` each.
pub fn arguments<S: AsRef<str>>(options: impl IntoIterator<Item = S>) -> impl Iterator<Item = String> {
    options.into_iter().flat_map(|option| ["-o".to_owned(), option.as_ref().to_owned()])
}
