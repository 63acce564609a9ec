//! The health of a release: whether each object of its current revision works, and how it differs from what was applied. Nothing
//! is changed; differences are the answers of the API server to dry runs.

use futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use vcmanifests::Object;

use super::differences::{Difference, drift};
use super::evidence;
use super::plan::title;
use super::ready::Readiness;
use super::wait::{WaitTarget, readiness};
use super::{Change, Error, Release, revisions};
use crate::cluster::Cluster;

/// Objects read at once.
const AT_ONCE: usize = 8;

/// The health of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Health {
    /// The namespace of the release.
    pub namespace: String,
    /// The name of the release; null for the installation of VirtualCluster.
    pub release: Option<String>,
    /// The number of the current revision.
    pub revision: i64,
    /// When that was recorded to be ready; null if it never was.
    pub ready_at: Option<String>,
    /// Every object of the revision, then what only earlier revisions had and is still there.
    pub objects: Vec<ObjectHealth>,
    /// Whether every object works, and none differs.
    pub healthy: bool,
}

/// The health of one object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ObjectHealth {
    /// How it differs from what was applied.
    #[serde(flatten)]
    pub difference: Difference,
    /// Whether it works.
    pub ready: bool,
    /// How far it is: `1/1`, or what is awaited.
    pub state: String,
    /// Why it does not work, as far as its pods and events tell.
    pub causes: Vec<String>,
}

impl ObjectHealth {
    /// Whether it works, and does not differ.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.ready && !self.difference.is_any()
    }
}

/// The health of a release; none if it has no revision, so that nothing was rolled out.
///
/// # Errors
/// Returns an error if the API server cannot be reached or refuses a request, or if the revision cannot be read.
pub async fn health(cluster: &Cluster, release: &Release) -> Result<Option<Health>, Error> {
    let revisions = revisions(cluster, release).await?;
    let Some(current) = revisions.last() else { return Ok(None) };
    let found = drift(cluster, current, false).await?;
    let objects = current.known_objects()?;
    let states: Vec<Readiness> =
        stream::iter(&objects).map(|object| readiness(cluster, object)).buffered(AT_ONCE).try_collect().await?;
    let causes = causes(cluster, &objects, &states).await?;
    let mut all: Vec<ObjectHealth> = objects
        .iter()
        .zip(&states)
        .map(|(object, state)| ObjectHealth {
            // Of a Secret whose values are not recorded, only its presence is known.
            difference: found
                .iter()
                .find(|one| one.is_of(object))
                .filter(|one| one.change != Change::Created || !state.is_ready())
                .cloned()
                .unwrap_or_else(|| Difference::new(object, Change::Unchanged)),
            ready: state.is_ready(),
            state: state.text().to_owned(),
            causes: causes.iter().filter(|(of, _)| *of == title(object)).map(|(_, why)| why.clone()).collect(),
        })
        .collect();
    let left = found.into_iter().filter(|one| one.change == Change::Removed);
    all.extend(left.map(|difference| ObjectHealth {
        difference,
        ready: true,
        state: "only an earlier revision had it".to_owned(),
        causes: Vec::new(),
    }));
    Ok(Some(Health {
        namespace: release.namespace.clone(),
        release: release.name.clone(),
        revision: current.number,
        ready_at: current.ready_at.map(|time| time.to_string()),
        healthy: all.iter().all(ObjectHealth::is_well),
        objects: all,
    }))
}

/// Why objects do not work, each with the title of its object.
async fn causes(cluster: &Cluster, objects: &[Object], states: &[Readiness]) -> Result<Vec<(String, String)>, Error> {
    let targets: Vec<(WaitTarget<'_>, Readiness)> = objects
        .iter()
        .zip(states)
        .filter(|(_, state)| !state.is_ready())
        .map(|(object, state)| (WaitTarget { object, since: None, begun: None }, state.clone()))
        .collect();
    let unready: Vec<(&WaitTarget<'_>, Readiness)> =
        targets.iter().map(|(target, state)| (target, state.clone())).collect();
    let mut causes = Vec::new();
    for cause in evidence::look(cluster, &unready).await?.causes {
        let why = evidence::in_full(cluster, &cause).await;
        causes.push((cause.object, why));
    }
    Ok(causes)
}
