//! The parameters of an installation: namespace, images, and the resources of each component. Every value has a
//! documented default except the images, which only a build determines.

use std::collections::BTreeMap;
use std::str::FromStr;

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, ResourceRequirements, Toleration as CoreToleration};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::{Component, Error, ImageReference, NamespaceName};

/// All parameters of the objects.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameters {
    /// The namespace of the namespaced objects.
    pub namespace: NamespaceName,
    /// The image of each component.
    pub images: Images,
    /// The resources of each component.
    pub budgets: Budgets,
    /// Tolerations of the workloads, in addition to those that Kubernetes adds to every DaemonSet.
    pub tolerations: Vec<Toleration>,
    /// The nodes on which they run.
    pub placement: Placement,
    /// The architectures of each component's image.
    pub architectures: Architectures,
    /// The port on every worker at which vn-agent serves its metrics. Upstream's 9100 is also node-exporter's, and
    /// vn-agent exits if it cannot bind its port.
    pub vn_agent_metrics_port: u16,
}

impl Parameters {
    /// Upstream's port of vn-agent's metrics.
    pub const METRICS_PORT: u16 = 9100;

    /// Creates parameters with these images, upstream's namespace and ports, the default budgets and no tolerations.
    #[must_use]
    pub fn new(images: Images) -> Self {
        Self {
            namespace: NamespaceName::default(),
            images,
            budgets: Budgets::default(),
            tolerations: Vec::new(),
            placement: Placement::default(),
            architectures: Architectures::default(),
            vn_agent_metrics_port: Self::METRICS_PORT,
        }
    }
}

/// The nodes on which the workloads run: by default, all workers.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Placement {
    /// Only these nodes, regardless of role.
    pub names: Vec<String>,
    /// The excluded nodes.
    pub exclude: Vec<String>,
    /// Requirements that the labels of the nodes must meet.
    pub requirements: Vec<NodeSelectorRequirement>,
    /// Whether to include control-plane nodes.
    pub include_control_plane: bool,
}

impl Placement {
    /// Whether control-plane nodes may be selected.
    pub(crate) fn reaches_control_plane(&self) -> bool {
        self.include_control_plane || !self.names.is_empty()
    }
}

/// The architectures of each component's image, in Go's form; empty if unknown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Architectures(BTreeMap<Component, Vec<String>>);

impl Architectures {
    /// Returns the architectures of one component's image.
    #[must_use]
    pub fn of(&self, component: Component) -> &[String] {
        self.0.get(&component).map(Vec::as_slice).unwrap_or_default()
    }
}

impl FromIterator<(Component, Vec<String>)> for Architectures {
    fn from_iter<T: IntoIterator<Item = (Component, Vec<String>)>>(all: T) -> Self {
        Self(all.into_iter().collect())
    }
}

/// One image for each component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Images {
    /// vc-manager's.
    pub manager: ImageReference,
    /// vc-syncer's.
    pub syncer: ImageReference,
    /// vn-agent's.
    pub vn_agent: ImageReference,
}

impl Images {
    /// The image of one component.
    #[must_use]
    pub fn of(&self, component: Component) -> &ImageReference {
        match component {
            Component::Manager => &self.manager,
            Component::Syncer => &self.syncer,
            Component::VnAgent => &self.vn_agent,
        }
    }
}

/// The resource requests and limits of one container, as Kubernetes quantities: `100m`, `1Gi`.
#[derive(Debug, Clone, PartialEq)]
pub struct Budget {
    /// CPU that the scheduler reserves.
    pub cpu_request: Quantity,
    /// CPU beyond which the container is throttled.
    pub cpu_limit: Quantity,
    /// Memory that the scheduler reserves.
    pub memory_request: Quantity,
    /// Memory beyond which the container is killed.
    pub memory_limit: Quantity,
}

impl Budget {
    fn new([cpu_request, cpu_limit]: [&str; 2], [memory_request, memory_limit]: [&str; 2]) -> Self {
        let quantity = |text: &str| Quantity(text.to_owned());
        Self {
            cpu_request: quantity(cpu_request),
            cpu_limit: quantity(cpu_limit),
            memory_request: quantity(memory_request),
            memory_limit: quantity(memory_limit),
        }
    }

    pub(crate) fn requirements(&self) -> ResourceRequirements {
        let of = |cpu: &Quantity, memory: &Quantity| {
            Some(BTreeMap::from([("cpu".to_owned(), cpu.clone()), ("memory".to_owned(), memory.clone())]))
        };
        ResourceRequirements {
            requests: of(&self.cpu_request, &self.memory_request),
            limits: of(&self.cpu_limit, &self.memory_limit),
            claims: None,
        }
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

/// A toleration of the workloads, in kubectl's syntax for taints, `KEY[=VALUE][:EFFECT]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Toleration {
    key: String,
    value: Option<String>,
    effect: Option<String>,
}

impl From<&Toleration> for CoreToleration {
    fn from(toleration: &Toleration) -> Self {
        Self {
            key: Some(toleration.key.clone()),
            operator: Some(if toleration.value.is_some() { "Equal" } else { "Exists" }.to_owned()),
            value: toleration.value.clone(),
            effect: toleration.effect.clone(),
            toleration_seconds: None,
        }
    }
}

impl FromStr for Toleration {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (taint, effect) = match text.rsplit_once(':') {
            Some((taint, effect)) => (taint, Some(effect)),
            None => (text, None),
        };
        let (key, value) = match taint.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (taint, None),
        };
        let known = effect.is_none_or(|effect| ["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&effect));
        if key.is_empty() || !known {
            return Err(Error::BadToleration { text: text.to_owned() });
        }
        Ok(Self { key: key.to_owned(), value: value.map(str::to_owned), effect: effect.map(str::to_owned) })
    }
}

#[cfg(test)]
mod tests {
    use super::{CoreToleration, Toleration};

    #[test]
    fn tolerations_are_read_as_kubectl_writes_taints() {
        let read = |text: &str| {
            let toleration: CoreToleration = (&text.parse::<Toleration>().unwrap()).into();
            serde_json::to_string(&toleration).unwrap()
        };
        assert_eq!(read("gpu"), r#"{"key":"gpu","operator":"Exists"}"#);
        assert_eq!(read("gpu:NoExecute"), r#"{"effect":"NoExecute","key":"gpu","operator":"Exists"}"#);
        assert_eq!(
            read("example.com/team=a:NoSchedule"),
            r#"{"effect":"NoSchedule","key":"example.com/team","operator":"Equal","value":"a"}"#
        );
        for bad in ["", "=a", "gpu:Never", ":NoSchedule"] {
            assert!(bad.parse::<Toleration>().is_err(), "{bad}");
        }
    }
}
