//! Which objects an admission webhook is called for, by its rules and selectors (Kubernetes, "Dynamic Admission Control").

use std::collections::BTreeMap;

use k8s_openapi::api::admissionregistration::v1::RuleWithOperations;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{Selector, SelectorExt};
use vcmanifests::Object;

/// Labels of an object.
type Labels = BTreeMap<String, String>;

/// An object that an installation creates or changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// `deployment/vc-manager`.
    pub(super) title: String,
    group: String,
    resource: String,
    is_namespace: bool,
    is_namespaced: bool,
    labels: Labels,
}

/// What a webhook is called for: the parts that validating and mutating webhooks share.
#[derive(Debug)]
pub(super) struct Scope<'a> {
    pub(super) rules: &'a [RuleWithOperations],
    pub(super) namespaces: Option<&'a LabelSelector>,
    pub(super) objects: Option<&'a LabelSelector>,
}

/// The objects, and the pods of the workloads among them.
pub(super) fn targets(objects: &[Object]) -> Vec<Target> {
    let mut targets = Vec::new();
    for object in objects {
        let value = serde_json::to_value(object).unwrap_or_default();
        let labels = |value: &serde_json::Value| serde_json::from_value::<Labels>(value.clone()).unwrap_or_default();
        let title = crate::rollout::title(object);
        let pod = &value["spec"]["template"]["metadata"]["labels"];
        if !pod.is_null() {
            targets.push(Target {
                title: format!("the pods of {title}"),
                group: String::new(),
                resource: "pods".to_owned(),
                is_namespace: false,
                is_namespaced: true,
                labels: labels(pod),
            });
        }
        targets.push(Target {
            title,
            group: object.api_version().split_once('/').map_or("", |(group, _)| group).to_owned(),
            resource: object.plural().to_owned(),
            is_namespace: matches!(object, Object::Namespace(_)),
            is_namespaced: object.namespace().is_some(),
            labels: labels(&value["metadata"]["labels"]),
        });
    }
    targets
}

impl Scope<'_> {
    /// Whether the webhook is called when the object is created or changed. `namespace` are the labels of its namespace.
    pub(super) fn covers(&self, target: &Target, namespace: &Labels) -> bool {
        let labels = if target.is_namespace { &target.labels } else { namespace };
        let has_namespace = target.is_namespace || target.is_namespaced;
        self.rules.iter().any(|rule| is_in(rule, target))
            && (!has_namespace || selects(self.namespaces, labels))
            && selects(self.objects, &target.labels)
    }
}

/// Whether a rule names the object. With the usual `matchPolicy`, its version does not count: the API server converts.
fn is_in(rule: &RuleWithOperations, target: &Target) -> bool {
    let any = |list: &Option<Vec<String>>, is: &dyn Fn(&str) -> bool| list.iter().flatten().any(|one| is(one));
    let is_meant = |operation: &str| matches!(operation, "*" | "CREATE" | "UPDATE");
    let is_scope = match rule.scope.as_deref() {
        Some("Cluster") => !target.is_namespaced,
        Some("Namespaced") => target.is_namespaced,
        _ => true,
    };
    is_scope
        && any(&rule.operations, &is_meant)
        && any(&rule.api_groups, &|group| group == "*" || group == target.group)
        && any(&rule.resources, &|resource| matches!(resource, "*" | "*/*") || resource == target.resource)
}

/// Whether a selector selects labels. One that cannot be read selects everything: nothing is hidden.
fn selects(selector: Option<&LabelSelector>, labels: &Labels) -> bool {
    selector
        .is_none_or(|selector| Selector::try_from(selector.clone()).map_or(true, |selector| selector.matches(labels)))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Scope, Target};

    fn target(resource: &str) -> Target {
        Target {
            title: resource.to_owned(),
            group: if resource == "pods" { String::new() } else { "apps".to_owned() },
            resource: resource.to_owned(),
            is_namespace: false,
            is_namespaced: true,
            labels: [("app".to_owned(), "vc-manager".to_owned())].into(),
        }
    }

    fn covers(rule: Value, namespaces: Value, objects: Value, resource: &str) -> bool {
        let rules = [serde_json::from_value(rule).unwrap()];
        let (namespaces, objects) =
            (serde_json::from_value(namespaces).unwrap(), serde_json::from_value(objects).unwrap());
        let scope = Scope { rules: &rules, namespaces: Some(&namespaces), objects: Some(&objects) };
        let labels = [("kubernetes.io/metadata.name".to_owned(), "vc-manager".to_owned())].into();
        scope.covers(&target(resource), &labels)
    }

    #[test]
    fn rules_name_groups_resources_and_operations() {
        let rule = |group: &str, resource: &str, operation: &str| json!({ "apiGroups": [group], "apiVersions": ["v1"], "resources": [resource], "operations": [operation] });
        let all = |rule: Value| covers(rule, json!({}), json!({}), "deployments");
        assert!(
            all(rule("apps", "deployments", "CREATE"))
                && all(rule("*", "*/*", "*"))
                && all(rule("apps", "*", "UPDATE"))
        );
        assert!(!all(rule("apps", "deployments", "DELETE")) && !all(rule("", "deployments", "CREATE")));
        assert!(!all(rule("apps", "deployments/scale", "UPDATE")) && !all(rule("apps", "daemonsets", "*")));
        let cluster = json!({ "apiGroups": ["*"], "resources": ["*"], "operations": ["*"], "scope": "Cluster" });
        assert!(!all(cluster));
    }

    #[test]
    fn selectors_of_namespaces_and_objects_exclude() {
        let rule = || json!({ "apiGroups": [""], "resources": ["pods"], "operations": ["CREATE"] });
        let not = |key: &str, value: &str| json!({ "matchExpressions": [{ "key": key, "operator": "NotIn", "values": [value] }] });
        assert!(covers(rule(), json!({}), json!({}), "pods"));
        assert!(!covers(rule(), not("kubernetes.io/metadata.name", "vc-manager"), json!({}), "pods"));
        assert!(covers(rule(), not("kubernetes.io/metadata.name", "kube-system"), json!({}), "pods"));
        assert!(!covers(rule(), json!({}), json!({ "matchLabels": { "app": "other" } }), "pods"));
    }
}
