//! Which images the control plane of the cluster runs: those of etcd, the API server and the controller manager. They
//! are found by the labels of static pods, else by the names of pods, else concluded from the API server's version.
//! Uses [`crate::cluster`].

use std::fmt;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use serde::Serialize;
use vcterminal::{Table, Text};

use crate::cluster::{self, Cluster};

/// The namespace of static pods of a control plane.
pub(crate) const NAMESPACE: &str = "kube-system";

/// The registry of the images that Kubernetes publishes.
const REGISTRY: &str = "registry.k8s.io";

/// The label by which kubeadm, and most others, name the component of a static pod.
const LABEL: &str = "component";

/// The version of etcd that belongs to a minor version of Kubernetes 1.x, as kubeadm of its first release chose it.
const ETCD: [(u32, &str); 13] = [
    (22, "3.5.0-0"),
    (23, "3.5.1-0"),
    (24, "3.5.3-0"),
    (25, "3.5.4-0"),
    (26, "3.5.6-0"),
    (27, "3.5.7-0"),
    (28, "3.5.9-0"),
    (29, "3.5.10-0"),
    (30, "3.5.12-0"),
    (31, "3.5.15-0"),
    (32, "3.5.16-0"),
    (33, "3.5.21-0"),
    (34, "3.6.4-0"),
];

/// A component of a control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// etcd.
    Etcd,
    /// kube-apiserver.
    KubeApiserver,
    /// kube-controller-manager.
    KubeControllerManager,
}

/// How an image was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// By the label `component` of a pod.
    Label,
    /// By the name of a pod.
    Name,
    /// There is no such pod: concluded from the API server's version.
    Version,
}

/// An image of the control plane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Found {
    /// The component.
    pub component: Part,
    /// The image as the pod names it, or as Kubernetes publishes it.
    pub image: String,
    /// How it was found.
    pub source: Origin,
    /// The pod that names it.
    pub pod: Option<String>,
}

/// The images of the control plane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Detected {
    /// The version of the API server, such as `v1.34.4`.
    pub server_version: String,
    /// One image for each component.
    pub images: Vec<Found>,
}

/// Finds the images of the cluster's control plane.
///
/// # Errors
/// Returns an error if the API server cannot be reached or rejects a request.
pub async fn detect(cluster: &Cluster) -> Result<Detected, cluster::Error> {
    let client = cluster.client();
    let version =
        client.apiserver_version().await.map_err(|error| cluster.failed("reading the API server's version", error))?;
    let pods = Api::<Pod>::namespaced(client, NAMESPACE).list(&ListParams::default()).await;
    let pods = pods.map_err(|error| cluster.failed(format!("listing pods in {NAMESPACE}"), error))?;
    Ok(conclude(&pods.items, &version.git_version))
}

/// Concludes the images from the pods of `kube-system` and the API server's version.
#[must_use]
pub fn conclude(pods: &[Pod], server_version: &str) -> Detected {
    let images = Part::ALL.into_iter().map(|part| find(part, pods, server_version)).collect();
    Detected { server_version: server_version.to_owned(), images }
}

fn find(part: Part, pods: &[Pod], server_version: &str) -> Found {
    let labelled = |pod: &&Pod| {
        pod.metadata.labels.as_ref().and_then(|labels| labels.get(LABEL)).is_some_and(|label| label == part.name())
    };
    let prefix = format!("{}-", part.name());
    let named = |pod: &&Pod| name(pod) == part.name() || name(pod).starts_with(&prefix);
    let of = |pod: &Pod, source| {
        let image = image(pod, part)?;
        Some(Found { component: part, image, source, pod: Some(format!("{NAMESPACE}/{}", name(pod))) })
    };
    let by_label = || best(pods.iter().filter(labelled)).find_map(|pod| of(pod, Origin::Label));
    let by_name = || best(pods.iter().filter(named)).find_map(|pod| of(pod, Origin::Name));
    by_label().or_else(by_name).unwrap_or_else(|| Found {
        component: part,
        image: published(part, server_version),
        source: Origin::Version,
        pod: None,
    })
}

/// Sorts pods: running ones first, then by name.
fn best<'a>(pods: impl Iterator<Item = &'a Pod>) -> impl Iterator<Item = &'a Pod> {
    let is_down = |pod: &Pod| pod.status.as_ref().and_then(|status| status.phase.as_deref()) != Some("Running");
    let mut pods: Vec<&Pod> = pods.collect();
    pods.sort_by_key(|pod| (is_down(pod), name(pod).to_owned()));
    pods.into_iter()
}

/// Returns the image of the container with the component's name, or of the only container. Pods such as `etcd-backup`
/// also match by name; their image must be that of the component.
fn image(pod: &Pod, part: Part) -> Option<String> {
    let containers = &pod.spec.as_ref()?.containers;
    let container = containers.iter().find(|container| container.name == part.name());
    let image = container.or(containers.first())?.image.clone()?;
    let repository = image.split('@').next().unwrap_or_default();
    let last = repository.rsplit('/').next().unwrap_or_default();
    let is_it = last.split(':').next().is_some_and(|last| last.contains(part.name()));
    (container.is_some() || is_it).then_some(image)
}

/// The image that Kubernetes publishes for a version of the API server. Distributions add to the version:
/// `v1.34.1+k3s1`, `v1.33.5-eks-3cfe0ce`.
fn published(part: Part, server_version: &str) -> String {
    let release = server_version.split(['+', '-']).next().unwrap_or(server_version);
    if part != Part::Etcd {
        return format!("{REGISTRY}/{}:{release}", part.name());
    }
    let minor = release.split('.').nth(1).and_then(|minor| minor.parse::<u32>().ok()).unwrap_or(u32::MAX);
    let etcd = ETCD.iter().rev().find(|(of, _)| *of <= minor).unwrap_or(&ETCD[0]);
    format!("{REGISTRY}/etcd:{}", etcd.1)
}

fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

impl Part {
    /// All components, in the order in which a control plane starts them.
    pub const ALL: [Self; 3] = [Self::Etcd, Self::KubeApiserver, Self::KubeControllerManager];

    /// Its name, as in the label of its pods.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::KubeApiserver => "kube-apiserver",
            Self::KubeControllerManager => "kube-controller-manager",
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Detected {
    /// Returns the image of a component.
    #[must_use]
    pub fn image(&self, part: Part) -> Option<&str> {
        self.images.iter().find(|found| found.component == part).map(|found| found.image.as_str())
    }

    /// Formats the images for people.
    #[must_use]
    pub fn text(&self) -> Text {
        let mut table = Table::new(["component", "image", "source"]);
        for found in &self.images {
            let source = match (found.source, &found.pod) {
                (Origin::Label, Some(pod)) => format!("label of pod {pod}"),
                (Origin::Name, Some(pod)) => format!("name of pod {pod}"),
                _ => format!("version {} of the API server", self.server_version),
            };
            table.row([found.component.name(), &found.image, &source]);
        }
        let mut text = Text::from(&table);
        if self.images.iter().any(|found| found.source == Origin::Version) {
            text.line(format_args!(
                "{NAMESPACE} has no pods of the components whose image follows from the version, as in clusters whose control \
                 plane others manage: check that these images exist"
            ));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(name: &str, labels: &Value, container: &str, image: &str, phase: &str) -> Pod {
        serde_json::from_value(json!({ "metadata": { "name": name, "labels": labels },
            "spec": { "containers": [{ "name": container, "image": image }] }, "status": { "phase": phase } }))
        .unwrap()
    }

    fn images(detected: &Detected) -> Vec<(Origin, &str)> {
        detected.images.iter().map(|found| (found.source, found.image.as_str())).collect()
    }

    #[test]
    fn labels_come_first_then_names_then_the_version() {
        let pods = [
            pod("etcd-backup", &json!({}), "backup", "example.org/backup:1", "Running"),
            pod("etcd-cp2", &json!({ "component": "etcd" }), "etcd", "example.org/etcd:old", "Failed"),
            pod("etcd-cp3", &json!({ "component": "etcd" }), "etcd", "example.org/etcd:3.6.4-0", "Running"),
            pod("kube-apiserver-cp", &json!({}), "main", "example.org/kube-apiserver@sha256:01", "Running"),
            pod("kube-controller-manager-metrics", &json!({}), "proxy", "example.org/proxy:1", "Running"),
        ];
        let detected = conclude(&pods, "v1.34.4");
        let expected = [
            (Origin::Label, "example.org/etcd:3.6.4-0"),
            (Origin::Name, "example.org/kube-apiserver@sha256:01"),
            (Origin::Version, "registry.k8s.io/kube-controller-manager:v1.34.4"),
        ];
        assert_eq!(images(&detected), expected);
        insta::assert_snapshot!(detected.text(), @r"
        COMPONENT                 IMAGE                                             SOURCE
        etcd                      example.org/etcd:3.6.4-0                          label of pod kube-system/etcd-cp3
        kube-apiserver            example.org/kube-apiserver@sha256:01              name of pod kube-system/kube-apiserver-cp
        kube-controller-manager   registry.k8s.io/kube-controller-manager:v1.34.4   version v1.34.4 of the API server
        kube-system has no pods of the components whose image follows from the version, as in clusters whose control plane others manage: check that these images exist
        ");
    }

    #[test]
    fn a_managed_cluster_has_the_published_images_of_its_version() {
        for (version, etcd, server) in [
            ("v1.34.1+k3s1", "3.6.4-0", "v1.34.1"),
            ("v1.33.5-eks-3cfe0ce", "3.5.21-0", "v1.33.5"),
            ("v1.20.0", "3.5.0-0", "v1.20.0"),
            ("v1.99.0", "3.6.4-0", "v1.99.0"),
        ] {
            let detected = conclude(&[], version);
            assert_eq!(detected.image(Part::Etcd).unwrap(), format!("registry.k8s.io/etcd:{etcd}"));
            let expected = format!("registry.k8s.io/kube-apiserver:{server}");
            assert_eq!(detected.image(Part::KubeApiserver).unwrap(), expected);
        }
    }

    #[test]
    fn the_document_keeps_its_contract() {
        let document = serde_json::to_value(conclude(&[], "v1.34.4")).unwrap();
        assert_eq!(document["server_version"], "v1.34.4");
        let expected = json!({ "component": "kube-apiserver", "image": "registry.k8s.io/kube-apiserver:v1.34.4",
            "source": "version", "pod": null });
        assert_eq!(document["images"][1], expected);
    }
}
