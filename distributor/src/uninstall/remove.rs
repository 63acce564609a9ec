//! Deletes what a step has and waits until it is gone. Where the controller that has to take an object apart does not run, its
//! finalizer is taken from the object, which is said.

use std::time::{Duration, Instant};

use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, Preconditions};
use serde_json::json;

use super::controller::{self, Controller};
use super::find::find;
use super::item::{Item, Step};
use super::{Error, Outcomes, Progress, Uninstall};
use crate::cluster::{Cluster, is_absent};

/// The finalizers that vc-manager answers for.
const FINALIZERS: [&str; 2] = ["virtualcluster.finalizer.native", "clusterVersion.finalizers"];

/// The finalizer that Kubernetes itself sets until what an object owns is gone.
const FOREGROUND: &str = "foregroundDeletion";

/// How long until it is asked again whether something is gone, the first time; twice as long each time after.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// How long at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// For how long a controller may be unavailable, as while it is started anew, before nobody counts on it.
const PATIENCE: Duration = Duration::from_secs(30);

/// After how long it is said what is waited for.
const SAY_AFTER: Duration = Duration::from_secs(3);

/// A removal under way.
pub(super) struct Removal<'a> {
    cluster: &'a Cluster,
    uninstall: &'a Uninstall,
    deadline: Instant,
    /// Since when the controller is known to be unavailable.
    unavailable: Option<Instant>,
}

impl<'a> Removal<'a> {
    pub(super) fn new(cluster: &'a Cluster, uninstall: &'a Uninstall, deadline: Instant) -> Self {
        Self { cluster, uninstall, deadline, unavailable: None }
    }

    /// Removes what there is of a step.
    pub(super) async fn step(
        &mut self,
        step: Step,
        outcomes: &mut Outcomes,
        progress: &mut impl FnMut(Progress<'_>),
    ) -> Result<(), Error> {
        let (items, kept) = find(self.cluster, self.uninstall, step).await?;
        for one in kept {
            if !outcomes.kept.contains(&one) {
                outcomes.kept.push(one);
            }
        }
        for item in &items {
            self.delete(item).await?;
        }
        let mut waiting = items;
        let (begun, mut pause, mut is_said) = (Instant::now(), FIRST_PAUSE, false);
        loop {
            let mut left = Vec::new();
            for item in waiting {
                match self.still_there(&item).await? {
                    None => {
                        progress(Progress::Removed(&item));
                        outcomes.removed.push(item);
                    }
                    Some(found) => {
                        self.strip(&item, &found, outcomes, progress).await?;
                        left.push((item, found));
                    }
                }
            }
            if left.is_empty() {
                return Ok(());
            }
            let remaining = || left.iter().map(|(item, found)| reason(item, found)).collect::<Vec<_>>();
            if Instant::now() >= self.deadline {
                return Err(Error::NotGone { remaining: remaining(), after: self.uninstall.timeout });
            }
            if !is_said && begun.elapsed() > SAY_AFTER {
                is_said = true;
                remaining().iter().for_each(|one| progress(Progress::Waiting(one)));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            waiting = left.into_iter().map(|(item, _)| item).collect();
        }
    }

    async fn delete(&self, item: &Item) -> Result<(), Error> {
        let only = Preconditions { uid: item.uid.clone(), resource_version: None };
        // The namespace of a release mostly stays, so its workloads wait for their pods.
        let is_foreground = self.uninstall.release.is_some() && item.step == Step::Workloads;
        let parameters = if is_foreground { DeleteParams::foreground() } else { DeleteParams::background() };
        let deleted = item.api(self.cluster).delete(&item.name, &parameters.preconditions(only)).await;
        match deleted {
            Ok(_) => Ok(()),
            Err(error) if is_absent(&error) => Ok(()),
            // Another one by now, or a namespace that is on its way already.
            Err(kube::Error::Api(status)) if status.is_conflict() => Ok(()),
            Err(error) => Err(self.cluster.failed(format!("removing {}", item.title()), error).into()),
        }
    }

    /// The object, unless it is gone or another one by now.
    async fn still_there(&self, item: &Item) -> Result<Option<DynamicObject>, Error> {
        match item.api(self.cluster).get(&item.name).await {
            Ok(found) => Ok(Some(found).filter(|found| found.metadata.uid == item.uid)),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(self.cluster.failed(format!("reading {}", item.title()), error).into()),
        }
    }

    /// Takes the finalizers of a controller that does not run from an object that is on its way out.
    async fn strip(
        &mut self,
        item: &Item,
        found: &DynamicObject,
        outcomes: &mut Outcomes,
        progress: &mut impl FnMut(Progress<'_>),
    ) -> Result<(), Error> {
        let finalizers = found.metadata.finalizers.as_deref().unwrap_or_default();
        let stripped: Vec<&String> = finalizers.iter().filter(|one| FINALIZERS.contains(&one.as_str())).collect();
        if !matches!(item.step, Step::Tenants | Step::ClusterVersions)
            || found.metadata.deletion_timestamp.is_none()
            || stripped.is_empty()
            || !self.is_controller_gone().await?
        {
            return Ok(());
        }
        // Whatever their controller does not answer for, they refuse.
        for webhook in find(self.cluster, self.uninstall, Step::Webhooks).await?.0 {
            self.delete(&webhook).await?;
        }
        let rest: Vec<&String> = finalizers.iter().filter(|one| !FINALIZERS.contains(&one.as_str())).collect();
        let patch = json!({ "metadata": { "finalizers": rest, "resourceVersion": found.metadata.resource_version } });
        let patched = item.api(self.cluster).patch(&item.name, &PatchParams::default(), &Patch::Merge(patch)).await;
        match patched {
            Ok(_) => {}
            Err(error) if is_absent(&error) => return Ok(()),
            // Somebody has changed it meanwhile: it is looked at again.
            Err(kube::Error::Api(status)) if status.is_conflict() => return Ok(()),
            Err(error) => {
                return Err(self.cluster.failed(format!("taking the finalizer from {}", item.title()), error).into());
            }
        }
        for finalizer in stripped {
            progress(Progress::Stripped(&item.title(), finalizer));
            outcomes.stripped.push((item.title(), finalizer.clone()));
        }
        Ok(())
    }

    /// Whether nobody will take objects apart: the controller is not there, or was unavailable for a while.
    async fn is_controller_gone(&mut self) -> Result<bool, Error> {
        match controller::ask(self.cluster, self.uninstall.namespace.as_str()).await? {
            Controller::Absent => Ok(true),
            Controller::Runs => {
                self.unavailable = None;
                Ok(false)
            }
            Controller::Unavailable => {
                Ok(self.unavailable.get_or_insert_with(Instant::now).elapsed()
                    > PATIENCE.min(self.uninstall.timeout / 4))
            }
        }
    }
}

/// An object that is still there, and what it waits for.
fn reason(item: &Item, found: &DynamicObject) -> String {
    let title = item.title();
    let finalizers = found.metadata.finalizers.as_deref().unwrap_or_default();
    let conditions = found.data["status"]["conditions"].as_array().into_iter().flatten();
    let remains = conditions.filter(|one| one["status"] == "True").filter_map(|one| one["message"].as_str());
    let remains: Vec<&str> = remains.filter(|message| !message.is_empty()).collect();
    match (item.step, finalizers) {
        (Step::TenantNamespaces | Step::Namespace, _) if !remains.is_empty() => {
            format!("{title} ({})", remains.join("; "))
        }
        (_, []) => title,
        (Step::Workloads, [only]) if only == FOREGROUND => format!("{title} (until its pods have ended)"),
        (_, finalizers) => format!("{title} (finalizers {})", finalizers.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Item, Step, reason};
    use crate::uninstall::item::resource;

    #[test]
    fn what_is_waited_for_says_why_it_stays() {
        let why = |step: Step, kind: &str, object: Value| {
            let object = serde_json::from_value(object).unwrap();
            reason(&Item::new(step, &resource("", "v1", kind, "x"), &object), &object)
        };
        let tenant =
            json!({ "metadata": { "name": "a", "namespace": "n", "finalizers": ["virtualcluster.finalizer.native"] } });
        assert_eq!(
            why(Step::Tenants, "VirtualCluster", tenant),
            "virtualcluster/a in n (finalizers virtualcluster.finalizer.native)"
        );
        let namespace = json!({ "metadata": { "name": "n" }, "status": { "conditions": [
            { "type": "NamespaceContentRemaining", "status": "True", "message": "pods. has 1 resource instances" },
            { "type": "NamespaceDeletionDiscoveryFailure", "status": "False", "message": "fine" }] } });
        assert_eq!(why(Step::Namespace, "Namespace", namespace), "namespace/n (pods. has 1 resource instances)");
        assert_eq!(why(Step::Workloads, "DaemonSet", json!({ "metadata": { "name": "d" } })), "daemonset/d");
        let ending = json!({ "metadata": { "name": "d", "finalizers": ["foregroundDeletion"] } });
        assert_eq!(why(Step::Workloads, "Deployment", ending), "deployment/d (until its pods have ended)");
    }
}
