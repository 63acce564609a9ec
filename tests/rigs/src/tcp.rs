//! Connections on the loopback address: served, and carried on.

use std::io::{self, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

/// Has `answer` serve each connection on a thread of its own; each thread, and the one that accepts, holds `state`. They end with
/// the process of the test.
pub fn serve<S, R>(listener: TcpListener, state: &Arc<S>, answer: impl Fn(&S, &TcpStream) -> R + Copy + Send + 'static)
where
    S: Send + Sync + 'static,
{
    let shared = Arc::clone(state);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let state = Arc::clone(&shared);
            // A client that hangs up early is no concern of the server's.
            thread::spawn(move || drop(answer(&state, &stream)));
        }
    });
}

/// Carries a connection on to another one, both ways, until both have ended.
pub fn carry(near: &TcpStream, far: &TcpStream) -> io::Result<()> {
    let (mut answers, mut back) = (far.try_clone()?, near.try_clone()?);
    let returning = thread::spawn(move || {
        // Either side may close first: then there is nothing left to carry.
        let _ = io::copy(&mut answers, &mut back);
        let _ = back.flush();
        let _ = back.shutdown(Shutdown::Both);
    });
    let _ = io::copy(&mut &*near, &mut &*far);
    let _ = far.shutdown(Shutdown::Write);
    let _ = returning.join();
    Ok(())
}
