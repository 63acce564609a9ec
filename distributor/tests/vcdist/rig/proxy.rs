//! A proxy on a port of its own: connections by CONNECT, and by SOCKS 5, are carried to where they ask.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::spawn;

/// The proxy.
pub(crate) struct Proxy {
    port: u16,
    carried: Arc<AtomicUsize>,
}

impl Proxy {
    pub(crate) fn up() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let carried = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&carried);
        spawn(move || {
            for near in listener.incoming().flatten() {
                let count = Arc::clone(&count);
                spawn(move || {
                    if let Some(far) = meet(&near).ok().flatten() {
                        count.fetch_add(1, Ordering::SeqCst);
                        carry(&near, &far);
                    }
                });
            }
        });
        Self { port, carried }
    }

    pub(crate) fn http(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn socks5(&self) -> String {
        format!("socks5://127.0.0.1:{}", self.port)
    }

    /// How many connections were carried.
    pub(crate) fn carried(&self) -> usize {
        self.carried.load(Ordering::SeqCst)
    }
}

/// Hears where a connection wants to go, and goes there.
fn meet(near: &TcpStream) -> io::Result<Option<TcpStream>> {
    let mut near = near;
    let mut first = [0];
    near.read_exact(&mut first)?;
    if first[0] == 5 {
        let mut methods = [0];
        near.read_exact(&mut methods)?;
        near.read_exact(&mut vec![0; methods[0].into()])?;
        near.write_all(&[5, 0])?;
        let mut asked = [0; 10];
        near.read_exact(&mut asked)?;
        // An IPv4 address: what the tests ask for.
        if asked[3] != 1 {
            return Ok(None);
        }
        let host = Ipv4Addr::new(asked[4], asked[5], asked[6], asked[7]);
        let far = TcpStream::connect((host, u16::from_be_bytes([asked[8], asked[9]])))?;
        near.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])?;
        return Ok(Some(far));
    }
    let mut head = Vec::from(first);
    while !head.ends_with(b"\r\n\r\n") {
        near.read_exact(&mut first)?;
        head.push(first[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let Some(target) = head.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()) else { return Ok(None) };
    let far = TcpStream::connect(target)?;
    near.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
    Ok(Some(far))
}

fn carry(near: &TcpStream, far: &TcpStream) {
    let (mut answers, mut back) = (far.try_clone().expect("a socket"), near.try_clone().expect("a socket"));
    let returning = spawn(move || {
        let _ = io::copy(&mut answers, &mut back);
        let _ = back.shutdown(Shutdown::Both);
    });
    let _ = io::copy(&mut &*near, &mut &*far);
    let _ = far.shutdown(Shutdown::Both);
    let _ = returning.join();
}
