//! Checks that vc-manager and vc-syncer have each elected a leader: one of their pods holds a Lease and renews it.
//! A component that was told not to elect one passes.

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::jiff::SignedDuration;
use vcmanifests::Component;

use super::snapshot::pods_of;
use super::{Check, Snapshot};
use crate::rollout::pods;

/// The end of the names of the components' Leases.
const LEASE: &str = "leaderelection-lock";

/// The components that elect a leader, and the argument with which each is told not to.
const ELECTING: [(Component, &str); 2] =
    [(Component::Manager, "--leader-election=false"), (Component::Syncer, "--leader-elect=false")];

pub(super) fn check(snapshot: &Snapshot) -> Check {
    let (mut wrong, mut found) = (Vec::new(), Vec::new());
    for (component, off) in ELECTING {
        let workload = component.workload();
        if arguments(snapshot, component).any(|argument| argument == off) {
            found.push(format!("{workload} runs with {off}"));
            continue;
        }
        if !pods_of(snapshot, component).any(pods::is_current) {
            found.push(format!("{workload} has no pod that could lead"));
            continue;
        }
        match leader(snapshot, component) {
            Ok(line) => found.push(line),
            Err(line) => wrong.push(line),
        }
    }
    Check::of(
        "leaders",
        wrong,
        found,
        "see the logs of the component: it needs the permission to write Leases in its namespace, \
         which `vcdist deploy` grants, and `--leader-elect-resource-lock=leases`",
    )
}

/// Returns whether a component with a ready pod has no leader yet: a Lease of an earlier pod expires on its own.
pub(super) fn is_pending(snapshot: &Snapshot) -> bool {
    ELECTING.iter().any(|(component, off)| {
        let is_up = pods_of(snapshot, *component).any(|pod| pods::is_current(pod) && pods::is_ready(pod));
        let elects = !arguments(snapshot, *component).any(|argument| argument == *off);
        is_up && elects && leader(snapshot, *component).is_err()
    })
}

/// Describes the leader of a component, or why it has none.
fn leader(snapshot: &Snapshot, component: Component) -> Result<String, String> {
    let workload = component.workload();
    let current: Vec<&str> = pods_of(snapshot, component).filter(|pod| pods::is_current(pod)).map(pods::name).collect();
    let is_of = |holder: &str| current.iter().any(|pod| holder == *pod || holder.starts_with(&format!("{pod}_")));
    let mut others = Vec::new();
    for lease in &snapshot.leases {
        let name = lease.metadata.name.as_deref().unwrap_or_default();
        let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default();
        let pod = holder.split('_').next().unwrap_or_default();
        if is_of(holder) {
            return match expired(lease, snapshot) {
                None => Ok(format!("{workload}: {pod} leads and renews lease {name}")),
                Some(ago) => Err(format!("{workload}: {pod} holds lease {name}, but renewed it last {ago:#} ago")),
            };
        }
        let hint = if component == Component::Manager { "manager" } else { "syncer" };
        if name.ends_with(LEASE) && name.contains(hint) {
            others.push(match holder {
                "" => format!("lease {name} has no holder"),
                _ => format!("lease {name} is held by {pod}, which does not run"),
            });
        }
    }
    let why = if others.is_empty() { "no pod of it holds a lease".to_owned() } else { others.join("; ") };
    Err(format!("{workload} has no leader: {why}"))
}

/// Returns the time since a Lease was renewed, if that is longer than it lasts.
fn expired(lease: &Lease, snapshot: &Snapshot) -> Option<SignedDuration> {
    let spec = lease.spec.as_ref()?;
    // Clocks of nodes differ by a few seconds.
    let lasts = SignedDuration::from_secs(i64::from(spec.lease_duration_seconds.unwrap_or(15)) + 5);
    let ago = snapshot.now.duration_since(spec.renew_time.as_ref()?.0);
    (ago > lasts).then(|| SignedDuration::from_secs(ago.as_secs()))
}

fn arguments(snapshot: &Snapshot, component: Component) -> impl Iterator<Item = &String> {
    let named = move |name: &Option<String>| name.as_deref() == Some(component.workload());
    let found = snapshot.deployments.iter().find(|deployment| named(&deployment.metadata.name));
    let spec = found.and_then(|deployment| deployment.spec.as_ref()?.template.spec.as_ref());
    spec.into_iter().flat_map(|spec| &spec.containers).flat_map(|container| container.args.iter().flatten())
}
