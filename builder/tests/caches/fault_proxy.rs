//! A gate before a real registry: it asks for tokens, makes its clients wait, cuts their downloads or turns them away, or answers
//! as a test has it answer.

use std::io::{BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use rigs::http::{Request, respond};
use rigs::tcp;

/// What the gate does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProxyRule {
    /// Lets pass who has a token, which `/token` gives to `user` with the password `secret`.
    Token,
    /// Tells the first requests, this many, to come again.
    Busy(usize),
    /// Cuts the first answer for each blob after this many bytes of head and body.
    Cuts(u64),
    /// Turns everybody away.
    Denies,
    /// Lets everybody pass.
    Opens,
}

/// A gate on a free port of the loopback address. Its threads end with the process of the test.
pub(crate) struct FaultProxy {
    pub(crate) address: String,
    state: Arc<State>,
}

/// What a client asks a gate for.
pub(crate) struct ProxiedRequest<'a> {
    /// Method, path and version.
    pub(crate) line: &'a str,
    pub(crate) authorization: &'a str,
    /// How many requests there were, this one among them.
    pub(crate) number: usize,
    /// The gate's own host and port.
    pub(crate) gate: &'a str,
}

/// What a gate answers by itself.
pub(crate) struct CannedResponse {
    pub(crate) status: &'static str,
    pub(crate) headers: String,
    pub(crate) body: String,
}

impl CannedResponse {
    pub(crate) fn new(status: &'static str, headers: impl Into<String>, body: impl Into<String>) -> Option<Self> {
        Some(Self { status, headers: headers.into(), body: body.into() })
    }
}

type Script = Box<dyn Fn(&ProxiedRequest<'_>) -> Option<CannedResponse> + Send + Sync>;

struct State {
    address: String,
    registry: String,
    rule: ProxyRule,
    script: Option<Script>,
    /// The first line of every request, with its range.
    requests: Mutex<Vec<String>>,
}

impl FaultProxy {
    pub(crate) fn before(registry: &str, rule: ProxyRule) -> Self {
        Self::start("127.0.0.1:0", registry, rule, None)
    }

    /// A gate that answers what `script` answers, and lets everything else pass.
    pub(crate) fn answering(
        registry: &str,
        script: impl Fn(&ProxiedRequest<'_>) -> Option<CannedResponse> + Send + Sync + 'static,
    ) -> Self {
        Self::start("127.0.0.1:0", registry, ProxyRule::Opens, Some(Box::new(script)))
    }

    /// A gate at this address.
    pub(crate) fn at(at: &str, registry: &str) -> Self {
        Self::start(at, registry, ProxyRule::Opens, None)
    }

    fn start(at: &str, registry: &str, rule: ProxyRule, script: Option<Script>) -> Self {
        let listener = TcpListener::bind(at).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (registry, requests) = (registry.to_owned(), Mutex::default());
        let state = Arc::new(State { address: address.clone(), registry, rule, script, requests });
        tcp::serve(listener, &state, State::pass);
        Self { address, state }
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.state.requests.lock().unwrap().clone()
    }
}

impl State {
    fn pass(&self, mut client: &TcpStream) -> Option<()> {
        let mut reader = BufReader::new(client.try_clone().ok()?);
        let request = Request::read(&mut reader)?;
        let find = |name: &str| request.field(name).unwrap_or_default().to_owned();
        let (line, authorization) = (request.line().to_owned(), find("authorization"));
        let number = {
            let mut requests = self.requests.lock().unwrap();
            requests.push(format!("{line} {}", find("range")));
            requests.len()
        };
        if let Some(script) = &self.script {
            // Who hangs up on what was sent takes the answer away, too.
            let length = request.length() as u64;
            let asked = ProxiedRequest { line: &line, authorization: &authorization, number, gate: &self.address };
            if let Some(said) = script(&asked) {
                std::io::copy(&mut reader.by_ref().take(length), &mut std::io::sink()).ok()?;
                return respond(client, said.status, &said.headers, said.body);
            }
        }
        let say = |status: &str, headers: &str, body: &str| respond(client, status, headers, body);
        let mut limit = u64::MAX;
        match self.rule {
            ProxyRule::Token if line.starts_with("GET /token?") => {
                // user:secret
                if authorization != "Basic dXNlcjpzZWNyZXQ=" {
                    return say("401 Unauthorized", "", r#"{"errors": [{"message": "who are you?"}]}"#);
                }
                return say("200 OK", "", r#"{"token": "open-sesame"}"#);
            }
            ProxyRule::Token if authorization != "Bearer open-sesame" => {
                let realm = format!("Bearer realm=\"http://{}/token\",service=\"the gate\"", self.address);
                return say("401 Unauthorized", &format!("WWW-Authenticate: {realm}\r\n"), "");
            }
            ProxyRule::Busy(times) if number <= times => return say("429 Too Many Requests", "Retry-After: 0\r\n", ""),
            ProxyRule::Denies => {
                return say("403 Forbidden", "", r#"{"errors": [{"code": "DENIED", "message": "not for you"}]}"#);
            }
            ProxyRule::Cuts(bytes) if line.contains("/blobs/sha256") => {
                let path = line.split_whitespace().nth(1)?;
                let seen = self.requests.lock().unwrap().iter().filter(|request| request.contains(path)).count();
                limit = if seen == 1 { bytes } else { u64::MAX };
            }
            _ => {}
        }
        let registry = TcpStream::connect(&self.registry).ok()?;
        let kept = request.head.iter().filter(|line| {
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
