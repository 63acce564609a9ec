//! A forward proxy: by CONNECT, by requests with a whole address, and by SOCKS 5 (RFC 1928).

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::{port, tcp};

/// A proxy on a free port.
#[derive(Debug)]
pub struct ForwardProxy {
    /// Its host and port.
    pub address: String,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Where every connection leads; where each asks, if nothing is said.
    to: Option<String>,
    seen: Mutex<Vec<String>>,
    carried: AtomicUsize,
}

impl ForwardProxy {
    /// One that leads where it is asked to.
    #[must_use]
    pub fn start() -> Self {
        Self::with(State::default())
    }

    /// One that leads to this host and port whatever it is asked for.
    #[must_use]
    pub fn leading_to(address: &str) -> Self {
        Self::with(State { to: Some(address.to_owned()), ..State::default() })
    }

    fn with(state: State) -> Self {
        let (listener, port) = port::listen();
        let state = Arc::new(state);
        tcp::serve(listener, &state, State::pass);
        Self { address: format!("127.0.0.1:{port}"), state }
    }

    /// What each connection began with since this was last asked: the head of a request, or `SOCKS HOST`.
    #[must_use]
    pub fn seen(&self) -> Vec<String> {
        std::mem::take(&mut self.state.seen.lock().unwrap())
    }

    /// How many connections were carried.
    #[must_use]
    pub fn carried(&self) -> usize {
        self.state.carried.load(Ordering::SeqCst)
    }
}

impl State {
    fn pass(&self, mut near: &TcpStream) -> io::Result<()> {
        let mut first = [0];
        near.read_exact(&mut first)?;
        if first[0] == 5 {
            let asked = socks(near)?;
            self.see(format!("SOCKS {}", asked.0));
            let far = self.connect(&format!("{}:{}", asked.0, asked.1))?;
            near.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])?;
            return tcp::carry(near, &far);
        }
        let mut head = Vec::from(first);
        while !head.ends_with(b"\r\n\r\n") {
            near.read_exact(&mut first)?;
            head.push(first[0]);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        self.see(head.clone());
        let mut parts = head.split(' ');
        let (method, target) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        if method == "CONNECT" {
            let far = self.connect(target)?;
            near.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
            return tcp::carry(near, &far);
        }
        let whole = target.strip_prefix("http://").ok_or(io::ErrorKind::InvalidData)?;
        let (host, _) = whole.split_once('/').ok_or(io::ErrorKind::InvalidData)?;
        let host = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
        let far = self.connect(&host)?;
        let kept = head.lines().filter(|line| !line.to_ascii_lowercase().starts_with("proxy-"));
        let head: String = kept.map(|line| format!("{line}\r\n")).collect();
        let path = &whole[whole.find('/').unwrap_or_default()..];
        (&far).write_all(head.replacen(target, path, 1).as_bytes())?;
        tcp::carry(near, &far)
    }

    fn see(&self, what: String) {
        self.seen.lock().unwrap().push(what);
    }

    fn connect(&self, asked: &str) -> io::Result<TcpStream> {
        let far = TcpStream::connect(self.to.as_deref().unwrap_or(asked))?;
        self.carried.fetch_add(1, Ordering::SeqCst);
        Ok(far)
    }
}

/// Lets a client in that speaks SOCKS 5: the host and port that it asks for.
fn socks(mut near: &TcpStream) -> io::Result<(String, u16)> {
    let mut methods = [0];
    near.read_exact(&mut methods)?;
    near.read_exact(&mut vec![0; methods[0].into()])?;
    near.write_all(&[5, 0])?;
    let mut request = [0; 4];
    near.read_exact(&mut request)?;
    let host = match request[3] {
        1 => {
            let mut address = [0; 4];
            near.read_exact(&mut address)?;
            Ipv4Addr::from(address).to_string()
        }
        3 => {
            let mut length = [0];
            near.read_exact(&mut length)?;
            let mut name = vec![0; length[0].into()];
            near.read_exact(&mut name)?;
            String::from_utf8_lossy(&name).into_owned()
        }
        _ => return Err(io::ErrorKind::Unsupported.into()),
    };
    let mut port = [0; 2];
    near.read_exact(&mut port)?;
    Ok((host, u16::from_be_bytes(port)))
}
