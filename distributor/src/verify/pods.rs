//! Checks that all three workloads run with the desired number of pods, each ready, with the image of its workload, and with
//! the digest that this names.

use k8s_openapi::api::core::v1::{Node, Pod, PodTemplateSpec};
use vcmanifests::Component;

use super::snapshot::pods_of;
use super::{Check, Snapshot};
use crate::rollout::pods;
use crate::rollout::ready::{self, Readiness};

/// The names of an image that a node lists at most (Kubernetes, `MaxNamesPerImageInNodeStatus`).
const MOST_NAMES: usize = 5;

pub(super) fn check(snapshot: &Snapshot) -> Check {
    let (mut wrong, mut found) = (Vec::new(), Vec::new());
    for component in Component::ALL {
        let Some(Workload { title, wanted, readiness, template }) = workload(snapshot, component) else {
            wrong.push(format!("{} does not exist", title(component)));
            continue;
        };
        match readiness {
            Readiness::Ready(_) if wanted == 0 => wrong.push(format!("{title} wants no pods")),
            Readiness::Ready(count) => found.push(format!("{title} has {count} pods up to date and available")),
            other => wrong.push(format!("{title}: {}", other.text())),
        }
        for pod in pods_of(snapshot, component).filter(|pod| pods::is_current(pod)) {
            let line = format!("{}, {}", pods::describe(pod), image(pod));
            if !pods::is_ready(pod) {
                wrong.push(line);
            } else if pods::images(pod) != images(template) {
                wrong.push(format!("{line}, and {title} names {}", images(template).join(", ")));
            } else if let Some(other) = other_digest(pod, &snapshot.nodes) {
                wrong.push(format!("{line}, and {other} runs"));
            } else {
                found.push(line);
            }
        }
    }
    Check::of(
        "pods",
        wrong,
        found,
        "`vcdist status` shows whether the nodes have the images, `vcdist deploy` rolls out again and says what is in the way",
    )
}

/// The facts about a Deployment or DaemonSet that the check needs.
struct Workload<'a> {
    title: String,
    wanted: i32,
    readiness: Readiness,
    template: Option<&'a PodTemplateSpec>,
}

fn workload(snapshot: &Snapshot, component: Component) -> Option<Workload<'_>> {
    let named = |name: &Option<String>| name.as_deref() == Some(component.workload());
    let title = title(component);
    if component == Component::VnAgent {
        let found = snapshot.daemonsets.iter().find(|daemonset| named(&daemonset.metadata.name))?;
        Some(Workload {
            title,
            wanted: found.status.as_ref().map_or(0, |status| status.desired_number_scheduled),
            readiness: ready::daemonset(found),
            template: found.spec.as_ref().map(|spec| &spec.template),
        })
    } else {
        let found = snapshot.deployments.iter().find(|deployment| named(&deployment.metadata.name))?;
        Some(Workload {
            title,
            wanted: found.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1),
            readiness: ready::deployment(found),
            template: found.spec.as_ref().map(|spec| &spec.template),
        })
    }
}

/// Returns the image that a container of the pod runs, if its digest is another than that of the image it should run.
fn other_digest<'a>(pod: &'a Pod, nodes: &[Node]) -> Option<&'a str> {
    let node = nodes.iter().find(|node| node.metadata.name.as_deref() == pods::node(pod));
    let statuses = pod.status.as_ref()?.container_statuses.as_deref()?;
    pod.spec.as_ref()?.containers.iter().find_map(|container| {
        let status = statuses.iter().find(|status| status.name == container.name)?;
        let (meant, runs) = (digest(container.image.as_deref()?)?, digest(&status.image_id)?);
        (meant != runs && are_two_images(node, meant, runs)).then_some(status.image_id.as_str())
    })
}

/// Returns whether two digests certainly mean different images. Manifests with the same configuration, such as two that differ
/// in compression, are one image with several names for a runtime, and a node lists it once.
fn are_two_images(node: Option<&Node>, meant: &str, runs: &str) -> bool {
    let listed = node.and_then(|node| node.status.as_ref()?.images.as_deref()).unwrap_or_default();
    let has = |names: &[String], wanted: &str| names.iter().any(|name| digest(name) == Some(wanted));
    let mut entries = listed.iter().filter_map(|image| image.names.as_deref());
    entries.any(|names| has(names, runs) && !has(names, meant) && names.len() < MOST_NAMES)
}

fn digest(reference: &str) -> Option<&str> {
    reference.split_once('@').map(|(_, digest)| digest)
}

fn title(component: Component) -> String {
    let kind = if component == Component::VnAgent { "daemonset" } else { "deployment" };
    format!("{kind}/{}", component.workload())
}

fn images(template: Option<&PodTemplateSpec>) -> Vec<&str> {
    let containers = template.and_then(|template| template.spec.as_ref()).map(|spec| spec.containers.as_slice());
    containers.unwrap_or_default().iter().filter_map(|container| container.image.as_deref()).collect()
}

fn image(pod: &Pod) -> String {
    format!("image {}", pods::images(pod).join(", "))
}
