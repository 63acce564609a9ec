//! What an installation is made from: where, which images, how much of a node each component may use.
//! Every value has a documented default but the images, which only a build can name.

use std::collections::BTreeMap;
use std::str::FromStr;

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, ResourceRequirements, Toleration as CoreToleration};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::{Component, Error, ImageReference, NamespaceName};

/// Everything the objects depend on.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameters {
    /// Where the namespaced objects live.
    pub namespace: NamespaceName,
    /// The image of each component.
    pub images: Images,
    /// What each component may use of a node.
    pub budgets: Budgets,
    /// Taints that the workloads accept, beside those that Kubernetes lets every DaemonSet accept.
    pub tolerations: Vec<Toleration>,
    /// Which nodes they run on.
    pub placement: Placement,
    /// The processors that each component's image is for.
    pub architectures: Architectures,
    /// The port on every worker where vn-agent serves its metrics. Upstream's 9100 is also node-exporter's, and
    /// vn-agent exits when it cannot bind.
    pub vn_agent_metrics_port: u16,
}

impl Parameters {
    /// Upstream's port for vn-agent's metrics.
    pub const METRICS_PORT: u16 = 9100;

    /// Upstream's namespace and ports, the default budgets and no tolerations, with these images.
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

/// Which nodes the workloads run on: all workers, unless it says otherwise.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Placement {
    /// These nodes only, whatever their role.
    pub names: Vec<String>,
    /// Not these nodes.
    pub exclude: Vec<String>,
    /// Nodes whose labels meet all of these requirements only.
    pub requirements: Vec<NodeSelectorRequirement>,
    /// The nodes of the control plane too.
    pub include_control_plane: bool,
}

impl Placement {
    /// Whether a node of the control plane may be among them.
    pub(crate) fn reaches_control_plane(&self) -> bool {
        self.include_control_plane || !self.names.is_empty()
    }
}

/// The processors that each component's image is for, as Go names them; none where that is not known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Architectures(BTreeMap<Component, Vec<String>>);

impl Architectures {
    /// What one component's image is for.
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

/// What one container asks of its node and may use at most. Quantities as Kubernetes writes them: `100m`, `1Gi`.
#[derive(Debug, Clone, PartialEq)]
pub struct Budget {
    /// CPU that the scheduler sets aside.
    pub cpu_request: Quantity,
    /// CPU beyond which the container is throttled.
    pub cpu_limit: Quantity,
    /// Memory that the scheduler sets aside.
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
    /// Enough for tens of tenants: the manager idles between tenants' creations; the syncer caches the objects of every
    /// tenant, so memory is what it needs most; vn-agent only relays streams. Requests stay small, so that a worker of
    /// two cores has room for tenants.
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

/// A taint that the workloads accept, written `KEY[=VALUE][:EFFECT]` as kubectl writes taints.
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
