//! Container runtimes of nodes.

pub(crate) mod connection_pool;
pub mod ctr;
pub mod engine;
pub mod rate;
pub(crate) mod script;
pub(crate) mod transfer;
