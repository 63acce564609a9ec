//! An address that is far away: connections to it go through a long line.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rigs::tcp;

/// A port on the loopback address that leads to `target` over a long line: what is sent arrives after `delay`, each way. While
/// nothing listens there, connections end at once.
///
/// # Errors
/// When no port is to be had.
pub fn far_away(target: SocketAddr, delay: Duration) -> io::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    tcp::serve(listener, &Arc::new((target, delay)), |&(target, delay), near| {
        let far = TcpStream::connect(target)?;
        let (back, answers) = (near.try_clone()?, far.try_clone()?);
        let returning = thread::spawn(move || carry_late(answers, back, delay));
        carry_late(near.try_clone()?, far, delay);
        let _ = returning.join();
        Ok::<(), io::Error>(())
    });
    Ok(port)
}

/// Carries what comes in at one end to the other, each piece when its time has come.
fn carry_late(mut from: TcpStream, mut to: TcpStream, delay: Duration) {
    let (sender, pieces) = mpsc::channel::<(Instant, Vec<u8>)>();
    let arriving = thread::spawn(move || {
        let mut buffer = [0; 16 * 1024];
        while let Ok(length) = from.read(&mut buffer)
            && length > 0
            && sender.send((Instant::now() + delay, buffer[..length].to_vec())).is_ok()
        {}
    });
    for (due, piece) in pieces {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if to.write_all(&piece).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = arriving.join();
}
