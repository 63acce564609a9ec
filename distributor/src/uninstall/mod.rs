//! Removes an installation, or a release of other manifests, in the order in which its parts need each other: tenants while their controller runs, then what
//! refuses changes without it, workloads, accounts and roles, definitions, and the namespace. Each step looks for what is there,
//! so that an interrupted removal goes on when it is run again. Uses [`crate::cluster`] and [`crate::rollout`].

mod controller;
mod error;
mod find;
mod item;
mod namespace;
mod release;
mod remove;

use std::time::{Duration, Instant};

use vcmanifests::NamespaceName;

use crate::cluster::Cluster;
use crate::rollout::{Kept, Release};

pub use error::Error;
pub(crate) use find::{WEBHOOK_SERVICE, WEBHOOKS};
pub use item::{Item, Step};
pub(crate) use namespace::KINDS as NAMESPACE_KINDS;

/// What is to be removed.
#[derive(Debug, Clone)]
pub struct Uninstall {
    /// The namespace of the installation, or of the release's revisions.
    pub namespace: NamespaceName,
    /// The name of the release; none for the installation of VirtualCluster.
    pub release: Option<String>,
    /// Whether namespaces, definitions and volumes of the release are removed too.
    pub definitions: bool,
    /// Whether VirtualClusters and their namespaces are removed too.
    pub tenants: bool,
    /// How long it may take in all.
    pub timeout: Duration,
}

/// What there is to remove.
#[derive(Debug, Default)]
pub struct Plan {
    /// What goes, in this order.
    pub items: Vec<Item>,
    /// What stays though it has to do with the installation.
    pub kept: Vec<Kept>,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Outcomes {
    /// What was removed.
    pub removed: Vec<Item>,
    /// Finalizers that were taken from objects, for their controller does not run: the object and the finalizer.
    pub stripped: Vec<(String, String)>,
    /// What stays.
    pub kept: Vec<Kept>,
}

/// Something that the removal has just done, or waits for.
#[derive(Debug)]
pub enum Progress<'a> {
    /// It has removed this.
    Removed(&'a Item),
    /// It has taken this finalizer from the object.
    Stripped(&'a str, &'a str),
    /// It waits for this.
    Waiting(&'a str),
}

impl Uninstall {
    /// What there is to remove.
    ///
    /// # Errors
    /// When the API server does not tell, another namespace has the installation, or there are tenants that are not to go.
    pub async fn plan(&self, cluster: &Cluster) -> Result<Plan, Error> {
        if self.release.is_none() {
            find::refuse_elsewhere(cluster, self.namespace.as_str()).await?;
        }
        let mut plan = Plan::default();
        for step in self.steps() {
            let (items, kept) = find::find(cluster, self, *step).await?;
            plan.items.extend(items);
            plan.kept.extend(kept);
        }
        let is_tenant = |item: &&Item| matches!(item.step, Step::Tenants | Step::TenantNamespaces);
        let tenants: Vec<String> = plan.items.iter().filter(is_tenant).map(Item::title).collect();
        if !self.tenants && !tenants.is_empty() {
            return Err(Error::Tenants { tenants });
        }
        Ok(plan)
    }

    /// Removes what there is. What it came to is in `outcomes`, also where it fails.
    ///
    /// # Errors
    /// When the API server refuses, or something does not go in time.
    pub async fn run(
        &self,
        cluster: &Cluster,
        outcomes: &mut Outcomes,
        mut progress: impl FnMut(Progress<'_>),
    ) -> Result<(), Error> {
        let deadline = Instant::now() + self.timeout;
        cluster.wait_until(deadline);
        // Tenants that came since the plan was made stay as well.
        self.plan(cluster).await?;
        let mut removal = remove::Removal::new(cluster, self, deadline);
        if self.release.is_none() && controller::is_absent(cluster, self.namespace.as_str()).await? {
            // They refuse whatever their controller does not answer for.
            removal.step(Step::Webhooks, outcomes, &mut progress).await?;
        }
        for step in self.steps() {
            removal.step(*step, outcomes, &mut progress).await?;
            if self.release.is_none() && *step == Step::Workloads {
                // The controller makes them at each start, and may have started since.
                removal.step(Step::Webhooks, outcomes, &mut progress).await?;
            }
        }
        Ok(())
    }

    /// The release with a name, if it is one that is removed.
    fn release(&self) -> Option<Release> {
        let name = self.release.as_deref()?;
        Some(Release::new(&self.namespace, Some(name)))
    }

    fn steps(&self) -> &'static [Step] {
        if self.release.is_some() { &Step::OF_RELEASE } else { &Step::OF_INSTALLATION }
    }
}
