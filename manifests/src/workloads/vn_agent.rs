//! vn-agent: a DaemonSet on the host network of every worker, and the Secret that it mounts. It acts as the kubelet for
//! tenants, at a port of the node.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetSpec};
use k8s_openapi::api::core::v1::{ContainerPort, Secret, SecretVolumeSource, Volume, VolumeMount};

use crate::workloads::{label_selector, metadata, pod, workload_metadata};
use crate::{Component, Parameters, VnAgentFolders};

/// The port for tenants' API servers.
const PORT: i32 = 10550;
/// The port of `/healthz`.
const HEALTH_PORT: i32 = 8080;
/// The Secret with the client certificate for the kubelet.
const SECRET: &str = "empty-kubelet-client";

/// Returns the Secret that vn-agent mounts: an empty certificate and key make vn-agent connect to kubelets through the
/// API server with its own account. The files must exist, or vn-agent crashes.
#[must_use]
pub fn kubelet_client_secret(parameters: &Parameters) -> Secret {
    let empty = |name: &str| (name.to_owned(), ByteString(Vec::new()));
    Secret {
        metadata: metadata(parameters, Component::VnAgent, SECRET),
        data: Some(BTreeMap::from([empty("client.crt"), empty("client.key")])),
        ..Secret::default()
    }
}

/// Returns vn-agent's DaemonSet.
#[must_use]
pub fn vn_agent(parameters: &Parameters) -> DaemonSet {
    let VnAgentFolders { certificates, pki } = &parameters.vn_agent_folders;
    let metrics_port = parameters.vn_agent_metrics_port;
    let template = pod::template(parameters, Component::VnAgent, BTreeMap::new(), |container, spec| {
        let mut args = vec![
            format!("--cert-dir={}/", certificates.trim_end_matches('/')),
            format!("--kubelet-client-certificate={}/client.crt", pki.trim_end_matches('/')),
            format!("--kubelet-client-key={}/client.key", pki.trim_end_matches('/')),
        ];
        if metrics_port != Parameters::METRICS_PORT {
            args.push(format!("--metrics-addr=:{metrics_port}"));
        }
        container.args = Some(parameters.command_lines.args(Component::VnAgent, args));
        // The ports are declared as host ports, so that a conflict results in an unschedulable pod with a reason
        // instead of a pod that crashes.
        let port = |name: &str, number: i32| ContainerPort {
            name: Some(name.to_owned()),
            container_port: number,
            host_port: Some(number),
            ..ContainerPort::default()
        };
        container.ports =
            Some(vec![port("vn-agent", PORT), port("health", HEALTH_PORT), port("metrics", metrics_port.into())]);
        container.readiness_probe = Some(pod::tcp_probe(PORT, 5));
        // vn-agent writes its serving certificate beside the Secret's folder.
        let (volume, mount) = pod::scratch("serving-certificate", certificates);
        let client = VolumeMount {
            name: "kubelet-client-cert".to_owned(),
            mount_path: pki.clone(),
            read_only: Some(true),
            ..VolumeMount::default()
        };
        container.volume_mounts = Some(vec![mount, client]);
        spec.volumes = Some(vec![
            volume,
            Volume {
                name: "kubelet-client-cert".to_owned(),
                secret: Some(SecretVolumeSource {
                    secret_name: Some(SECRET.to_owned()),
                    ..SecretVolumeSource::default()
                }),
                ..Volume::default()
            },
        ]);
        spec.host_network = Some(true);
        // Names of Services must resolve on the host network too.
        spec.dns_policy = Some("ClusterFirstWithHostNet".to_owned());
    });
    DaemonSet {
        metadata: workload_metadata(parameters, Component::VnAgent),
        spec: Some(DaemonSetSpec {
            selector: label_selector(Component::VnAgent),
            template,
            ..DaemonSetSpec::default()
        }),
        status: None,
    }
}
