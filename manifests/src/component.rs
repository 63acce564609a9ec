//! The three programs of VirtualCluster in the host cluster, with their names as component, workload and image.

use std::fmt;
use std::str::FromStr;

use crate::Error;

/// One of VirtualCluster's programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Component {
    /// vc-manager: creates and deletes tenants' control planes.
    Manager,
    /// vc-syncer: synchronizes tenants' objects with the host cluster's.
    Syncer,
    /// vn-agent: serves the kubelet's API to tenants, on every worker.
    VnAgent,
}

impl Component {
    /// All components, in the order in which they are deployed.
    pub const ALL: [Self; 3] = [Self::Manager, Self::Syncer, Self::VnAgent];

    /// The name of the program, which is also the component's name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Manager => "manager",
            Self::Syncer => "syncer",
            Self::VnAgent => "vn-agent",
        }
    }

    /// The name of the Deployment or DaemonSet and of its ServiceAccount, and the value of its pods' `app` label.
    #[must_use]
    pub fn workload(self) -> &'static str {
        match self {
            Self::Manager => "vc-manager",
            Self::Syncer => "vc-syncer",
            Self::VnAgent => "vn-agent",
        }
    }

    /// Returns the component of an image by the last part of its name: `…/manager-amd64:latest` is the manager's.
    #[must_use]
    pub fn of_image(name: &str) -> Option<Self> {
        let name = name.split_once('@').map_or(name, |(name, _)| name);
        let last = name.rsplit('/').next().unwrap_or(name);
        let last = last.split_once(':').map_or(last, |(last, _)| last);
        Self::ALL.into_iter().find(|component| {
            last.strip_prefix(component.name()).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        })
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Component {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Self::ALL
            .into_iter()
            .find(|component| component.name() == name)
            .ok_or_else(|| Error::NoSuchComponent { name: name.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::Component;

    #[test]
    fn an_images_name_tells_its_component() {
        for (name, component) in [
            ("docker.io/virtualcluster/manager-amd64:latest", Some(Component::Manager)),
            ("registry.example:5000/x/syncer", Some(Component::Syncer)),
            ("vn-agent-arm64:v1", Some(Component::VnAgent)),
            ("docker.io/a/vn-agent@sha256:00", Some(Component::VnAgent)),
            ("docker.io/virtualcluster/managers:latest", None),
            ("docker.io/manager/etcd", None),
        ] {
            assert_eq!(Component::of_image(name), component, "{name}");
        }
    }
}
