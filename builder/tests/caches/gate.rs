//! A gate before a real registry: it asks for tokens, makes its clients wait, cuts their downloads or turns them away.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What the gate does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// Lets pass who has a token, which `/token` gives to `user` with the password `secret`.
    Token,
    /// Tells the first requests, this many, to come again.
    Busy(usize),
    /// Cuts the first answer for each blob after this many bytes of head and body.
    Cuts(u64),
    /// Turns everybody away.
    Denies,
}

/// A gate on a free port of the loopback address. Its threads end with the process of the test.
pub(crate) struct Gate {
    pub(crate) address: String,
    state: Arc<State>,
}

struct State {
    address: String,
    registry: String,
    rule: Rule,
    /// The first line of every request, with its range.
    requests: Mutex<Vec<String>>,
}

impl Gate {
    pub(crate) fn before(registry: &str, rule: Rule) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (registry, requests) = (registry.to_owned(), Mutex::default());
        let state = Arc::new(State { address: address.clone(), registry, rule, requests });
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = shared.clone();
                // Who hangs up early is no concern of the gate's.
                std::thread::spawn(move || state.pass(stream));
            }
        });
        Self { address, state }
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.state.requests.lock().unwrap().clone()
    }
}

impl State {
    fn pass(&self, mut client: TcpStream) -> Option<()> {
        let mut reader = BufReader::new(client.try_clone().ok()?);
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            if line.trim().is_empty() {
                break;
            }
            head.push(line.trim_end().to_owned());
        }
        let find = |name: &str| {
            let of = |line: &String| {
                line.split_once(": ")
                    .filter(|(known, _)| known.eq_ignore_ascii_case(name))
                    .map(|(_, value)| value.to_owned())
            };
            head.iter().find_map(of)
        };
        let (line, authorization) = (head.first()?.clone(), find("authorization").unwrap_or_default());
        let number = {
            let mut requests = self.requests.lock().unwrap();
            requests.push(format!("{line} {}", find("range").unwrap_or_default()));
            requests.len()
        };
        let mut say = |status: &str, headers: &str, body: &str| {
            write!(
                client,
                "HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            )
            .ok()
        };
        let mut limit = u64::MAX;
        match self.rule {
            Rule::Token if line.starts_with("GET /token?") => {
                // user:secret
                if authorization != "Basic dXNlcjpzZWNyZXQ=" {
                    return say("401 Unauthorized", "", r#"{"errors": [{"message": "who are you?"}]}"#);
                }
                return say("200 OK", "", r#"{"token": "open-sesame"}"#);
            }
            Rule::Token if authorization != "Bearer open-sesame" => {
                let realm = format!("Bearer realm=\"http://{}/token\",service=\"the gate\"", self.address);
                return say("401 Unauthorized", &format!("WWW-Authenticate: {realm}\r\n"), "");
            }
            Rule::Busy(times) if number <= times => return say("429 Too Many Requests", "Retry-After: 0\r\n", ""),
            Rule::Denies => {
                return say("403 Forbidden", "", r#"{"errors": [{"code": "DENIED", "message": "not for you"}]}"#);
            }
            Rule::Cuts(bytes) if line.contains("/blobs/sha256") => {
                let path = line.split_whitespace().nth(1)?;
                let seen = self.requests.lock().unwrap().iter().filter(|request| request.contains(path)).count();
                limit = if seen == 1 { bytes } else { u64::MAX };
            }
            _ => {}
        }
        let registry = TcpStream::connect(&self.registry).ok()?;
        let kept = head.iter().filter(|line| {
            let line = line.to_ascii_lowercase();
            !line.starts_with("authorization:") && !line.starts_with("connection:")
        });
        let head: String = kept.map(|line| format!("{line}\r\n")).collect();
        (&registry).write_all(format!("{head}Connection: close\r\n\r\n").as_bytes()).ok()?;
        let mut up = registry.try_clone().ok()?;
        std::thread::spawn(move || std::io::copy(&mut reader, &mut up));
        let _ = std::io::copy(&mut (&registry).take(limit), &mut client);
        client.shutdown(Shutdown::Both).ok()
    }
}
