//! Checks that the API server serves both of VirtualCluster's kinds.

use super::{Check, Snapshot};
use crate::rollout::ready::{self, Readiness};

/// The names of the definitions: plural and group.
pub(super) const NAMES: [&str; 2] = ["clusterversions.tenancy.x-k8s.io", "virtualclusters.tenancy.x-k8s.io"];

pub(super) fn check(snapshot: &Snapshot) -> Check {
    let (mut wrong, mut found) = (Vec::new(), Vec::new());
    for name in NAMES {
        let definition =
            snapshot.definitions.iter().find(|definition| definition.metadata.name.as_deref() == Some(name));
        match definition.map(|definition| (ready::crd(definition), definition)) {
            None => wrong.push(format!("{name} does not exist")),
            Some((Readiness::Ready(state), definition)) => {
                let versions: Vec<&str> =
                    definition.spec.versions.iter().filter(|v| v.served).map(|v| v.name.as_str()).collect();
                found.push(format!("{name} is {state}, serving {}", versions.join(", ")));
            }
            Some((other, _)) => wrong.push(format!("{name}: {}", other.text())),
        }
    }
    Check::of("crds", wrong, found, "run `vcdist deploy`, which applies the definitions")
}
