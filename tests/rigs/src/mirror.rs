//! A small Debian mirror on loopback, signed with a key of its own: enough packages for a base, and ways to spoil it.

use std::collections::BTreeMap;
use std::io::{BufReader, Read};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use camino::Utf8PathBuf;
use pgp::composed::{ArmorOptions, CleartextSignedMessage, KeyType, SecretKeyParamsBuilder, SignedSecretKey};
use pgp::types::Password;
use vcdebian::{Options, Request};
use vcstore::Digest;

use crate::http::{self, respond};
use crate::port;

/// A package: name, further fields, and files with their content.
pub type Package = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

/// The least a base is made of.
pub const BASE: [Package; 2] = [
    (
        "base-files",
        "Essential: yes\nPre-Depends: base-passwd\n",
        &[
            ("usr/lib/os-release", "VERSION_CODENAME=bookworm\n"),
            ("usr/share/base-files/dot.profile", "# profile of root\n"),
            ("usr/share/base-files/dot.bashrc", ""),
            ("usr/share/base-files/profile", ""),
            ("usr/share/base-files/motd", "Welcome.\n"),
            ("bin/tool", "a tool"),
        ],
    ),
    (
        "base-passwd",
        "Priority: required\n",
        &[
            ("usr/share/base-passwd/passwd.master", "root:*:0:0:root:/root:/bin/bash\n"),
            ("usr/share/base-passwd/group.master", "root:*:0:\nmail:*:8:\nshadow:*:42:\nutmp:*:43:\n"),
        ],
    ),
];

/// A mirror that runs until it is dropped.
pub struct Mirror {
    folder: tempfile::TempDir,
    port: u16,
    state: Arc<Mutex<State>>,
    server: Option<JoinHandle<()>>,
    key: SignedSecretKey,
}

#[derive(Default)]
struct State {
    /// The paths asked for.
    asked: Vec<String>,
    /// How often a path is still to be answered with an error.
    failing: BTreeMap<String, u32>,
    /// Whether it sends the whole of what only a part was asked of, as plain servers do.
    whole: bool,
    ended: bool,
}

impl Mirror {
    /// A mirror of these packages, properly signed.
    pub fn new(packages: &[Package]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (listener, port) = port::listen();
        let state = Arc::new(Mutex::new(State::default()));
        let root = folder.path().join("debian");
        let server = std::thread::spawn({
            let state = state.clone();
            move || {
                for stream in listener.incoming() {
                    if state.lock().unwrap().ended {
                        return;
                    }
                    answer(stream.unwrap(), &root, &state);
                }
            }
        });
        let mut parameters = SecretKeyParamsBuilder::default();
        parameters.key_type(KeyType::Ed25519Legacy).can_certify(true).can_sign(true).primary_user_id("test".into());
        let key = parameters.build().unwrap().generate(rand::thread_rng()).unwrap();
        let mirror = Self { folder, port, state, server: Some(server), key };
        let public = mirror.key.to_public_key().to_armored_string(ArmorOptions::default()).unwrap();
        mirror.write("keyring.asc", public.as_bytes());
        mirror.publish(packages, "1");
        mirror
    }

    /// Has these packages from now on, in this version; the files of others stay.
    pub fn publish(&self, packages: &[Package], version: &str) {
        let mut index = String::new();
        for (name, fields, files) in packages {
            let control =
                format!("Package: {name}\nVersion: {version}\nArchitecture: amd64\n{fields}Description: test\n");
            let bytes = deb(&control, files);
            self.write(&format!("pool/{name}_{version}.deb"), &bytes);
            let (digest, size) = (Digest::of(&bytes).hex(), bytes.len());
            index += &format!("{control}Filename: pool/{name}_{version}.deb\nSize: {size}\nSHA256: {digest}\n\n");
        }
        let mut xz = Vec::new();
        liblzma::read::XzEncoder::new(index.as_bytes(), 1).read_to_end(&mut xz).unwrap();
        self.write("dists/bookworm/main/binary-amd64/Packages.xz", &xz);
        let (digest, size) = (Digest::of(&xz).hex(), xz.len());
        self.release(&format!(
            "Codename: bookworm\nDate: Sat, 11 Jul 2026 10:16:37 UTC\nSHA256:\n {digest} {size} main/binary-amd64/Packages.xz\n"
        ));
    }

    /// Signs a release.
    pub fn release(&self, text: &str) {
        let signed = CleartextSignedMessage::sign(rand::thread_rng(), text, &self.key.primary_key, &Password::empty());
        let signed = signed.unwrap().to_armored_string(ArmorOptions::default()).unwrap();
        self.write("dists/bookworm/InRelease", signed.as_bytes());
    }

    /// A request for its base, without security updates, which it does not have.
    pub fn request(&self) -> Request {
        let keyring = Utf8PathBuf::from_path_buf(self.path("keyring.asc")).unwrap();
        let (mirror, keyring) = (Some(self.address()), Some(keyring));
        let options = Options { mirror, keyring, security: false, ..Options::default() };
        Request { options, ..Request::default() }
    }

    /// Its address.
    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}/debian", self.port)
    }

    /// Where a file of it is.
    pub fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join("debian").join(path)
    }

    /// Writes a file of it.
    pub fn write(&self, path: &str, content: &[u8]) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// Answers a path with an error so many times.
    pub fn fail(&self, path: &str, times: u32) {
        self.state.lock().unwrap().failing.insert(format!("/debian/{path}"), times);
    }

    /// Whether it sends only the part of a file that it is asked for.
    pub fn heed_ranges(&self, heed: bool) {
        self.state.lock().unwrap().whole = !heed;
    }

    /// How many packages it was asked for.
    pub fn packages_asked(&self) -> usize {
        self.state.lock().unwrap().asked.iter().filter(|path| path.contains("/pool/")).count()
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.state.lock().unwrap().ended = true;
        // The server waits for a connection: this one ends it.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
        if let Some(server) = self.server.take() {
            server.join().unwrap();
        }
    }
}

fn answer(mut stream: TcpStream, root: &std::path::Path, state: &Mutex<State>) -> Option<()> {
    let request = http::Request::read(&mut BufReader::new(stream.try_clone().ok()?))?;
    let path = request.target.clone();
    let (failing, last) = {
        let mut state = state.lock().unwrap();
        state.asked.push(path.clone());
        let failing = state.failing.get_mut(&path).filter(|left| **left > 0).map(|left| *left -= 1).is_some();
        let last = request.range().filter(|(first, _)| *first == 0 && !state.whole).and_then(|(_, last)| last);
        (failing, last)
    };
    let (status, body) = match std::fs::read(root.join(path.trim_start_matches("/debian/"))) {
        _ if failing => ("503 Service Unavailable", Vec::new()),
        Ok(mut body) => match last.filter(|last| last + 1 < body.len()) {
            Some(last) => {
                body.truncate(last + 1);
                ("206 Partial Content", body)
            }
            None => ("200 OK", body),
        },
        Err(_) => ("404 Not Found", Vec::new()),
    };
    // A client that has enough may have ended meanwhile.
    respond(&mut stream, status, "", body)
}

fn deb(control: &str, files: &[(&str, &str)]) -> Vec<u8> {
    let tar = |files: &[(&str, &str)]| {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, content) in files {
            let mut header = tar::Header::new_ustar();
            header.set_mode(if path.contains("bin/") { 0o755 } else { 0o644 });
            header.set_uid(0);
            header.set_gid(0);
            header.set_size(content.len() as u64);
            tar.append_data(&mut header, format!("./{path}"), content.as_bytes()).unwrap();
        }
        tar.into_inner().unwrap()
    };
    // Files of these names are the package's control files.
    let (scripts, files): (Vec<_>, Vec<_>) =
        files.iter().copied().partition(|(path, _)| matches!(*path, "postinst" | "md5sums"));
    let control = [vec![("control", control)], scripts].concat();
    let mut ar = ar::Builder::new(Vec::new());
    for (name, content) in
        [("debian-binary", b"2.0\n".to_vec()), ("control.tar", tar(&control)), ("data.tar", tar(&files))]
    {
        ar.append(&ar::Header::new(name.as_bytes().to_vec(), content.len() as u64), content.as_slice()).unwrap();
    }
    ar.into_inner().unwrap()
}
