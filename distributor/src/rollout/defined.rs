//! Kinds that definitions of the same rollout make or change. Until the definitions are applied, the API server knows neither the
//! kinds nor their new fields, and what it says of their objects counts for nothing.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use kube::api::DynamicObject;
use vcmanifests::Object;

use super::plan::{Step, apply};
use super::{Change, Error};
use crate::cluster::{self, Cluster};

/// How long the API server may take to serve a kind once its definition is established.
const SERVED_WITHIN: Duration = Duration::from_secs(15);

/// How often that is tried.
const PAUSE: Duration = Duration::from_millis(300);

/// Kinds by group and kind.
#[derive(Debug, Default)]
pub(super) struct DefinedKinds(BTreeSet<(String, String)>);

impl DefinedKinds {
    /// The kinds whose definitions these steps change.
    pub(super) fn changed<'a>(steps: impl IntoIterator<Item = &'a Step>) -> Self {
        let changed = steps.into_iter().filter(|step| step.change != Change::Unchanged);
        Self::of(changed.map(|step| &step.object))
    }

    /// The kinds that these objects define.
    pub(super) fn of<'a>(objects: impl IntoIterator<Item = &'a Object>) -> Self {
        Self(objects.into_iter().filter_map(defined).collect())
    }

    /// Whether an object is of one of them.
    pub(super) fn has(&self, object: &Object) -> bool {
        let group = object.api_version().split_once('/').map_or("", |(group, _)| group);
        self.0.contains(&(group.to_owned(), object.kind().to_owned()))
    }
}

/// Whether the API server refused for a reason that a definition may take away.
pub(super) fn is_refusal(error: &Error) -> bool {
    matches!(error, Error::Cluster(cluster::Error::Refused { .. }))
}

/// Applies an object whose kind was defined just now, as soon as the API server serves it as it is defined.
pub(super) async fn apply_once_served(cluster: &Cluster, object: &Object, force: bool) -> Result<DynamicObject, Error> {
    let deadline = Instant::now() + SERVED_WITHIN;
    loop {
        match apply(cluster, object, force, false).await {
            Err(error) if is_refusal(&error) && Instant::now() < deadline => tokio::time::sleep(PAUSE).await,
            result => return result,
        }
    }
}

fn defined(definition: &Object) -> Option<(String, String)> {
    if definition.kind() != "CustomResourceDefinition" {
        return None;
    }
    let value = serde_json::to_value(definition).ok()?;
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    Some((text(&value["spec"]["group"])?, text(&value["spec"]["names"]["kind"])?))
}
