//! The stages of a rollout in which objects are applied. They are ordered: objects of a later stage depend on those of
//! earlier ones.

/// The stage in which an object is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The namespace of the other objects.
    Namespace,
    /// Custom resource definitions, which must be established before anything watches their objects.
    Definitions,
    /// What pods need at their start: accounts, roles, Secrets, Services, volumes.
    Access,
    /// Deployments, DaemonSets and whatever else makes pods.
    Workloads,
    /// Objects of the kinds that definitions define.
    Custom,
    /// What the API server calls from then on: webhook configurations, aggregated APIs.
    Webhooks,
}

impl Stage {
    /// All of them, in order.
    pub const ALL: [Self; 6] =
        [Self::Namespace, Self::Definitions, Self::Access, Self::Workloads, Self::Custom, Self::Webhooks];
}
