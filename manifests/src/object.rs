//! An object of an installation or of others' manifests: of a type where there is one here, and as JSON otherwise.

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::{Namespace, Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use crate::{AnyObject, Stage};

/// A Kubernetes object. Serializes as the object itself.
#[derive(Debug, Clone, PartialEq)]
pub enum Object {
    /// v1 Namespace.
    Namespace(Namespace),
    /// apiextensions.k8s.io/v1 CustomResourceDefinition.
    CustomResourceDefinition(Box<CustomResourceDefinition>),
    /// v1 ServiceAccount.
    ServiceAccount(ServiceAccount),
    /// rbac.authorization.k8s.io/v1 ClusterRole.
    ClusterRole(ClusterRole),
    /// rbac.authorization.k8s.io/v1 ClusterRoleBinding.
    ClusterRoleBinding(ClusterRoleBinding),
    /// rbac.authorization.k8s.io/v1 Role.
    Role(Role),
    /// rbac.authorization.k8s.io/v1 RoleBinding.
    RoleBinding(RoleBinding),
    /// v1 Secret.
    Secret(Secret),
    /// apps/v1 Deployment.
    Deployment(Box<Deployment>),
    /// apps/v1 DaemonSet.
    DaemonSet(Box<DaemonSet>),
    /// Any other kind.
    Other(Box<AnyObject>),
}

/// Evaluates an expression for the object of any variant with a type, and another one for an object without.
macro_rules! each {
    ($object:expr, $inner:ident => $result:expr, $other:ident => $untyped:expr) => {
        match $object {
            Object::Namespace($inner) => $result,
            Object::CustomResourceDefinition(boxed) => {
                let $inner = &**boxed;
                $result
            }
            Object::ServiceAccount($inner) => $result,
            Object::ClusterRole($inner) => $result,
            Object::ClusterRoleBinding($inner) => $result,
            Object::Role($inner) => $result,
            Object::RoleBinding($inner) => $result,
            Object::Secret($inner) => $result,
            Object::Deployment(boxed) => {
                let $inner = &**boxed;
                $result
            }
            Object::DaemonSet(boxed) => {
                let $inner = &**boxed;
                $result
            }
            Object::Other($other) => $untyped,
        }
    };
}

impl Object {
    pub(crate) fn definition(definition: CustomResourceDefinition) -> Self {
        Self::CustomResourceDefinition(Box::new(definition))
    }

    pub(crate) fn deployment(deployment: Deployment) -> Self {
        Self::Deployment(Box::new(deployment))
    }

    pub(crate) fn daemon_set(daemon_set: DaemonSet) -> Self {
        Self::DaemonSet(Box::new(daemon_set))
    }

    /// An object of a kind that has no type here, and the plural name of the kind.
    #[must_use]
    pub fn other(value: Value, plural: &str) -> Self {
        Self::Other(Box::new(AnyObject::new(value, plural)))
    }

    /// The object that a value describes; none where its kind is not one of these, in the version that is made here.
    ///
    /// # Errors
    /// When the value is not an object of the kind that it names.
    pub fn from_value(value: &Value) -> Result<Option<Self>, serde_json::Error> {
        let text = |key: &str| value[key].as_str().unwrap_or_default();
        let object = match (text("apiVersion"), text("kind")) {
            ("v1", "Namespace") => Self::Namespace(Deserialize::deserialize(value)?),
            ("apiextensions.k8s.io/v1", "CustomResourceDefinition") => {
                Self::definition(Deserialize::deserialize(value)?)
            }
            ("v1", "ServiceAccount") => Self::ServiceAccount(Deserialize::deserialize(value)?),
            ("rbac.authorization.k8s.io/v1", "ClusterRole") => Self::ClusterRole(Deserialize::deserialize(value)?),
            ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding") => {
                Self::ClusterRoleBinding(Deserialize::deserialize(value)?)
            }
            ("rbac.authorization.k8s.io/v1", "Role") => Self::Role(Deserialize::deserialize(value)?),
            ("rbac.authorization.k8s.io/v1", "RoleBinding") => Self::RoleBinding(Deserialize::deserialize(value)?),
            ("v1", "Secret") => Self::Secret(Deserialize::deserialize(value)?),
            ("apps/v1", "Deployment") => Self::deployment(Deserialize::deserialize(value)?),
            ("apps/v1", "DaemonSet") => Self::daemon_set(Deserialize::deserialize(value)?),
            _ => return Ok(None),
        };
        Ok(Some(object))
    }

    /// The object's kind, as its `kind` field has it.
    #[must_use]
    pub fn kind(&self) -> &str {
        each!(self, inner => kind_of(inner), other => other.kind())
    }

    /// The value of the object's `apiVersion` field.
    #[must_use]
    pub fn api_version(&self) -> &str {
        each!(self, inner => api_version_of(inner), other => other.api_version())
    }

    /// The plural name in request paths, such as `deployments`.
    #[must_use]
    pub fn plural(&self) -> &str {
        each!(self, inner => plural_of(inner), other => other.plural())
    }

    /// The object's name. Empty if the server should generate it, which no object here uses.
    #[must_use]
    pub fn name(&self) -> &str {
        self.metadata().name.as_deref().unwrap_or_default()
    }

    /// The object's namespace, or `None` for a cluster-scoped object.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        self.metadata().namespace.as_deref()
    }

    /// The value of an annotation.
    #[must_use]
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.metadata().annotations.as_ref()?.get(key).map(String::as_str)
    }

    /// The stage of a rollout that applies this object.
    #[must_use]
    pub fn stage(&self) -> Stage {
        match self {
            Self::Namespace(_) => Stage::Namespace,
            Self::CustomResourceDefinition(_) => Stage::Definitions,
            Self::Deployment(_) | Self::DaemonSet(_) => Stage::Workloads,
            Self::ServiceAccount(_)
            | Self::ClusterRole(_)
            | Self::ClusterRoleBinding(_)
            | Self::Role(_)
            | Self::RoleBinding(_)
            | Self::Secret(_) => Stage::Access,
            Self::Other(other) => other.stage(),
        }
    }

    fn metadata(&self) -> &ObjectMeta {
        each!(self, inner => &inner.metadata, other => other.metadata())
    }
}

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        each!(self, inner => inner.serialize(serializer), other => other.value().serialize(serializer))
    }
}

fn kind_of<K: k8s_openapi::Resource>(_: &K) -> &'static str {
    K::KIND
}

fn api_version_of<K: k8s_openapi::Resource>(_: &K) -> &'static str {
    K::API_VERSION
}

fn plural_of<K: k8s_openapi::Resource>(_: &K) -> &'static str {
    K::URL_PATH_SEGMENT
}
