//! Whether this run may use the network. Whatever opens a connection asks for a [`Permit`] first, and cannot be made
//! without one: so nothing can forget `--offline`.

use std::error::Error as StdError;

/// The network, as this run may use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Network {
    /// It may be used.
    #[default]
    Open,
    /// Nothing is fetched: what is not at hand is missing.
    Offline,
}

/// The right to open connections.
#[derive(Debug, Clone, Copy)]
pub struct Permit(());

/// Something that is not at hand, and that may not be fetched.
#[derive(Debug, Clone, thiserror::Error, miette::Diagnostic)]
#[error("{attempt}: it is not at hand, and --offline forbids to fetch it")]
#[diagnostic(help("run the command once without --offline: what it fetches stays in the store"))]
pub struct Offline {
    attempt: String,
}

impl Network {
    /// The network of a command line.
    #[must_use]
    pub fn new(offline: bool) -> Self {
        if offline { Self::Offline } else { Self::Open }
    }

    /// The right to open connections, for what is attempted ("pulling base debian:bookworm-slim").
    ///
    /// # Errors
    /// When the network may not be used.
    pub fn permit(self, attempt: impl Into<String>) -> Result<Permit, Offline> {
        match self {
            Self::Open => Ok(Permit(())),
            Self::Offline => Err(Offline { attempt: attempt.into() }),
        }
    }
}

/// What a failed request failed with and what that came from, in one line. The address is left out: whoever tells has said it
/// already.
pub(crate) fn causes(error: &(dyn StdError + 'static)) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        let text = text.split(" for url (").next().unwrap_or_default();
        if words.last().is_none_or(|last| last != text) {
            words.push(text.to_owned());
        }
        next = error.source();
    }
    words.join(": ")
}

#[cfg(test)]
mod tests {
    use super::Network;

    #[test]
    fn offline_gives_no_permit_and_says_for_what() {
        assert!(Network::new(false).permit("x").is_ok());
        let refused = Network::new(true).permit("fetching a").unwrap_err();
        assert_eq!(refused.to_string(), "fetching a: it is not at hand, and --offline forbids to fetch it");
    }
}
