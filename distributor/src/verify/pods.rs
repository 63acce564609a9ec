//! Checks that all three workloads run with the desired number of pods, each ready and with the image of its workload.

use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use vcmanifests::Component;

use super::snapshot::pods_of;
use super::{Check, Snapshot};
use crate::rollout::pods;
use crate::rollout::ready::{self, Readiness};

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
