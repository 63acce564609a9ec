//! The `debian` base, end to end: against a small mirror on loopback that can be made to misbehave, and against the
//! real one that the machine's apt sources (or `VCBUILD_DEBIAN_MIRROR`) name.

#![expect(clippy::unwrap_used, reason = "a test that unwraps fails with the line that did")]

mod misbehaving;
mod real;
