//! When an object does what it was applied for: one rule a kind, each a function of the object alone.

mod crd;
mod daemonset;
mod deployment;
mod namespace;

pub use crd::crd;
pub use daemonset::daemonset;
pub use deployment::deployment;
pub use namespace::namespace;

/// How far an object is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// It does what it was applied for; the text says in figures.
    Ready(String),
    /// Not yet; the text says what is awaited.
    Waiting(String),
    /// It will not, unless somebody changes something; the text says why.
    Failed(String),
}

impl Readiness {
    /// Whether nothing more is awaited.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        matches!(self, Self::Ready(_))
    }
}

/// Whether the controller has seen the object as it is now: its status speaks of an older one otherwise.
fn seen(generation: Option<i64>, observed: Option<i64>) -> bool {
    observed.unwrap_or(0) >= generation.unwrap_or(0)
}
