//! Credentials, read from where Docker and Podman store them: their files and credential helpers.
//!
//! docker_credential is not used: it supports neither Podman's entries for a single repository nor several files at
//! once, and waits for a credential helper without a time limit.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io::{self, Read, Write};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use camino::{Utf8Path, Utf8PathBuf};
use serde::Deserialize;
use vcstore::{config_folder, path_variable};

use super::Error;
use super::error::LoginSource;

/// The time limit of a credential helper: it may ask its user to unlock a keyring.
const HELPER_LIMIT: Duration = Duration::from_secs(60);

/// The maximum size of a helper's output, in bytes.
const ANSWER_LIMIT: u64 = 64 << 10;

/// The credentials of a user.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Login {
    /// A name and a password.
    Password(String, String),
    /// A token that is exchanged for others (OAuth 2 refresh token).
    Identity(String),
}

/// Credentials and their source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub login: Login,
    /// The file or the credential helper.
    pub from: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Password(..) => "a password",
            Self::Identity(_) => "an identity token",
        })
    }
}

/// The parts of Docker's `config.json` and Podman's `auth.json` with credentials.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    creds_store: Option<String>,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

/// The result of a search for a repository's credentials.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LoginLookup {
    credentials: Option<Credentials>,
    /// Why a configured credential helper returned none.
    helper_failure: Option<String>,
}

impl LoginLookup {
    /// The login.
    pub(crate) fn login(&self) -> Option<&Login> {
        self.credentials.as_ref().map(|credentials| &credentials.login)
    }

    /// Returns the source of the credentials for the error of a rejected request.
    pub(crate) fn login_source(&self) -> LoginSource {
        match (&self.credentials, &self.helper_failure) {
            (Some(credentials), _) => LoginSource::From(credentials.from.clone()),
            (None, Some(why)) => LoginSource::Silent(why.clone()),
            (None, None) => LoginSource::Nothing,
        }
    }
}

/// Returns the credentials for a repository of a registry: the first in Podman's `auth.json` and Docker's
/// `config.json`, at the paths where those programs read them. A credential helper that is missing or fails does not
/// cause an error, because public repositories need no credentials: configuration files may come from other machines,
/// with helpers that exist only there.
///
/// # Errors
/// Returns an error if a file cannot be read.
pub(crate) fn find(host: &str, repository: &str) -> Result<LoginLookup, Error> {
    let mut helper_failure = None;
    for path in files() {
        let bad = |why: String| Error::Credentials { host: host.to_owned(), path: path.clone(), why };
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => continue,
            Err(error) => return Err(bad(error.to_string())),
        };
        let file: File = serde_json::from_slice(&text).map_err(|why| bad(why.to_string()))?;
        match file.find(host, repository, &path) {
            Ok(Some(credentials)) => return Ok(LoginLookup { credentials: Some(credentials), helper_failure: None }),
            Ok(None) => {}
            Err(LoginError::Entry(why)) => return Err(bad(why)),
            Err(LoginError::Helper(why)) => {
                helper_failure.get_or_insert_with(|| format!("{why}, which {path} names"));
            }
        }
    }
    if let Some(why) = &helper_failure {
        warn_once(&format!("asking {host} without credentials: {why}"));
    }
    Ok(LoginLookup { credentials: None, helper_failure })
}

/// Prints a warning once, even if it concerns several repositories.
fn warn_once(warning: &str) {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    if SAID.lock().unwrap_or_else(PoisonError::into_inner).insert(warning.to_owned()) {
        tracing::warn!("{warning}");
    }
}

/// Why a file provides no credentials.
#[derive(Debug)]
enum LoginError {
    /// Its entry is invalid.
    Entry(String),
    /// Its helper returned none.
    Helper(String),
}

/// Returns the files that may contain credentials, in order of precedence.
fn files() -> Vec<Utf8PathBuf> {
    if let Some(named) = path_variable("REGISTRY_AUTH_FILE") {
        return vec![named];
    }
    let docker = path_variable("DOCKER_CONFIG").or_else(|| Some(path_variable("HOME")?.join(".docker")));
    [
        path_variable("XDG_RUNTIME_DIR").map(|folder| folder.join("containers/auth.json")),
        config_folder().map(|folder| folder.join("containers/auth.json")),
        docker.map(|folder| folder.join("config.json")),
    ]
    .into_iter()
    .flatten()
    .collect()
}

impl File {
    fn find(&self, host: &str, repository: &str, path: &Utf8Path) -> Result<Option<Credentials>, LoginError> {
        if let Some(helper) = self.cred_helpers.get(host).filter(|helper| !helper.is_empty()) {
            return ask(helper, host);
        }
        for name in names(host, repository) {
            let fits = |(key, _): &(&String, &Entry)| stripped(key) == name;
            let Some((_, entry)) = self.auths.iter().find(fits) else { continue };
            if let Some(login) = entry.login().map_err(LoginError::Entry)? {
                return Ok(Some(Credentials { login, from: path.to_string() }));
            }
        }
        match &self.creds_store {
            Some(helper) if !helper.is_empty() => ask(helper, helpers_name(host)),
            _ => Ok(None),
        }
    }
}

impl Entry {
    /// Returns the credentials, or `None` for an entry that only refers to a helper.
    fn login(&self) -> Result<Option<Login>, String> {
        if let Some(token) = self.identitytoken.as_ref().filter(|token| !token.is_empty()) {
            return Ok(Some(Login::Identity(token.clone())));
        }
        if let Some(auth) = self.auth.as_ref().filter(|auth| !auth.is_empty()) {
            let lenient = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
            let decoded = GeneralPurpose::new(&base64::alphabet::STANDARD, lenient).decode(auth.trim());
            let decoded = decoded.ok().and_then(|bytes| String::from_utf8(bytes).ok());
            let (name, password) = decoded
                .as_deref()
                .and_then(|text| text.split_once(':'))
                .ok_or("its \"auth\" is not base64 of NAME:PASSWORD")?;
            // Docker pads the encoded text with zero bytes.
            return Ok(Some(Login::Password(name.to_owned(), password.trim_end_matches('\0').to_owned())));
        }
        Ok(self.username.clone().zip(self.password.clone()).map(|(name, password)| Login::Password(name, password)))
    }
}

/// Returns the keys under which credentials may be stored, the most specific first: the repository, its parents, the
/// registry.
fn names(host: &str, repository: &str) -> Vec<String> {
    let host = plain_name(host);
    let mut names = Vec::new();
    let mut path = repository;
    while !path.is_empty() {
        names.push(format!("{host}/{path}"));
        path = path.rsplit_once('/').map_or("", |(above, _)| above);
    }
    names.push(host.to_owned());
    names
}

/// Normalizes a key of a file to the form of [`names`]: Docker writes URLs, and a special one for Docker Hub.
fn stripped(key: &str) -> String {
    let (address, bare) = match key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")) {
        Some(bare) => (true, bare),
        None => (false, key),
    };
    let (host, path) = bare.split_once('/').unwrap_or((bare, ""));
    match path.trim_end_matches('/') {
        "" | "v1" | "v2" => plain_name(host).to_owned(),
        _ if address => plain_name(host).to_owned(),
        path => format!("{}/{path}", plain_name(host)),
    }
}

/// Normalizes the several names of Docker's registry.
fn plain_name(host: &str) -> &str {
    match host {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        host => host,
    }
}

/// Returns the name of a registry for credential helpers.
fn helpers_name(host: &str) -> &str {
    if plain_name(host) == "docker.io" { "https://index.docker.io/v1/" } else { host }
}

/// Runs a credential helper; it is not an error if the helper has no credentials for the registry.
fn ask(helper: &str, host: &str) -> Result<Option<Credentials>, LoginError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        username: String,
        secret: String,
    }
    let program = format!("docker-credential-{helper}");
    if helper.contains('/') {
        return Err(LoginError::Entry(format!("{program:?} is not the name of a credential helper")));
    }
    let (ended, answer) = run(&program, host).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => LoginError::Helper(format!("the program {program} is not installed")),
        _ => LoginError::Helper(format!("{program} cannot be run: {error}")),
    })?;
    if !ended {
        let stderr = String::from_utf8_lossy(&answer);
        let nothing = stderr.contains("credentials not found");
        let stderr: String = stderr.trim().chars().filter(|letter| !letter.is_control()).take(300).collect();
        return if nothing { Ok(None) } else { Err(LoginError::Helper(format!("{program} failed ({stderr})"))) };
    }
    let answer: Answer = serde_json::from_slice(&answer)
        .map_err(|_| LoginError::Helper(format!("the output of {program} is not a login")))?;
    let login = match answer.username.as_str() {
        "<token>" => Login::Identity(answer.secret),
        _ => Login::Password(answer.username, answer.secret),
    };
    Ok(Some(Credentials { login, from: program }))
}

/// Runs `PROGRAM get`. Returns whether it succeeded, and its standard output.
fn run(program: &str, input: &str) -> io::Result<(bool, Vec<u8>)> {
    let mut child =
        Command::new(program).arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    // A helper need not read its input.
    let _ = child.stdin.take().map(|mut stdin| stdin.write_all(input.as_bytes()));
    let stdout = child.stdout.take();
    let reader = std::thread::spawn(move || {
        let mut answer = Vec::new();
        stdout.map_or(Ok(0), |stdout| stdout.take(ANSWER_LIMIT).read_to_end(&mut answer)).map(|_| answer)
    });
    let deadline = Instant::now() + HELPER_LIMIT;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("no response within {} s", HELPER_LIMIT.as_secs()),
            ));
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let answer = reader.join().unwrap_or_else(|_| Err(io::Error::other("the reading thread failed")))?;
    Ok((status.success(), answer))
}

#[cfg(test)]
mod tests {
    use camino::Utf8Path;

    use super::{File, Login, LoginError};

    fn find(json: &str, host: &str, repository: &str) -> Option<Login> {
        let file: File = serde_json::from_str(json).unwrap();
        file.find(host, repository, Utf8Path::new("auth.json")).unwrap().map(|found| found.login)
    }

    fn password(name: &str) -> Option<Login> {
        Some(Login::Password(name.to_owned(), "secret".to_owned()))
    }

    #[test]
    fn the_narrowest_entry_counts() {
        // user:secret, team:secret, app:secret
        let json = r#"{"auths": {
            "registry.example:5000": {"auth": "dXNlcjpzZWNyZXQ="},
            "registry.example:5000/team": {"auth": "dGVhbTpzZWNyZXQ"},
            "registry.example:5000/team/app": {"username": "app", "password": "secret"}
        }}"#;
        let host = "registry.example:5000";
        assert_eq!(find(json, host, "other/app"), password("user"));
        assert_eq!(find(json, host, "team/web"), password("team"));
        assert_eq!(find(json, host, "team/app"), password("app"));
        assert_eq!(find(json, "registry.example", "team/app"), None, "another port is another registry");
    }

    #[test]
    fn dockers_own_registry_is_known_by_all_its_names() {
        let json = r#"{"auths": {"https://index.docker.io/v1/": {"auth": "dXNlcjpzZWNyZXQ="}}}"#;
        for host in ["docker.io", "index.docker.io"] {
            assert_eq!(find(json, host, "library/debian"), password("user"));
        }
        let token = r#"{"auths": {"https://registry.example": {"auth": "", "identitytoken": "t"}}}"#;
        assert_eq!(find(token, "registry.example", "a"), Some(Login::Identity("t".to_owned())));
        assert_eq!(find(r#"{"auths": {"registry.example": {}}}"#, "registry.example", "a"), None);
    }

    #[test]
    fn a_helper_that_gives_nothing_is_named() {
        let file: File = serde_json::from_str(r#"{"credsStore": "not-on-this-machine"}"#).unwrap();
        let Err(LoginError::Helper(why)) = file.find("r.example", "a", Utf8Path::new("auth.json")) else {
            panic!("a login")
        };
        assert_eq!(why, "the program docker-credential-not-on-this-machine is not installed");
        let outside: File = serde_json::from_str(r#"{"credHelpers": {"r.example": "../sh"}}"#).unwrap();
        let Err(LoginError::Entry(why)) = outside.find("r.example", "a", Utf8Path::new("auth.json")) else {
            panic!("a login")
        };
        assert!(why.contains("is not the name of a credential helper"), "{why}");
    }

    #[test]
    fn what_is_no_login_is_refused_without_repeating_it() {
        let file: File = serde_json::from_str(r#"{"auths": {"r.example": {"auth": "c2VjcmV0"}}}"#).unwrap();
        let Err(LoginError::Entry(why)) = file.find("r.example", "a", Utf8Path::new("auth.json")) else {
            panic!("a login")
        };
        assert!(why.contains("not base64 of NAME:PASSWORD") && !why.contains("c2VjcmV0"), "{why}");
        assert!(!format!("{:?}", Login::Password("user".into(), "secret".into())).contains("secret"));
    }
}
