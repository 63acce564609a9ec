//! The options of every `ssh` command line of ours, whatever its user's configuration has.

/// Nothing of this machine's is lent to the other, and nothing runs here.
pub const NOTHING_LENT: [&str; 4] =
    ["ClearAllForwardings=yes", "ForwardAgent=no", "ForwardX11=no", "PermitLocalCommand=no"];

/// What must hold where a program of ours is at the other end: nothing is asked, what runs there is what we say, and nothing
/// is lent. `ssh` takes the first value it is given for a keyword, so these come before all others.
pub fn must() -> impl Iterator<Item = &'static str> {
    ["BatchMode=yes", "RequestTTY=no", "RemoteCommand=none", "EscapeChar=none"].into_iter().chain(NOTHING_LENT)
}

/// The arguments behind options, `KEYWORD=VALUE` each.
pub fn arguments<S: AsRef<str>>(options: impl IntoIterator<Item = S>) -> impl Iterator<Item = String> {
    options.into_iter().flat_map(|option| ["-o".to_owned(), option.as_ref().to_owned()])
}
