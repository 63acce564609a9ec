//! Releases: what is rolled out together, with revisions of its own. The installation of VirtualCluster is one, and has no name;
//! manifests of others belong to a release by name, which each of their objects is marked with.

use std::collections::BTreeMap;
use std::fmt;

use kube::api::DynamicObject;
use vcmanifests::{NamespaceName, Object, RELEASE, Stage};

use super::plan::{ours, title};
use super::{Error, FIELD_MANAGER};

/// The label of the revisions of a release with a name.
pub(super) const LABEL: &str = "vcdist.virtualcluster.io/release";

/// Which release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// The namespace of its revisions.
    pub namespace: String,
    /// Its name; none for the installation of VirtualCluster.
    pub name: Option<String>,
}

impl Release {
    /// The release of this name in a namespace; without a name, the installation of VirtualCluster there.
    #[must_use]
    pub fn new(namespace: &NamespaceName, name: Option<&str>) -> Self {
        Self { namespace: namespace.to_string(), name: name.map(str::to_owned) }
    }

    /// The release that objects belong to: by their marks, or the installation in the namespace that they make.
    pub(super) fn of<'a>(objects: impl IntoIterator<Item = &'a Object>) -> Option<Self> {
        let mut namespace = None;
        for object in objects {
            if let Some((namespace, name)) = object.annotation(RELEASE).and_then(|mark| mark.split_once('/')) {
                return Some(Self { namespace: namespace.to_owned(), name: Some(name.to_owned()) });
            }
            if namespace.is_none() && object.stage() == Stage::Namespace {
                namespace = Some(object.name().to_owned());
            }
        }
        namespace.map(|namespace| Self { namespace, name: None })
    }

    /// The name of a revision.
    pub(super) fn revision(&self, number: i64) -> String {
        let name = self.name.as_ref().map(|name| format!("{name}-")).unwrap_or_default();
        format!("vcdist-{name}{number}")
    }

    /// Whether a revision with these labels is one of this release.
    pub(crate) fn has(&self, labels: Option<&BTreeMap<String, String>>) -> bool {
        labels.and_then(|labels| labels.get(LABEL)) == self.name.as_ref()
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name.as_deref().unwrap_or("virtualcluster"))
    }
}

/// Whether a revision is one of a release with a name.
pub(crate) fn is_of_a_release(revision: &DynamicObject) -> bool {
    revision.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(LABEL))
}

/// The release that an object of the cluster is marked with.
pub(crate) fn mark(found: &DynamicObject) -> Option<&str> {
    found.metadata.annotations.as_ref()?.get(RELEASE).map(String::as_str)
}

/// The field managers of tools that roll out manifests. An operator that applies what was rolled out with it is none of them: it
/// fills the object in, and goes with it.
const ROLLOUT_TOOLS: [&str; 6] =
    ["argocd-controller", "helm", "helm-controller", "kubectl", "kustomize-controller", "Terraform"];

/// Which other tool rolls out an object. Two that apply the same values do not conflict, so the API server says nothing.
pub(super) fn shared_with(found: &DynamicObject) -> Option<String> {
    if let Some(helm) = found.metadata.annotations.as_ref().and_then(|all| all.get("meta.helm.sh/release-name")) {
        return Some(format!("it belongs to the Helm release {helm}"));
    }
    let applying = found
        .metadata
        .managed_fields
        .iter()
        .flatten()
        .filter(|entry| entry.operation.as_deref() == Some("Apply") && entry.subresource.is_none());
    let other =
        applying.filter_map(|entry| entry.manager.as_deref()).find(|manager| ROLLOUT_TOOLS.contains(manager))?;
    Some(format!("{other} applies it"))
}

/// Refuses to apply an object that another release manages, or another tool, unless `force` says to take it over from that tool.
pub(super) fn check(object: &Object, before: &DynamicObject, force: bool) -> Result<(), Error> {
    let (wanted, theirs) = (object.annotation(RELEASE), mark(before));
    if ours(before).is_none() {
        // A namespace is made by one and used by many.
        let is_checked = wanted.is_some() && !force && object.stage() != Stage::Namespace;
        if is_checked && let Some(why) = shared_with(before) {
            return Err(Error::OtherTool { object: title(object), why });
        }
        return Ok(());
    }
    if wanted == theirs {
        return Ok(());
    }
    let is_installed = || {
        let labels = before.metadata.labels.as_ref();
        labels.and_then(|all| all.get("app.kubernetes.io/managed-by")).is_some_and(|by| by == FIELD_MANAGER)
    };
    let release = match theirs {
        Some(release) => format!("the release {release}"),
        None if is_installed() => "the installation of VirtualCluster".to_owned(),
        None => return Ok(()),
    };
    Err(Error::OtherRelease { object: title(object), release })
}

#[cfg(test)]
mod tests {
    use kube::api::DynamicObject;
    use serde_json::{Value, json};
    use vcmanifests::{Object, RELEASE};

    use super::{Release, check};

    fn marked(release: Option<&str>) -> Object {
        let annotations = release.map_or(json!({}), |release| json!({ RELEASE: release }));
        let metadata = json!({ "name": "a", "namespace": "n", "annotations": annotations });
        Object::other(json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata }), "configmaps")
    }

    #[test]
    fn objects_tell_their_release_and_revisions_their_name() {
        let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "vc" } });
        let namespace = Object::from_value(&namespace).unwrap().unwrap();
        let named = Release::of([&namespace, &marked(Some("n/shop"))]).unwrap();
        assert_eq!((named.to_string().as_str(), named.revision(3).as_str()), ("n/shop", "vcdist-shop-3"));
        let installed = Release::of([&marked(None), &namespace]).unwrap();
        assert_eq!((installed.namespace.as_str(), installed.revision(3).as_str()), ("vc", "vcdist-3"));
        assert_eq!(Release::of([&marked(None)]), None);
        let labels = [(super::LABEL.to_owned(), "shop".to_owned())].into();
        assert!(named.has(Some(&labels)) && !named.has(None));
        assert!(!installed.has(Some(&labels)) && installed.has(None));
    }

    #[test]
    fn what_another_release_manages_is_refused() {
        let before = |release: Option<&str>, labels: Value, manager: &str| -> DynamicObject {
            let annotations = release.map_or(json!({}), |release| json!({ RELEASE: release }));
            let managers = json!([{ "manager": manager, "operation": "Apply" }]);
            let metadata =
                json!({ "name": "a", "annotations": annotations, "labels": labels, "managedFields": managers });
            serde_json::from_value(json!({ "metadata": metadata })).unwrap()
        };
        let labels = json!({ "app.kubernetes.io/managed-by": "vcdist" });
        let wanted = marked(Some("n/shop"));
        assert!(check(&wanted, &before(Some("n/shop"), json!({}), "vcdist"), false).is_ok());
        assert!(check(&wanted, &before(None, json!({}), "vcdist"), false).is_ok());
        assert!(check(&wanted, &before(Some("n/other"), json!({}), "operator"), false).is_ok(), "it has let go of it");
        let why = |object: &Object, before: &DynamicObject| check(object, before, true).unwrap_err().to_string();
        assert!(why(&wanted, &before(Some("n/other"), json!({}), "vcdist")).contains("n/other"));
        assert!(why(&wanted, &before(None, labels, "vcdist")).contains("VirtualCluster"));
        assert!(why(&marked(None), &before(Some("n/shop"), json!({}), "vcdist")).contains("n/shop"));
    }

    #[test]
    fn what_another_tool_rolls_out_is_taken_over_only_if_it_is_said() {
        let theirs = |annotations: Value, manager: &str| -> DynamicObject {
            let managers = json!([{ "manager": manager, "operation": "Apply" }]);
            let metadata = json!({ "name": "a", "annotations": annotations, "managedFields": managers });
            serde_json::from_value(json!({ "metadata": metadata })).unwrap()
        };
        let wanted = marked(Some("n/shop"));
        let of_helm = theirs(json!({ "meta.helm.sh/release-name": "web" }), "any");
        for (before, whose) in [(&of_helm, "Helm release web"), (&theirs(json!({}), "kubectl"), "kubectl applies")] {
            let error = check(&wanted, before, false).unwrap_err().to_string();
            assert!(error.starts_with("applying configmap/a: ") && error.contains(whose), "{error}");
            assert!(check(&wanted, before, true).is_ok());
            assert!(check(&marked(None), before, false).is_ok(), "the installation takes over from the role's kubectl");
        }
        assert!(check(&wanted, &theirs(json!({}), "some-controller"), false).is_ok());
        let namespace = json!({ "apiVersion": "v1", "kind": "Namespace",
            "metadata": { "name": "n", "annotations": { RELEASE: "n/shop" } } });
        let namespace = Object::from_value(&namespace).unwrap().unwrap();
        assert!(check(&namespace, &theirs(json!({}), "kubectl"), false).is_ok());
    }
}
