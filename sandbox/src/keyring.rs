//! The kernel's keys (keyrings(7)): the build gets an empty session keyring of its own instead of the caller's.

use std::io;

use nix::libc::ENOSYS;

use super::spec::SetupError;

/// Joins an empty session keyring. A kernel without keyrings needs none.
pub(super) fn replace() -> Result<(), SetupError> {
    match keyutils::Keyring::join_anonymous_session() {
        Ok(_) => Ok(()),
        Err(errno) if errno.0 == ENOSYS => Ok(()),
        Err(errno) => Err(SetupError::on("take an empty session keyring")(io::Error::from_raw_os_error(errno.0))),
    }
}
