//! vc-manager: a Deployment of one.
//! It answers the API server's webhook calls on 9443, so it is ready when that port accepts.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec};
use k8s_openapi::api::core::v1::ContainerPort;

use crate::workloads::{label_selector, pod, workload_metadata};
use crate::{Component, Parameters};

/// Where the webhook answers.
const WEBHOOK_PORT: i32 = 9443;
/// Where `/healthz` and `/readyz` answer.
const HEALTH_PORT: i32 = 8080;

/// vc-manager's Deployment.
#[must_use]
pub fn manager(parameters: &Parameters) -> Deployment {
    // The Service that vc-manager makes for its webhook selects this label.
    let webhook = BTreeMap::from([("virtualcluster-webhook".to_owned(), "true".to_owned())]);
    let template = pod::template(parameters, Component::Manager, webhook, |container, spec| {
        container.args = Some(
            ["--disable-stacktrace=true", "--enable-webhook=true", "--leader-elect-resource-lock=leases"]
                .map(str::to_owned)
                .to_vec(),
        );
        container.ports = Some(vec![
            ContainerPort {
                name: Some("webhook".to_owned()),
                container_port: WEBHOOK_PORT,
                ..ContainerPort::default()
            },
            ContainerPort { name: Some("health".to_owned()), container_port: HEALTH_PORT, ..ContainerPort::default() },
        ]);
        container.readiness_probe = Some(pod::tcp_probe(WEBHOOK_PORT, 5));
        // It removes and makes a folder below this one at every start, so the volume is mounted on the parent.
        let (volume, mount) = pod::scratch("webhook-certificates", "/tmp/k8s-webhook-server");
        container.volume_mounts = Some(vec![mount]);
        spec.volumes = Some(vec![volume]);
    });
    Deployment {
        metadata: workload_metadata(parameters, Component::Manager),
        spec: Some(DeploymentSpec {
            replicas: Some(1),
            selector: label_selector(Component::Manager),
            // Every start replaces the webhook's certificate in the cluster: a second one would cut off the first.
            strategy: Some(pod::one_at_a_time()),
            template,
            ..DeploymentSpec::default()
        }),
        status: None,
    }
}
