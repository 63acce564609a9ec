//! What a program can do in the sandbox, and what it cannot: real programs that try, as root and as an ordinary user.

#![expect(clippy::unwrap_used, reason = "test code: a panic is a failed test")]

mod attacks;
mod confinement;
mod leftovers;
mod limits;
mod run;
mod syscalls;
