//! When an object does what it was applied for: one rule a kind, each a function of the object alone.

mod crd;
mod daemonset;
mod deployment;
mod namespace;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

pub use crd::crd;
pub use daemonset::daemonset;
pub(crate) use deployment::POD_SECURITY;
pub use deployment::deployment;
pub use namespace::namespace;

/// How far an object is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// It does what it was applied for; the text says in figures.
    Ready(String),
    /// Not yet; the text says what is awaited.
    Waiting(String),
    /// Not before somebody does what the object asks of people; the text says what. It is waited for.
    Held(String),
    /// Not before somebody takes back what keeps it from changing; the text says what. It is not waited for.
    Stopped(String),
    /// It will not, unless somebody changes something; the text says why.
    Failed(String),
}

impl Readiness {
    /// Whether nothing more is awaited.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        matches!(self, Self::Ready(_))
    }

    /// What it says.
    #[must_use]
    pub fn text(&self) -> &str {
        let (Self::Ready(text) | Self::Waiting(text) | Self::Held(text) | Self::Stopped(text) | Self::Failed(text)) =
            self;
        text
    }

    /// Whether more time alone does not help.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self, Self::Stopped(_) | Self::Failed(_))
    }
}

/// The options of `kubectl` for an object: its namespace, where it has one.
fn within(metadata: &ObjectMeta) -> String {
    metadata.namespace.as_ref().map(|namespace| format!(" --namespace {namespace}")).unwrap_or_default()
}

/// Whether the controller has seen the object as it is now: its status speaks of an older one otherwise.
fn seen(generation: Option<i64>, observed: Option<i64>) -> bool {
    observed.unwrap_or(0) >= generation.unwrap_or(0)
}
