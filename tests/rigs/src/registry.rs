//! Debian's docker-registry on a free port of the loopback address.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::{Daemon, port, wait};

/// A registry; it ends when dropped.
#[derive(Debug)]
pub struct Registry {
    /// Its host and port.
    pub address: String,
    _daemon: Daemon,
}

impl Registry {
    /// One that lets everybody in, without TLS; its files are in `folder`.
    pub fn start(folder: impl AsRef<Path>) -> Self {
        Self::with(folder.as_ref(), "registry", "", "")
    }

    /// One that speaks TLS with a certificate of an authority of its own, `tls/ca.pem` in `folder`, and lets in `user` with the
    /// password `open sesame`.
    pub fn private(folder: impl AsRef<Path>) -> Self {
        let folder = folder.as_ref();
        let tls = folder.join("tls");
        fs::create_dir_all(&tls).unwrap();
        let authority_key = rcgen::KeyPair::generate().unwrap();
        let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        authority.distinguished_name.push(rcgen::DnType::CommonName, "an authority of our own");
        let certificate = authority.self_signed(&authority_key).unwrap();
        fs::write(tls.join("ca.pem"), certificate.pem()).unwrap();
        let issuer = rcgen::Issuer::new(authority, authority_key);
        let key = rcgen::KeyPair::generate().unwrap();
        let own = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        fs::write(tls.join("own.pem"), own.signed_by(&key, &issuer).unwrap().pem()).unwrap();
        fs::write(tls.join("own.key"), key.serialize_pem()).unwrap();
        // bcrypt of "open sesame".
        let users = folder.join("htpasswd");
        fs::write(&users, "user:$2y$05$abcdefghijklmnopqrstuupx2xBUC4954936wVIjyyPHmUBFu0wCW\n").unwrap();
        let tls = tls.display();
        let tls = format!(", tls: {{ certificate: {tls}/own.pem, key: {tls}/own.key }}");
        let auth = format!("auth: {{ htpasswd: {{ realm: ours, path: {} }} }}\n", users.display());
        Self::with(folder, "private", &tls, &auth)
    }

    fn with(folder: &Path, name: &str, tls: &str, auth: &str) -> Self {
        let address = format!("127.0.0.1:{}", port::free());
        let root = folder.join(name);
        let config = format!(
            "version: 0.1\nlog: {{ level: error }}\nstorage: {{ filesystem: {{ rootdirectory: {} }} }}\n\
             http: {{ addr: {address}{tls} }}\n{auth}",
            root.display()
        );
        let path = root.with_extension("yml");
        fs::write(&path, config).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(path).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut daemon = Daemon::start(&mut command);
        wait::until("the registry answers", || {
            assert!(daemon.ended().is_none(), "the registry ended");
            TcpStream::connect(&address).is_ok()
        });
        Self { address, _daemon: daemon }
    }
}
