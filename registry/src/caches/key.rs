//! The keys that sign records: Ed25519 in Nix's format `NAME:BASE64`, so that keys of Nix can be used.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use camino::Utf8Path;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use vcstore::Record;
use vcstore::{atomic, text};

use super::Error;

/// A key that signs records. Only its owner may read its file.
pub struct SecretKey {
    name: String,
    key: SigningKey,
}

/// A trusted key: outputs in records with its signature are accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    name: String,
    key: VerifyingKey,
}

/// The trusted keys, by name.
#[derive(Debug, Clone, Default)]
pub struct Keyring(BTreeMap<String, Vec<VerifyingKey>>);

/// Why a record is rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Untrusted {
    /// It has no signature.
    Unsigned,
    /// It is signed only by these keys, which are not trusted.
    Unknown(Vec<String>),
    /// It has an invalid signature under the name of this trusted key.
    Forged(String),
}

impl SecretKey {
    /// Generates a key with this name.
    ///
    /// # Errors
    /// Returns an error if the name is invalid, or if the system provides no random bytes.
    pub fn generate(name: &str) -> Result<Self, Error> {
        check_name(name).map_err(|why| Error::KeyName { name: name.to_owned(), why })?;
        let mut seed = [0; 32];
        fs::File::open("/dev/urandom")
            .and_then(|mut source| std::io::Read::read_exact(&mut source, &mut seed))
            .map_err(Error::io("reading", "/dev/urandom"))?;
        Ok(Self { name: name.to_owned(), key: SigningKey::from_bytes(&seed) })
    }

    /// Reads a key from a file.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or does not contain a secret key.
    pub fn read(path: &Utf8Path) -> Result<Self, Error> {
        let bad = |why: &str| Error::BadKey { what: path.to_string(), why: why.to_owned() };
        let text = text::read(path).map_err(|why| bad(&why.to_string()))?;
        let (name, bytes) = split(text.trim()).map_err(|why| bad(&why))?;
        let bytes: [u8; 64] =
            bytes.try_into().map_err(|_| bad("it is not a secret key, which is 64 bytes in base64"))?;
        let key =
            SigningKey::from_keypair_bytes(&bytes).map_err(|_| bad("its secret and public halves do not match"))?;
        Ok(Self { name, key })
    }

    /// Writes the key to a new file that only its owner may read.
    ///
    /// # Errors
    /// Returns an error if the file already exists or cannot be written.
    pub fn write(&self, path: &Utf8Path) -> Result<(), Error> {
        let line = format!("{}:{}\n", self.name, STANDARD.encode(self.key.to_keypair_bytes()));
        atomic::create(path, line.as_bytes(), 0o600).map_err(Error::io("writing", path))
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns its public key.
    pub fn public(&self) -> PublicKey {
        PublicKey { name: self.name.clone(), key: self.key.verifying_key() }
    }

    /// Adds this key's signature to the record.
    ///
    /// # Errors
    /// Returns an error if the record cannot be serialized.
    pub fn sign(&self, record: Record) -> Result<Record, Error> {
        let signature = STANDARD.encode(self.key.sign(&record.signed_bytes()?).to_bytes());
        Ok(record.with_signature(&self.name, signature))
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretKey").field("name", &self.name).finish_non_exhaustive()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, STANDARD.encode(self.key.as_bytes()))
    }
}

impl FromStr for PublicKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, bytes) = split(text.trim())?;
        let bytes: [u8; 32] =
            bytes.try_into().map_err(|_| "it is not a public key, which is 32 bytes in base64".to_owned())?;
        let key = VerifyingKey::from_bytes(&bytes).map_err(|_| "it is not a valid Ed25519 key".to_owned())?;
        if key.is_weak() {
            return Err("it is a weak key: anyone could forge its signatures".to_owned());
        }
        Ok(Self { name, key })
    }
}

impl PublicKey {
    /// Parses `text` as a key, or reads the key from the file with this name.
    ///
    /// # Errors
    /// Returns an error if it is neither.
    pub fn of(text: &str) -> Result<Self, Error> {
        let bad = |why| Error::BadKey { what: text.to_owned(), why };
        if text.contains(':') && !Utf8Path::new(text).is_file() {
            return text.parse().map_err(bad);
        }
        text::read(Utf8Path::new(text)).map_err(|why| bad(why.to_string()))?.parse().map_err(bad)
    }
}

impl Keyring {
    /// Creates a keyring that trusts these keys.
    pub fn new(keys: impl IntoIterator<Item = PublicKey>) -> Self {
        let mut names: BTreeMap<String, Vec<VerifyingKey>> = BTreeMap::new();
        for PublicKey { name, key } in keys {
            names.entry(name).or_default().push(key);
        }
        Self(names)
    }

    /// Whether no key is trusted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the name of a trusted key that signed the record.
    ///
    /// # Errors
    /// Returns an error if there is no valid signature of a trusted key.
    pub fn check(&self, record: &Record) -> Result<String, Untrusted> {
        if record.signatures().is_empty() {
            return Err(Untrusted::Unsigned);
        }
        let signed = record.signed_bytes().map_err(|_| Untrusted::Unsigned)?;
        let mut forged = None;
        for (name, signature) in record.signatures() {
            let Some(keys) = self.0.get(name) else { continue };
            let signature = STANDARD.decode(signature).ok().and_then(|bytes| Signature::from_slice(&bytes).ok());
            match signature {
                Some(signature) if keys.iter().any(|key| key.verify_strict(&signed, &signature).is_ok()) => {
                    return Ok(name.clone());
                }
                _ => forged = Some(name.clone()),
            }
        }
        Err(forged.map_or_else(|| Untrusted::Unknown(record.signatures().keys().cloned().collect()), Untrusted::Forged))
    }
}

impl fmt::Display for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsigned => f.write_str("it is not signed"),
            // The names come from an untrusted record; the debug format escapes control characters.
            Self::Unknown(names) => write!(f, "it is signed by {:?}, which is not a trusted key", names.join(", ")),
            Self::Forged(name) => write!(f, "its signature does not match the trusted key {name}"),
        }
    }
}

fn split(text: &str) -> Result<(String, Vec<u8>), String> {
    let (name, encoded) = text.split_once(':').ok_or("a key is written NAME:BASE64")?;
    check_name(name)?;
    let bytes = STANDARD.decode(encoded).map_err(|_| "the part after its name is not base64".to_owned())?;
    Ok((name.to_owned(), bytes))
}

/// Checks that a name is one word, because it is used in file names and lists.
fn check_name(name: &str) -> Result<(), String> {
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '+' | '@');
    if name.is_empty() || name.len() > 128 || name.starts_with(['.', '-']) || !name.chars().all(word) {
        return Err("the name of a key consists of letters, digits, '.', '-', '_', '+' and '@'".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use camino::Utf8PathBuf;
    use vcstore::{Action, Outputs, Record, Store};

    use super::{Keyring, PublicKey, SecretKey, Untrusted};

    fn record(note: &str) -> Record {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&Utf8PathBuf::try_from(folder.path().join("store")).unwrap()).unwrap();
        let action = Action::new("compile", "manager").input("source", "a").unwrap();
        store.realise(&action, || Ok::<_, vcstore::Error>(Outputs::new().with_note("go", note))).unwrap();
        store.record(&action.key().unwrap()).unwrap().unwrap()
    }

    #[test]
    fn a_record_is_trusted_for_a_trusted_keys_signature_and_for_nothing_else() {
        let (ours, theirs) = (SecretKey::generate("ours-1").unwrap(), SecretKey::generate("theirs").unwrap());
        let ring = Keyring::new([ours.public()]);
        assert_eq!(ring.check(&record("1")), Err(Untrusted::Unsigned));
        let foreign = theirs.sign(record("1")).unwrap();
        assert_eq!(ring.check(&foreign), Err(Untrusted::Unknown(vec!["theirs".to_owned()])));
        let good = ours.sign(foreign).unwrap();
        assert_eq!(ring.check(&good), Ok("ours-1".to_owned()));
        let moved = record("2").with_signature("ours-1", good.signatures()["ours-1"].clone());
        assert_eq!(ring.check(&moved), Err(Untrusted::Forged("ours-1".to_owned())));
        let namesake = SecretKey::generate("ours-1").unwrap().sign(record("1")).unwrap();
        assert_eq!(ring.check(&namesake), Err(Untrusted::Forged("ours-1".to_owned())));
    }

    #[test]
    fn keys_are_written_and_read_and_kept_from_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::try_from(folder.path().join("k.key")).unwrap();
        let key = SecretKey::generate("cache.example-1").unwrap();
        key.write(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(key.write(&path).is_err(), "a key is never replaced");
        assert_eq!(SecretKey::read(&path).unwrap().public(), key.public());
        assert_eq!(key.public().to_string().parse::<PublicKey>().unwrap(), key.public());
        assert!(!format!("{key:?}").contains(&std::fs::read_to_string(&path).unwrap()[20..40]));
        for bad in ["", "name", "name:", "name:AAAA", "a b:AAAA", &format!(":{}", "A".repeat(43))] {
            assert!(bad.parse::<PublicKey>().is_err(), "{bad:?} must be refused");
        }
    }

    #[test]
    fn nixs_keys_are_read() {
        // Generated with nix-store --generate-binary-cache-key.
        let secret =
            "test.example-1:3jD+cdaBaDpb0KY0Dc5Pwt9ppcPmy3IRbwoXFRE/iozhcx80WoGROppJZT6wUlPoNyp1KneID2ls3JR9VW55zQ==";
        let public = "test.example-1:4XMfNFqBkTqaSWU+sFJT6DcqdSp3iA9pbNyUfVVuec0=";
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::try_from(folder.path().join("k.key")).unwrap();
        std::fs::write(&path, secret).unwrap();
        assert_eq!(SecretKey::read(&path).unwrap().public().to_string(), public);
    }
}
