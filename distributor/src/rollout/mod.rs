//! The rollout: a dry run shows what would change; then objects are applied in the order of their dependencies, and each stage is
//! waited for. Objects are applied server-side, so that fields which others set stay theirs. What earlier rollouts applied and
//! this one lacks goes at its end. Each rollout is a revision, which one can compare the cluster with and go back to. Uses
//! [`crate::cluster`], and the names of [`crate::images`].

mod defined;
mod definitions;
mod diff;
mod differences;
mod error;
pub mod events;
mod evidence;
mod foreign;
mod health;
pub mod images;
mod in_use;
mod owner;
mod plan;
pub mod pods;
mod predecessors;
pub mod ready;
mod recreate;
mod references;
mod release;
mod requeue;
mod revision;
mod rollback;
mod schema;
mod stuck_pods;
mod superseded;
mod takeover;
mod wait;
mod webhooks;

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use vcmanifests::Stage;

use crate::cluster::Cluster;
use defined::DefinedKinds;

pub use diff::FieldChange;
pub use differences::{Difference, ForeignField, differences, drift};
pub use error::{Conflict, Conflicts, Error, Evidence, Outcome, Recreation, Recreations};
pub use health::{Health, ObjectHealth, health};
pub use in_use::ImagesInUse;
pub(crate) use in_use::WORKLOADS;
pub use plan::{Change, Permissions, Plan, Step, plan, plan_back, title};
pub(crate) use predecessors::NAMES as PREDECESSORS;
pub use release::Release;
pub(crate) use release::{is_of_a_release, mark};
pub use revision::{RecordedObject, Revision, revisions};
pub(crate) use revision::{list as revisions_in, selector as revision_selector};
pub use rollback::{find, last_ready, rollback_target};
pub use superseded::{Kept, Removal};
pub(crate) use superseded::{SHARED_STAY, is_shared, not_ours, not_ours_as};
pub use wait::Ready;
use wait::WaitTarget;

/// The name that our fields are owned by (Kubernetes, "Server-Side Apply").
pub const FIELD_MANAGER: &str = "vcdist";

/// Something that a rollout has just done.
#[derive(Debug, Clone, Copy)]
pub enum Progress<'a> {
    /// It has taken this step.
    Applied(&'a Step),
    /// It has had a pod made anew that was stuck, as the text says.
    Restarted(&'a str),
    /// It has had the controller of this object try again at once to make pods that it could not make.
    Woken(&'a str),
    /// An object waits for people: which, and what for.
    Held(&'a str, &'a str),
    /// An object does not get ready: which, and why, as far as the cluster tells.
    Cause(&'a str, &'a str),
    /// It has removed this object, which only earlier revisions had.
    Removed(&'a Removal),
}

/// How a plan is carried out.
#[derive(Debug, Clone)]
pub struct Rollout {
    /// Whether fields of other managers are taken over.
    pub force_conflicts: bool,
    /// Whether objects are deleted and made anew where the plan says so.
    pub recreate: bool,
    /// How long it may take in all.
    pub timeout: Duration,
    /// The revision that it goes back to, where it does.
    pub rollback_to: Option<i64>,
    /// Which part of the plan is carried out.
    pub part: Part,
    /// Ends it before the next change, or in the middle of a wait.
    pub cancel: CancellationToken,
}

/// A part of a plan. A rollout in parts carries out each, in this order, with one plan.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    #[default]
    All,
    /// The namespace.
    Namespace,
    /// The definitions.
    Definitions,
    /// Everything else. Only now the rollout is recorded, and what it supersedes goes.
    Rest,
}

impl Part {
    /// Whether it has this stage.
    #[must_use]
    pub fn has(self, stage: Stage) -> bool {
        match self {
            Self::All => true,
            Self::Namespace => stage == Stage::Namespace,
            Self::Definitions => stage == Stage::Definitions,
            Self::Rest => stage > Stage::Definitions,
        }
    }
}

/// What a rollout came to.
#[derive(Debug, Default)]
pub struct Outcomes {
    /// How many of the plan's steps were taken, in its order.
    pub applied: usize,
    /// What was waited for, in the plan's order, and how it is ready.
    pub ready: Vec<Ready>,
    /// The pods that were made anew, and what they were stuck in.
    pub restarted: Vec<String>,
    /// How many of the plan's removals were made, in its order.
    pub removed: usize,
    /// The revision that this rollout is recorded as.
    pub revision: Option<i64>,
}

/// Applies the steps of a plan that change anything and waits for each stage; then removes what the plan says goes. Pods of an
/// earlier attempt that are stuck are made anew. What it comes to is in `outcomes`, also where it fails.
///
/// # Errors
/// When objects would have to be made anew and may not, before anything is changed; when the API server refuses an object, or
/// one does not get ready in time or ever; when it is cancelled.
pub async fn run(
    cluster: &Cluster,
    plan: &Plan,
    rollout: &Rollout,
    outcomes: &mut Outcomes,
    mut progress: impl FnMut(Progress<'_>),
) -> Result<(), Error> {
    let &Rollout { force_conflicts, recreate, timeout, rollback_to, part, ref cancel } = rollout;
    if !recreate {
        plan.refuse_recreation()?;
    }
    let is_recorded = part.has(Stage::Workloads);
    let started = Instant::now();
    cluster.wait_until(started + timeout);
    let release = Release::of(plan.steps.iter().map(|step| &step.object));
    let defined = DefinedKinds::changed(&plan.steps);
    for stage in Stage::ALL.into_iter().filter(|stage| part.has(*stage)) {
        if is_recorded && stage > Stage::Namespace && outcomes.revision.is_none() {
            // Before anything runs: from here on, nobody may take its images away.
            outcomes.revision = record(cluster, plan, release.as_ref(), rollback_to).await?;
        }
        let steps: Vec<&Step> = plan.steps.iter().filter(|step| step.object.stage() == stage).collect();
        let mut targets = Vec::new();
        for step in steps {
            go_on(cancel)?;
            if let Some(uid) = &step.replaces {
                recreate::delete(cluster, &step.object, uid, started + timeout).await?;
            }
            if step.taken_over {
                takeover::take_over(cluster, &step.object).await?;
            }
            let since = if step.settled {
                None
            } else {
                let applied = if defined.has(&step.object) {
                    defined::apply_once_served(cluster, &step.object, force_conflicts).await?
                } else {
                    plan::apply(cluster, &step.object, force_conflicts, false).await?
                };
                plan::changed_at(&applied)
            };
            outcomes.applied += 1;
            progress(Progress::Applied(step));
            for stuck in stuck_pods::delete_stuck_pods(cluster, &step.object).await? {
                progress(Progress::Restarted(&stuck));
                outcomes.restarted.push(stuck);
            }
            if step.settled && requeue::requeue(cluster, &step.object).await? {
                progress(Progress::Woken(&title(&step.object)));
            }
            let begun = since.as_ref().map(|since| since.0).or_else(|| cluster.clock());
            targets.push(WaitTarget { object: &step.object, since, begun });
        }
        outcomes.ready.extend(wait::until_ready(cluster, &targets, started, timeout, cancel, &mut progress).await?);
    }
    if !is_recorded {
        return Ok(());
    }
    for removal in &plan.removals {
        go_on(cancel)?;
        superseded::remove(cluster, removal).await?;
        outcomes.removed += 1;
        progress(Progress::Removed(removal));
    }
    if let (Some(number), Some(release)) = (outcomes.revision, &release) {
        revision::mark_ready(cluster, release, number).await?;
    }
    Ok(())
}

fn go_on(cancel: &CancellationToken) -> Result<(), Error> {
    if cancel.is_cancelled() { Err(Error::Interrupted) } else { Ok(()) }
}

/// Records the objects of a plan as a revision of their release; nothing for objects that belong to none.
async fn record(
    cluster: &Cluster,
    plan: &Plan,
    release: Option<&Release>,
    rollback_to: Option<i64>,
) -> Result<Option<i64>, Error> {
    let Some(release) = release else { return Ok(None) };
    let value = |step: &Step| {
        let prepared = |source| Error::Prepare { object: title(&step.object), source };
        RecordedObject::of(&step.object).map_err(prepared)
    };
    let mut objects = plan.steps.iter().map(value).collect::<Result<Vec<_>, _>>()?;
    for (place, secret) in &plan.withheld {
        objects.insert((*place).min(objects.len()), secret.clone());
    }
    revision::record(cluster, release, objects, rollback_to).await.map(Some)
}
