//! Signatures of releases: a clearsigned `InRelease` must have a valid signature by a key in the keyring that may sign,
//! has not expired and is not revoked. Only the signed text is used afterwards, never the text around it.

use std::borrow::Cow;
use std::io::Read;
use std::time::{Duration, SystemTime};

use camino::Utf8PathBuf;
use pgp::armor::Dearmor;
use pgp::composed::{CleartextSignedMessage, PublicOrSecret, SignedPublicKey, SignedPublicSubKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{PublicKey, Signature, SignatureType};
use pgp::types::{Fingerprint, KeyDetails, Tag, Timestamp, VerifyingKey};

use super::Error;
use super::sources::{KeyPlace, Keyring};

/// The default keyring of Debian's keys: the file names in the package debian-archive-keyring.
const KEYRINGS: [&str; 2] =
    ["/usr/share/keyrings/debian-archive-keyring.gpg", "/usr/share/keyrings/debian-archive-keyring.pgp"];

/// The keys that may sign releases.
#[derive(Debug)]
pub(crate) struct Keys {
    keys: Vec<SignedPublicKey>,
    /// Fingerprints, if not all of the keys are accepted, as in [`Keyring::fingerprints`].
    fingerprints: Vec<String>,
    /// Their source, for messages.
    pub(crate) origin: String,
}

impl Keys {
    /// Reads a keyring: binary or armored files, each with any number of keys.
    pub(crate) fn read(keyring: &Keyring) -> Result<Self, Error> {
        let debian = || -> Vec<Utf8PathBuf> {
            let mut places = KEYRINGS.iter().map(Utf8PathBuf::from);
            vec![places.find(|path| path.exists()).unwrap_or_else(|| KEYRINGS[0].into())]
        };
        let paths = match &keyring.place {
            KeyPlace::Text(_) => Vec::new(),
            KeyPlace::Debian => debian(),
            KeyPlace::Trusted(files) => debian().into_iter().chain(files.iter().cloned()).collect(),
            KeyPlace::Files(files) => files.clone(),
        };
        let origin = match paths.iter().map(|path| path.as_str()).collect::<Vec<_>>().join(", ") {
            none if none.is_empty() => "of the source of apt".to_owned(),
            paths => paths,
        };
        let mut keys = Vec::new();
        if let KeyPlace::Text(text) = &keyring.place {
            keys.extend(public_keys(text.as_bytes(), &origin)?);
        }
        for path in &paths {
            let read = std::fs::read(path);
            // Keyrings that apt trusts for other sources may be damaged.
            let read = read.map_err(|error| Error::Keyring { path: path.to_string(), why: error.to_string() });
            match (read.and_then(|bytes| public_keys(&bytes, path.as_str())), &keyring.place) {
                (Err(error), KeyPlace::Trusted(_)) => tracing::debug!(%error, "ignoring a keyring"),
                (found, _) => keys.extend(found?),
            }
        }
        if !keyring.fingerprints.is_empty() {
            keys.retain(|key| {
                let subkeys = key.public_subkeys.iter().map(|subkey| subkey.key.fingerprint());
                let mut all = std::iter::once(key.primary_key.fingerprint()).chain(subkeys);
                all.any(|one| names(&keyring.fingerprints, &one, true))
            });
        }
        if keys.is_empty() {
            let why = match keyring.fingerprints.join(", ") {
                none if none.is_empty() => "it contains no public key".to_owned(),
                fingerprints => format!("it does not contain the key that the apt source names: {fingerprints}"),
            };
            return Err(Error::Keyring { path: origin, why });
        }
        Ok(Self { keys, fingerprints: keyring.fingerprints.clone(), origin })
    }

    /// Verifies a clearsigned text. Returns the signed text, or the reason why it is not trusted.
    pub(crate) fn verify(&self, text: &str, now: SystemTime) -> Result<String, String> {
        let now = Timestamp::try_from(now).map_err(|_| "this machine's clock is before 1970".to_owned())?;
        if !text.starts_with("-----BEGIN PGP SIGNED MESSAGE-----") {
            return Err("it is not signed".to_owned());
        }
        let (message, _) = CleartextSignedMessage::from_string(text)
            .map_err(|error| format!("it is not a well-formed signed message ({error})"))?;
        let signed = message.signed_text();
        let mut reasons = Vec::new();
        for signature in message.signatures() {
            match self.check(signature, signed.as_bytes(), now) {
                Ok(()) => return Ok(signed.replace("\r\n", "\n")),
                Err(why) => reasons.push(why),
            }
        }
        Err(if reasons.is_empty() { "it contains no signature".to_owned() } else { reasons.join("; ") })
    }

    fn check(&self, signature: &Signature, signed: &[u8], now: Timestamp) -> Result<(), String> {
        let strong = [HashAlgorithm::Sha256, HashAlgorithm::Sha384, HashAlgorithm::Sha512];
        if !signature.hash_alg().is_some_and(|hash| strong.contains(&hash)) {
            return Err("a signature uses a weak hash algorithm".to_owned());
        }
        if !matches!(signature.typ(), Some(SignatureType::Binary | SignatureType::Text)) {
            return Err("a signature is not a document signature".to_owned());
        }
        let within = |created: Option<Timestamp>| created.is_some_and(|created| created <= tomorrow(now));
        if !within(signature.created()) || over(signature.created(), signature.signature_expiration_time(), now) {
            return Err("a signature has expired, or has a creation time in the future".to_owned());
        }
        for key in &self.keys {
            if made_by(signature, &key.primary_key) {
                verify(signature, &key.primary_key, signed)?;
                self.accept(&key.primary_key, &key.primary_key)?;
                return primary_may_sign(key, now)
                    .and_then(|may| if may { Ok(()) } else { Err(no_signing(&key.primary_key)) });
            }
            if let Some(subkey) = key.public_subkeys.iter().find(|subkey| made_by(signature, &subkey.key)) {
                verify(signature, &subkey.key, signed)?;
                self.accept(&key.primary_key, &subkey.key)?;
                primary_may_sign(key, now)?;
                return subkey_may_sign(&key.primary_key, subkey, now);
            }
        }
        let issuers: Vec<_> = signature.issuer_key_id().iter().map(|id| id.to_string().to_uppercase()).collect();
        let issuers = if issuers.is_empty() { "unknown".to_owned() } else { issuers.join(" ") };
        Err(format!("it is signed by key {issuers}, which is not in the keyring"))
    }

    /// Refuses a signer that the source does not name: neither itself nor, without a `!`, by its primary key.
    fn accept(&self, primary: &impl KeyDetails, signer: &impl KeyDetails) -> Result<(), String> {
        let named = |key: &Fingerprint, exact| names(&self.fingerprints, key, exact);
        if self.fingerprints.is_empty() || named(&signer.fingerprint(), true) || named(&primary.fingerprint(), false) {
            return Ok(());
        }
        Err(format!("it is signed by key {}, which the apt source does not name", name(signer)))
    }
}

/// Whether one of the fingerprints is that of `key`; those followed by `!` count only if `exact`.
fn names(fingerprints: &[String], key: &Fingerprint, exact: bool) -> bool {
    let key = key.to_string().to_ascii_uppercase();
    fingerprints.iter().any(|one| match one.strip_suffix('!') {
        Some(one) => exact && one == key,
        None => *one == key,
    })
}

/// Parses the public keys of a keyring. A key of an unknown kind does not make the others unusable.
fn public_keys(bytes: &[u8], origin: &str) -> Result<Vec<SignedPublicKey>, Error> {
    let bad = |why: String| Error::Keyring { path: origin.to_owned(), why };
    // Removes the armor as a whole first, because the streaming parser panics on damaged armor.
    let binary = if bytes.trim_ascii_start().starts_with(b"-----BEGIN") {
        let mut binary = Vec::new();
        Dearmor::new(bytes).read_to_end(&mut binary).map_err(|error| bad(error.to_string()))?;
        Cow::Owned(binary)
    } else {
        Cow::Borrowed(bytes)
    };
    let found = PublicOrSecret::from_bytes_many(binary.as_ref()).map_err(|error| bad(error.to_string()))?;
    let keys = found.filter_map(|key| match key {
        Ok(PublicOrSecret::Public(key)) => Some(key),
        Ok(PublicOrSecret::Secret(_)) => None,
        Err(error) => {
            tracing::debug!(%error, %origin, "ignoring a key");
            None
        }
    });
    Ok(keys.collect())
}

fn verify(signature: &Signature, key: &impl VerifyingKey, signed: &[u8]) -> Result<(), String> {
    let bad = |_| format!("the signature by key {} does not match the text", name(key));
    signature.verify(key, signed).map_err(bad)
}

fn made_by(signature: &Signature, key: &impl KeyDetails) -> bool {
    signature.issuer_fingerprint().contains(&&key.fingerprint())
        || signature.issuer_key_id().contains(&&key.legacy_key_id())
}

/// Checks a primary key. Returns whether it may itself sign: many only certify their subkeys.
fn primary_may_sign(key: &SignedPublicKey, now: Timestamp) -> Result<bool, String> {
    let primary = &key.primary_key;
    if key.details.revocation_signatures.iter().any(|revocation| revocation.verify_key(primary).is_ok()) {
        return Err(format!("key {} is revoked", name(primary)));
    }
    let certifications = key.details.users.iter().flat_map(|user| {
        let good = |one: &&Signature| {
            one.typ() != Some(SignatureType::CertRevocation)
                && one.verify_certification(primary, Tag::UserId, &user.id).is_ok()
        };
        user.signatures.iter().filter(good)
    });
    let direct = key.details.direct_signatures.iter().filter(|one| one.verify_key(primary).is_ok());
    // The latest self-signature is decisive.
    let latest = certifications.chain(direct).max_by_key(|one| one.created());
    let latest = latest.ok_or_else(|| format!("key {} does not certify itself", name(primary)))?;
    if over(Some(primary.created_at()), latest.key_expiration_time(), now) {
        return Err(format!("key {} has expired", name(primary)));
    }
    Ok(latest.key_flags().sign())
}

fn subkey_may_sign(primary: &PublicKey, subkey: &SignedPublicSubKey, now: Timestamp) -> Result<(), String> {
    let bound = |one: &&Signature| one.verify_subkey_binding(primary, &subkey.key).is_ok();
    let mut revocations = subkey.signatures.iter().filter(|one| one.typ() == Some(SignatureType::SubkeyRevocation));
    if revocations.any(|one| bound(&one)) {
        return Err(format!("key {} is revoked", name(&subkey.key)));
    }
    let bindings = subkey.signatures.iter().filter(|one| one.typ() == Some(SignatureType::SubkeyBinding)).filter(bound);
    let latest = bindings.max_by_key(|one| one.created());
    let latest = latest.ok_or_else(|| format!("key {} is not bound to its primary key", name(&subkey.key)))?;
    // The subkey must confirm the binding: otherwise, anyone could claim another person's subkey.
    let agrees =
        latest.embedded_signature().is_some_and(|one| one.verify_primary_key_binding(&subkey.key, primary).is_ok());
    if !latest.key_flags().sign() || !agrees {
        return Err(no_signing(&subkey.key));
    }
    if over(Some(subkey.key.created_at()), latest.key_expiration_time(), now) {
        return Err(format!("key {} has expired", name(&subkey.key)));
    }
    Ok(())
}

fn no_signing(key: &impl KeyDetails) -> String {
    format!("key {} is not a signing key", name(key))
}

fn name(key: &impl KeyDetails) -> String {
    key.legacy_key_id().to_string().to_uppercase()
}

/// Whether a lifetime that begins at `start` has passed. `None` and zero mean unlimited.
fn over(start: Option<Timestamp>, life: Option<pgp::types::Duration>, now: Timestamp) -> bool {
    let (start, life) = (start.map_or(0, Timestamp::as_secs), life.map_or(0, pgp::types::Duration::as_secs));
    life != 0 && u64::from(start) + u64::from(life) <= u64::from(now.as_secs())
}

/// Clocks differ: a signature may be up to a day in the future.
fn tomorrow(now: Timestamp) -> Timestamp {
    Timestamp::from_secs(now.as_secs().saturating_add(24 * 60 * 60))
}

/// Formats a duration in words.
pub(crate) fn human_duration(time: Duration) -> String {
    let (hours, days) = (time.as_secs() / 3600, time.as_secs() / 86400);
    match (days, hours) {
        (0, 0) => format!("{} minutes", time.as_secs() / 60),
        (0, 1) => "1 hour".to_owned(),
        (0, hours) => format!("{hours} hours"),
        (1, _) => "1 day".to_owned(),
        (days, _) => format!("{days} days"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use pgp::types::KeyDetails;

    use super::{Keys, human_duration};
    use crate::Error;
    use crate::sources::{KeyPlace, Keyring};

    // The keys were generated for these tests: a primary key that only certifies, valid for 2025 and 2026, and a subkey
    // that signs, valid for 2025. The releases were signed on 2 January 2025.
    const ARCHIVE: &str = include_str!("testdata/archive.asc");
    const RELEASE: &str = include_str!("testdata/InRelease");

    fn day(days_of_2025: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs((20089 + days_of_2025) * 86400)
    }

    fn keyring(place: KeyPlace) -> Keyring {
        Keyring { place, fingerprints: Vec::new() }
    }

    fn keys(text: &str) -> Keys {
        Keys::read(&keyring(KeyPlace::Text(text.to_owned()))).unwrap()
    }

    fn refusal(keyring: &str, release: &str, day_of_2025: u64) -> String {
        keys(keyring).verify(release, day(day_of_2025)).unwrap_err()
    }

    #[test]
    fn a_good_signature_is_accepted_and_only_what_was_signed_is_returned() {
        let signed = keys(ARCHIVE).verify(RELEASE, day(10)).unwrap();
        assert!(signed.starts_with("Origin: Debian\nSuite: oldstable\n"), "{signed}");
        assert!(signed.ends_with("main/binary-amd64/Packages.xz"), "{signed}");
    }

    #[test]
    fn a_changed_text_is_refused() {
        let why = refusal(ARCHIVE, &RELEASE.replace("e3b0c442", "00000000"), 10);
        assert!(why.ends_with("does not match the text"), "{why}");
    }

    #[test]
    fn a_key_that_is_not_in_the_keyring_is_refused() {
        let why = refusal(ARCHIVE, include_str!("testdata/InRelease.stranger"), 10);
        assert!(why.ends_with("which is not in the keyring"), "{why}");
    }

    #[test]
    fn a_fingerprint_names_a_key_with_its_subkeys_unless_an_exclamation_mark_follows() {
        let key = &keys(ARCHIVE).keys[0];
        let primary = key.primary_key.fingerprint().to_string().to_ascii_uppercase();
        let subkey = key.public_subkeys[0].key.fingerprint().to_string().to_ascii_uppercase();
        let verified = |fingerprint: String| {
            let keyring = Keyring { fingerprints: vec![fingerprint], ..keyring(KeyPlace::Text(ARCHIVE.to_owned())) };
            Keys::read(&keyring).unwrap().verify(RELEASE, day(10)).map(|_| ())
        };
        for accepted in [primary.clone(), subkey.clone(), format!("{subkey}!")] {
            assert_eq!(verified(accepted), Ok(()));
        }
        let why = verified(format!("{primary}!")).unwrap_err();
        assert!(why.ends_with("which the apt source does not name"), "{why}");
    }

    #[test]
    fn an_unsigned_release_is_refused() {
        let text = RELEASE.split("\n\n").nth(1).unwrap();
        assert_eq!(refusal(ARCHIVE, text, 10), "it is not signed");
        // Text before the signed part is not part of it.
        assert_eq!(refusal(ARCHIVE, &format!("Codename: evil\n\n{RELEASE}"), 10), "it is not signed");
        let why = refusal(ARCHIVE, &RELEASE[..RELEASE.len() - 120], 10);
        assert!(why.starts_with("it is not a well-formed signed message"), "{why}");
    }

    #[test]
    fn a_weak_hash_is_refused() {
        let why = refusal(ARCHIVE, include_str!("testdata/InRelease.sha1"), 10);
        assert_eq!(why, "a signature uses a weak hash algorithm");
    }

    #[test]
    fn keys_that_expired_or_are_revoked_are_refused() {
        let subkey_expired = refusal(ARCHIVE, RELEASE, 366);
        assert!(subkey_expired.ends_with("has expired"), "{subkey_expired}");
        let all_expired = refusal(ARCHIVE, RELEASE, 800);
        assert!(all_expired.ends_with("has expired") && all_expired != subkey_expired, "{all_expired}");
        for revoked in
            [include_str!("testdata/archive-revoked.asc"), include_str!("testdata/archive-revoked-subkey.asc")]
        {
            let why = refusal(revoked, RELEASE, 40);
            assert!(why.ends_with("is revoked"), "{why}");
        }
        let early = keys(ARCHIVE).verify(RELEASE, UNIX_EPOCH + Duration::from_secs(20080 * 86400)).unwrap_err();
        assert_eq!(early, "a signature has expired, or has a creation time in the future");
    }

    #[test]
    fn a_keyring_without_keys_says_so() {
        for text in ["", "not a key", RELEASE] {
            assert!(
                matches!(Keys::read(&keyring(KeyPlace::Text(text.to_owned()))), Err(Error::Keyring { .. })),
                "{text:?}"
            );
        }
        let missing = keyring(KeyPlace::Files(vec!["/nonexistent/archive.gpg".into()]));
        let error = Keys::read(&missing).unwrap_err().to_string();
        assert!(error.starts_with("reading the keyring /nonexistent/archive.gpg: No such file"), "{error}");
    }

    #[test]
    fn times_are_said_in_words() {
        let shown = [59, 3600, 7200 * 2, 86400, 86400 * 9].map(|seconds| human_duration(Duration::from_secs(seconds)));
        assert_eq!(shown, ["0 minutes", "1 hour", "4 hours", "1 day", "9 days"]);
    }
}
