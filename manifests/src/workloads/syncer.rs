//! vc-syncer: a Deployment with one replica. Its health port opens once its caches are filled, so it is ready when that
//! port accepts connections.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec};
use k8s_openapi::api::core::v1::{ContainerPort, Probe, Sysctl};

use crate::workloads::{label_selector, pod, workload_metadata};
use crate::{Component, Parameters};

/// The port of `/healthz`.
const HEALTH_PORT: i32 = 8080;
/// The port of `/metrics`.
pub(super) const METRICS_PORT: i32 = 80;

/// Returns vc-syncer's Deployment.
#[must_use]
pub fn syncer(parameters: &Parameters) -> Deployment {
    let template = pod::template(parameters, Component::Syncer, BTreeMap::new(), |container, spec| {
        let mut args = vec![
            "--leader-elect-resource-lock=leases".to_owned(),
            format!("--vn-agent-namespace-name={}/{}", parameters.namespace, Component::VnAgent.workload()),
        ];
        if !parameters.feature_gates.is_empty() {
            let gates = parameters.feature_gates.iter().map(|(name, is_on)| format!("{name}={is_on}"));
            args.push(format!("--feature-gates={}", gates.collect::<Vec<_>>().join(",")));
        }
        container.args = Some(parameters.command_lines.args(Component::Syncer, args));
        container.ports = Some(vec![
            ContainerPort { name: Some("health".to_owned()), container_port: HEALTH_PORT, ..ContainerPort::default() },
            ContainerPort {
                name: Some("metrics".to_owned()),
                container_port: METRICS_PORT,
                ..ContainerPort::default()
            },
        ]);
        container.readiness_probe = Some(pod::tcp_probe(HEALTH_PORT, 5));
        container.liveness_probe = Some(Probe { initial_delay_seconds: Some(30), ..pod::tcp_probe(HEALTH_PORT, 20) });
        // The metrics port is privileged. Lowering the pod's unprivileged port range grants less than a capability
        // would, and Kubernetes considers this sysctl safe since 1.22.
        if let Some(security) = &mut spec.security_context {
            security.sysctls = Some(vec![Sysctl {
                name: "net.ipv4.ip_unprivileged_port_start".to_owned(),
                value: METRICS_PORT.to_string(),
            }]);
        }
    });
    Deployment {
        metadata: workload_metadata(parameters, Component::Syncer),
        spec: Some(DeploymentSpec {
            // One replica leads, and the others wait for its lease.
            replicas: Some(parameters.syncer_replicas.into()),
            selector: label_selector(Component::Syncer),
            strategy: Some(pod::one_at_a_time()),
            template,
            ..DeploymentSpec::default()
        }),
        status: None,
    }
}
