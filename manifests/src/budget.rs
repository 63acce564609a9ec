//! The resources of each component's container: what the scheduler reserves, and what it may use at most.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::Component;

/// The resource requests and limits of one container, by resource: `cpu`, `memory`. A resource without a value is not bounded.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Budget {
    /// What the scheduler reserves.
    pub requests: BTreeMap<String, Quantity>,
    /// Beyond which the processor is throttled, and a container that uses more memory is ended.
    pub limits: BTreeMap<String, Quantity>,
}

impl Budget {
    fn new([cpu_request, cpu_limit]: [&str; 2], [memory_request, memory_limit]: [&str; 2]) -> Self {
        let of = |cpu: &str, memory: &str| {
            BTreeMap::from([("cpu", cpu), ("memory", memory)].map(|(name, text)| (name.into(), Quantity(text.into()))))
        };
        Self { requests: of(cpu_request, memory_request), limits: of(cpu_limit, memory_limit) }
    }

    pub(crate) fn requirements(&self) -> ResourceRequirements {
        let some = |all: &BTreeMap<String, Quantity>| Some(all.clone()).filter(|all| !all.is_empty());
        ResourceRequirements { requests: some(&self.requests), limits: some(&self.limits), claims: None }
    }
}

/// One budget for each component.
#[derive(Debug, Clone, PartialEq)]
pub struct Budgets {
    /// vc-manager's.
    pub manager: Budget,
    /// vc-syncer's.
    pub syncer: Budget,
    /// vn-agent's.
    pub vn_agent: Budget,
}

impl Default for Budgets {
    /// Sufficient for tens of tenants: the manager is idle between the creation of tenants; the syncer caches the
    /// objects of every tenant, so it needs mostly memory; vn-agent only relays streams. Requests are small, so that a
    /// worker with two cores has room for tenants.
    fn default() -> Self {
        Self {
            manager: Budget::new(["100m", "500m"], ["128Mi", "512Mi"]),
            syncer: Budget::new(["100m", "1"], ["256Mi", "1Gi"]),
            vn_agent: Budget::new(["50m", "500m"], ["64Mi", "256Mi"]),
        }
    }
}

impl Budgets {
    /// The budget of one component.
    #[must_use]
    pub fn of(&self, component: Component) -> &Budget {
        match component {
            Component::Manager => &self.manager,
            Component::Syncer => &self.syncer,
            Component::VnAgent => &self.vn_agent,
        }
    }
}
