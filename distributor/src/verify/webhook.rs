//! Checks that vc-manager's webhook answers the API server over TLS with the CA of its configuration. The API server is
//! asked to create a VirtualCluster in a dry run, for which it calls the webhook as for a real one.

use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::jiff::SignedDuration;
use kube::api::{Api, PostParams};
use tokio::time::Instant;
use vcmanifests::api::{VirtualCluster, VirtualClusterSpec};

use super::{Check, Snapshot};
use crate::cluster::Cluster;

/// The configuration that vc-manager creates at its start.
pub(crate) const CONFIGURATION: &str = "virtualcluster-validating-webhook-configuration";

/// The name of the VirtualCluster in the dry run.
const NAME: &str = "vcdist-verify";

/// How long nodes may take to forward a Service to a pod that has just become ready. Until then, they refuse connections, or
/// forward them to a pod that is gone.
const FORWARDED_WITHIN: std::time::Duration = std::time::Duration::from_secs(15);

/// The interval at which the call is repeated then.
const REPEAT: std::time::Duration = std::time::Duration::from_millis(500);

/// How long the API server may take to call the webhook, and to give up.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(35);

/// What became of the call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// No call was made, because the definition of VirtualCluster does not exist.
    None,
    /// The webhook answered.
    Answered,
    /// The API server could not call it, as it says.
    Failed(String),
}

pub(super) fn check(snapshot: &Snapshot) -> Check {
    let (mut wrong, mut found) = (Vec::new(), Vec::new());
    if !is_enabled(snapshot) {
        found.push("no vc-manager runs with --enable-webhook".to_owned());
    } else if let Some(configuration) = &snapshot.webhook {
        let has_authority =
            configuration.webhooks.iter().flatten().all(|webhook| {
                webhook.client_config.ca_bundle.as_ref().is_some_and(|authority| !authority.0.is_empty())
            });
        match &snapshot.webhook_call {
            _ if !has_authority => wrong.push(format!("{CONFIGURATION} contains no CA")),
            Call::Failed(why) => wrong.push(format!("the API server cannot call the webhook: {why}")),
            Call::None => wrong.push("VirtualCluster is not defined, so the webhook was not called".to_owned()),
            Call::Answered => found.push(format!("{CONFIGURATION} answers over TLS with its CA")),
        }
    } else {
        wrong.push(format!("{CONFIGURATION} does not exist"));
    }
    Check::of(
        "webhook",
        wrong,
        found,
        "vc-manager creates the configuration and its certificate at its start: see its log, and restart it (kubectl \
         rollout restart deployment/vc-manager)",
    )
}

/// Asks the API server to create a VirtualCluster in a dry run; again for a while if no connection to the webhook
/// comes about.
pub(super) async fn call(cluster: &Cluster, namespace: &str) -> Call {
    let end = Instant::now() + FORWARDED_WITHIN;
    loop {
        match call_once(cluster, namespace).await {
            Call::Failed(why) if is_unconnected(&why) && Instant::now() < end => tokio::time::sleep(REPEAT).await,
            call => return call,
        }
    }
}

fn is_unconnected(why: &str) -> bool {
    ["dial tcp", "no endpoints available"].iter().any(|text| why.contains(text))
}

async fn call_once(cluster: &Cluster, namespace: &str) -> Call {
    let mut object = VirtualCluster::new(NAME, VirtualClusterSpec::default());
    object.spec.cluster_version_name = NAME.to_owned();
    let api = Api::<VirtualCluster>::namespaced(cluster.client_without_retries(), namespace);
    let dry_run = PostParams { dry_run: true, field_manager: None };
    match tokio::time::timeout(PATIENCE, api.create(&dry_run, &object)).await {
        Ok(Ok(_)) => Call::Answered,
        Ok(Err(kube::Error::Api(status))) => match status.code {
            404 => Call::None,
            // A refusal by the webhook is an answer; one by the API server precedes the call.
            400 | 403 | 409 | 422 if status.message.contains("admission webhook") => Call::Answered,
            _ => Call::Failed(status.message.clone()),
        },
        Ok(Err(error)) => Call::Failed(error.to_string()),
        Err(_) => {
            Call::Failed(format!("no answer within {:#}", SignedDuration::try_from(PATIENCE).unwrap_or_default()))
        }
    }
}

/// Reads the webhook's configuration; `None` if it does not exist.
pub(super) async fn configuration(
    cluster: &Cluster,
) -> Result<Option<ValidatingWebhookConfiguration>, crate::cluster::Error> {
    super::snapshot::get(cluster, CONFIGURATION).await
}

fn is_enabled(snapshot: &Snapshot) -> bool {
    let manager = vcmanifests::Component::Manager.workload();
    let found = snapshot.deployments.iter().find(|one| one.metadata.name.as_deref() == Some(manager));
    let spec = found.and_then(|deployment| deployment.spec.as_ref()?.template.spec.as_ref());
    let mut arguments = spec.iter().flat_map(|spec| &spec.containers).flat_map(|one| one.args.iter().flatten());
    arguments.any(|argument| argument == "--enable-webhook" || argument == "--enable-webhook=true")
}

#[cfg(test)]
mod tests {
    use super::is_unconnected;

    #[test]
    fn only_a_connection_that_does_not_come_about_is_repeated() {
        for why in [
            "dial tcp 10.96.91.205:9443: connect: connection refused",
            "dial tcp 10.96.92.218:9443: connect: no route to host",
        ] {
            assert!(is_unconnected(&format!(
                "failed to call webhook: Post \"https://a.b.svc:9443/c?timeout=10s\": {why}"
            )));
        }
        assert!(is_unconnected("failed to call webhook: no endpoints available for service \"a\""));
        assert!(!is_unconnected("failed to call webhook: tls: failed to verify certificate: x509: unknown authority"));
    }
}
