//! A web server for one folder, which may misbehave.

use std::fs;
use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use rigs::http::{Request, respond};
use rigs::{port, tcp};

/// How a server treats what it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ServerBehaviour {
    /// As it should.
    Honest,
    /// Takes the connection and never answers.
    Hangs,
    /// Answers records, and begins blobs that it never goes on with.
    HangsInBlobs,
    /// Sends zeros without an end for every blob.
    Endless,
    /// Ends the first answer for each blob after this many bytes.
    Cuts(usize),
    /// Answers 500.
    Broken,
    /// Answers records, and sends a byte of a blob now and then.
    Drips,
}

/// A server on a free port of the loopback address. Its threads end with the process of the test.
pub(crate) struct Server {
    pub(crate) url: String,
    served: Arc<ServerState>,
}

struct ServerState {
    folder: PathBuf,
    manner: ServerBehaviour,
    /// Every request as "METHOD PATH RANGE".
    requests: Mutex<Vec<String>>,
    sent: AtomicU64,
}

impl Server {
    pub(crate) fn start(folder: PathBuf, manner: ServerBehaviour) -> Self {
        let (listener, port) = port::listen();
        let url = format!("http://127.0.0.1:{port}");
        let served = Arc::new(ServerState { folder, manner, requests: Mutex::default(), sent: AtomicU64::new(0) });
        tcp::serve(listener, &served, ServerState::answer);
        Self { url, served }
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.served.requests.lock().unwrap().clone()
    }

    /// How many bytes of bodies were sent.
    pub(crate) fn sent(&self) -> u64 {
        self.served.sent.load(Ordering::SeqCst)
    }
}

impl ServerState {
    fn answer(&self, mut stream: &TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        let asked = Request::read(&mut reader)?;
        let (method, path) = (asked.method.as_str(), asked.target.as_str());
        let range = asked.range().map(|(first, _)| first);
        let request = format!("{method} {path} {}", range.map(|start| start.to_string()).unwrap_or_default());
        let first = {
            let mut requests = self.requests.lock().unwrap();
            let first = !requests.iter().any(|seen| seen.contains(path));
            requests.push(request.trim_end().to_owned());
            first
        };
        let blob = path.contains("/blobs/");
        let head = |mut stream: &TcpStream, status: &str, length: Option<usize>| {
            let length = length.map(|length| format!("Content-Length: {length}\r\n")).unwrap_or_default();
            write!(stream, "HTTP/1.1 {status}\r\n{length}Connection: close\r\n\r\n").ok()
        };
        match self.manner {
            ServerBehaviour::Hangs => hang(),
            ServerBehaviour::Broken => return respond(stream, "500 Internal Server Error", "", ""),
            ServerBehaviour::Endless if blob => {
                head(stream, "200 OK", None)?;
                loop {
                    stream.write_all(&[0; 4096]).ok()?;
                    self.sent.fetch_add(4096, Ordering::SeqCst);
                }
            }
            _ => {}
        }
        let file = self.folder.join(path.split('?').next()?.trim_start_matches('/'));
        if method == "PUT" {
            let mut body = vec![0; asked.length()];
            reader.read_exact(&mut body).ok()?;
            fs::create_dir_all(file.parent()?).unwrap();
            fs::write(&file, body).unwrap();
            return respond(stream, "201 Created", "", "");
        }
        let Ok(content) = fs::read(&file) else { return respond(stream, "404 Not Found", "", "") };
        let start = range.unwrap_or(0).min(content.len());
        let content = &content[start..];
        if range.is_some() {
            let (last, whole) = (start + content.len() - 1, start + content.len());
            write!(stream, "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {start}-{last}/{whole}\r\n").ok()?;
            write!(stream, "Content-Length: {}\r\nConnection: close\r\n\r\n", content.len()).ok()?;
        } else {
            head(stream, "200 OK", Some(content.len()))?;
        }
        if method == "HEAD" {
            return Some(());
        }
        let until = match self.manner {
            ServerBehaviour::Cuts(limit) if blob && first => limit.min(content.len()),
            ServerBehaviour::HangsInBlobs if blob => content.len() / 2,
            _ => content.len(),
        };
        if self.manner == ServerBehaviour::Drips && blob {
            for byte in content {
                stream.write_all(&[*byte]).ok()?;
                self.sent.fetch_add(1, Ordering::SeqCst);
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
        }
        stream.write_all(&content[..until]).ok()?;
        self.sent.fetch_add(until as u64, Ordering::SeqCst);
        if self.manner == ServerBehaviour::HangsInBlobs && blob {
            hang();
        }
        Some(())
    }
}

fn hang() {
    std::thread::sleep(std::time::Duration::from_secs(600));
}
