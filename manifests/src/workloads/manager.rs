//! vc-manager: a Deployment with one replica. It serves the API server's webhook calls on port 9443, and is ready when
//! that port accepts connections.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec};
use k8s_openapi::api::core::v1::{ContainerPort, EnvVar};

use crate::workloads::{label_selector, pod, workload_metadata};
use crate::{Component, Parameters};

/// The port of the webhook.
pub(super) const WEBHOOK_PORT: i32 = 9443;
/// The port of `/healthz` and `/readyz`.
const HEALTH_PORT: i32 = 8080;

/// Returns vc-manager's Deployment.
#[must_use]
pub fn manager(parameters: &Parameters) -> Deployment {
    // The Service that vc-manager creates for its webhook selects this label.
    let webhook = BTreeMap::from([("virtualcluster-webhook".to_owned(), "true".to_owned())]);
    let template = pod::template(parameters, Component::Manager, webhook, |container, spec| {
        let args = ["--disable-stacktrace=true", "--enable-webhook=true", "--leader-elect-resource-lock=leases"];
        container.args = Some(parameters.command_lines.args(Component::Manager, args.map(str::to_owned).to_vec()));
        container.env = parameters.etcd_scheme.map(|scheme| {
            let value = Some(scheme.as_str().to_owned());
            vec![EnvVar { name: "VIRTUALCLUSTER_ETCD_SCHEME".to_owned(), value, value_from: None }]
        });
        container.ports = Some(vec![
            ContainerPort {
                name: Some("webhook".to_owned()),
                container_port: WEBHOOK_PORT,
                ..ContainerPort::default()
            },
            ContainerPort { name: Some("health".to_owned()), container_port: HEALTH_PORT, ..ContainerPort::default() },
        ]);
        container.readiness_probe = Some(pod::tcp_probe(WEBHOOK_PORT, 5));
        // vc-manager deletes and creates a folder below this one at every start, so the volume is mounted on the
        // parent.
        let (volume, mount) = pod::scratch("webhook-certificates", "/tmp/k8s-webhook-server");
        container.volume_mounts = Some(vec![mount]);
        spec.volumes = Some(vec![volume]);
    });
    Deployment {
        metadata: workload_metadata(parameters, Component::Manager),
        spec: Some(DeploymentSpec {
            replicas: Some(1),
            selector: label_selector(Component::Manager),
            // Every start replaces the webhook's certificate in the cluster: a second replica would disable the first.
            strategy: Some(pod::one_at_a_time()),
            template,
            ..DeploymentSpec::default()
        }),
        status: None,
    }
}
