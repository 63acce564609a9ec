//! The kinds that every API server has, for manifests that are placed without asking one: their plural names, and whether their
//! objects are in namespaces. Kubernetes never changed either from one version of a kind to the next.

use crate::{Document, ServedKind, ServedKinds};

/// Group, kind, plural name, and whether objects are in namespaces.
const KINDS: [(&str, &str, &str, bool); 61] = [
    ("", "ConfigMap", "configmaps", true),
    ("", "Endpoints", "endpoints", true),
    ("", "Event", "events", true),
    ("", "LimitRange", "limitranges", true),
    ("", "Namespace", "namespaces", false),
    ("", "Node", "nodes", false),
    ("", "PersistentVolume", "persistentvolumes", false),
    ("", "PersistentVolumeClaim", "persistentvolumeclaims", true),
    ("", "Pod", "pods", true),
    ("", "PodTemplate", "podtemplates", true),
    ("", "ReplicationController", "replicationcontrollers", true),
    ("", "ResourceQuota", "resourcequotas", true),
    ("", "Secret", "secrets", true),
    ("", "Service", "services", true),
    ("", "ServiceAccount", "serviceaccounts", true),
    ("admissionregistration.k8s.io", "MutatingAdmissionPolicy", "mutatingadmissionpolicies", false),
    ("admissionregistration.k8s.io", "MutatingAdmissionPolicyBinding", "mutatingadmissionpolicybindings", false),
    ("admissionregistration.k8s.io", "MutatingWebhookConfiguration", "mutatingwebhookconfigurations", false),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy", "validatingadmissionpolicies", false),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings", false),
    ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration", "validatingwebhookconfigurations", false),
    ("apiextensions.k8s.io", "CustomResourceDefinition", "customresourcedefinitions", false),
    ("apiregistration.k8s.io", "APIService", "apiservices", false),
    ("apps", "ControllerRevision", "controllerrevisions", true),
    ("apps", "DaemonSet", "daemonsets", true),
    ("apps", "Deployment", "deployments", true),
    ("apps", "ReplicaSet", "replicasets", true),
    ("apps", "StatefulSet", "statefulsets", true),
    ("autoscaling", "HorizontalPodAutoscaler", "horizontalpodautoscalers", true),
    ("batch", "CronJob", "cronjobs", true),
    ("batch", "Job", "jobs", true),
    ("certificates.k8s.io", "CertificateSigningRequest", "certificatesigningrequests", false),
    ("certificates.k8s.io", "ClusterTrustBundle", "clustertrustbundles", false),
    ("coordination.k8s.io", "Lease", "leases", true),
    ("discovery.k8s.io", "EndpointSlice", "endpointslices", true),
    ("events.k8s.io", "Event", "events", true),
    ("extensions", "Ingress", "ingresses", true),
    ("flowcontrol.apiserver.k8s.io", "FlowSchema", "flowschemas", false),
    ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration", "prioritylevelconfigurations", false),
    ("networking.k8s.io", "IPAddress", "ipaddresses", false),
    ("networking.k8s.io", "Ingress", "ingresses", true),
    ("networking.k8s.io", "IngressClass", "ingressclasses", false),
    ("networking.k8s.io", "NetworkPolicy", "networkpolicies", true),
    ("networking.k8s.io", "ServiceCIDR", "servicecidrs", false),
    ("node.k8s.io", "RuntimeClass", "runtimeclasses", false),
    ("policy", "PodDisruptionBudget", "poddisruptionbudgets", true),
    ("rbac.authorization.k8s.io", "ClusterRole", "clusterroles", false),
    ("rbac.authorization.k8s.io", "ClusterRoleBinding", "clusterrolebindings", false),
    ("rbac.authorization.k8s.io", "Role", "roles", true),
    ("rbac.authorization.k8s.io", "RoleBinding", "rolebindings", true),
    ("resource.k8s.io", "DeviceClass", "deviceclasses", false),
    ("resource.k8s.io", "ResourceClaim", "resourceclaims", true),
    ("resource.k8s.io", "ResourceClaimTemplate", "resourceclaimtemplates", true),
    ("resource.k8s.io", "ResourceSlice", "resourceslices", false),
    ("scheduling.k8s.io", "PriorityClass", "priorityclasses", false),
    ("storage.k8s.io", "CSIDriver", "csidrivers", false),
    ("storage.k8s.io", "CSINode", "csinodes", false),
    ("storage.k8s.io", "CSIStorageCapacity", "csistoragecapacities", true),
    ("storage.k8s.io", "StorageClass", "storageclasses", false),
    ("storage.k8s.io", "VolumeAttachment", "volumeattachments", false),
    ("storage.k8s.io", "VolumeAttributesClass", "volumeattributesclasses", false),
];

/// The kinds of documents that are known without a cluster: the built-in ones, and others' whose object names a namespace.
#[must_use]
pub fn known_kinds(documents: &[Document]) -> ServedKinds {
    let mut kinds = ServedKinds::new();
    for Document { value, .. } in documents {
        let (Some(api_version), Some(kind)) = (value["apiVersion"].as_str(), value["kind"].as_str()) else { continue };
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        let key = (api_version.to_owned(), kind.to_owned());
        if let Some((_, _, plural, is_namespaced)) = KINDS.iter().find(|one| (one.0, one.1) == (group, kind)) {
            kinds.insert(key, ServedKind { plural: (*plural).to_owned(), is_namespaced: *is_namespaced });
        } else if value["metadata"]["namespace"].as_str().is_some_and(|namespace| !namespace.is_empty()) {
            // Only a request would need the real plural name.
            kinds.insert(key, ServedKind { plural: kind.to_lowercase(), is_namespaced: true });
        }
    }
    kinds
}

#[cfg(test)]
mod tests {
    use super::{KINDS, known_kinds};
    use crate::documents;

    #[test]
    fn built_in_kinds_are_known_in_each_version_and_others_by_their_namespace() {
        assert!(KINDS.is_sorted_by_key(|one| (one.0, one.1)));
        let text = "{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, metadata: {name: a}}\n\
             ---\n{apiVersion: storage.k8s.io/v1, kind: StorageClass, metadata: {name: a}}\n\
             ---\n{apiVersion: e.com/v1, kind: Shop, metadata: {name: a, namespace: b}}\n\
             ---\n{apiVersion: e.com/v1, kind: City, metadata: {name: a}}\n\
             ---\n{apiVersion: e.com/v1, kind: Pod, metadata: {name: a}}\n";
        let kinds = known_kinds(&documents(text, "f").unwrap());
        let told: Vec<_> = kinds.iter().map(|((_, kind), served)| (kind.as_str(), served.is_namespaced)).collect();
        assert_eq!(told, [("HorizontalPodAutoscaler", true), ("Shop", true), ("StorageClass", false)]);
    }
}
