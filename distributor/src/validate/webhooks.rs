//! Whether an admission webhook would block the installation: one that the API server must ask about our objects, and that nobody
//! answers for.

use std::collections::BTreeMap;

use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, MutatingWebhookConfiguration, RuleWithOperations, ServiceReference, ValidatingWebhookConfiguration,
    WebhookClientConfig,
};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::{Api, ListParams};
use vcmanifests::Object;

use super::webhook_rules::{Scope, targets};
use super::{Check, Finding};
use crate::cluster::{self, Cluster};
use crate::push::report::one_line;

const NAME: &str = "webhooks";

/// The label that names a namespace, which the API server sets on each.
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// A webhook of either kind.
#[derive(Debug)]
struct Webhook {
    /// `validatingwebhookconfiguration/x`.
    configuration: String,
    name: String,
    fails_closed: bool,
    rules: Vec<RuleWithOperations>,
    namespaces: Option<LabelSelector>,
    objects: Option<LabelSelector>,
    has_conditions: bool,
    service: Option<ServiceReference>,
}

pub(super) async fn check(cluster: &Cluster, objects: &[Object], namespace: &str) -> Check {
    match findings(cluster, objects, namespace).await {
        Ok((count, findings)) => Check::of(NAME, format!("{count} webhooks of the cluster"), findings),
        Err(error) => Check::skipped(NAME, one_line(&error)),
    }
}

async fn findings(
    cluster: &Cluster,
    objects: &[Object],
    namespace: &str,
) -> Result<(usize, Vec<Finding>), cluster::Error> {
    let webhooks = all(cluster).await?;
    let labels = labels(cluster, objects, namespace).await?;
    let targets = targets(objects);
    let mut findings = Vec::new();
    for webhook in webhooks.iter().filter(|webhook| webhook.fails_closed) {
        let Webhook { rules, namespaces, objects, .. } = webhook;
        let scope = Scope { rules, namespaces: namespaces.as_ref(), objects: objects.as_ref() };
        let covered: Vec<&str> =
            targets.iter().filter(|one| scope.covers(one, &labels)).map(|one| one.title.as_str()).collect();
        let (Some(first), Some(service)) = (covered.first(), &webhook.service) else { continue };
        if !answers(cluster, service).await? {
            let (of, name) = (&webhook.configuration, &webhook.name);
            let finding = Finding::error(
                of,
                format!(
                    "its webhook {name} fails closed, and service/{} in {} has no ready endpoint",
                    service.name, service.namespace
                ),
                format!("the API server refuses {first}{}", others(covered.len() - 1)),
                format!("start what serves it; if it is gone for good, `kubectl delete {of}`"),
            );
            // Conditions are expressions that only the API server evaluates.
            findings.push(if webhook.has_conditions { finding.warning() } else { finding });
        }
    }
    Ok((webhooks.len(), findings))
}

fn others(count: usize) -> String {
    match count {
        0 => String::new(),
        1 => " and one more object".to_owned(),
        _ => format!(" and {count} more objects"),
    }
}

async fn all(cluster: &Cluster) -> Result<Vec<Webhook>, cluster::Error> {
    let (client, every) = (|| cluster.client(), ListParams::default());
    let validating: Api<ValidatingWebhookConfiguration> = Api::all(client());
    let mutating: Api<MutatingWebhookConfiguration> = Api::all(client());
    let failed = |error| cluster.failed("listing webhook configurations", error);
    let mut all = Vec::new();
    for configuration in validating.list(&every).await.map_err(failed)?.items {
        let of = format!("validatingwebhookconfiguration/{}", configuration.metadata.name.unwrap_or_default());
        all.extend(configuration.webhooks.into_iter().flatten().map(|one| Webhook {
            configuration: of.clone(),
            name: one.name,
            fails_closed: fails_closed(one.failure_policy.as_deref()),
            rules: one.rules.unwrap_or_default(),
            namespaces: one.namespace_selector,
            objects: one.object_selector,
            has_conditions: has_any(one.match_conditions.as_deref()),
            service: service(one.client_config),
        }));
    }
    for configuration in mutating.list(&every).await.map_err(failed)?.items {
        let of = format!("mutatingwebhookconfiguration/{}", configuration.metadata.name.unwrap_or_default());
        all.extend(configuration.webhooks.into_iter().flatten().map(|one| Webhook {
            configuration: of.clone(),
            name: one.name,
            fails_closed: fails_closed(one.failure_policy.as_deref()),
            rules: one.rules.unwrap_or_default(),
            namespaces: one.namespace_selector,
            objects: one.object_selector,
            has_conditions: has_any(one.match_conditions.as_deref()),
            service: service(one.client_config),
        }));
    }
    Ok(all)
}

/// Whether the API server refuses a request where the webhook does not answer, as it does by default.
fn fails_closed(policy: Option<&str>) -> bool {
    policy != Some("Ignore")
}

fn has_any(conditions: Option<&[MatchCondition]>) -> bool {
    conditions.is_some_and(|conditions| !conditions.is_empty())
}

/// The Service that is called; none where it is a URL, which is only the API server's to reach.
fn service(config: WebhookClientConfig) -> Option<ServiceReference> {
    config.service
}

/// The labels that the namespace has once deploy has applied it.
async fn labels(
    cluster: &Cluster,
    objects: &[Object],
    namespace: &str,
) -> Result<BTreeMap<String, String>, cluster::Error> {
    let api: Api<Namespace> = Api::all(cluster.client());
    let found = api.get_opt(namespace).await;
    let found = found.map_err(|error| cluster.failed(format!("reading namespace/{namespace}"), error))?;
    let mut labels = found.and_then(|found| found.metadata.labels).unwrap_or_default();
    for object in objects {
        if let Object::Namespace(ours) = object {
            labels.extend(ours.metadata.labels.clone().unwrap_or_default());
        }
    }
    labels.insert(NAMESPACE_NAME.to_owned(), namespace.to_owned());
    Ok(labels)
}

/// Whether a Service has an endpoint that is ready.
async fn answers(cluster: &Cluster, service: &ServiceReference) -> Result<bool, cluster::Error> {
    let ServiceReference { name, namespace, .. } = service;
    let api: Api<EndpointSlice> = Api::namespaced(cluster.client(), namespace);
    let slices = api.list(&ListParams::default().labels(&format!("kubernetes.io/service-name={name}"))).await;
    let slices =
        slices.map_err(|error| cluster.failed(format!("listing endpoints of service/{name} in {namespace}"), error))?;
    let is_ready = |slice: &EndpointSlice| {
        slice.endpoints.iter().any(|endpoint| {
            // Unknown counts as ready (Kubernetes, "EndpointSlices").
            endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true)
        })
    };
    Ok(slices.items.iter().any(is_ready))
}
