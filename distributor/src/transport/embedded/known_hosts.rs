//! Known host keys, and whether a server's key is one of them (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT"). The library
//! parses the lines; this module applies ssh's rules about which of them count.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use camino::{Utf8Path, Utf8PathBuf};
use ring::hmac::{self, HMAC_SHA1_FOR_LEGACY_USE_ONLY};
use ring::rand::SecureRandom;
use russh::keys::ssh_key::certificate::CertType;
use russh::keys::ssh_key::known_hosts::{Entry, HostPatterns, Marker};
use russh::keys::{Algorithm, Certificate, HashAlg, PublicKey};

use super::error::Error;
use super::pattern;

/// The maximum size of a file, in bytes.
const LARGEST: u64 = 64 << 20;

/// The lines of the files for one host.
#[derive(Debug, Default)]
pub(super) struct KnownHosts {
    lines: Vec<KnownHost>,
}

#[derive(Debug)]
struct KnownHost {
    place: String,
    marker: Option<Marker>,
    key: PublicKey,
    /// Whether the line is for the host with its port, and not only for the host.
    exact: bool,
}

/// The status of a server's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum HostKeyStatus {
    Known,
    Unknown,
    /// Other keys are known for the host, but not this one. Contains the location and kind of the first.
    Changed(String),
    /// The key is revoked. Contains the location of the revocation.
    Revoked(String),
}

/// Returns the name of a host in `known_hosts`.
pub(super) fn name(host: &str, port: u16, alias: Option<&str>) -> String {
    match alias {
        Some(alias) => alias.to_owned(),
        None if port == 22 => host.to_lowercase(),
        None => format!("[{}]:{port}", host.to_lowercase()),
    }
}

impl KnownHosts {
    /// Reads the lines of `files` for `name`, and those for `plain`, the host without its port, which count if `name`
    /// has none. Ignores files that do not exist.
    pub(super) fn read(files: &[Utf8PathBuf], name: &str, plain: Option<&str>) -> Result<Self, Error> {
        let mut lines = Vec::new();
        for path in files {
            let text = match read(path) {
                Ok(text) => text,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(source) => {
                    let help =
                        "known host keys must be readable, or named elsewhere (--ssh-option UserKnownHostsFile=PATH)";
                    return Err(Error::Read { path: path.clone(), source, help });
                }
            };
            for (number, line) in text.lines().enumerate() {
                // Invalid lines are skipped, as in ssh.
                let Ok(entry) = line.trim().parse::<Entry>() else { continue };
                let exact = is_about(entry.host_patterns(), name);
                if exact || plain.is_some_and(|plain| is_about(entry.host_patterns(), plain)) {
                    let place = format!("{path}:{}", number + 1);
                    let marker = entry.marker().copied();
                    lines.push(KnownHost { place, marker, key: entry.public_key().clone(), exact });
                }
            }
        }
        Ok(Self { lines })
    }

    /// Checks a plain host key.
    pub(super) fn check(&self, key: &PublicKey) -> HostKeyStatus {
        if let Some(place) = self.revoked(key) {
            return HostKeyStatus::Revoked(place);
        }
        let known = |exact: bool| self.keys().any(|line| line.exact == exact && same(&line.key, key));
        if known(true) {
            return HostKeyStatus::Known;
        }
        // A key of another kind also counts as changed: a server with several keys was asked for a known kind.
        match self.keys().find(|line| line.exact) {
            Some(line) => HostKeyStatus::Changed(format!("{} key in {}", kind(&line.key), line.place)),
            // A line for the host without its port can make a key known, but not changed.
            None if known(false) => HostKeyStatus::Known,
            None => HostKeyStatus::Unknown,
        }
    }

    /// Checks that a certificate names this host, is valid at `now` (seconds since the Unix epoch) and is signed by an
    /// authority that is known for the host. Otherwise, checks its key as a plain one.
    pub(super) fn check_certificate(&self, certificate: &Certificate, host: &str, now: u64) -> HostKeyStatus {
        let key = PublicKey::new(certificate.public_key().clone(), "");
        let signer = PublicKey::new(certificate.signature_key().clone(), "");
        if let Some(place) = self.revoked(&key).or_else(|| self.revoked(&signer)) {
            return HostKeyStatus::Revoked(place);
        }
        let authorities = self.lines.iter().filter(|line| line.marker == Some(Marker::CertAuthority));
        let known: Vec<_> = authorities.map(|line| line.key.fingerprint(HashAlg::Sha256)).collect();
        let principals = certificate.valid_principals();
        let named = principals.is_empty() || pattern::any(principals.iter().map(String::as_str), host);
        let good = certificate.cert_type() == CertType::Host
            && certificate.critical_options().is_empty()
            && named
            && !known.is_empty()
            && certificate.validate_at(now, &known).is_ok();
        if good { HostKeyStatus::Known } else { self.check(&key) }
    }

    /// Whether a certificate authority is known for the host.
    pub(super) fn has_authority(&self) -> bool {
        self.lines.iter().any(|line| line.marker == Some(Marker::CertAuthority))
    }

    /// Returns `algorithms` with those of known keys first, so that a server with several keys presents a known one.
    pub(super) fn prefer(&self, algorithms: &[Algorithm]) -> Vec<Algorithm> {
        let known = |algorithm: &&Algorithm| self.keys().any(|line| kind(&line.key) == kind_of(algorithm));
        let (first, rest): (Vec<&Algorithm>, Vec<&Algorithm>) = algorithms.iter().partition(known);
        first.into_iter().chain(rest).cloned().collect()
    }

    fn keys(&self) -> impl Iterator<Item = &KnownHost> {
        self.lines.iter().filter(|line| line.marker.is_none())
    }

    fn revoked(&self, key: &PublicKey) -> Option<String> {
        let line = self.lines.iter().find(|line| line.marker == Some(Marker::Revoked) && same(&line.key, key))?;
        Some(line.place.clone())
    }
}

/// Adds a key to the file, with a hashed host name if requested.
pub(super) fn learn(path: &Utf8Path, name: &str, key: &PublicKey, hashed: bool) -> io::Result<()> {
    let name = if hashed { hash(name)? } else { name.to_owned() };
    let key = PublicKey::new(key.key_data().clone(), "").to_openssh().map_err(io::Error::other)?;
    if let Some(folder) = path.parent().filter(|folder| !folder.exists()) {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let unfinished = std::fs::read(path).is_ok_and(|text| !text.is_empty() && !text.ends_with(b"\n"));
    let line = format!("{}{name} {key}\n", if unfinished { "\n" } else { "" });
    // Appends with a single write, because other processes may add keys at the same time.
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)?.write_all(line.as_bytes())
}

fn read(path: &Utf8Path) -> io::Result<String> {
    let length = std::fs::metadata(path)?;
    // /dev/null and other special files have no contents.
    if !length.is_file() {
        return Ok(String::new());
    }
    if length.len() > LARGEST {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {LARGEST} bytes")));
    }
    Ok(String::from_utf8_lossy(&std::fs::read(path)?).into_owned())
}

fn is_about(patterns: &HostPatterns, name: &str) -> bool {
    match patterns {
        HostPatterns::Patterns(patterns) => pattern::any(patterns.iter().map(String::as_str), name),
        HostPatterns::HashedName { salt, hash } => {
            hmac::verify(&hmac::Key::new(HMAC_SHA1_FOR_LEGACY_USE_ONLY, salt), name.as_bytes(), hash).is_ok()
        }
    }
}

fn hash(name: &str) -> io::Result<String> {
    let mut salt = [0; 20];
    ring::rand::SystemRandom::new().fill(&mut salt).map_err(|_| io::Error::other("the system gives no randomness"))?;
    let tag = hmac::sign(&hmac::Key::new(HMAC_SHA1_FOR_LEGACY_USE_ONLY, &salt), name.as_bytes());
    Ok(format!("|1|{}|{}", STANDARD.encode(salt), STANDARD.encode(tag)))
}

/// Whether two keys are equal, apart from their comments.
fn same(one: &PublicKey, other: &PublicKey) -> bool {
    one.key_data() == other.key_data()
}

/// Returns the name of a key's kind in `known_hosts` and messages.
pub(super) fn kind(key: &PublicKey) -> &'static str {
    kind_of(&key.algorithm())
}

fn kind_of(algorithm: &Algorithm) -> &'static str {
    match algorithm {
        Algorithm::Ed25519 => "ED25519",
        Algorithm::Ecdsa { .. } => "ECDSA",
        Algorithm::Rsa { .. } => "RSA",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use camino::Utf8PathBuf;
    use russh::keys::key::safe_rng;
    use russh::keys::ssh_key::certificate::{Builder, CertType};
    use russh::keys::{Algorithm, Certificate, EcdsaCurve, PrivateKey, PublicKey};

    use super::{HostKeyStatus, KnownHosts, learn, name};

    /// Seconds since the Unix epoch.
    const NOW: u64 = 1_800_000_000;

    const ECDSA: Algorithm = Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 };

    fn key(algorithm: Algorithm) -> PrivateKey {
        PrivateKey::random(&mut safe_rng(), algorithm).expect("a key")
    }

    fn text(key: &PublicKey) -> String {
        key.to_openssh().expect("text")
    }

    /// Returns what a file of these lines contains about 10.0.0.5 port 2222.
    fn known(lines: &[String]) -> KnownHosts {
        let folder = tempfile::tempdir().expect("a folder");
        let path = Utf8PathBuf::try_from(folder.path().join("known_hosts")).expect("UTF-8");
        std::fs::write(&path, lines.join("\n")).expect("a file");
        let files = [path, Utf8PathBuf::from("/nonexistent/known_hosts"), "/dev/null".into()];
        KnownHosts::read(&files, &name("10.0.0.5", 2222, None), Some("10.0.0.5")).expect("it is read")
    }

    #[test]
    fn names_have_the_port_unless_it_is_the_usual_one() {
        assert_eq!(name("W1.lan", 22, None), "w1.lan");
        assert_eq!(name("fd00::5", 2222, None), "[fd00::5]:2222");
        assert_eq!(name("w1", 2222, Some("Site-A")), "Site-A");
    }

    #[test]
    fn a_key_is_known_changed_or_neither() {
        let (ours, other) = (key(Algorithm::Ed25519), key(Algorithm::Ed25519));
        let (ours, other) = (ours.public_key(), other.public_key());
        let check = |lines: &[String]| known(lines).check(ours);
        let line = |host: &str, key: &PublicKey| format!("{host} {} a comment", text(key));
        assert_eq!(check(&[]), HostKeyStatus::Unknown);
        assert_eq!(check(&[line("10.0.0.6,[10.0.0.5]:2222", ours)]), HostKeyStatus::Known);
        assert_eq!(check(&[line("[10.0.0.*]:2222", ours)]), HostKeyStatus::Known);
        assert_eq!(check(&[line("[10.0.0.*]:2222,![10.0.0.5]:2222", ours)]), HostKeyStatus::Unknown);
        assert_eq!(check(&[line("10.0.0.5", ours)]), HostKeyStatus::Known, "as for any port");
        assert_eq!(check(&[line("10.0.0.5", other)]), HostKeyStatus::Unknown, "another port, another server");
        assert_eq!(check(&[line("[10.0.0.5]:2223", ours)]), HostKeyStatus::Unknown);
        assert_eq!(check(&["nonsense".into(), String::new(), line("[10.0.0.5]:2222", ours)]), HostKeyStatus::Known);
        assert_eq!(check(&[line("[10.0.0.5]:2222", other), line("[10.0.0.5]:2222", ours)]), HostKeyStatus::Known);
        for other in [other, key(ECDSA).public_key()] {
            let changed = check(&[line("10.0.0.5", ours), line("[10.0.0.5]:2222", other)]);
            let HostKeyStatus::Changed(place) = changed else { panic!("{changed:?}") };
            assert!(place.ends_with("/known_hosts:2"), "{place}");
        }
    }

    #[test]
    fn a_revoked_key_is_refused_whatever_else_is_said() {
        let ours = key(Algorithm::Ed25519);
        let ours = ours.public_key();
        let lines = [format!("[10.0.0.5]:2222 {}", text(ours)), format!("@revoked * {}", text(ours))];
        assert!(matches!(known(&lines).check(ours), HostKeyStatus::Revoked(place) if place.ends_with(":2")));
    }

    #[test]
    fn what_is_learned_is_known_hashed_or_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = Utf8PathBuf::try_from(folder.path().join("new/known_hosts")).expect("UTF-8");
        let ours = key(Algorithm::Ed25519);
        let read = |name: &str| KnownHosts::read(std::slice::from_ref(&path), name, None).expect("it is read");
        learn(&path, "w1", ours.public_key(), true).expect("learned");
        let text = std::fs::read_to_string(&path).expect("a file");
        assert!(text.starts_with("|1|") && !text.contains("w1"), "{text}");
        assert_eq!(read("w1").check(ours.public_key()), HostKeyStatus::Known);
        assert_eq!(read("w2").check(ours.public_key()), HostKeyStatus::Unknown);
        std::fs::write(&path, text.trim_end()).expect("no newline at its end");
        learn(&path, "[w2]:2222", ours.public_key(), false).expect("learned");
        assert_eq!(read("w1").check(ours.public_key()), HostKeyStatus::Known);
        assert_eq!(read("[w2]:2222").check(ours.public_key()), HostKeyStatus::Known);
    }

    #[test]
    fn kinds_of_which_a_key_is_known_are_asked_for_first() {
        let known = known(&[format!("[10.0.0.5]:2222 {}", text(key(ECDSA).public_key()))]);
        let rsa = Algorithm::Rsa { hash: None };
        assert_eq!(known.prefer(&[Algorithm::Ed25519, rsa.clone(), ECDSA]), [ECDSA, Algorithm::Ed25519, rsa]);
    }

    /// Returns a certificate for `host`, valid for a day on either side of [`NOW`].
    fn certificate(signer: &PrivateKey, host: &PublicKey, kind: CertType, principal: &str) -> Certificate {
        let day = 24 * 3600;
        let mut builder = Builder::new([7; 16], host.key_data().clone(), NOW - day, NOW + day).expect("a time");
        builder.cert_type(kind).expect("a kind").key_id("id").expect("an id");
        builder.valid_principal(principal).expect("a name");
        builder.sign(signer).expect("signed")
    }

    #[test]
    fn a_certificate_counts_for_its_host_in_its_time_from_a_known_authority() {
        let (signer, host) = (key(Algorithm::Ed25519), key(Algorithm::Ed25519));
        let host = host.public_key();
        let authority = format!("@cert-authority [10.0.0.*]:2222 {}", text(signer.public_key()));
        let known = known(std::slice::from_ref(&authority));
        assert!(known.has_authority());
        let good = certificate(&signer, host, CertType::Host, "10.0.0.5");
        let check = |certificate: &Certificate, now| known.check_certificate(certificate, "10.0.0.5", now);
        assert_eq!(check(&good, NOW), HostKeyStatus::Known);
        assert_eq!(check(&good, NOW + 100 * 24 * 3600), HostKeyStatus::Unknown, "it has run out");
        let stranger = certificate(&key(Algorithm::Ed25519), host, CertType::Host, "10.0.0.5");
        assert_eq!(check(&stranger, NOW), HostKeyStatus::Unknown);
        assert_eq!(check(&certificate(&signer, host, CertType::User, "10.0.0.5"), NOW), HostKeyStatus::Unknown);
        assert_eq!(check(&certificate(&signer, host, CertType::Host, "10.0.0.6"), NOW), HostKeyStatus::Unknown);
        let lines = [authority, format!("@revoked * {}", text(signer.public_key()))];
        let status = super::KnownHosts::check_certificate(&super::tests::known(&lines), &good, "10.0.0.5", NOW);
        assert!(matches!(status, HostKeyStatus::Revoked(_)), "{status:?}");
        assert_eq!(known.check(signer.public_key()), HostKeyStatus::Unknown, "an authority is no host");
    }
}
