//! Links to a node that break.

use std::io::{self, Read};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use rigs::port;

/// What becomes of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LinkFault {
    /// It breaks for good once it has carried so many bytes there.
    Breaks(u64),
    /// The first connection that has carried so many bytes there breaks; later ones hold.
    BreaksOnce(u64),
    /// It carries nothing more in either direction once it has carried so many bytes there, and stays open.
    Hangs(u64),
}

/// A port that leads to `port`.
pub(super) fn to(port: u16, fate: LinkFault) -> u16 {
    let (listener, here) = port::listen();
    std::thread::spawn(move || {
        let mut fate = Some(fate);
        while let Ok((near, _)) = listener.accept() {
            let this = fate.take();
            let carried = std::thread::spawn(move || carry(&near, port, this));
            match this {
                // One connection after another, as long as there is something left to carry.
                Some(LinkFault::Breaks(limit)) => match limit - carried.join().expect("a link") {
                    0 => return,
                    left => fate = Some(LinkFault::Breaks(left)),
                },
                Some(LinkFault::Hangs(_)) => {
                    // Nobody is let in any more.
                    drop(listener);
                    let _ = carried.join();
                    return;
                }
                Some(LinkFault::BreaksOnce(limit)) => {
                    let ended_whole = carried.join().expect("a link") < limit;
                    fate = this.filter(|_| ended_whole);
                }
                None => {}
            }
        }
    });
    here
}

/// Carries a connection to its end; how many bytes there.
fn carry(near: &TcpStream, port: u16, fate: Option<LinkFault>) -> u64 {
    let far = TcpStream::connect(("127.0.0.1", port)).expect("sshd");
    let limit = match fate {
        Some(LinkFault::Breaks(limit) | LinkFault::BreaksOnce(limit) | LinkFault::Hangs(limit)) => limit,
        None => u64::MAX,
    };
    let (mut answers, mut back) = (far.try_clone().expect("a socket"), near.try_clone().expect("a socket"));
    let returning = std::thread::spawn(move || io::copy(&mut answers, &mut back));
    // Either side may close first: then there is nothing left to carry.
    let mut there = near.take(limit);
    let _ = io::copy(&mut there, &mut &far);
    let carried = limit - there.limit();
    if matches!(fate, Some(LinkFault::Hangs(_))) {
        let _ = far.shutdown(Shutdown::Both);
        // Longer than any test waits for it.
        std::thread::sleep(Duration::from_secs(600));
    }
    let _ = (near.shutdown(Shutdown::Both), far.shutdown(Shutdown::Both));
    let _ = returning.join();
    carried
}
