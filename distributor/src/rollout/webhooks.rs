//! Whether the webhooks of a configuration answer: their Service has a ready endpoint, and something speaks TLS there. That is
//! asked through the API server's proxy of Services, which reaches them where this machine does not.

use std::time::Duration;

use futures::{StreamExt, stream};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, DynamicObject, ListParams};
use tokio::time::{sleep, timeout};
use vcmanifests::Object;

use super::plan::{api, title};
use super::ready::webhook::{Served, served};
use super::ready::{Readiness, ready_endpoints};
use super::wait::Watch;
use crate::cluster::Cluster;

/// How often they are asked.
const PAUSE: Duration = Duration::from_secs(2);

/// How long one may take to answer: the API server's own default for webhooks.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whether an object configures webhooks.
pub(super) fn is_configuration(object: &Object) -> bool {
    matches!(object.kind(), "ValidatingWebhookConfiguration" | "MutatingWebhookConfiguration")
}

/// A configuration's readiness, asked again and again: nothing announces that a webhook begins to answer.
pub(super) fn watch<'a>(cluster: &'a Cluster, object: &'a Object) -> Watch<'a> {
    let states = stream::unfold(true, move |is_first| async move {
        if !is_first {
            sleep(PAUSE).await;
        }
        let found = api(cluster, object).get_opt(object.name()).await;
        let state = match found {
            Ok(Some(found)) => Ok(configuration(cluster, &found).await),
            Ok(None) => Ok(Readiness::Failed("somebody deleted it".to_owned())),
            Err(error) => Err(cluster.failed(format!("reading {}", title(object)), error).into()),
        };
        Some((state, false))
    });
    states.boxed()
}

/// Whether the webhooks of a configuration answer now.
pub(super) async fn configuration(cluster: &Cluster, found: &DynamicObject) -> Readiness {
    let webhooks = served(found);
    for webhook in &webhooks {
        if let Err(why) = answers(cluster, webhook).await {
            return Readiness::Waiting(format!("the webhook {} does not answer: {why}", webhook.name));
        }
    }
    Readiness::Ready(match webhooks.len() {
        0 => "there".to_owned(),
        1 => "it answers".to_owned(),
        n => format!("{n} webhooks answer"),
    })
}

async fn answers(cluster: &Cluster, webhook: &Served) -> Result<(), String> {
    if let Some(why) = &webhook.unusable_ca {
        return Err(why.clone());
    }
    let Served { namespace, service, port, path, .. } = webhook;
    let slices: Api<EndpointSlice> = Api::namespaced(cluster.client(), namespace);
    let of_service = ListParams::default().labels(&format!("kubernetes.io/service-name={service}"));
    let slices = slices.list(&of_service).await.map_err(|error| words(&error))?;
    if ready_endpoints(&slices.items) == 0 {
        return Err(format!("the Service {service} in {namespace} has no ready endpoint"));
    }
    let path = format!("/api/v1/namespaces/{namespace}/services/https:{service}:{port}/proxy/{path}");
    let request = http::Request::get(path).body(Vec::new()).map_err(|error| error.to_string())?;
    match timeout(PATIENCE, cluster.client().request_text(request)).await {
        Ok(Ok(_)) => Ok(()),
        // Whoever may not ask through the proxy takes the ready endpoint for an answer.
        Ok(Err(kube::Error::Api(status))) if status.code == 403 => Ok(()),
        // Webhooks take POST alone. Any answer of theirs is one.
        Ok(Err(kube::Error::Api(status))) if !matches!(status.code, 502..=504) => Ok(()),
        Ok(Err(error)) => Err(words(&error)),
        Err(_) => Err(format!("nothing for {} s", PATIENCE.as_secs())),
    }
}

fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}
