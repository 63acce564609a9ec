//! Checks that the namespace exists and is active.

use super::{Check, Snapshot};
use crate::rollout::ready::{self, Readiness};

pub(super) fn check(snapshot: &Snapshot) -> Check {
    let name = &snapshot.name;
    let (wrong, found) = match snapshot.namespace.as_ref().map(ready::namespace) {
        None => (vec![format!("{name} does not exist")], vec![]),
        Some(Readiness::Ready(state)) => (vec![], vec![format!("{name} is {state}")]),
        Some(other) => (vec![format!("{name}: {}", other.text())], vec![]),
    };
    Check::of(
        "namespace",
        wrong,
        found,
        "run `vcdist deploy`; a namespace that stays Terminating is removed by `vcdist uninstall`",
    )
}
