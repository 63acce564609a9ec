//! Logs in with public keys: first those of the agent, then those in files, in ssh's order.

use std::io;
use std::time::Duration;

use camino::Utf8PathBuf;
use russh::AgentAuthError;
use russh::client::{AuthResult, Handle};
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::keys::{Algorithm, Certificate, HashAlg, PublicKey};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::config::Settings;
use super::connection::Client;
use super::error::Error;
use super::keys::{KeyFile, Keyring, is_rsa, sign};

/// The time limit for an agent to list its keys.
const AGENT_WITHIN: Duration = Duration::from_secs(10);

/// The time limit for the user to enter a passphrase or touch a key.
const PERSON_WITHIN: Duration = Duration::from_secs(300);

/// The maximum number of an agent's keys that are tried. A server with a lower limit reports it.
const AGENT_KEYS: usize = 64;

/// Why the login failed.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The server accepts none of the offered keys. Contains the methods that it accepts.
    Denied(String),
    /// The server accepted a key that could not be used.
    Key(Error),
    /// The server does not answer in time, or has closed the connection.
    Gone,
}

/// Logs in over `handle`. `patience` is the time limit for each answer of the server.
pub(super) async fn log_in(
    handle: &mut Handle<Client>,
    settings: &Settings,
    keyring: &Keyring,
    patience: Duration,
) -> Result<(), Refusal> {
    let files: Vec<KeyFile> = settings.identities.iter().filter_map(read).collect();
    let mut login = Login { handle, user: &settings.user, keyring, patience, hash: None, refusal: None, methods: None };
    if let Some(socket) = &settings.agent
        && login.with_agent(socket, settings, &files).await?
    {
        return Ok(());
    }
    for file in files.iter().filter(|file| file.is_private()) {
        if login.with_file(file, &settings.certificates).await? {
            return Ok(());
        }
    }
    if login.methods.is_none() && login.refusal.is_none() {
        // No key was offered: this request makes the server report its methods.
        let answer = timeout(patience, login.handle.authenticate_none(&settings.user)).await;
        if login.is_in(answer.map_err(|_| Refusal::Gone)?.map_err(|_| Refusal::Gone)?)? {
            return Ok(());
        }
    }
    let methods = login.methods.unwrap_or_default();
    Err(login.refusal.map_or(Refusal::Denied(methods), Refusal::Key))
}

fn read(path: &Utf8PathBuf) -> Option<KeyFile> {
    match KeyFile::read(path) {
        Ok(file) => Some(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            tracing::warn!("the key {path} is not used: {error}");
            None
        }
    }
}

struct Login<'a> {
    handle: &'a mut Handle<Client>,
    user: &'a str,
    keyring: &'a Keyring,
    patience: Duration,
    /// The hash for RSA signatures, once the server was queried; the inner `None` if it supports only SHA-1.
    hash: Option<Option<HashAlg>>,
    /// Why a key that the server accepted could not be used.
    refusal: Option<Error>,
    /// The methods that the server reports.
    methods: Option<String>,
}

impl Login<'_> {
    /// Tries the agent's keys: first those that the configuration names, then the others, unless the configuration
    /// excludes them.
    async fn with_agent(
        &mut self,
        socket: &Utf8PathBuf,
        settings: &Settings,
        files: &[KeyFile],
    ) -> Result<bool, Refusal> {
        let mut agent = match timeout(AGENT_WITHIN, UnixStream::connect(socket)).await {
            Ok(Ok(stream)) => AgentClient::connect(stream),
            _ => {
                tracing::info!("there is no agent at {socket}");
                return Ok(false);
            }
        };
        if let Some(binding) = self.handle.agent_session_binding() {
            // Agents before OpenSSH 8.9 support neither session binding nor keys that require it.
            let _ = timeout(AGENT_WITHIN, agent.bind_session(binding, false)).await;
        }
        let Ok(Ok(identities)) = timeout(AGENT_WITHIN, agent.request_identities()).await else {
            tracing::info!("the agent at {socket} does not say which keys it has");
            return Ok(false);
        };
        let named = |identity: &AgentIdentity| {
            let known = |file: &KeyFile| file.public.as_ref().is_some_and(|key| same(key, &identity.public_key()));
            files.iter().any(known)
        };
        let (first, rest): (Vec<_>, Vec<_>) = identities.into_iter().partition(named);
        let rest = if settings.identities_only { Vec::new() } else { rest };
        for identity in first.into_iter().chain(rest).take(AGENT_KEYS) {
            let Some(hash) = self.hash(&identity.public_key().algorithm()).await? else { continue };
            let offer = async {
                match identity {
                    AgentIdentity::PublicKey { key, .. } => {
                        self.handle.authenticate_publickey_with(self.user, key, hash, &mut agent).await
                    }
                    AgentIdentity::Certificate { certificate, .. } => {
                        self.handle.authenticate_certificate_with(self.user, certificate, hash, &mut agent).await
                    }
                }
            };
            match timeout(PERSON_WITHIN, offer).await {
                Ok(Ok(answer)) => {
                    if self.is_in(answer)? {
                        return Ok(true);
                    }
                }
                // The agent no longer has the key, or the user refused: other keys remain.
                Ok(Err(AgentAuthError::Key(error))) => tracing::info!("the agent did not sign: {error}"),
                Ok(Err(AgentAuthError::Send(_))) | Err(_) => return Err(Refusal::Gone),
            }
        }
        Ok(false)
    }

    /// Tries a key file, its certificates first.
    async fn with_file(&mut self, file: &KeyFile, certificates: &[Utf8PathBuf]) -> Result<bool, Refusal> {
        let public = match &file.public {
            Some(public) => public.clone(),
            // The public key is available only after unlocking.
            None => match self.keyring.open(file).await {
                Ok(key) => key.public_key().clone(),
                Err(error) => {
                    self.refusal.get_or_insert(error);
                    return Ok(false);
                }
            },
        };
        let Some(hash) = self.hash(&public.algorithm()).await? else { return Ok(false) };
        let named = certificates.iter().filter_map(|path| Certificate::read_file(path.as_std_path()).ok());
        let certificates = file.certificate().into_iter().chain(named);
        for certificate in certificates.filter(|certificate| certificate.public_key() == public.key_data()) {
            if self.offer(file, OfferedKey::Certificate(Box::new(certificate)), hash).await? {
                return Ok(true);
            }
        }
        self.offer(file, OfferedKey::Key(public), hash).await
    }

    async fn offer(&mut self, file: &KeyFile, offer: OfferedKey, hash: Option<HashAlg>) -> Result<bool, Refusal> {
        let mut signer = Signer { keyring: self.keyring, file };
        let within = if file.is_open() { self.patience } else { PERSON_WITHIN };
        let user = self.user;
        let offering = async {
            match offer {
                OfferedKey::Key(key) => self.handle.authenticate_publickey_with(user, key, hash, &mut signer).await,
                OfferedKey::Certificate(certificate) => {
                    self.handle.authenticate_certificate_with(user, *certificate, hash, &mut signer).await
                }
            }
        };
        match timeout(within, offering).await {
            Ok(Ok(answer)) => self.is_in(answer),
            Ok(Err(SignError::Key(error))) => {
                self.refusal.get_or_insert(error);
                Ok(false)
            }
            Ok(Err(SignError::Signature(error))) => {
                tracing::warn!("the key {} does not sign: {error}", file.path);
                Ok(false)
            }
            Ok(Err(SignError::Gone)) | Err(_) => Err(Refusal::Gone),
        }
    }

    /// Returns the hash to sign with. The outer `None` means that the server supports only SHA-1 for this key, which is
    /// not used.
    async fn hash(&mut self, algorithm: &Algorithm) -> Result<Option<Option<HashAlg>>, Refusal> {
        if !is_rsa(algorithm) {
            return Ok(Some(None));
        }
        if self.hash.is_none() {
            let asked = timeout(self.patience, self.handle.best_supported_rsa_hash()).await;
            let best = asked.map_err(|_| Refusal::Gone)?.map_err(|_| Refusal::Gone)?;
            // A server that does not report its algorithms is assumed to support SHA-512, as all servers have for
            // years.
            self.hash = Some(best.unwrap_or(Some(HashAlg::Sha512)));
        }
        Ok(self.hash.flatten().map(Some))
    }

    /// Whether an answer completes the login.
    fn is_in(&mut self, answer: AuthResult) -> Result<bool, Refusal> {
        match answer {
            AuthResult::Success => Ok(true),
            AuthResult::Failure { .. } if self.handle.is_closed() => Err(Refusal::Gone),
            AuthResult::Failure { remaining_methods, .. } => {
                let names: Vec<&str> = remaining_methods.iter().map(Into::into).collect();
                self.methods = Some(names.join(","));
                Ok(false)
            }
        }
    }
}

enum OfferedKey {
    Key(PublicKey),
    Certificate(Box<Certificate>),
}

/// Signs with a key file, which is unlocked only when the server requests the signature.
struct Signer<'a> {
    keyring: &'a Keyring,
    file: &'a KeyFile,
}

/// Why there is no signature.
enum SignError {
    Key(Error),
    Signature(russh::keys::signature::Error),
    Gone,
}

impl From<russh::SendError> for SignError {
    fn from(_: russh::SendError) -> Self {
        Self::Gone
    }
}

impl russh::Signer for Signer<'_> {
    type Error = SignError;

    async fn auth_sign(
        &mut self,
        _: &AgentIdentity,
        hash: Option<HashAlg>,
        to_sign: Vec<u8>,
    ) -> Result<Vec<u8>, SignError> {
        let key = self.keyring.open(self.file).await.map_err(SignError::Key)?;
        sign(&key, hash, to_sign).map_err(SignError::Signature)
    }
}

fn same(one: &PublicKey, other: &PublicKey) -> bool {
    one.key_data() == other.key_data()
}
