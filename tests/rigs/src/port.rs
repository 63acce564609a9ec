//! Ports on the loopback address.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

/// A listener on a free port, and the port.
#[must_use]
pub fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// A port on which nothing listens, for a program that takes only a number. The kernel gives ports in turn, so that nothing else
/// is given this one soon.
#[must_use]
pub fn free() -> u16 {
    listen().1
}

/// A port that a server may have to itself, also after it was killed and started again: below those that the kernel gives to
/// connections.
#[must_use]
pub fn reserved() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 10_000 + u16::try_from(std::process::id() % 200).unwrap() * 100;
    let candidates = std::iter::repeat_with(|| first + NEXT.fetch_add(1, Ordering::Relaxed) % 1000);
    let mut free = candidates.take(1000).filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    free.next().unwrap()
}
