//! The values of a deployment that the variables of the role come to.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use vcmanifests::{Parameters, Values};
use vcvariables::settings::{Deployment, PullPolicy, Resources, RoleSettings, Scheme, Volume};

use super::Error;

/// The values, over vcdist's defaults.
pub(super) fn values(role: &RoleSettings) -> Result<Values, Error> {
    let (deployment, images) = (&role.deployment, &role.images);
    if deployment.etcd_scheme == Scheme::Http {
        return Err(Error::EtcdScheme);
    }
    let pull_policy = match images.pull_policy {
        PullPolicy::Always => "Always",
        PullPolicy::IfNotPresent => "IfNotPresent",
        PullPolicy::Never => "Never",
    };
    let values = json!({
        "imagePullPolicy": pull_policy,
        "etcdScheme": "https",
        "manager": {
            "args": deployment.manager_args,
            "resources": resources(&deployment.manager_requests, &deployment.manager_limits),
        },
        "syncer": {
            "args": deployment.syncer_args,
            "featureGates": feature_gates(deployment)?,
            "resources": resources(&deployment.syncer_requests, &deployment.syncer_limits),
        },
        "vnAgent": {
            "args": vn_agent_args(deployment).filter(|argument| metrics_port(argument).is_none()).collect::<Vec<_>>(),
            "metricsPort": vn_agent_args(deployment).find_map(metrics_port).unwrap_or(Parameters::METRICS_PORT),
            "certDir": deployment.vn_agent_cert_dir,
            "pkiDir": deployment.vn_agent_pki_dir,
            "resources": resources(&deployment.vn_agent_requests, &deployment.vn_agent_limits),
        },
        "persistentVolumes": deployment.volumes.0.iter().map(volume).collect::<Vec<_>>(),
    });
    Ok(Values::default().with_yaml(&values.to_string(), "the role's variables")?)
}

/// What people have to do themselves for these volumes.
pub(super) fn folders(role: &RoleSettings) -> impl Iterator<Item = String> {
    role.deployment.volumes.0.iter().map(|volume| {
        let Volume { name, host_path, node_name, mode, owner, group, .. } = volume;
        let with = [("mode", mode), ("owner", owner), ("group", group)];
        let with: String =
            with.iter().filter_map(|(what, value)| value.as_ref().map(|value| format!(", {what} {value}"))).collect();
        format!("the volume {name} needs the folder {host_path} on {node_name}{with}: vcdist does not create it")
    })
}

/// Requests and limits in place of the defaults: what the variables do not name goes.
fn resources(requests: &Resources, limits: &Resources) -> Value {
    let of = |resources: &Resources| json!({ "cpu": resources.cpu, "memory": resources.memory });
    json!({ "requests": of(requests), "limits": of(limits) })
}

fn feature_gates(deployment: &Deployment) -> Result<BTreeMap<String, bool>, Error> {
    let gate = |text: &String| {
        let (name, is_on) = text.split_once('=')?;
        Some((name.trim().to_owned(), is_on.trim().parse().ok()?))
    };
    let refused = |text: &String| Error::FeatureGate { gate: text.clone() };
    deployment.syncer_feature_gates.iter().map(|text| gate(text).ok_or_else(|| refused(text))).collect()
}

/// The arguments of vn-agent. Without a folder for certificates, the role leaves out those that name it.
fn vn_agent_args(deployment: &Deployment) -> impl Iterator<Item = &str> {
    let certificates = ["--cert-dir", "--kubelet-client-certificate", "--kubelet-client-key"];
    let is_kept = move |argument: &&str| {
        !deployment.vn_agent_cert_dir.is_empty() || !certificates.iter().any(|name| argument.starts_with(name))
    };
    deployment.vn_agent_args.iter().map(String::as_str).filter(is_kept)
}

/// The port of an argument that says where metrics are: a value of its own, so that an option has precedence.
fn metrics_port(argument: &str) -> Option<u16> {
    let address = argument.strip_prefix("--metrics-addr=")?;
    address.strip_prefix(':').or_else(|| address.strip_prefix("0.0.0.0:"))?.parse().ok()
}

fn volume(volume: &Volume) -> Value {
    json!({
        "name": volume.name,
        "capacity": volume.capacity,
        "path": volume.host_path,
        "node": volume.node_name,
        "storageClass": volume.storage_class,
        "accessModes": volume.access_modes,
        "reclaimPolicy": volume.reclaim_policy,
        "labels": volume.labels,
    })
}
