//! The first process of a sandbox: it starts the program and reaps orphaned processes. When it ends, all of them end.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use super::spec::{Report, SetupError};
use super::stage::{Stage, self_as};

/// Waits for the program's end and reports it.
pub(super) fn init(socket: &UnixStream) -> Result<Report, SetupError> {
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(SetupError::of("end with the supervisor"))?;
    // Waits for the supervisor's signal to begin, a blank before the message to the program's process; the read fails
    // if the supervisor has died.
    let mut word = [0];
    (&*socket).read_exact(&mut word).map_err(SetupError::on("hear from the supervisor"))?;
    unshare(CloneFlags::CLONE_NEWNS).map_err(SetupError::of("make a mount namespace"))?;
    let theirs = socket.try_clone().map_err(SetupError::on("use a socket"))?;
    let child = self_as(Stage::Enter).stdin(OwnedFd::from(theirs)).spawn();
    let child = Pid::from_raw(child.map_err(SetupError::on("start a process"))?.id().cast_signed());
    loop {
        match waitpid(None, None) {
            Ok(WaitStatus::Exited(pid, code)) if pid == child => {
                return Ok(Report::Ended { status: code << 8, exceeded: None });
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == child => {
                return Ok(Report::Ended { status: signal as i32, exceeded: None });
            }
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(error) => return Err(SetupError::of("wait for the program")(error)),
        }
    }
}
