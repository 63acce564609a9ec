//! The rollout: what would change is asked first, then applied in dependency order, then waited for.
//! Objects are applied server-side, so that fields which others set stay theirs.

mod diff;
mod error;
pub mod events;
mod evidence;
pub mod images;
mod plan;
pub mod pods;
pub mod ready;
mod wait;

use std::time::{Duration, Instant};

use vcmanifests::Stage;

use crate::cluster::Cluster;

pub use diff::FieldChange;
pub use error::{Conflict, Conflicts, Error, Evidence, Outcome};
pub use plan::{Change, Plan, Step, plan, title};
use wait::Awaited;
pub use wait::Ready;

/// The name that our fields are owned by (Kubernetes, "Server-Side Apply").
pub const FIELD_MANAGER: &str = "vcdist";

/// Applies the steps of a plan that change anything and waits for each stage, within `timeout` in all.
/// Returns the workloads with how they are ready, in the plan's order.
///
/// # Errors
/// When the API server refuses an object, or one does not get ready in time or ever.
pub async fn run(
    cluster: &Cluster,
    plan: &Plan,
    force: bool,
    timeout: Duration,
    mut applied: impl FnMut(&Step),
) -> Result<Vec<Ready>, Error> {
    let started = Instant::now();
    let mut ready = Vec::new();
    for stage in [Stage::Namespace, Stage::Definitions, Stage::Access, Stage::Workloads] {
        let steps: Vec<&Step> = plan.steps.iter().filter(|step| step.object.stage() == stage).collect();
        let mut awaited = Vec::new();
        for step in steps {
            let since = if step.settled {
                None
            } else {
                plan::changed_at(&plan::apply(cluster, &step.object, force, false).await?)
            };
            applied(step);
            awaited.push(Awaited { object: &step.object, since });
        }
        ready.extend(wait::until_ready(cluster, &awaited, started, timeout).await?);
    }
    Ok(ready)
}
