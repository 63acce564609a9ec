//! vn-agent: a DaemonSet on every worker's own network, and the Secret that it mounts.
//! It stands in for the kubelet towards tenants, at a port of the node.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetSpec};
use k8s_openapi::api::core::v1::{ContainerPort, Secret, SecretVolumeSource, Volume, VolumeMount};

use crate::workloads::{label_selector, metadata, pod, workload_metadata};
use crate::{Component, Parameters};

/// Where tenants' API servers reach it.
const PORT: i32 = 10550;
/// Where `/healthz` answers.
const HEALTH_PORT: i32 = 8080;
/// The Secret with the client certificate for the kubelet.
const SECRET: &str = "empty-kubelet-client";

/// The Secret that vn-agent mounts: an empty certificate and key, which makes vn-agent reach kubelets through the API
/// server with its own account. The files must exist, or vn-agent crashes.
#[must_use]
pub fn kubelet_client_secret(parameters: &Parameters) -> Secret {
    let empty = |name: &str| (name.to_owned(), ByteString(Vec::new()));
    Secret {
        metadata: metadata(parameters, Component::VnAgent, SECRET),
        data: Some(BTreeMap::from([empty("client.crt"), empty("client.key")])),
        ..Secret::default()
    }
}

/// vn-agent's DaemonSet.
#[must_use]
pub fn vn_agent(parameters: &Parameters) -> DaemonSet {
    let metrics_port = parameters.vn_agent_metrics_port;
    let template = pod::template(parameters, Component::VnAgent, BTreeMap::new(), |container, spec| {
        let mut args = [
            "--cert-dir=/etc/vn-agent/",
            "--kubelet-client-certificate=/etc/vn-agent/pki/client.crt",
            "--kubelet-client-key=/etc/vn-agent/pki/client.key",
        ]
        .map(str::to_owned)
        .to_vec();
        if metrics_port != Parameters::METRICS_PORT {
            args.push(format!("--metrics-addr=:{metrics_port}"));
        }
        container.args = Some(args);
        // Ports of the node. Named here, so that a clash shows as a pod that cannot be scheduled, with the reason, and
        // not as one that crashes.
        let port = |name: &str, number: i32| ContainerPort {
            name: Some(name.to_owned()),
            container_port: number,
            host_port: Some(number),
            ..ContainerPort::default()
        };
        container.ports =
            Some(vec![port("vn-agent", PORT), port("health", HEALTH_PORT), port("metrics", metrics_port.into())]);
        container.readiness_probe = Some(pod::tcp_probe(PORT, 5));
        // It writes its serving certificate beside the Secret's folder.
        let (volume, mount) = pod::scratch("serving-certificate", "/etc/vn-agent");
        let client = VolumeMount {
            name: "kubelet-client-cert".to_owned(),
            mount_path: "/etc/vn-agent/pki".to_owned(),
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
        // Names of Services resolve on the node's network too.
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
