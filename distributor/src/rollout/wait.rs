//! Waiting until what was applied does what it was applied for, by watching it.
//! The wait ends early where waiting cannot help: a controller that gave up, a pod whose image is not on its node.

use std::time::{Duration, Instant};

use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, Resource};
use kube::runtime::{WatchStreamExt, watcher};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{MissedTickBehavior, interval_at, sleep_until};
use vcmanifests::Object;

use super::error::{Error, Outcome};
use super::evidence;
use super::plan::title;
use super::ready::{self, Readiness};
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

/// Waits until every object is ready, at most until `timeout` after `started`. What waits for people is told to `held` at
/// once: the object, and what it waits for.
pub(super) async fn until_ready(
    cluster: &Cluster,
    targets: &[WaitTarget<'_>],
    started: Instant,
    timeout: Duration,
    mut held: impl FnMut(&str, &str),
) -> Result<Vec<Ready>, Error> {
    let watches: Vec<_> = targets.iter().map(|targets| watch(cluster, targets.object)).collect();
    let targets: Vec<&WaitTarget<'_>> =
        targets.iter().zip(&watches).filter_map(|(targets, watch)| watch.is_some().then_some(targets)).collect();
    let numbered = watches.into_iter().flatten().enumerate();
    let mut watches = stream::select_all(numbered.map(|(i, watch)| watch.map_ok(move |now| (i, now)).boxed()));
    let mut states = vec![Readiness::Waiting("it is not there yet".to_owned()); targets.len()];
    let mut is_told = vec![false; targets.len()];
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
                    held(&title(targets[i].object), why);
                }
                states[i] = now;
            }
            _ = look.tick() => {
                // What the last attempt left behind, such as a Deployment past its deadline, passes within seconds too.
                let is_over = states.iter().any(Readiness::is_over);
                let hopeless = is_over || evidence::any_hopeless(cluster, &unready(&targets, &states)).await?;
                hopeless_looks = if hopeless { hopeless_looks + 1 } else { 0 };
                if hopeless_looks == LOOKS {
                    break Outcome::GaveUp(started.elapsed());
                }
            }
            () = sleep_until((started + timeout).into()) => break Outcome::TimedOut(started.elapsed()),
        }
    };
    Err(evidence::not_ready(cluster, &unready(&targets, &states), outcome).await)
}

fn ready(object: &Object, state: &Readiness) -> Ready {
    Ready { kind: object.kind().to_owned(), name: object.name().to_owned(), ready: state.text().to_owned() }
}

fn unready<'a>(targets: &[&'a WaitTarget<'a>], states: &[Readiness]) -> Vec<(&'a WaitTarget<'a>, Readiness)> {
    let pairs = targets.iter().zip(states).filter(|(_, state)| !state.is_ready());
    pairs.map(|(targets, state)| (*targets, state.clone())).collect()
}

type Watch<'a> = BoxStream<'a, Result<Readiness, Error>>;

/// The object's readiness as it changes; none for a kind that is ready by being there.
fn watch<'a>(cluster: &'a Cluster, object: &'a Object) -> Option<Watch<'a>> {
    let namespace = object.namespace().unwrap_or_default();
    let client = cluster.client();
    Some(match object {
        Object::Namespace(_) => watch_one(cluster, object, Api::<Namespace>::all(client), ready::namespace),
        Object::CustomResourceDefinition(_) => {
            watch_one(cluster, object, Api::<CustomResourceDefinition>::all(client), ready::crd)
        }
        Object::Deployment(_) => watch_one(cluster, object, Api::namespaced(client, namespace), ready::deployment),
        Object::DaemonSet(_) => watch_one(cluster, object, Api::namespaced(client, namespace), ready::daemonset),
        _ => return None,
    })
}

fn watch_one<'a, K>(cluster: &'a Cluster, object: &'a Object, api: Api<K>, rule: fn(&K) -> Readiness) -> Watch<'a>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    let config = watcher::Config::default().fields(&format!("metadata.name={}", object.name())).timeout(WATCH_SECONDS);
    let events = watcher(api, config).default_backoff();
    let states = events.filter_map(move |event| async move {
        match event {
            Ok(watcher::Event::Apply(found) | watcher::Event::InitApply(found)) => Some(Ok(rule(&found))),
            Ok(watcher::Event::Delete(_)) => Some(Ok(Readiness::Failed("somebody deleted it".to_owned()))),
            Ok(watcher::Event::Init | watcher::Event::InitDone) => None,
            Err(error) => lasting(cluster, object, error).map(Err),
        }
    });
    states.boxed()
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
