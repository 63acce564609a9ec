//! The user's private keys. They are read from their files, and unlocked with a passphrase once a server has accepted
//! one. The passphrase is requested once, regardless of the number of nodes.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use russh::keys::ssh_encoding::Encode;
use russh::keys::ssh_key::Signature;
use russh::keys::ssh_key::private::KeypairData;
use russh::keys::{Algorithm, Certificate, HashAlg, PrivateKey, PublicKey, decode_secret_key, signature};
use tokio::sync::Mutex;

use super::error::Error;

/// The number of attempts to enter a passphrase, as in ssh.
const ATTEMPTS: u32 = 3;

/// The maximum size of a key file, in bytes.
const LARGEST: u64 = 1 << 20;

/// Prompts the user on the terminal with this text, without echo.
type Ask = dyn Fn(&str) -> io::Result<String> + Send + Sync;

/// The keys that were unlocked with passphrases, and the prompt for them. Clones share them.
#[derive(Clone)]
pub struct Keyring {
    unlocked: Arc<Mutex<BTreeMap<Utf8PathBuf, Arc<PrivateKey>>>>,
    ask: Arc<Ask>,
}

/// A key file, as far as it can be read without its passphrase.
#[derive(Debug, Clone)]
pub(super) struct KeyFile {
    pub(super) path: Utf8PathBuf,
    /// The public key that is offered to a server; `None` for a locked key in a format without a public key and without
    /// a `.pub` file beside it.
    pub(super) public: Option<PublicKey>,
    /// The text of the private key, or `None` if that is elsewhere, for example in an agent.
    secret: Option<String>,
    open: Option<Arc<PrivateKey>>,
}

impl Keyring {
    /// Creates an empty keyring that prompts the user with `ask`.
    pub fn asking(ask: impl Fn(&str) -> io::Result<String> + Send + Sync + 'static) -> Self {
        Self { unlocked: Arc::default(), ask: Arc::new(ask) }
    }

    /// Returns the private key of a file. Prompts for its passphrase if necessary, unless the key is already unlocked.
    pub(super) async fn open(&self, file: &KeyFile) -> Result<Arc<PrivateKey>, Error> {
        if let Some(key) = &file.open {
            return Ok(Arc::clone(key));
        }
        // Held during the prompt: other connections that need the same key wait, and do not prompt again.
        let mut unlocked = self.unlocked.lock().await;
        if let Some(key) = unlocked.get(&file.path) {
            return Ok(Arc::clone(key));
        }
        for _ in 0..ATTEMPTS {
            let (ask, file) = (Arc::clone(&self.ask), file.clone());
            let path = file.path.clone();
            let asked = tokio::task::spawn_blocking(move || {
                let passphrase = ask(&format!("Enter passphrase for key '{}': ", file.path))?;
                io::Result::Ok(file.secret.and_then(|secret| decode_secret_key(&secret, Some(&passphrase)).ok()))
            });
            let answer = asked.await.unwrap_or_else(|error| Err(io::Error::other(error)));
            match answer {
                Ok(Some(key)) => {
                    let key = Arc::new(key);
                    unlocked.insert(path, Arc::clone(&key));
                    return Ok(key);
                }
                Ok(None) => {}
                Err(_) => return Err(Error::Passphrase { path }),
            }
        }
        Err(Error::WrongPassphrase { path: file.path.clone(), attempts: ATTEMPTS })
    }
}

impl Default for Keyring {
    fn default() -> Self {
        Self::asking(vcterminal::ask_hidden)
    }
}

impl Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyring").finish_non_exhaustive()
    }
}

impl KeyFile {
    /// Reads a key file.
    pub(super) fn read(path: &Utf8Path) -> io::Result<Self> {
        let data = match std::fs::metadata(path) {
            // The public key identifies the key in an agent.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return beside(path).map(|key| Self::public_half(path, key)).ok_or(error);
            }
            data => data?,
        };
        if data.len() > LARGEST || !data.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is no private key"));
        }
        let text = std::fs::read_to_string(path)?;
        if let Ok(key) = PublicKey::from_openssh(&text) {
            return Ok(Self::public_half(path, key));
        }
        if data.mode() & 0o077 != 0 && data.uid() == nix::unistd::getuid().as_raw() {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "others may read it: ssh takes no such key"));
        }
        let open = decode_secret_key(&text, None).ok().filter(|key| !key.is_encrypted()).map(Arc::new);
        // The format of ssh-keygen contains the public key unencrypted.
        let inside = || PrivateKey::from_openssh(&text).ok().map(|key| key.public_key().clone());
        let public = open.as_ref().map(|key| key.public_key().clone()).or_else(inside).or_else(|| beside(path));
        Ok(Self { path: path.to_owned(), public, secret: Some(text), open })
    }

    fn public_half(path: &Utf8Path, key: PublicKey) -> Self {
        Self { path: path.to_owned(), public: Some(key), secret: None, open: None }
    }

    /// Whether it can sign, possibly after a passphrase is entered.
    pub(super) fn is_private(&self) -> bool {
        self.secret.is_some()
    }

    /// Whether it needs no passphrase.
    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Returns the certificate beside the key, at the path where ssh looks for it.
    pub(super) fn certificate(&self) -> Option<Certificate> {
        Certificate::read_file(format!("{}-cert.pub", self.path).as_ref()).ok()
    }
}

/// Returns the public key beside a private key.
fn beside(path: &Utf8Path) -> Option<PublicKey> {
    PublicKey::read_openssh_file(format!("{path}.pub")).ok()
}

/// Signs `data` and returns it with the signature appended, as the protocol requires (RFC 4252, section 7).
pub(super) fn sign(key: &PrivateKey, hash: Option<HashAlg>, mut data: Vec<u8>) -> Result<Vec<u8>, signature::Error> {
    let signature: Signature = match key.key_data() {
        KeypairData::Rsa(pair) => signature::Signer::try_sign(&(pair, hash), &data)?,
        pair => signature::Signer::try_sign(pair, &data)?,
    };
    let mut blob = Vec::new();
    signature.encode(&mut blob).and_then(|()| blob.encode(&mut data)).map_err(signature::Error::from_source)?;
    Ok(data)
}

/// Whether the hash for signatures of this key is negotiated separately.
pub(super) fn is_rsa(algorithm: &Algorithm) -> bool {
    matches!(algorithm, Algorithm::Rsa { .. })
}
