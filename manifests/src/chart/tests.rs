//! Tests of charts as files. What Helm makes of them is tested by the end-to-end tests, with Helm itself.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Chart, installation_chart, is_unchanged_chart, release_chart};
use crate::tests::parameters;
use crate::{Parameters, defined_kinds, documents, known_kinds, placed};

const SHOP: &str = "{apiVersion: v1, kind: Namespace, metadata: {name: shop}}
---
{apiVersion: apps/v1, kind: Deployment, metadata: {name: web}, spec: {replicas: 3, selector: {}, template: {spec: {containers: [{name: a, \
  image: \"shop/web:1\", args: [\"{{x}}\"]}, {name: b-c, image: b}]}}}}
---
{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: web}, spec: {template: {spec: {containers: [{name: a, image: c}]}}}}
---
{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: web}, spec: {}}
---
{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: {name: shops.e.com}, spec: {group: e.com, scope: Cluster, \
  names: {kind: Shop, plural: shops}, versions: [{name: v1}]}}
---
{apiVersion: e.com/v1, kind: Shop, metadata: {name: a}}
";

fn shop(text: &str) -> Chart {
    let documents = documents(text, "f").unwrap();
    let mut kinds = known_kinds(&documents);
    kinds.extend(defined_kinds(&documents));
    release_chart("shop", "shop", &placed(documents, &kinds, "shop", "shop/shop").unwrap()).unwrap()
}

fn values(chart: &Chart) -> Value {
    documents_of(&chart.files["values.yaml"])
}

fn documents_of(yaml: &str) -> Value {
    serde_saphyr::from_str(yaml).unwrap()
}

#[test]
fn an_installation_has_its_values_conditions_and_namespace() {
    let chart = installation_chart(&parameters()).unwrap();
    let of = |name: &str| chart.files[&format!("templates/{name}.yaml")].as_str();
    assert!(of("deployment-vc-syncer").contains("  replicas: {{ .Values.syncer.replicas }}\n"));
    assert!(of("deployment-vc-syncer").contains("--vn-agent-namespace-name={{ .Release.Namespace }}/vn-agent\n"));
    assert!(of("deployment-vc-manager").contains("  replicas: 1\n"), "a second one would disable the first");
    assert!(of("poddisruptionbudget-vc-syncer").starts_with("{{- if gt (int .Values.syncer.replicas) 1 }}\n"));
    assert!(of("networkpolicy-vc-syncer").starts_with("{{- if .Values.networkPolicy.enabled }}\n"));
    assert!(of("secret-empty-kubelet-client").contains("lookup \"v1\" \"Secret\" .Release.Namespace"));
    assert!(
        of("customresourcedefinition-virtualclusters.tenancy.x-k8s.io").contains("helm.sh/resource-policy: keep\n")
    );
    assert!(!chart.files.keys().any(|path| path.contains("namespace-")), "Helm makes it");
    assert!(!chart.files.values().any(|text| text.contains("zzz-place") || text.contains("the-namespace-that")));
    let values = values(&chart);
    assert_eq!((&values["syncer"]["replicas"], &values["manager"]["replicas"]), (&1.into(), &Value::Null));
    assert_eq!(values["vnAgent"]["image"]["registry"], "docker.io");
    assert_eq!(values["vnAgent"]["resources"]["requests"]["cpu"], "50m");

    let more = Parameters { syncer_replicas: 3, network_policies: true, ..parameters() };
    let more = installation_chart(&more).unwrap();
    let (keys, other): (Vec<_>, Vec<_>) = (chart.files.keys().collect(), more.files.keys().collect());
    assert_eq!(keys, other, "values decide, not the chart");
    assert_ne!(chart.files["Chart.yaml"], more.files["Chart.yaml"], "another content is another version");
    assert_eq!(chart, installation_chart(&parameters()).unwrap());
}

#[test]
fn a_release_has_values_for_each_container_and_keeps_what_holds_data() {
    let chart = shop(SHOP);
    let values = values(&chart);
    let keys: Vec<_> = values["workloads"].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["deployment-web", "statefulset-web"]);
    let web = &values["workloads"]["deployment-web"];
    assert_eq!((&web["replicas"], &web["containers"]["a"]["image"]["tag"]), (&3.into(), &"1".into()));
    assert_eq!(values["workloads"]["statefulset-web"].get("replicas"), None);
    let template = &chart.files["templates/deployment-web.yaml"];
    assert!(template.contains("(index .Values \"workloads\" \"deployment-web\" \"containers\" \"b-c\" \"image\")"));
    assert!(template.contains("{{ \"{{\" }}x}}"), "braces of its own stay: {template}");
    assert!(!template.contains("vcdist.virtualcluster.io/release"));
    assert!(chart.files["templates/persistentvolumeclaim-web.yaml"].contains("helm.sh/resource-policy: keep\n"));
    assert!(chart.files.contains_key("crds/customresourcedefinition-shops.e.com.yaml"));
    assert!(chart.files["templates/check-namespace.yaml"].contains("ne .Release.Namespace \"shop\""));
    assert_eq!(chart.notes.len(), 2, "{:?}", chart.notes);
    let alone = shop(SHOP.rsplit_once("---").unwrap().0);
    assert!(alone.files.contains_key("templates/customresourcedefinition-shops.e.com.yaml"), "Helm upgrades it there");
}

#[test]
fn a_changed_added_or_missing_file_breaks_the_seal() {
    let chart = shop(SHOP);
    let files: BTreeMap<String, Vec<u8>> =
        chart.files.iter().map(|(path, text)| (path.clone(), text.clone().into_bytes())).collect();
    assert!(is_unchanged_chart(&files));
    for path in ["Chart.yaml", "values.yaml"] {
        let mut changed = files.clone();
        changed.get_mut(path).unwrap().insert(0, b'#');
        assert!(!is_unchanged_chart(&changed), "{path}");
        changed.remove(path);
        assert!(!is_unchanged_chart(&changed), "{path}");
    }
    let mut added = files;
    added.insert("notes.txt".to_owned(), Vec::new());
    assert!(!is_unchanged_chart(&added) && !is_unchanged_chart(&BTreeMap::new()));
}
