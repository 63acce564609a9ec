//! Errors of registries, each with advice.

use std::error::Error as StdError;
use std::io;

use camino::Utf8PathBuf;

/// An error of a registry.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// It requires authentication, or rejects the credentials.
    #[error("{attempt} {host}: authentication required (401){}", suffix(message))]
    #[diagnostic(help("{}", log_in(host, login)))]
    Unauthorized {
        /// What was attempted, such as "pulling x from".
        attempt: String,
        /// The host of the registry.
        host: String,
        /// The source of the credentials.
        login: LoginSource,
        /// The message of the registry; may be empty.
        message: String,
    },

    /// The credentials lack the permission.
    #[error("{attempt} {host}: access denied (403){}", suffix(message))]
    #[diagnostic(help("{}", ask_for_access(host, login)))]
    Forbidden {
        /// What was attempted, such as "pulling x from".
        attempt: String,
        /// The host of the registry.
        host: String,
        /// The source of the credentials.
        login: LoginSource,
        /// The message of the registry; may be empty.
        message: String,
    },

    /// It does not have the requested object.
    #[error("{attempt} {host}: not found (404){}", suffix(message))]
    #[diagnostic(help(
        "check the spelling of the repository and the tag; some registries answer 404 for a repository that you cannot \
         access{}",
        match login {
            LoginSource::Silent(why) => format!(", and the request had no credentials: {why}"),
            LoginSource::From(_) | LoginSource::Nothing => String::new(),
        }
    ))]
    NotFound {
        /// What was attempted, such as "pulling x from".
        attempt: String,
        /// The host of the registry.
        host: String,
        /// The source of the credentials.
        login: LoginSource,
        /// The message of the registry; may be empty.
        message: String,
    },

    /// The body of the request is too large for it.
    #[error("{attempt} {host}: the request is too large (413){}", suffix(message))]
    #[diagnostic(help(
        "raise the limit of the registry, or of the proxy in front of it (nginx: client_max_body_size), or make the layer \
         smaller: `vcbuild inspect` shows the size of each layer"
    ))]
    TooLarge {
        /// What was attempted, such as "pulling x from".
        attempt: String,
        /// The host of the registry.
        host: String,
        /// The message of the registry; may be empty.
        message: String,
    },

    /// No TLS connection can be established.
    #[error("{attempt} {host}: the TLS connection failed")]
    #[diagnostic(help(
        "to trust a private certificate authority, name its certificate: SSL_CERT_FILE, `ca` of [registries.\"{host}\"] \
         in vcbuild's config.toml, or /etc/containers/certs.d/{host}/ca.crt. For a registry without TLS, set `plain-http \
         = true` in that table"
    ))]
    Tls {
        /// What was attempted, such as "pulling x from".
        attempt: String,
        /// The host of the registry.
        host: String,
        /// The cause.
        source: Box<dyn StdError + Send + Sync>,
    },

    /// It does not answer, or the connection breaks.
    #[error("{attempt} {host}: {attempts} attempts failed")]
    #[diagnostic(help("check the network connection to {host} (HTTPS_PROXY sets the proxy), or try again later"))]
    Unreachable {
        /// What was attempted, such as "pulling x from".
        attempt: String,
        /// The host of the registry.
        host: String,
        /// The number of attempts.
        attempts: u32,
        /// The cause.
        source: Box<dyn StdError + Send + Sync>,
    },

    /// Its response is invalid.
    #[error("{attempt} {host}: {why}")]
    #[diagnostic(help("the server is not a registry, or does not work correctly: check the address"))]
    Answer {
        /// What was attempted, such as "pulling x from".
        attempt: String,
        /// The host of the registry.
        host: String,
        /// The reason, as a clause.
        why: String,
    },

    /// A file of credentials cannot be read.
    #[error("reading the credentials for {host} in {path}: {why}")]
    #[diagnostic(help("correct the file, or log in again (`docker login {host}` or `podman login {host}`)"))]
    Credentials {
        /// The host of the registry.
        host: String,
        /// The file.
        path: Utf8PathBuf,
        /// The reason, as a clause.
        why: String,
    },

    /// Certificates cannot be read.
    #[error("reading certificates from {path}: {why}")]
    #[diagnostic(help(
        "the file must contain PEM certificates, or a client certificate with its key in the same folder"
    ))]
    Certificates {
        /// The file.
        path: Utf8PathBuf,
        /// The reason, as a clause.
        why: String,
    },

    /// The environment names a proxy that cannot be used.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Proxy(#[from] vcnetwork::http::BadProxy),

    /// The store failed.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Store(#[from] vcstore::Error),

    /// The runtime cannot start.
    #[error("starting the network runtime")]
    #[diagnostic(help("the system's limit on threads or open files is reached: close other programs"))]
    Start(#[source] Box<dyn StdError + Send + Sync>),
}

/// The source of a request's credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoginSource {
    /// This file or credential helper.
    From(String),
    /// There were none, for this reason.
    Silent(String),
    /// No credentials are configured.
    Nothing,
}

impl Error {
    /// Whether the registry, or its token server, answered with a rejection.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Unauthorized { .. } | Self::Forbidden { .. } | Self::NotFound { .. } | Self::Answer { .. })
    }

    /// Whether the registry answered that the object does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }
}

/// The cause of a failed request: the chain of causes in one line, without the URL, which the message already contains.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Cause(pub(crate) String);

/// Whether the cause is TLS, and not a layer below or above it.
pub(crate) fn is_tls(error: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.is::<rustls::Error>() {
            return true;
        }
        // `source` of an I/O error does not return the error that it wraps.
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if wrapped.is_some_and(|wrapped| is_tls(wrapped)) {
            return true;
        }
        next = error.source();
    }
    false
}

fn suffix(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}

fn log_in(host: &str, login: &LoginSource) -> String {
    match login {
        LoginSource::From(from) => {
            format!(
                "the registry rejects the credentials from {from}: log in again (`docker login {host}` or `podman login \
                 {host}`)"
            )
        }
        LoginSource::Silent(why) => format!(
            "the request had no credentials, because {why}: install that program, or log in without it (`podman login {host}`)"
        ),
        LoginSource::Nothing => format!(
            "log in first (`docker login {host}` or `podman login {host}`; vcbuild reads the same files and credential \
             helpers), and check the spelling: some registries answer 401 for a repository that does not exist"
        ),
    }
}

fn ask_for_access(host: &str, login: &LoginSource) -> String {
    let ask = "ask the owner of the repository for access, or log in as a user who has it";
    match login {
        LoginSource::From(from) => format!(
            "the registry accepts the credentials ({from}), but denies access: {ask} (`docker login {host}` or `podman \
             login {host}`)"
        ),
        LoginSource::Nothing => format!("{ask} (`docker login {host}` or `podman login {host}`)"),
        silent @ LoginSource::Silent(_) => log_in(host, silent),
    }
}
