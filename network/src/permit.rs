//! Whether this run may use the network. Whatever opens a connection asks for a [`Permit`] first, and cannot be made
//! without one: so nothing can forget `--offline`.

use std::error::Error as StdError;

use camino::Utf8PathBuf;

/// The network, as this run may use it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Network {
    /// It may be used.
    #[default]
    Open,
    /// Nothing is fetched: what is not at hand is missing.
    Offline,
    /// Nothing is fetched: what is not at hand is in this folder of inputs, or missing.
    Inputs(Utf8PathBuf),
}

/// The right to open connections.
#[derive(Debug, Clone, Copy)]
pub struct Permit(());

/// Something that is not at hand, and that may not be fetched.
#[derive(Debug, Clone, thiserror::Error, miette::Diagnostic)]
pub enum Offline {
    /// Nothing may.
    #[error("{attempt}: it is not available locally, and --offline forbids fetching it")]
    #[diagnostic(help("run the command once without --offline to fetch it into the store"))]
    Forbidden {
        /// What for.
        attempt: String,
    },
    /// All was to be in a folder.
    #[error("{attempt}: it is not among the inputs in {folder}")]
    #[diagnostic(help("recreate the folder with `vcbuild fetch` for this lock file, source, base and platform"))]
    NotInInputs {
        /// What for.
        attempt: String,
        /// The folder.
        folder: Utf8PathBuf,
    },
}

impl Network {
    /// The right to open connections, for what is attempted ("pulling base debian:bookworm-slim").
    ///
    /// # Errors
    /// When the network may not be used.
    pub fn permit(&self, attempt: impl Into<String>) -> Result<Permit, Offline> {
        let attempt = attempt.into();
        match self {
            Self::Open => Ok(Permit(())),
            Self::Offline => Err(Offline::Forbidden { attempt }),
            Self::Inputs(folder) => Err(Offline::NotInInputs { attempt, folder: folder.clone() }),
        }
    }
}

/// What a failed request failed with and what that came from, in one line. The address is left out: whoever tells has said it
/// already.
pub fn causes(error: &(dyn StdError + 'static)) -> String {
    let mut messages: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        let text = text.split(" for url (").next().unwrap_or_default();
        if messages.last().is_none_or(|last| last != text) {
            messages.push(text.to_owned());
        }
        next = error.source();
    }
    messages.join(": ")
}

#[cfg(test)]
mod tests {
    use super::Network;

    #[test]
    fn offline_gives_no_permit_and_says_for_what() {
        let refusal = |network: &Network| network.permit("fetching a").unwrap_err().to_string();
        assert!(Network::Open.permit("x").is_ok());
        assert_eq!(
            refusal(&Network::Offline),
            "fetching a: it is not available locally, and --offline forbids fetching it"
        );
        let inputs = Network::Inputs("in".into());
        assert_eq!(refusal(&inputs), "fetching a: it is not among the inputs in in");
    }
}
