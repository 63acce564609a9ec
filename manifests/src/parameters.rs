//! The parameters of an installation: namespace, images, and what each component runs with. Every value has a documented
//! default except the images, which only a build determines.

use std::collections::BTreeMap;
use std::str::FromStr;

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, Toleration as CoreToleration};
use serde::{Deserialize, Serialize};

use crate::{Budgets, CommandLines, Component, Error, ImageReference, LocalVolume, NamespaceName};

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
    /// The folders in vn-agent's container.
    pub vn_agent_folders: VnAgentFolders,
    /// When the kubelet pulls the images.
    pub pull_policy: PullPolicy,
    /// What each component runs, beside the arguments that it always has.
    pub command_lines: CommandLines,
    /// The syncer's feature gates.
    pub feature_gates: BTreeMap<String, bool>,
    /// How many syncers run: one leads, the others wait for its lease.
    pub syncer_replicas: u16,
    /// How vc-manager has tenants' etcd addressed; none leaves it to vc-manager. Only an image with the source edit for it
    /// heeds this.
    pub etcd_scheme: Option<EtcdScheme>,
    /// PersistentVolumes for tenants.
    pub volumes: Vec<LocalVolume>,
    /// Whether NetworkPolicies close the ports of vc-manager and vc-syncer that nobody but their nodes needs.
    pub network_policies: bool,
    /// Whether a ServiceMonitor of the Prometheus operator collects the metrics.
    pub service_monitors: bool,
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
            vn_agent_folders: VnAgentFolders::default(),
            pull_policy: PullPolicy::default(),
            command_lines: CommandLines::default(),
            feature_gates: BTreeMap::new(),
            syncer_replicas: 1,
            etcd_scheme: None,
            volumes: Vec::new(),
            network_policies: false,
            service_monitors: false,
        }
    }

    /// Refuses parameters that no pods run with.
    ///
    /// # Errors
    /// Returns an error that says which, and what to do.
    pub fn check(&self) -> Result<(), Error> {
        self.command_lines.check()?;
        self.vn_agent_folders.check()?;
        self.volumes.iter().try_for_each(LocalVolume::check)
    }
}

/// The folders in vn-agent's container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VnAgentFolders {
    /// The folder of the serving certificate, which vn-agent writes.
    pub certificates: String,
    /// The folder that the Secret with the client certificate for kubelets is mounted at.
    pub pki: String,
}

impl Default for VnAgentFolders {
    /// Upstream's.
    fn default() -> Self {
        Self { certificates: "/etc/vn-agent".to_owned(), pki: "/etc/vn-agent/pki".to_owned() }
    }
}

impl VnAgentFolders {
    fn check(&self) -> Result<(), Error> {
        let is_folder = |path: &str| path.len() > 1 && path.starts_with('/') && !path.contains(':');
        match [&self.certificates, &self.pki].into_iter().find(|path| !is_folder(path)) {
            Some(path) => Err(Error::BadFolder { path: path.clone() }),
            None if self.certificates.trim_end_matches('/') == self.pki.trim_end_matches('/') => {
                Err(Error::SameFolder { path: self.pki.clone() })
            }
            None => Ok(()),
        }
    }
}

/// When the kubelet pulls an image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PullPolicy {
    /// Whenever a container starts.
    Always,
    /// When the node does not have it. The reference is a digest, so an image on the node cannot be outdated.
    #[default]
    IfNotPresent,
    /// Never.
    Never,
}

impl PullPolicy {
    /// The value of `imagePullPolicy`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

/// The scheme of the addresses of tenants' etcd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EtcdScheme {
    /// Clear text.
    Http,
    /// TLS.
    Https,
}

impl EtcdScheme {
    /// `http` or `https`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
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
