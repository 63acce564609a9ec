//! What can go wrong with a registry, and what to do about each.

use std::error::Error as StdError;
use std::io;

use camino::Utf8PathBuf;

/// An error of a registry.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub(crate) enum Error {
    #[error("{attempt} {host}: it wants to know who asks (401){}", said(said_by))]
    #[diagnostic(help("{}", log_in(host, from.as_ref())))]
    Unauthorized { attempt: String, host: String, from: Option<String>, said_by: String },

    #[error("{attempt} {host}: it refuses (403){}", said(said_by))]
    #[diagnostic(help(
        "the registry knows who asks{}, and does not let them: ask its owner for access, or log in as somebody who has it \
         (`docker login {host}` or `podman login {host}`)",
        from.as_ref().map(|from| format!(" ({from})")).unwrap_or_default()
    ))]
    Forbidden { attempt: String, host: String, from: Option<String>, said_by: String },

    #[error("{attempt} {host}: there is no such thing (404){}", said(said_by))]
    #[diagnostic(help(
        "check the spelling of the repository and the tag; some registries say so of what one may not see"
    ))]
    NotFound { attempt: String, host: String, said_by: String },

    #[error("{attempt} {host}: no TLS connection")]
    #[diagnostic(help(
        "for a certificate of your own authority name its file: SSL_CERT_FILE, `ca` of [registries.\"{host}\"] in \
         vcbuild's config.toml, or /etc/containers/certs.d/{host}/ca.crt. A registry without TLS needs `plain-http = true` \
         there"
    ))]
    Tls { attempt: String, host: String, source: Box<dyn StdError + Send + Sync> },

    #[error("{attempt} {host}: asked {attempts} times")]
    #[diagnostic(help("check the way to {host} (proxies are taken from HTTPS_PROXY), or try again later"))]
    Unreachable { attempt: String, host: String, attempts: u32, source: Box<dyn StdError + Send + Sync> },

    #[error("{attempt} {host}: {why}")]
    #[diagnostic(help("what answers there is no registry, or a broken one: check the address"))]
    Answer { attempt: String, host: String, why: String },

    #[error("looking for the login of {host} in {path}: {why}")]
    #[diagnostic(help("correct the file, or log in again (`docker login {host}` or `podman login {host}`)"))]
    Credentials { host: String, path: Utf8PathBuf, why: String },

    #[error("reading certificates of {path}: {why}")]
    #[diagnostic(help("the file must hold PEM certificates, or a client's certificate beside its key"))]
    Certificates { path: Utf8PathBuf, why: String },

    #[error(transparent)]
    #[diagnostic(transparent)]
    Store(#[from] vcstore::Error),

    #[error("starting the network")]
    #[diagnostic(help("the system gives no more threads or files: close other programs"))]
    Start(#[source] Box<dyn StdError + Send + Sync>),
}

impl Error {
    /// Whether the registry answered that there is no such thing.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }
}

/// Why one request was not answered as it should have been: the causes in one line, the address left out, which the
/// message has already.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Cause(pub(crate) String);

/// Whether TLS failed, and not what lies below or above it.
pub(crate) fn is_tls(error: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.is::<rustls::Error>() {
            return true;
        }
        // What an I/O error wraps is not its source.
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if wrapped.is_some_and(|wrapped| is_tls(wrapped)) {
            return true;
        }
        next = error.source();
    }
    false
}

fn said(words: &str) -> String {
    if words.is_empty() { String::new() } else { format!(": {words}") }
}

fn log_in(host: &str, from: Option<&String>) -> String {
    match from {
        Some(from) => {
            format!("the login of {from} is not taken: log in again (`docker login {host}` or `podman login {host}`)")
        }
        None => format!(
            "log in first (`docker login {host}` or `podman login {host}`; vcbuild reads the same files and credential \
             helpers), and check the spelling: some registries answer so when there is no such repository"
        ),
    }
}
