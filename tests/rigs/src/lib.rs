//! What tests of several crates run against: servers on loopback that can be made to misbehave.

#![expect(clippy::unwrap_used, reason = "test code: a panic is a failed test")]

pub mod mirror;
