//! Waiting until what was applied does what it was applied for, by watching it.
//! The wait ends early where waiting cannot help: a controller that gave up, a pod whose image is not on its node.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DynamicObject, TypeMeta};
use kube::runtime::{WatchStreamExt, watcher};
use serde::Serialize;
use tokio::time::{MissedTickBehavior, interval_at, sleep_until};
use tokio_util::sync::CancellationToken;
use vcmanifests::Object;

use super::error::{Error, Outcome};
use super::evidence::{self, Cause};
use super::plan::{api, read, title};
use super::ready::{self, Readiness};
use super::{Progress, webhooks};
use crate::cluster::{Cluster, WATCH_SECONDS};

/// How often the pods of what is not ready are looked at.
const LOOK: Duration = Duration::from_secs(2);

/// At how many looks in a row something must seem beyond help. Some of the reasons pass within seconds on a busy node.
const LOOKS: u32 = 3;

/// Something that was waited for and is ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ready {
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// How: `1/1`, `Established`.
    pub ready: String,
}

/// Something to wait for.
#[derive(Debug)]
pub(super) struct WaitTarget<'a> {
    /// What was applied.
    pub(super) object: &'a Object,
    /// When it was last changed, by the API server's clock: pods that are older are not of this change's making. None
    /// where nothing changed, and every pod counts.
    pub(super) since: Option<Time>,
    /// When its rollout began, by the API server's clock: events that are older are of an earlier one. None where the server
    /// tells no time.
    pub(super) begun: Option<Timestamp>,
}

/// Waits until every object is ready, at most until `timeout` after `started`. Tells at once what waits for people, and within
/// seconds what keeps something from getting ready.
pub(super) async fn until_ready(
    cluster: &Cluster,
    targets: &[WaitTarget<'_>],
    started: Instant,
    timeout: Duration,
    cancel: &CancellationToken,
    mut tell: impl FnMut(Progress<'_>),
) -> Result<Vec<Ready>, Error> {
    let watches: Vec<_> = targets.iter().map(|target| watch(cluster, target)).collect();
    let targets: Vec<&WaitTarget<'_>> =
        targets.iter().zip(&watches).filter_map(|(targets, watch)| watch.is_some().then_some(targets)).collect();
    let numbered = watches.into_iter().flatten().enumerate();
    let mut watches = stream::select_all(numbered.map(|(i, watch)| watch.map_ok(move |now| (i, now)).boxed()));
    let mut states = vec![Readiness::Waiting("it is not there yet".to_owned()); targets.len()];
    let mut is_told = vec![false; targets.len()];
    let mut causes = Causes::default();
    let mut look = interval_at(tokio::time::Instant::now() + LOOK, LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut hopeless_looks = 0;
    let outcome = loop {
        if states.iter().all(Readiness::is_ready) {
            return Ok(targets.iter().zip(states).map(|(targets, state)| ready(targets.object, &state)).collect());
        }
        tokio::select! {
            Some(update) = watches.next() => {
                let (i, now) = update?;
                tracing::debug!("{}: {now:?}", title(targets[i].object));
                if let Readiness::Held(why) | Readiness::Stopped(why) = &now
                    && !std::mem::replace(&mut is_told[i], true)
                {
                    tell(Progress::Held(&title(targets[i].object), why));
                }
                states[i] = now;
            }
            _ = look.tick() => {
                let unready = unready(&targets, &states);
                let found = evidence::look(cluster, &unready).await?;
                for cause in causes.lasting(found.causes) {
                    tell(Progress::Cause(&cause.object, &evidence::in_full(cluster, &cause).await));
                }
                // What the last attempt left behind, such as a Deployment past its deadline, passes within seconds too.
                let is_over = found.is_hopeless || states.iter().any(Readiness::is_over);
                hopeless_looks = if is_over { hopeless_looks + 1 } else { 0 };
                if hopeless_looks == LOOKS {
                    break Outcome::GaveUp(started.elapsed());
                }
            }
            () = cancel.cancelled() => return Err(Error::Interrupted),
            () = sleep_until((started + timeout).into()) => break Outcome::TimedOut(started.elapsed()),
        }
    };
    Err(evidence::not_ready(cluster, &unready(&targets, &states), outcome).await)
}

/// The causes that were seen at the last look, and those that were told.
#[derive(Debug, Default)]
struct Causes {
    seen: BTreeSet<String>,
    told: BTreeSet<String>,
}

impl Causes {
    /// Those that were there at the look before too, each once: what passes within seconds is not told.
    fn lasting(&mut self, found: Vec<Cause>) -> Vec<Cause> {
        let before = std::mem::replace(&mut self.seen, found.iter().map(|cause| cause.key.clone()).collect());
        found.into_iter().filter(|cause| before.contains(&cause.key) && self.told.insert(cause.key.clone())).collect()
    }
}

fn ready(object: &Object, state: &Readiness) -> Ready {
    Ready { kind: object.kind().to_owned(), name: object.name().to_owned(), ready: state.text().to_owned() }
}

fn unready<'a>(targets: &[&'a WaitTarget<'a>], states: &[Readiness]) -> Vec<(&'a WaitTarget<'a>, Readiness)> {
    let pairs = targets.iter().zip(states).filter(|(_, state)| !state.is_ready());
    pairs.map(|(targets, state)| (*targets, state.clone())).collect()
}

/// An object's readiness as it changes.
pub(super) type Watch<'a> = BoxStream<'a, Result<Readiness, Error>>;

/// The object's readiness as it changes; none for a kind that is ready by being there.
fn watch<'a>(cluster: &'a Cluster, target: &'a WaitTarget<'a>) -> Option<Watch<'a>> {
    let object = target.object;
    if ready::by_being_there(object.api_version(), object.kind()) {
        return None;
    }
    if webhooks::is_configuration(object) {
        return Some(webhooks::watch(cluster, object));
    }
    let config = watcher::Config::default().fields(&format!("metadata.name={}", object.name())).timeout(WATCH_SECONDS);
    let events = watcher(api(cluster, object), config).default_backoff();
    let states = events.filter_map(move |event| async move {
        match event {
            Ok(watcher::Event::Apply(found) | watcher::Event::InitApply(found)) => {
                Some(Ok(judge(cluster, object, found, target.begun).await))
            }
            Ok(watcher::Event::Delete(found)) => {
                let last = judge(cluster, object, found, target.begun).await;
                // A Job that is done may be deleted by its time to live.
                let is_done = object.kind() == "Job" && last.is_ready();
                Some(Ok(if is_done { last } else { Readiness::Failed("somebody deleted it".to_owned()) }))
            }
            Ok(watcher::Event::Init | watcher::Event::InitDone) => None,
            Err(error) => lasting(cluster, object, error).map(Err),
        }
    });
    Some(states.boxed())
}

/// Whether the cluster deletes an object once it has done its work.
fn goes_when_done(object: &Object) -> bool {
    let value = serde_json::to_value(object).unwrap_or_default();
    object.kind() == "Job" && value["spec"]["ttlSecondsAfterFinished"].is_number()
}

/// How far an object is now.
pub(super) async fn readiness(cluster: &Cluster, object: &Object) -> Result<Readiness, Error> {
    let Some(found) = read(cluster, object).await? else {
        return Ok(if goes_when_done(object) {
            Readiness::Ready("deleted once it was done".to_owned())
        } else {
            Readiness::Failed("it does not exist".to_owned())
        });
    };
    if ready::by_being_there(object.api_version(), object.kind()) {
        return Ok(Readiness::Ready("there".to_owned()));
    }
    if webhooks::is_configuration(object) {
        return Ok(webhooks::configuration(cluster, &found).await);
    }
    Ok(judge(cluster, object, found, None).await)
}

/// How far an object is, as it was found.
async fn judge(cluster: &Cluster, object: &Object, mut found: DynamicObject, begun: Option<Timestamp>) -> Readiness {
    // The items of a list do not say what they are.
    found.types = Some(TypeMeta { api_version: object.api_version().to_owned(), kind: object.kind().to_owned() });
    let state = ready::of(&found, begun);
    if object.kind() == "PersistentVolumeClaim"
        && matches!(state, Readiness::Waiting(_))
        && let Some(class) = found.data["spec"]["storageClassName"].as_str().filter(|class| !class.is_empty())
        && let Ok(claim) = found.clone().try_parse::<PersistentVolumeClaim>()
    {
        // Whoever may not read storage classes waits for the volume.
        let class = Api::<StorageClass>::all(cluster.client()).get_opt(class).await.ok().flatten();
        return ready::pvc(&claim, class.and_then(|class| class.volume_binding_mode).as_deref());
    }
    state
}

/// A watch recovers from lost connections by itself, and not from a refusal.
fn lasting(cluster: &Cluster, object: &Object, error: watcher::Error) -> Option<Error> {
    let cause = match error {
        watcher::Error::InitialListFailed(cause)
        | watcher::Error::WatchStartFailed(cause)
        | watcher::Error::WatchFailed(cause) => cause,
        watcher::Error::WatchError(status) => kube::Error::Api(status),
        watcher::Error::NoResourceVersion => {
            tracing::debug!("watching {}: the API server gave no resource version", title(object));
            return None;
        }
    };
    match &cause {
        kube::Error::Api(status) if matches!(status.code, 401 | 403) => {
            Some(cluster.failed(format!("watching {}", title(object)), cause).into())
        }
        _ => {
            tracing::debug!("watching {}: {cause}", title(object));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use vcmanifests::Object;

    use super::{Cause, Causes, goes_when_done};

    #[test]
    fn a_job_with_a_time_to_live_may_be_gone() {
        let job = |spec| {
            Object::other(
                json!({ "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": "a" }, "spec": spec }),
                "jobs",
            )
        };
        assert!(goes_when_done(&job(json!({ "ttlSecondsAfterFinished": 0 }))));
        assert!(!goes_when_done(&job(json!({}))));
    }

    #[test]
    fn a_cause_is_told_once_and_only_if_it_lasts() {
        let cause = |key: &str| Cause { key: key.to_owned(), ..Cause::default() };
        let mut causes = Causes::default();
        let mut told = |keys: &[&str]| -> Vec<String> {
            causes.lasting(keys.iter().map(|key| cause(key)).collect()).into_iter().map(|cause| cause.key).collect()
        };
        assert!(told(&["a"]).is_empty());
        assert_eq!(told(&["a", "b"]), ["a"]);
        assert!(told(&["a"]).is_empty(), "once; and b has passed");
        assert!(told(&["b"]).is_empty());
        assert_eq!(told(&["b"]), ["b"]);
    }
}
