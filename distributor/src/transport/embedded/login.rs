//! Logging in with public keys: those of the agent, then those in files, as ssh tries them.

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

/// How long an agent may take to say which keys it has.
const AGENT_WITHIN: Duration = Duration::from_secs(10);

/// How long somebody may take to type a passphrase, or to touch a key.
const PERSON_WITHIN: Duration = Duration::from_secs(300);

/// How many keys of an agent are tried. A server that takes fewer says so.
const AGENT_KEYS: usize = 64;

/// Why nobody was let in.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The server takes no key that was offered; it would take these methods.
    Denied(String),
    /// A key would have done, and could not be used.
    Key(Error),
    /// The server does not answer in time, or has hung up.
    Gone,
}

/// Logs in over `handle`. Each answer of the server's may take as long as `patience`.
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
        // Nothing was offered: the server says what it would take.
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
    /// The hash that the server takes RSA signatures with, once it was asked; none where it takes SHA-1 alone.
    hash: Option<Option<HashAlg>>,
    /// Why a key that was accepted could not be used.
    refusal: Option<Error>,
    /// What the server says it would take.
    methods: Option<String>,
}

impl Login<'_> {
    /// Tries the agent's keys: those the configuration names first, and the others unless it wants none of them.
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
            // Agents from before OpenSSH 8.9 know no bindings, and no keys that need one.
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
                // It does not hold the key any more, or somebody said no: there are others.
                Ok(Err(AgentAuthError::Key(error))) => tracing::info!("the agent did not sign: {error}"),
                Ok(Err(AgentAuthError::Send(_))) | Err(_) => return Err(Refusal::Gone),
            }
        }
        Ok(false)
    }

    /// Tries a key file, with its certificates first.
    async fn with_file(&mut self, file: &KeyFile, certificates: &[Utf8PathBuf]) -> Result<bool, Refusal> {
        let public = match &file.public {
            Some(public) => public.clone(),
            // What is offered can be seen only with the passphrase.
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

    /// The hash to sign with; none for a key that the server would have sign with SHA-1, which is not done any more.
    async fn hash(&mut self, algorithm: &Algorithm) -> Result<Option<Option<HashAlg>>, Refusal> {
        if !is_rsa(algorithm) {
            return Ok(Some(None));
        }
        if self.hash.is_none() {
            let asked = timeout(self.patience, self.handle.best_supported_rsa_hash()).await;
            let best = asked.map_err(|_| Refusal::Gone)?.map_err(|_| Refusal::Gone)?;
            // A server that does not say is taken to know what all have known for years.
            self.hash = Some(best.unwrap_or(Some(HashAlg::Sha512)));
        }
        Ok(self.hash.flatten().map(Some))
    }

    /// Whether an answer lets us in.
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

/// Signs with a key file, unlocking it only now that the server wants its signature.
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
