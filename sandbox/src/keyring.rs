//! The kernel's keys (keyrings(7)): a session keyring of the build's own, with nothing in it, in place of the caller's.

use std::io;

use nix::libc::ENOSYS;

use super::spec::SetupError;

/// Takes an empty session keyring. A kernel without keyrings has nothing to take away.
pub(super) fn replace() -> Result<(), SetupError> {
    match keyutils::Keyring::join_anonymous_session() {
        Ok(_) => Ok(()),
        Err(errno) if errno.0 == ENOSYS => Ok(()),
        Err(errno) => Err(SetupError::on("take an empty session keyring")(io::Error::from_raw_os_error(errno.0))),
    }
}
