//! A connection to one host: it connects, verifies the host key and logs in. Commands run over it in channels.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use camino::Utf8PathBuf;
use russh::client::{self, Config, DisconnectReason, Handle, Session};
use russh::keys::{Algorithm, HashAlg, PublicKey, PublicKeyOrCertificate};
use russh::{Preferred, cipher};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::config::{Settings, SshPaths};
use super::error::Error;
use super::known_hosts::{self, HostKeyStatus, KnownHosts};
use super::login::{Refusal, log_in};
use super::{HostKeys, SshOptions};
use crate::transport::diagnosis::{Peer, SSH_FAILED, diagnose};
use crate::transport::{self, Duplex, ssh::ALIVE_QUESTIONS};

/// The number of unread messages of a channel at which the connection stops reading.
const CHANNEL_MESSAGES: usize = 32;

/// A connection that is logged in. It closes when it and all its channels are dropped.
pub(super) struct Connection {
    handle: Handle<Client>,
    pub(super) peer: Peer,
    /// The time limit for an answer.
    pub(super) patience: Duration,
    close_reason: CloseReason,
    /// The connection to the jump host that this one goes through.
    _through: Option<Box<Connection>>,
}

/// The reason why a connection ended, if it is known. Clones share it.
#[derive(Debug, Clone, Default)]
struct CloseReason(Arc<Mutex<Option<String>>>);

/// The destination of a connection, and its settings.
struct Route {
    peer: Peer,
    settings: Settings,
    /// The name under which host keys are looked up.
    name: String,
    known: KnownHosts,
}

impl Connection {
    /// Connects to the host of `peer`. The options in `said` take precedence over the configuration.
    pub(super) async fn open(
        peer: &Peer,
        overrides: Vec<(String, String)>,
        options: &SshOptions,
    ) -> Result<Self, transport::Error> {
        let config = options.config.clone();
        let (host, read) = (peer.clone(), options.host_keys);
        let prepared = tokio::task::spawn_blocking(move || {
            let ssh_paths = SshPaths::of_this_user()?;
            let route = Route::to(host, &overrides, config.as_ref(), &ssh_paths, read)?;
            let jump = match &route.settings.jump {
                Some(jump) => Some(Route::by_way_of(jump, config.as_ref(), &ssh_paths, read)?),
                None => None,
            };
            Ok::<_, Error>((route, jump))
        });
        let (route, jump) = match prepared.await {
            Ok(prepared) => prepared?,
            Err(error) => return Err(failed(peer, &error.to_string())),
        };
        let Some(jump) = jump else {
            let stream = reach(&route, options).await?;
            return Self::over(stream, route, None, options).await;
        };
        let stream = reach(&jump, options).await?;
        let through = Box::new(Self::over(stream, jump, None, options).await?);
        let (host, port) = (route.settings.host_name.clone(), route.settings.port);
        let within = route.settings.connect_timeout.unwrap_or(options.connect_timeout);
        let open = through.handle.channel_open_direct_tcpip(host.clone(), port.into(), "127.0.0.1", 0);
        let channel = match timeout(within, open).await {
            Ok(Ok(channel)) => channel,
            Ok(Err(russh::Error::ChannelOpenFailure(why))) => {
                let message = format!("{} cannot connect to {host} port {port}: {why:?}", through.peer.host);
                return Err(transport::Error::Unreachable { host: route.peer.host, message });
            }
            Ok(Err(_)) => return Err(through.lost()),
            Err(_) => return Err(unreachable(&route, &host, "Connection timed out")),
        };
        Self::over(Box::new(channel.into_stream()), route, Some(through), options).await
    }

    async fn over(
        stream: Box<dyn Duplex>,
        route: Route,
        through: Option<Box<Self>>,
        options: &SshOptions,
    ) -> Result<Self, transport::Error> {
        let Route { peer, settings, name, known } = route;
        if options.host_keys == HostKeys::Insecure {
            tracing::warn!("the host key of {} is not checked: whoever answers there is trusted", peer.host);
        }
        let config = Arc::new(config(&settings, &known, options));
        let close_reason = CloseReason::default();
        let verifier = HostKeyVerifier {
            peer: peer.clone(),
            host_keys: options.host_keys,
            host: settings.host_key_alias.clone().unwrap_or_else(|| peer.host.to_lowercase()),
            name,
            learn_in: settings.user_known_hosts.first().cloned(),
            hashed: settings.hash_known_hosts,
            known,
        };
        let client = Client { verifier, accepted: None, close_reason: close_reason.clone() };
        let within = settings.connect_timeout.unwrap_or(options.connect_timeout);
        let shaking = client::connect_stream(config, stream, client);
        let handle = match timeout(within, shaking).await {
            Ok(Ok(handle)) => handle,
            Ok(Err(Failure::HostKey(error))) => return Err(error),
            Ok(Err(Failure::Protocol(error))) => return Err(in_handshake(&peer, &error)),
            Err(_) => return Err(failed(&peer, "Connection timed out during banner exchange")),
        };
        let mut connection = Self { handle, peer, patience: options.stall_timeout, close_reason, _through: through };
        match log_in(&mut connection.handle, &settings, &options.keyring, connection.patience).await {
            Ok(()) => Ok(connection),
            Err(Refusal::Key(error)) => Err(error.into()),
            Err(Refusal::Gone) => Err(connection.lost()),
            Err(Refusal::Denied(methods)) => {
                let message = format!("{}: Permission denied ({methods}).", connection.peer.destination);
                Err(failed(&connection.peer, &message))
            }
        }
    }

    /// Opens a channel in which a command can run.
    pub(super) async fn channel(&self) -> Result<russh::Channel<client::Msg>, transport::Error> {
        match timeout(self.patience, self.handle.channel_open_session()).await {
            Ok(Ok(channel)) => Ok(channel),
            Ok(Err(russh::Error::ChannelOpenFailure(why))) => {
                Err(failed(&self.peer, &format!("the server opens no more sessions: {why:?}")))
            }
            Ok(Err(_)) => Err(self.lost()),
            Err(_) => Err(failed(&self.peer, &not_responding(&self.peer))),
        }
    }

    /// Whether the connection is closed.
    pub(super) fn is_closed(&self) -> bool {
        self.handle.is_closed()
    }

    /// Returns why it broke.
    pub(super) fn lost(&self) -> transport::Error {
        let close_reason = self.close_reason.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let message =
            close_reason.unwrap_or_else(|| format!("Connection to {} closed by remote host.", self.peer.host));
        failed(&self.peer, &message)
    }
}

/// An error from a message as ssh writes it, which tells its kind.
fn failed(peer: &Peer, message: &str) -> transport::Error {
    diagnose(peer, Some(SSH_FAILED), message)
}

fn not_responding(peer: &Peer) -> String {
    format!("Timeout, server {} not responding.", peer.host)
}

fn unreachable(route: &Route, host: &str, why: &str) -> transport::Error {
    failed(&route.peer, &format!("ssh: connect to host {host} port {}: {why}", route.settings.port))
}

fn in_handshake(peer: &Peer, error: &russh::Error) -> transport::Error {
    match error {
        russh::Error::HUP | russh::Error::Disconnect | russh::Error::IO(_) => {
            failed(peer, &format!("kex_exchange_identification: Connection closed by remote host ({error})"))
        }
        error => failed(peer, &error.to_string()),
    }
}

impl Route {
    fn to(
        peer: Peer,
        overrides: &[(String, String)],
        config: Option<&Utf8PathBuf>,
        ssh_paths: &SshPaths,
        host_keys: HostKeys,
    ) -> Result<Self, Error> {
        let settings = Settings::of(&peer.host, overrides, config.map(Utf8PathBuf::as_path), ssh_paths)?;
        let alias = settings.host_key_alias.as_deref();
        let name = known_hosts::name(&settings.host_name, settings.port, alias);
        let plain = settings.host_name.to_lowercase();
        let plain = (alias.is_none() && settings.port != 22).then_some(plain.as_str());
        let files = [&settings.user_known_hosts[..], &settings.global_known_hosts[..]].concat();
        let known = match host_keys {
            HostKeys::Insecure => KnownHosts::default(),
            HostKeys::Strict | HostKeys::Scan => KnownHosts::read(&files, &name, plain)?,
        };
        let port = Some(settings.port).filter(|port| *port != 22);
        Ok(Self { peer: Peer { port, ..peer }, settings, name, known })
    }

    /// Returns the route to a jump host, `[USER@]HOST[:PORT]`.
    fn by_way_of(
        jump: &str,
        config: Option<&Utf8PathBuf>,
        ssh_paths: &SshPaths,
        host_keys: HostKeys,
    ) -> Result<Self, Error> {
        let Some(address) = crate::nodes::Address::parse(jump) else {
            return Err(Error::Configuration {
                place: "ProxyJump".into(),
                why: format!("{jump:?} is not a valid host"),
            });
        };
        let peer = Peer { destination: address.destination(None), host: address.host, port: None, alias: None };
        let mut overrides = Vec::new();
        overrides.extend(address.user.map(|user| ("ProxyJump".to_owned(), format!("User={user}"))));
        overrides.extend(address.port.map(|port| ("ProxyJump".to_owned(), format!("Port={port}"))));
        let route = Self::to(peer, &overrides, config, ssh_paths, host_keys)?;
        match &route.settings.jump {
            Some(_) => Err(Error::Unsupported {
                place: format!("ProxyJump of {}", route.peer.host),
                what: "more than one jump host".into(),
            }),
            None => Ok(route),
        }
    }
}

/// Connects to the host itself, at the first of its addresses that answers.
async fn reach(route: &Route, options: &SshOptions) -> Result<Box<dyn Duplex>, transport::Error> {
    let Settings { host_name: host, port, .. } = &route.settings;
    let within = route.settings.connect_timeout.unwrap_or(options.connect_timeout);
    let addresses: Vec<SocketAddr> = match timeout(within, tokio::net::lookup_host((host.as_str(), *port))).await {
        Ok(Ok(found)) => found.filter(|address| route.settings.is_meant(address)).collect(),
        Ok(Err(_)) | Err(_) => Vec::new(),
    };
    let unknown = || failed(&route.peer, &format!("ssh: Could not resolve hostname {host}: Name or service not known"));
    let mut last = unknown();
    for address in addresses {
        match timeout(within, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Neither option is essential. The second ends a connection on which data is sent but nothing arrives.
                let _ = stream.set_nodelay(true);
                let stall = u32::try_from(options.stall_timeout.as_millis()).unwrap_or(u32::MAX);
                let _ = rustix::net::sockopt::set_tcp_user_timeout(&stream, stall);
                return Ok(Box::new(stream));
            }
            Ok(Err(error)) => {
                let why = error.to_string();
                last = unreachable(route, host, why.split(" (os error").next().unwrap_or(&why));
            }
            Err(_) => last = unreachable(route, host, "Connection timed out"),
        }
    }
    Err(last)
}

fn config(settings: &Settings, known: &KnownHosts, options: &SshOptions) -> Config {
    let rsa = |hash| Algorithm::Rsa { hash: Some(hash) };
    let usual = Preferred::DEFAULT.key.iter().filter(|algorithm| !matches!(algorithm, Algorithm::Rsa { .. })).cloned();
    let usual: Vec<Algorithm> = usual.chain([rsa(HashAlg::Sha512), rsa(HashAlg::Sha256)]).collect();
    let key = known.prefer(&usual);
    // A server presents a certificate instead of a key if one is requested.
    let host_key_certificates = if known.has_authority() { key.clone() } else { Vec::new() };
    // CPUs have hardware support for AES.
    let cipher = vec![cipher::AES_256_GCM, cipher::CHACHA20_POLY1305, cipher::AES_256_CTR, cipher::AES_128_CTR];
    Config {
        preferred: Preferred {
            key: key.into(),
            host_key_certificates: host_key_certificates.into(),
            cipher: cipher.into(),
            ..Preferred::DEFAULT
        },
        keepalive_interval: Some(settings.alive_interval.unwrap_or(options.stall_timeout / ALIVE_QUESTIONS)),
        keepalive_max: settings.alive_count.unwrap_or(ALIVE_QUESTIONS as usize).max(1),
        channel_buffer_size: CHANNEL_MESSAGES,
        nodelay: true,
        ..Config::default()
    }
}

/// Handles the library's callbacks for a connection.
pub(super) struct Client {
    verifier: HostKeyVerifier,
    /// The key that was accepted. The server presents it again at each rekeying.
    accepted: Option<PublicKey>,
    close_reason: CloseReason,
}

/// Why a handshake failed.
#[derive(Debug)]
pub(super) enum Failure {
    HostKey(transport::Error),
    Protocol(russh::Error),
}

impl From<russh::Error> for Failure {
    fn from(error: russh::Error) -> Self {
        Self::Protocol(error)
    }
}

impl client::Handler for Client {
    type Error = Failure;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, Failure> {
        let key = shown.public_key();
        if self.accepted.as_ref().is_none_or(|accepted| accepted.key_data() != key.key_data()) {
            self.verifier.accept(shown).map_err(Failure::HostKey)?;
            self.accepted = Some(key);
        }
        Ok(true)
    }

    async fn auth_banner(&mut self, banner: &str, _: &mut Session) -> Result<(), Failure> {
        tracing::debug!("{}", banner.trim_end());
        Ok(())
    }

    async fn disconnected(&mut self, reason: DisconnectReason<Failure>) -> Result<(), Failure> {
        let peer = &self.verifier.peer;
        let message = match &reason {
            DisconnectReason::ReceivedDisconnect(info) => format!("Received disconnect: {}", info.message.trim()),
            DisconnectReason::Error(Failure::Protocol(
                russh::Error::KeepaliveTimeout | russh::Error::InactivityTimeout,
            )) => not_responding(peer),
            DisconnectReason::Error(Failure::Protocol(russh::Error::IO(error)))
                if error.kind() == std::io::ErrorKind::TimedOut =>
            {
                not_responding(peer)
            }
            DisconnectReason::Error(_) => format!("Connection to {} closed by remote host.", peer.host),
        };
        tracing::debug!(host = peer.host, "{message} ({reason:?})");
        *self.close_reason.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(message);
        match reason {
            DisconnectReason::ReceivedDisconnect(_) => Ok(()),
            DisconnectReason::Error(error) => Err(error),
        }
    }
}

/// Verifies a server's host key with the strictness that the user chose.
struct HostKeyVerifier {
    peer: Peer,
    host_keys: HostKeys,
    /// The name that certificates must contain.
    host: String,
    /// The name under which keys are looked up.
    name: String,
    known: KnownHosts,
    learn_in: Option<Utf8PathBuf>,
    hashed: bool,
}

impl HostKeyVerifier {
    fn accept(&self, shown: &PublicKeyOrCertificate) -> Result<(), transport::Error> {
        let key = shown.public_key();
        let kind = known_hosts::kind(&key);
        let status = match (self.host_keys, shown.certificate()) {
            (HostKeys::Insecure, _) => return Ok(()),
            (_, Some(certificate)) => self.known.check_certificate(certificate, &self.host, now()),
            (_, None) => self.known.check(&key),
        };
        match status {
            HostKeyStatus::Known => Ok(()),
            HostKeyStatus::Changed(place) => Err(self.changed(format!("Offending {place}"))),
            HostKeyStatus::Revoked(place) => {
                Err(self.changed(format!("the {kind} key is marked as revoked in {place}")))
            }
            HostKeyStatus::Unknown if self.host_keys == HostKeys::Scan => self.learn(&key).map_err(Into::into),
            HostKeyStatus::Unknown => Err(transport::Error::UnknownHostKey {
                host: self.peer.host.clone(),
                scan: self.peer.keyscan(),
                message: format!(
                    "No {kind} host key is known for {} and you have requested strict checking.",
                    self.name
                ),
            }),
        }
    }

    fn learn(&self, key: &PublicKey) -> Result<(), Error> {
        let (host, algorithm) = (&self.peer.host, key.algorithm());
        tracing::warn!("learned the host key of {host}: {algorithm} {}", key.fingerprint(HashAlg::Sha256));
        let Some(path) = &self.learn_in else { return Ok(()) };
        known_hosts::learn(path, &self.name, key, self.hashed).map_err(|source| Error::Learn {
            host: host.clone(),
            path: path.clone(),
            source,
        })
    }

    fn changed(&self, message: String) -> transport::Error {
        let (host, name) = (self.peer.host.clone(), self.peer.known_hosts_name());
        transport::Error::ChangedHostKey { host, name, scan: self.peer.keyscan(), message }
    }
}

/// Returns the seconds since the Unix epoch.
fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
