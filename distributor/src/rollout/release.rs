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

/// Refuses to apply an object that another release manages.
pub(super) fn check(object: &Object, before: &DynamicObject) -> Result<(), Error> {
    let (wanted, theirs) = (object.annotation(RELEASE), mark(before));
    if wanted == theirs || ours(before).is_none() {
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
        assert!(check(&wanted, &before(Some("n/shop"), json!({}), "vcdist")).is_ok());
        assert!(check(&wanted, &before(None, json!({}), "vcdist")).is_ok());
        assert!(check(&wanted, &before(Some("n/other"), json!({}), "kubectl")).is_ok(), "it has let go of it");
        let why = |object: &Object, before: &DynamicObject| check(object, before).unwrap_err().to_string();
        assert!(why(&wanted, &before(Some("n/other"), json!({}), "vcdist")).contains("n/other"));
        assert!(why(&wanted, &before(None, labels, "vcdist")).contains("VirtualCluster"));
        assert!(why(&marked(None), &before(Some("n/shop"), json!({}), "vcdist")).contains("n/shop"));
    }
}
