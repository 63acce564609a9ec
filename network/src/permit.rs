//! Whether this run may use the network. Everything that opens a connection requires a [`Permit`] for its construction,
//! so that no code can ignore `--offline`.

use std::error::Error as StdError;

use camino::Utf8PathBuf;

/// The network access of this run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Network {
    /// It may be used.
    #[default]
    Open,
    /// Nothing is downloaded: content that is not in the store is missing.
    Offline,
    /// Nothing is downloaded: content that is not in the store must be in this folder of inputs.
    Inputs(Utf8PathBuf),
}

/// The permission to open connections.
#[derive(Debug, Clone, Copy)]
pub struct Permit(());

/// Content is missing and may not be downloaded.
#[derive(Debug, Clone, thiserror::Error, miette::Diagnostic)]
pub enum Offline {
    /// Downloads are disabled.
    #[error("{attempt}: it is not available locally, and --offline forbids fetching it")]
    #[diagnostic(help("run the command once without --offline to fetch it into the store"))]
    Forbidden {
        /// What needed the content.
        attempt: String,
    },
    /// All content should have been in a folder.
    #[error("{attempt}: it is not among the inputs in {folder}")]
    #[diagnostic(help("recreate the folder with `vcbuild fetch` for this lock file, source, base and platform"))]
    NotInInputs {
        /// What needed the content.
        attempt: String,
        /// The folder.
        folder: Utf8PathBuf,
    },
}

impl Network {
    /// Returns the permission to open connections for an operation ("pulling base debian:bookworm-slim").
    ///
    /// # Errors
    /// Returns an error if the network may not be used.
    pub fn permit(&self, attempt: impl Into<String>) -> Result<Permit, Offline> {
        let attempt = attempt.into();
        match self {
            Self::Open => Ok(Permit(())),
            Self::Offline => Err(Offline::Forbidden { attempt }),
            Self::Inputs(folder) => Err(Offline::NotInInputs { attempt, folder: folder.clone() }),
        }
    }
}

/// Returns the causes of a failed request in one line. The URL is left out, because the caller's message already
/// contains it.
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
