//! What is there of an installation, step by step, and what of it is not vcdist's to remove.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{ApiResource, DynamicObject, ListParams};
use vcmanifests::{Component, Object, Stage};

use super::item::{Item, Step, api, resource, resource_of};
use super::{Error, Uninstall, namespace as contents, release};
use crate::cluster::{Cluster, is_absent};
use crate::rollout::{
    Kept, RecordedObject, Release, images, is_of_a_release, not_ours, revision_selector, revisions_in,
};

/// The group of VirtualCluster's own kinds.
const GROUP: &str = "tenancy.x-k8s.io";

/// The annotation by which VirtualCluster marks each namespace that is a tenant's: the tenant's UID.
const TENANT: &str = "tenancy.x-k8s.io/vcuid";

/// The webhook configurations that vc-manager makes.
pub(crate) const WEBHOOKS: [(&str, &str, &str); 2] = [
    (
        "ValidatingWebhookConfiguration",
        "validatingwebhookconfigurations",
        "virtualcluster-validating-webhook-configuration",
    ),
    ("MutatingWebhookConfiguration", "mutatingwebhookconfigurations", "virtualcluster-mutating-webhook-configuration"),
];

/// Their Service.
pub(crate) const WEBHOOK_SERVICE: &str = "virtualcluster-webhook-service";

/// The label of the pods that it leads to.
const WEBHOOK_LABEL: &str = "virtualcluster-webhook";

pub(super) type Found = (Vec<Item>, Vec<Kept>);

/// Refuses to remove an installation that is in another namespace.
pub(super) async fn refuse_elsewhere(cluster: &Cluster, namespace: &str) -> Result<(), Error> {
    let kind = resource("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding", "clusterrolebindings");
    let name = format!("{}-rolebinding", Component::Manager.workload());
    let Some(binding) = get(cluster, &kind, None, &name).await? else { return Ok(()) };
    let subjects = binding.data["subjects"].as_array().into_iter().flatten();
    let namespaces: Vec<&str> = subjects.filter_map(|subject| subject["namespace"].as_str()).collect();
    match namespaces.first() {
        Some(other) if !namespaces.contains(&namespace) => {
            Err(Error::Elsewhere { namespace: namespace.to_owned(), other: (*other).to_owned() })
        }
        _ => Ok(()),
    }
}

/// What goes in a step, and what stays.
pub(super) async fn find(cluster: &Cluster, uninstall: &Uninstall, step: Step) -> Result<Found, Error> {
    if let Some(release) = uninstall.release() {
        return release::find(cluster, &release, uninstall.definitions, step).await;
    }
    let namespace = uninstall.namespace.as_str();
    match step {
        Step::Tenants => ours_of(cluster, step, "VirtualCluster", "virtualclusters").await,
        Step::TenantNamespaces => tenant_namespaces(cluster, namespace).await,
        Step::ClusterVersions => ours_of(cluster, step, "ClusterVersion", "clusterversions").await,
        Step::Webhooks => webhooks(cluster, namespace).await,
        Step::Workloads => applied(cluster, namespace, step, &[Stage::Webhooks, Stage::Custom, Stage::Workloads]).await,
        Step::Access => applied(cluster, namespace, step, &[Stage::Access]).await,
        Step::Definitions => applied(cluster, namespace, step, &[Stage::Definitions]).await,
        Step::Revisions => recorded(cluster, namespace).await,
        Step::Namespace => last(cluster, namespace).await,
        Step::Custom | Step::OtherNamespaces => Ok(Found::default()),
    }
}

/// All objects of a kind whose definition is ours; none where it is another's.
async fn ours_of(cluster: &Cluster, step: Step, kind: &str, plural: &str) -> Result<Found, Error> {
    let definitions = resource("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions");
    let definition = get(cluster, &definitions, None, &format!("{plural}.{GROUP}")).await?;
    if definition.is_none_or(|definition| not_ours(&definition).is_some()) {
        return Ok(Found::default());
    }
    let kind = resource(GROUP, "v1alpha1", kind, plural);
    let found = list(cluster, &kind, None, "").await?;
    Ok((found.iter().map(|object| Item::new(step, &kind, object)).collect(), Vec::new()))
}

async fn tenant_namespaces(cluster: &Cluster, namespace: &str) -> Result<Found, Error> {
    let kind = resource("", "v1", "Namespace", "namespaces");
    let is_tenant = |metadata: &ObjectMeta| {
        metadata.annotations.as_ref().is_some_and(|all| all.contains_key(TENANT))
            && metadata.name.as_deref() != Some(namespace)
    };
    let found = list(cluster, &kind, None, "").await?;
    let found = found.iter().filter(|object| is_tenant(&object.metadata));
    // Somebody else's installation has namespaces of its own tenants.
    let definitions = resource("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions");
    let definition = get(cluster, &definitions, None, &format!("virtualclusters.{GROUP}")).await?;
    if definition.is_none_or(|definition| not_ours(&definition).is_some()) {
        return Ok(Found::default());
    }
    Ok((found.map(|object| Item::new(Step::TenantNamespaces, &kind, object)).collect(), Vec::new()))
}

async fn webhooks(cluster: &Cluster, namespace: &str) -> Result<Found, Error> {
    let (mut items, mut kept) = Found::default();
    for (kind, plural, name) in WEBHOOKS {
        let kind = resource("admissionregistration.k8s.io", "v1", kind, plural);
        let Some(found) = get(cluster, &kind, None, name).await? else { continue };
        let item = Item::new(Step::Webhooks, &kind, &found);
        match leads_elsewhere(&found, namespace) {
            None => items.push(item),
            Some(other) => kept.push(item.kept(format!("it leads to the namespace {other}"))),
        }
    }
    let kind = resource("", "v1", "Service", "services");
    if let Some(found) = get(cluster, &kind, Some(namespace), WEBHOOK_SERVICE).await? {
        let item = Item::new(Step::Webhooks, &kind, &found);
        if found.data["spec"]["selector"][WEBHOOK_LABEL].is_string() {
            items.push(item);
        } else {
            kept.push(item.kept(format!("it does not lead to pods with the label {WEBHOOK_LABEL}")));
        }
    }
    Ok((items, kept))
}

/// The other namespace whose Service a webhook configuration calls.
fn leads_elsewhere(configuration: &DynamicObject, namespace: &str) -> Option<String> {
    let webhooks = configuration.data["webhooks"].as_array().into_iter().flatten();
    let mut called = webhooks.map(|webhook| webhook["clientConfig"]["service"]["namespace"].as_str().unwrap_or("?"));
    called.find(|other| *other != namespace).map(str::to_owned)
}

/// What revisions recorded of a stage, and what this version would apply, as far as it is there.
async fn applied(cluster: &Cluster, namespace: &str, step: Step, stages: &[Stage]) -> Result<Found, Error> {
    let (mut items, mut kept) = Found::default();
    for object in candidates(cluster, namespace).await?.iter().filter(|object| stages.contains(&object.stage())) {
        let kind = resource_of(object);
        let Some(found) = get(cluster, &kind, object.namespace(), object.name()).await? else { continue };
        let item = Item::new(step, &kind, &found);
        match not_ours(&found) {
            None => items.push(item),
            Some(why) => kept.push(item.kept(why)),
        }
    }
    Ok((items, kept))
}

/// Our revisions in the namespace.
async fn recorded(cluster: &Cluster, namespace: &str) -> Result<Found, Error> {
    let kind = resource("apps", "v1", "ControllerRevision", "controllerrevisions");
    let found = list(cluster, &kind, Some(namespace), &revision_selector()).await?;
    let found = found.iter().filter(|revision| !is_of_a_release(revision));
    Ok((found.map(|object| Item::new(Step::Revisions, &kind, object)).collect(), Vec::new()))
}

/// The namespace itself, unless others have something in it.
async fn last(cluster: &Cluster, namespace: &str) -> Result<Found, Error> {
    let kind = resource("", "v1", "Namespace", "namespaces");
    let Some(found) = get(cluster, &kind, None, namespace).await? else { return Ok(Found::default()) };
    let item = Item::new(Step::Namespace, &kind, &found);
    if let Some(why) = not_ours(&found) {
        return Ok((Vec::new(), vec![item.kept(why)]));
    }
    let known: BTreeSet<(String, String)> = candidates(cluster, namespace)
        .await?
        .iter()
        .map(|object| (object.kind().to_owned(), object.name().to_owned()))
        .chain([("Service".to_owned(), WEBHOOK_SERVICE.to_owned())])
        .collect();
    let foreign = contents::foreign(cluster, namespace, &known).await?;
    if found.metadata.deletion_timestamp.is_some() || foreign.is_empty() {
        return Ok((vec![item], Vec::new()));
    }
    Ok((Vec::new(), vec![item.kept(format!("others have objects in it: {}", foreign.join(", ")))]))
}

/// Every object that some revision recorded or that this version applies, each once.
async fn candidates(cluster: &Cluster, namespace: &str) -> Result<Vec<Object>, Error> {
    let mut seen = BTreeSet::new();
    let mut objects = Vec::new();
    let revisions = revisions_in(cluster, &Release { namespace: namespace.to_owned(), name: None }).await?;
    let recorded = revisions.iter().filter_map(|revision| revision.objects.as_ref().ok()).flatten();
    for object in recorded.filter_map(RecordedObject::object).chain(usual(namespace)) {
        if seen.insert((object.kind().to_owned(), object.namespace().map(str::to_owned), object.name().to_owned())) {
            objects.push(object);
        }
    }
    Ok(objects)
}

/// What this version applies, by name: which images are in it says nothing here.
fn usual(namespace: &str) -> Vec<Object> {
    let namespace = namespace.parse().ok();
    namespace.and_then(images::without_images).map(|parameters| vcmanifests::objects(&parameters)).unwrap_or_default()
}

pub(super) async fn get(
    cluster: &Cluster,
    kind: &ApiResource,
    namespace: Option<&str>,
    name: &str,
) -> Result<Option<DynamicObject>, Error> {
    match api(cluster, kind, namespace).get(name).await {
        Ok(found) => Ok(Some(found)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(cluster.failed(format!("reading {}/{name}", kind.kind.to_lowercase()), error).into()),
    }
}

/// Every object of a kind with these labels; none where the cluster does not know the kind.
pub(super) async fn list(
    cluster: &Cluster,
    kind: &ApiResource,
    namespace: Option<&str>,
    labels: &str,
) -> Result<Vec<DynamicObject>, Error> {
    let mut parameters = ListParams::default();
    if !labels.is_empty() {
        parameters = parameters.labels(labels);
    }
    match api(cluster, kind, namespace).list(&parameters).await {
        Ok(found) => Ok(found.items),
        Err(error) if is_absent(&error) => Ok(Vec::new()),
        Err(error) => Err(cluster.failed(format!("listing {}", kind.plural), error).into()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{leads_elsewhere, usual};

    #[test]
    fn a_webhook_of_another_namespace_is_told_apart() {
        let with = |namespaces: &[&str]| {
            let webhooks: Vec<_> = namespaces
                .iter()
                .map(|namespace| json!({ "name": "w", "clientConfig": { "service": { "namespace": namespace, "name": "s" } } }))
                .collect();
            leads_elsewhere(&serde_json::from_value(json!({ "metadata": {}, "webhooks": webhooks })).unwrap(), "vc")
        };
        assert_eq!(with(&["vc", "vc"]), None);
        assert_eq!(with(&["vc", "other"]).as_deref(), Some("other"));
        let by_url = json!({ "metadata": {}, "webhooks": [{ "clientConfig": { "url": "https://x" } }] });
        assert!(leads_elsewhere(&serde_json::from_value(by_url).unwrap(), "vc").is_some());
    }

    #[test]
    fn what_this_version_applies_is_looked_for_where_nothing_is_recorded() {
        let names: Vec<String> = usual("vc").iter().map(crate::rollout::title).collect();
        assert!(
            names.contains(&"daemonset/vn-agent".to_owned()) && names.contains(&"namespace/vc".to_owned()),
            "{names:?}"
        );
    }
}
