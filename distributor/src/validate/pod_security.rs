//! Whether the namespace admits the pods: its Pod Security level, and what admission says to a dry run of each pod.

use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, PostParams};
use vcmanifests::Object;

use super::{Check, Finding};
use crate::cluster::Cluster;
use crate::push::report::one_line;
use crate::rollout::{FIELD_MANAGER, title};

const NAME: &str = "pod-security";

/// The label of the level that is enforced.
const LABEL: &str = "pod-security.kubernetes.io/enforce";

pub(super) async fn check(cluster: &Cluster, objects: &[Object], namespace: &str) -> Check {
    let api: Api<Namespace> = Api::all(cluster.client());
    let found = match api.get_opt(namespace).await {
        Ok(found) => found,
        Err(error) => {
            return Check::skipped(NAME, one_line(&cluster.failed(format!("reading namespace/{namespace}"), error)));
        }
    };
    let Some(found) = found else {
        let detail = format!("deploy creates namespace/{namespace} with the level that vn-agent needs");
        return Check::of(NAME, detail, Vec::new());
    };
    if found.metadata.deletion_timestamp.is_some() {
        let finding = Finding::error(
            format!("namespace/{namespace}"),
            "it is being deleted",
            "nothing can be created in it",
            format!("wait until it is gone; `kubectl get namespace {namespace} --output yaml` says what holds it"),
        );
        return Check::of(NAME, format!("namespace/{namespace}"), vec![finding]);
    }
    let wanted = objects.iter().find_map(|object| match object {
        Object::Namespace(ours) => label(ours),
        _ => None,
    });
    let (is, wanted) = (label(&found), wanted.unwrap_or("privileged"));
    let mut findings = Vec::new();
    if let Some(level) = is.filter(|level| *level != wanted && !is_ours(&found)) {
        findings.push(Finding::error(
            format!("namespace/{namespace}"),
            format!("somebody has set its label {LABEL} to {level}"),
            "vn-agent uses its node's network, which this level forbids; deploy ends with a conflict",
            format!(
                "`kubectl label namespace {namespace} {LABEL}={wanted} --overwrite`, or deploy with --force-conflicts"
            ),
        ));
    }
    let (refusals, said) = refusals(cluster, objects, namespace).await;
    // Deploy sets the level before it creates anything else.
    let level_follows = is != Some(wanted);
    findings.extend(refusals.into_iter().filter(|finding| !(level_follows && finding.problem.contains("PodSecurity"))));
    Check::of(NAME, format!("level {}; {said}", is.unwrap_or("not set, deploy sets it")), findings)
}

fn label(namespace: &Namespace) -> Option<&str> {
    namespace.metadata.labels.as_ref()?.get(LABEL).map(String::as_str)
}

/// Whether we set the label, so that deploy may change it.
fn is_ours(namespace: &Namespace) -> bool {
    namespace.metadata.managed_fields.iter().flatten().any(|entry| {
        let owns = entry
            .fields_v1
            .as_ref()
            .is_some_and(|fields| fields.0["f:metadata"]["f:labels"].get(format!("f:{LABEL}")).is_some());
        owns && entry.manager.as_deref() == Some(FIELD_MANAGER)
    })
}

/// What admission refuses, and what was asked.
async fn refusals(cluster: &Cluster, objects: &[Object], namespace: &str) -> (Vec<Finding>, String) {
    let api: Api<Pod> = Api::namespaced(cluster.client(), namespace);
    let parameters = PostParams { dry_run: true, ..PostParams::default() };
    let (mut findings, mut asked) = (Vec::new(), 0);
    for (object, pod) in objects.iter().filter_map(|object| Some((object, pod(object)?))) {
        match api.create(&parameters, &pod).await {
            Ok(_) => asked += 1,
            Err(kube::Error::Api(status))
                if status.code == 403 && status.message.contains("cannot create resource") =>
            {
                return (findings, "this user may not ask whether pods are admitted".to_owned());
            }
            Err(kube::Error::Api(status)) => findings.push(Finding::error(
                format!("the pods of {}", title(object)),
                format!("admission refuses them: {}", status.message.trim()),
                "its controller cannot create pods, and deploy waits until its time is over",
                "change the policy, the quota or the webhook that the message names",
            )),
            Err(error) => {
                let why = one_line(&cluster.failed(format!("asking about the pods of {}", title(object)), error));
                return (findings, why);
            }
        }
    }
    let said = match findings.is_empty() {
        true => format!("admission accepts the {asked} pods"),
        false => format!("admission refuses {} of {} pods", findings.len(), findings.len() + asked),
    };
    (findings, said)
}

/// A pod as its controller would create it. Its own account may not exist yet, and admission would refuse it for that.
fn pod(object: &Object) -> Option<Pod> {
    let template = match object {
        Object::Deployment(deployment) => &deployment.spec.as_ref()?.template,
        Object::DaemonSet(daemon_set) => &daemon_set.spec.as_ref()?.template,
        _ => return None,
    };
    let mut spec = template.spec.clone()?;
    spec.service_account_name = None;
    spec.automount_service_account_token = Some(false);
    let metadata = ObjectMeta {
        name: Some(format!("{}-validate", object.name())),
        labels: template.metadata.as_ref().and_then(|metadata| metadata.labels.clone()),
        ..ObjectMeta::default()
    };
    Some(Pod { metadata, spec: Some(spec), status: None })
}
