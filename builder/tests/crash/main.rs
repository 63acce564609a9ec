//! What becomes of a store when builds are killed, run beside each other, and beside garbage collection.

#![expect(clippy::unwrap_used, reason = "test code: a panic is a failed test")]

#[path = "../vcbuild/bench.rs"]
#[allow(dead_code, reason = "the other tests of the program use the rest")]
mod bench;
mod concurrent;
mod killed;
mod stamped_build;
