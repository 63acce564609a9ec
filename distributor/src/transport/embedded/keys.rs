//! The user's private keys: read from their files, and unlocked with a passphrase when a server has accepted one, asked
//! for once however many nodes it opens.

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

/// How often a passphrase is asked for, as ssh does.
const ATTEMPTS: u32 = 3;

/// The largest key file that is read, in bytes.
const LARGEST: u64 = 1 << 20;

/// Prints a prompt on the terminal and reads the answer without echo.
type Ask = dyn Fn(&str) -> io::Result<String> + Send + Sync;

/// The keys that passphrases have unlocked, and who is asked for them. Clones share them.
#[derive(Clone)]
pub struct Keyring {
    unlocked: Arc<Mutex<BTreeMap<Utf8PathBuf, Arc<PrivateKey>>>>,
    ask: Arc<Ask>,
}

/// A key file, as far as it is open without its passphrase.
#[derive(Debug, Clone)]
pub(super) struct KeyFile {
    pub(super) path: Utf8PathBuf,
    /// What a server is offered; not known of some locked keys that have no `.pub` beside them.
    pub(super) public: Option<PublicKey>,
    /// Nothing where the private half is elsewhere, as in an agent.
    secret: Option<String>,
    open: Option<Arc<PrivateKey>>,
}

impl Keyring {
    /// An empty one that has `ask` ask the person at the terminal.
    pub fn asking(ask: impl Fn(&str) -> io::Result<String> + Send + Sync + 'static) -> Self {
        Self { unlocked: Arc::default(), ask: Arc::new(ask) }
    }

    /// The private key of a file, for which its passphrase is asked if need be and nobody gave it before.
    pub(super) async fn open(&self, file: &KeyFile) -> Result<Arc<PrivateKey>, Error> {
        if let Some(key) = &file.open {
            return Ok(Arc::clone(key));
        }
        // Held while somebody types: others who need the same key wait for that, and are not asked again.
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
    /// Reads a key file; says why it cannot be used.
    pub(super) fn read(path: &Utf8Path) -> io::Result<Self> {
        let data = match std::fs::metadata(path) {
            // The public half says which key of an agent's is meant.
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
        // The format that ssh-keygen writes has the public key in the open.
        let inside = || PrivateKey::from_openssh(&text).ok().map(|key| key.public_key().clone());
        let public = open.as_ref().map(|key| key.public_key().clone()).or_else(inside).or_else(|| beside(path));
        Ok(Self { path: path.to_owned(), public, secret: Some(text), open })
    }

    fn public_half(path: &Utf8Path, key: PublicKey) -> Self {
        Self { path: path.to_owned(), public: Some(key), secret: None, open: None }
    }

    /// Whether it can sign, be it once a passphrase is given.
    pub(super) fn is_private(&self) -> bool {
        self.secret.is_some()
    }

    /// Whether nobody is asked for a passphrase.
    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// The certificate that lies beside the key as ssh looks for it.
    pub(super) fn certificate(&self) -> Option<Certificate> {
        Certificate::read_file(format!("{}-cert.pub", self.path).as_ref()).ok()
    }
}

/// The public key that lies beside a private one.
fn beside(path: &Utf8Path) -> Option<PublicKey> {
    PublicKey::read_openssh_file(format!("{path}.pub")).ok()
}

/// Signs what a server is to see signed: `data` with the signature behind it, as the protocol has it (RFC 4252, section 7).
pub(super) fn sign(key: &PrivateKey, hash: Option<HashAlg>, mut data: Vec<u8>) -> Result<Vec<u8>, signature::Error> {
    let signature: Signature = match key.key_data() {
        KeypairData::Rsa(pair) => signature::Signer::try_sign(&(pair, hash), &data)?,
        pair => signature::Signer::try_sign(pair, &data)?,
    };
    let mut blob = Vec::new();
    signature.encode(&mut blob).and_then(|()| blob.encode(&mut data)).map_err(signature::Error::from_source)?;
    Ok(data)
}

/// Whether a key signs with a hash that is agreed upon apart from it.
pub(super) fn is_rsa(algorithm: &Algorithm) -> bool {
    matches!(algorithm, Algorithm::Rsa { .. })
}
