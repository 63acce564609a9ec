//! Connects to a vn-agent as a client that nobody vouches for: with a self-signed certificate.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};

/// The common name of the certificate. As a tenant's name, it would lead to the namespace `kube-system`.
pub(super) const COMMON_NAME: &str = "kube";

/// How long a connection, and then each answer, may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Nothing is read beyond these bytes.
const ANSWER_LIMIT: usize = 256;

/// What vn-agent on a node answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// The node.
    pub node: String,
    /// The address that was connected to.
    pub address: String,
    /// The answer.
    pub answer: Answer,
}

/// The answer to a client with a self-signed certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The certificate was accepted, and the request answered with this status.
    Accepted(u16),
    /// The certificate was refused, for this reason.
    Refused(String),
    /// No connection came about, for this reason.
    Unreachable(String),
}

/// Asks the vn-agent at `address`. Blocks.
pub(super) fn ask(address: SocketAddr) -> Answer {
    let stream = match TcpStream::connect_timeout(&address, PATIENCE) {
        Ok(stream) => stream,
        Err(error) => return Answer::Unreachable(error.to_string()),
    };
    let prepared = stream
        .set_read_timeout(Some(PATIENCE))
        .and_then(|()| stream.set_write_timeout(Some(PATIENCE)))
        .and_then(|()| connection(address));
    let mut connection = match prepared {
        Ok(connection) => connection,
        Err(error) => return Answer::Unreachable(error.to_string()),
    };
    let mut stream = stream;
    while connection.is_handshaking() {
        if let Err(error) = connection.complete_io(&mut stream) {
            return refused(&error);
        }
    }
    let mut secured = StreamOwned::new(connection, stream);
    match status(&mut secured) {
        Ok(Some(status @ (401 | 403))) => Answer::Refused(format!("HTTP {status}")),
        Ok(Some(status)) => Answer::Accepted(status),
        Ok(None) => Answer::Unreachable("it does not answer in HTTP".to_owned()),
        Err(error) => refused(&error),
    }
}

/// A handshake that ends with an alert, or with the end of the connection, is a refusal.
fn refused(error: &io::Error) -> Answer {
    let alert = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match (alert, error.kind()) {
        (Some(rustls::Error::AlertReceived(alert)), _) => Answer::Refused(format!("TLS alert {alert:?}")),
        (_, io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => {
            Answer::Refused("it closes the connection".to_owned())
        }
        _ => Answer::Unreachable(error.to_string()),
    }
}

/// Sends a request that changes nothing, and returns the status of the answer.
fn status(stream: &mut (impl Read + Write)) -> io::Result<Option<u16>> {
    stream.write_all(b"GET /pods HTTP/1.1\r\nHost: vn-agent\r\nConnection: close\r\n\r\n")?;
    stream.flush()?;
    let mut answer = Vec::new();
    let mut part = [0; ANSWER_LIMIT];
    while answer.len() < ANSWER_LIMIT && !answer.contains(&b'\n') {
        match stream.read(&mut part)? {
            0 => break,
            read => answer.extend_from_slice(&part[..read]),
        }
    }
    if answer.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let line = String::from_utf8_lossy(&answer);
    let mut words = line.split_ascii_whitespace();
    Ok(words.next().filter(|word| word.starts_with("HTTP/")).and_then(|_| words.next()?.parse().ok()))
}

/// Prepares a connection whose client shows the certificate. With TLS 1.2, the server verifies it before the handshake
/// ends, so that a refusal cannot be lost in a connection that the server resets.
fn connection(address: SocketAddr) -> io::Result<ClientConnection> {
    let key = KeyPair::generate().map_err(io::Error::other)?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, COMMON_NAME);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = params.self_signed(&key).map_err(io::Error::other)?;
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS12])
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer(provider)))
        .with_client_auth_cert(vec![certificate.der().clone()], PrivatePkcs8KeyDer::from(key.serialize_der()).into())
        .map_err(io::Error::other)?;
    ClientConnection::new(Arc::new(config), ServerName::from(address.ip())).map_err(io::Error::other)
}

/// Accepts any server: vn-agent's certificate is self-signed, and nothing confidential is sent to it.
#[derive(Debug)]
struct AnyServer(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread::JoinHandle;

    use rustls::pki_types::PrivateKeyDer;
    use rustls::server::WebPkiClientVerifier;
    use rustls::{RootCertStore, ServerConfig, ServerConnection};

    use super::*;

    /// A server that requests a client certificate: with `roots`, it verifies it; else it accepts any. Answers one
    /// connection with `status`.
    fn server(verifies: bool, status: u16) -> (SocketAddr, JoinHandle<()>) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["vn-agent".to_owned()]).unwrap().self_signed(&key).unwrap();
        let provider = Arc::new(ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(certificate.der().clone()).unwrap();
        let builder =
            ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
        let builder = if verifies {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        } else {
            builder.with_no_client_auth()
        };
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = Arc::new(builder.with_single_cert(vec![certificate.der().clone()], key).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let thread = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut secured = StreamOwned::new(ServerConnection::new(config).unwrap(), stream);
            let mut request = [0; 512];
            if secured.read(&mut request).is_ok() {
                secured.write_all(format!("HTTP/1.1 {status} x\r\n\r\n").as_bytes()).unwrap();
            }
        });
        (address, thread)
    }

    #[test]
    fn who_accepts_the_certificate_is_told_from_who_refuses_it() {
        for (verifies, status, expected) in [
            (false, 404, Answer::Accepted(404)),
            (false, 403, Answer::Refused("HTTP 403".to_owned())),
            (true, 200, Answer::Refused("TLS alert UnknownCA".to_owned())),
        ] {
            let (address, thread) = server(verifies, status);
            assert_eq!(ask(address), expected);
            thread.join().unwrap();
        }
    }

    #[test]
    fn a_port_where_nothing_listens_or_no_tls_is_spoken_is_no_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(b"SSH-2.0-x\r\n").unwrap();
            let _ = stream.read(&mut [0; 512]);
        });
        assert!(matches!(ask(address), Answer::Unreachable(_)));
        thread.join().unwrap();
        assert!(matches!(ask(address), Answer::Unreachable(_)), "the listener is gone");
    }
}
