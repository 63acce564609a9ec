//! Reads the user's ssh configuration of a host. Rejects options that the embedded SSH does not support and that would
//! matter, so that a configuration is never weaker here than with the system's ssh.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};

use super::error::Error;
use super::pattern;

/// The maximum nesting of included files, as in ssh.
const DEPTH: usize = 16;

/// The maximum number of parts of an included path that may have wildcards.
const WILDCARDS: usize = 3;

/// The maximum number of lines in all files together.
const LINES: usize = 100_000;

/// The supported options; the first value wins.
const HONOURED: &[&str] = &[
    "addressfamily",
    "certificatefile",
    "connecttimeout",
    "globalknownhostsfile",
    "hashknownhosts",
    "hostkeyalias",
    "hostname",
    "identitiesonly",
    "identityagent",
    "identityfile",
    "port",
    "proxyjump",
    "serveralivecountmax",
    "serveraliveinterval",
    "user",
    "userknownhostsfile",
];

/// The options whose values accumulate.
const ADDING: &[&str] = &["certificatefile", "identityfile"];

/// Options that do not affect a push: terminals, forwarding and shared connections, which it never uses; interactive
/// logins, which it never performs; checks of host keys, which `--host-keys` determines; output and tuning.
const INDIFFERENT: &[&str] = &[
    "addkeystoagent",
    "batchmode",
    "canonicaldomains",
    "challengeresponseauthentication",
    "clearallforwardings",
    "compression",
    "connectionattempts",
    "controlmaster",
    "controlpath",
    "controlpersist",
    "dynamicforward",
    "enableescapecommandline",
    "enablesshkeysign",
    "escapechar",
    "exitonforwardfailure",
    "fingerprinthash",
    "forkafterauthentication",
    "forwardagent",
    "forwardx11",
    "forwardx11timeout",
    "forwardx11trusted",
    "gatewayports",
    "gssapiauthentication",
    "gssapidelegatecredentials",
    "hostbasedauthentication",
    "ignoreunknown",
    "ipqos",
    "kbdinteractiveauthentication",
    "localcommand",
    "localforward",
    "loglevel",
    "logverbose",
    "numberofpasswordprompts",
    "passwordauthentication",
    "permitlocalcommand",
    "permitremoteopen",
    "preferredauthentications",
    "remotecommand",
    "remoteforward",
    "requesttty",
    "sendenv",
    "sessiontype",
    "stdinnull",
    "streamlocalbindmask",
    "streamlocalbindunlink",
    "stricthostkeychecking",
    "syslogfacility",
    "tcpkeepalive",
    "tunnel",
    "tunneldevice",
    "updatehostkeys",
    "visualhostkey",
    "xauthlocation",
];

/// Options that are supported only with these values, which are ssh's defaults.
const DEFAULTS: &[(&str, &[&str])] = &[
    ("bindaddress", &["none"]),
    ("canonicalizehostname", &["no"]),
    ("checkhostip", &["no"]),
    ("knownhostscommand", &["none"]),
    ("nohostauthenticationforlocalhost", &["no"]),
    ("pkcs11provider", &["none"]),
    ("proxycommand", &["none"]),
    ("proxyusefdpass", &["no"]),
    ("pubkeyauthentication", &["yes", "true"]),
    ("verifyhostkeydns", &["no"]),
];

/// The default places of configurations and keys.
#[derive(Debug, Clone)]
pub(super) struct SshPaths {
    /// The user's home directory.
    pub(super) home: Utf8PathBuf,
    /// The machine's configuration folder of ssh.
    pub(super) system: Utf8PathBuf,
    /// The user's name.
    pub(super) user: String,
}

/// The settings for one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settings {
    /// The name or address to connect to.
    pub(super) host_name: String,
    pub(super) port: u16,
    pub(super) user: String,
    /// The key files to try.
    pub(super) identities: Vec<Utf8PathBuf>,
    pub(super) certificates: Vec<Utf8PathBuf>,
    pub(super) identities_only: bool,
    /// The agent's socket.
    pub(super) agent: Option<Utf8PathBuf>,
    /// The user's files of known host keys, and the machine's.
    pub(super) user_known_hosts: Vec<Utf8PathBuf>,
    pub(super) global_known_hosts: Vec<Utf8PathBuf>,
    /// The name under which host keys are looked up, instead of the host.
    pub(super) host_key_alias: Option<String>,
    pub(super) hash_known_hosts: bool,
    /// The jump host, `[USER@]HOST[:PORT]`.
    pub(super) jump: Option<String>,
    pub(super) connect_timeout: Option<Duration>,
    pub(super) alive_interval: Option<Duration>,
    pub(super) alive_count: Option<usize>,
    /// 4 or 6, if only one address family is allowed.
    pub(super) address_family: Option<u8>,
}

/// Values by keyword, each with its source.
#[derive(Debug, Default)]
struct Values(BTreeMap<String, Vec<(String, Vec<String>)>>);

/// The parser of a configuration for one host.
struct ConfigReader<'a> {
    ssh_paths: &'a SshPaths,
    host: &'a str,
    values: Values,
    lines: usize,
}

impl Settings {
    /// Returns the settings for `host`: first those in `said` (`KEYWORD=VALUE`, each with its source), then those in
    /// `config` or, if that is not given, in the user's and the machine's files.
    pub(super) fn of(
        host: &str,
        overrides: &[(String, String)],
        config: Option<&Utf8Path>,
        ssh_paths: &SshPaths,
    ) -> Result<Self, Error> {
        let mut reading = ConfigReader { ssh_paths, host, values: Values::default(), lines: 0 };
        for (place, option) in overrides {
            reading.line(option, place, &mut true, None)?;
        }
        match config {
            Some(config) if config == "none" => {}
            Some(config) => reading.file(config, &ssh_paths.home.join(".ssh"), true, 0)?,
            None => {
                let (user, system) = (ssh_paths.home.join(".ssh"), &ssh_paths.system);
                for (path, folder) in [(user.join("config"), &user), (system.join("ssh_config"), system)] {
                    if path.exists() {
                        reading.file(&path, folder, true, 0)?;
                    }
                }
            }
        }
        reading.values.settle(host, ssh_paths)
    }
}

impl Settings {
    /// Whether an address of the host is of the configured family.
    pub(super) fn is_meant(&self, address: &SocketAddr) -> bool {
        self.address_family.is_none_or(|family| (family == 4) == address.is_ipv4())
    }
}

impl ConfigReader<'_> {
    fn file(&mut self, path: &Utf8Path, folder: &Utf8Path, active: bool, depth: usize) -> Result<(), Error> {
        let help = "give a configuration that can be read with --ssh-config, or none";
        let text = std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.into(), source, help })?;
        // A file that is included inside a block applies only to that block's hosts, regardless of blocks in the file.
        let mut holds = active;
        for (number, line) in text.lines().enumerate() {
            self.lines += 1;
            let place = format!("{path}:{}", number + 1);
            if self.lines > LINES {
                return Err(Error::Configuration { place, why: format!("more than {LINES} lines in all") });
            }
            let mut within = holds;
            self.line(line, &place, &mut within, Some((folder, depth)))?;
            holds = within && active;
        }
        Ok(())
    }

    /// Parses a line. `holds` is whether the present block applies to the host; a file may include others.
    fn line(
        &mut self,
        line: &str,
        place: &str,
        holds: &mut bool,
        includes: Option<(&Utf8Path, usize)>,
    ) -> Result<(), Error> {
        let wrong = |why: &str| Error::Configuration { place: place.into(), why: why.into() };
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            return Ok(());
        }
        let end = line.find(|c: char| c.is_whitespace() || c == '=').unwrap_or(line.len());
        let keyword = line[..end].to_lowercase();
        let rest = line[end..].trim_start();
        let rest = rest.strip_prefix('=').unwrap_or(rest);
        let arguments = shlex::split(rest).ok_or_else(|| wrong("a quote is not closed"))?;
        if arguments.is_empty() {
            return Err(wrong(&format!("{keyword} lacks its value")));
        }
        let block = includes.is_some();
        match keyword.as_str() {
            "host" if block => *holds = pattern::any(arguments.iter().map(String::as_str), self.host),
            "match" if block => match arguments.as_slice() {
                [all] if all.eq_ignore_ascii_case("all") => *holds = true,
                _ => return Err(Error::Unsupported { place: place.into(), what: "Match with conditions".into() }),
            },
            "include" if block => {
                let (folder, depth) = includes.unwrap_or((Utf8Path::new(""), DEPTH));
                if depth + 1 > DEPTH {
                    return Err(wrong("files include each other too deep"));
                }
                for argument in &arguments {
                    self.include(argument, folder, *holds, depth + 1).map_err(|error| match error {
                        Included::Pattern => wrong("this is not a valid pattern of files"),
                        Included::Wide => wrong(&format!("more than {WILDCARDS} parts of this path have wildcards")),
                        Included::File(error) => error,
                    })?;
                }
            }
            _ if *holds => self.values.add(&keyword, arguments, place)?,
            _ => {}
        }
        Ok(())
    }

    fn include(&mut self, argument: &str, folder: &Utf8Path, active: bool, depth: usize) -> Result<(), Included> {
        let path = home(argument, &self.ssh_paths.home);
        let path = if path.is_absolute() { path } else { folder.join(path) };
        // ssh treats consecutive asterisks as one (glob(7)); the library treats two as all folders below, which may
        // be the whole machine.
        let mut pattern = path.into_string();
        while pattern.contains("**") {
            pattern = pattern.replace("**", "*");
        }
        // Each such part multiplies the folders to list, and links that lead back to `/` (as in /proc) leave no end to them.
        if pattern.split('/').filter(|part| part.contains(['*', '?', '['])).count() > WILDCARDS {
            return Err(Included::Wide);
        }
        let found = glob::glob(&pattern).map_err(|_| Included::Pattern)?;
        let mut files: Vec<Utf8PathBuf> = found.flatten().filter_map(|path| Utf8PathBuf::try_from(path).ok()).collect();
        files.sort();
        for file in files.iter().filter(|file| file.is_file()) {
            self.file(file, folder, active, depth).map_err(Included::File)?;
        }
        Ok(())
    }
}

/// Why an `Include` failed.
enum Included {
    Pattern,
    Wide,
    File(Error),
}

impl Values {
    fn add(&mut self, keyword: &str, arguments: Vec<String>, place: &str) -> Result<(), Error> {
        let unsupported = |what: &str| Error::Unsupported { place: place.into(), what: what.into() };
        if INDIFFERENT.contains(&keyword) {
            return Ok(());
        }
        if let Some((_, defaults)) = DEFAULTS.iter().find(|(known, _)| *known == keyword) {
            let known = self.0.contains_key(keyword) || defaults.iter().any(|d| d.eq_ignore_ascii_case(&arguments[0]));
            if !known {
                return Err(unsupported(keyword));
            }
        } else if !HONOURED.contains(&keyword) {
            return Err(unsupported(keyword));
        }
        let values = self.0.entry(keyword.to_owned()).or_default();
        if values.is_empty() || ADDING.contains(&keyword) {
            values.push((place.to_owned(), arguments));
        }
        Ok(())
    }

    fn one(&self, keyword: &str) -> Option<(&str, &str)> {
        let (place, arguments) = self.0.get(keyword)?.first()?;
        Some((place, arguments.first()?))
    }

    fn flag(&self, keyword: &str) -> Result<Option<bool>, Error> {
        let Some((place, value)) = self.one(keyword) else { return Ok(None) };
        match value.to_lowercase().as_str() {
            "yes" | "true" => Ok(Some(true)),
            "no" | "false" => Ok(Some(false)),
            _ => Err(Error::Configuration { place: place.into(), why: format!("{keyword} is yes or no, not {value}") }),
        }
    }

    fn number(&self, keyword: &str) -> Result<Option<u32>, Error> {
        let Some((place, value)) = self.one(keyword) else { return Ok(None) };
        let wrong = |_| Error::Configuration { place: place.into(), why: format!("{value} is no number") };
        value.parse().map(Some).map_err(wrong)
    }

    fn settle(&self, host: &str, ssh_paths: &SshPaths) -> Result<Settings, Error> {
        let port = match self.one("port") {
            Some((place, value)) => value
                .parse()
                .ok()
                .filter(|port| *port != 0)
                .ok_or_else(|| Error::Configuration { place: place.into(), why: format!("{value} is no port") })?,
            None => 22,
        };
        let user = self.one("user").map_or_else(|| ssh_paths.user.clone(), |(_, user)| user.to_owned());
        let host_name = match self.one("hostname") {
            Some((place, name)) => expand(name, &[('h', host)], place)?,
            None => host.to_owned(),
        };
        let port_text = port.to_string();
        let tokens: &[(char, &str)] = &[
            ('d', ssh_paths.home.as_str()),
            ('h', &host_name),
            ('n', host),
            ('p', &port_text),
            ('r', &user),
            ('u', &ssh_paths.user),
        ];
        let paths = |keyword: &str| -> Result<Option<Vec<Utf8PathBuf>>, Error> {
            let Some(values) = self.0.get(keyword) else { return Ok(None) };
            let mut paths = Vec::new();
            for (place, arguments) in values {
                for argument in arguments.iter().filter(|argument| *argument != "none") {
                    paths.push(home(&expand(argument, tokens, place)?, &ssh_paths.home));
                }
            }
            Ok(Some(paths))
        };
        let own = |name: &str| ssh_paths.home.join(".ssh").join(name);
        let agent = match self.one("identityagent") {
            Some((_, "none")) => None,
            Some((place, name)) if name == "SSH_AUTH_SOCK" || name.starts_with('$') => {
                let name = name.trim_start_matches('$').trim_matches(['{', '}']);
                let socket = std::env::var(name).map_err(|_| Error::Configuration {
                    place: place.into(),
                    why: format!("the environment has no {name}"),
                });
                Some(socket?.into())
            }
            Some(_) => paths("identityagent")?.unwrap_or_default().into_iter().next(),
            None => std::env::var("SSH_AUTH_SOCK").ok().filter(|path| !path.is_empty()).map(Utf8PathBuf::from),
        };
        let jump = match self.one("proxyjump") {
            Some((place, hosts)) if hosts.contains(',') => {
                return Err(Error::Unsupported { place: place.into(), what: "more than one jump host".into() });
            }
            Some((_, host)) if !host.eq_ignore_ascii_case("none") => {
                Some(host.strip_prefix("ssh://").unwrap_or(host).to_owned())
            }
            _ => None,
        };
        let address_family = match self.one("addressfamily") {
            Some((_, "any")) | None => None,
            Some((_, "inet")) => Some(4),
            Some((_, "inet6")) => Some(6),
            Some((place, _)) => {
                let why = "AddressFamily is any, inet or inet6".into();
                return Err(Error::Configuration { place: place.into(), why });
            }
        };
        let seconds =
            |count: Option<u32>| count.filter(|count| *count > 0).map(|count| Duration::from_secs(count.into()));
        let defaults = || ["id_ed25519", "id_ecdsa", "id_rsa"].map(own).to_vec();
        let machine = || ["ssh_known_hosts", "ssh_known_hosts2"].map(|name| ssh_paths.system.join(name)).to_vec();
        Ok(Settings {
            port,
            user: user.clone(),
            identities: paths("identityfile")?.unwrap_or_else(defaults),
            certificates: paths("certificatefile")?.unwrap_or_default(),
            identities_only: self.flag("identitiesonly")?.unwrap_or(false),
            agent,
            user_known_hosts: paths("userknownhostsfile")?
                .unwrap_or_else(|| vec![own("known_hosts"), own("known_hosts2")]),
            global_known_hosts: paths("globalknownhostsfile")?.unwrap_or_else(machine),
            host_key_alias: self.one("hostkeyalias").map(|(_, alias)| alias.to_owned()),
            hash_known_hosts: self.flag("hashknownhosts")?.unwrap_or(false),
            jump,
            connect_timeout: seconds(self.number("connecttimeout")?),
            alive_interval: seconds(self.number("serveraliveinterval")?),
            alive_count: self.number("serveralivecountmax")?.map(|count| count as usize),
            address_family,
            host_name: host_name.clone(),
        })
    }
}

/// Expands ssh's `%` tokens.
fn expand(text: &str, tokens: &[(char, &str)], place: &str) -> Result<String, Error> {
    let mut expanded = String::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            expanded.push(letter);
            continue;
        }
        let token = letters.next();
        match tokens.iter().find(|(known, _)| Some(*known) == token) {
            Some((_, value)) => expanded += value,
            None if token == Some('%') => expanded.push('%'),
            None => {
                let what = format!("the token %{}", token.map(String::from).unwrap_or_default());
                return Err(Error::Unsupported { place: place.into(), what });
            }
        }
    }
    Ok(expanded)
}

/// Expands a leading `~` to the home directory.
fn home(path: &str, home: &Utf8Path) -> Utf8PathBuf {
    match path.strip_prefix('~') {
        Some("") => home.to_owned(),
        Some(rest) if rest.starts_with('/') => home.join(rest.trim_start_matches('/')),
        _ => path.into(),
    }
}

impl SshPaths {
    /// Returns the paths of the user that runs this program.
    pub(super) fn of_this_user() -> Result<Self, Error> {
        let id = nix::unistd::getuid();
        let help = "the machine's users must have the one this runs as (/etc/passwd)";
        let failed = |source| Error::Read { path: "/etc/passwd".into(), source, help };
        let user = nix::unistd::User::from_uid(id).map_err(|error| failed(error.into()))?;
        let user = user.ok_or_else(|| failed(io::Error::other(format!("no user has the number {id}"))))?;
        let home = Utf8PathBuf::try_from(user.dir).map_err(|error| failed(io::Error::other(error)))?;
        Ok(Self { home, system: "/etc/ssh".into(), user: user.name })
    }
}

#[cfg(test)]
mod tests;
