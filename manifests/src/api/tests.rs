//! Compares the definitions with upstream's, and the types with upstream's samples.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{CustomResourceDefinition, JSONSchemaProps};
use serde_json::json;

use super::{ClusterVersion, Phase, VirtualCluster, cluster_version_definition, virtual_cluster_definition};
use crate::tests::upstream;

/// The requirements of a schema at one place.
#[derive(Debug, PartialEq)]
struct Demand {
    type_: Option<String>,
    format: Option<String>,
    required: BTreeSet<String>,
    open: bool,
}

fn demands(schema: &JSONSchemaProps, path: &str, found: &mut BTreeMap<String, Demand>) {
    assert_eq!(schema.enum_, None, "{path}: upstream enumerates no values");
    found.insert(
        path.to_owned(),
        Demand {
            type_: schema.type_.clone(),
            format: schema.format.clone(),
            required: schema.required.iter().flatten().cloned().collect(),
            open: schema.x_kubernetes_preserve_unknown_fields.unwrap_or(false),
        },
    );
    for (name, property) in schema.properties.iter().flatten() {
        demands(property, &format!("{path}.{name}"), found);
    }
    if let Some(items) = &schema.items {
        let items: JSONSchemaProps = serde_json::from_value(serde_json::to_value(items).unwrap()).unwrap();
        demands(&items, &format!("{path}[]"), found);
    }
}

fn schema_of(definition: &CustomResourceDefinition) -> BTreeMap<String, Demand> {
    let [version] = definition.spec.versions.as_slice() else { panic!("one version") };
    let schema = version.schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref()).unwrap();
    let mut found = BTreeMap::new();
    demands(schema, "", &mut found);
    found
}

#[test]
fn the_definitions_accept_all_that_upstreams_accept() {
    for (file, ours) in [
        ("tenancy.x-k8s.io_virtualclusters.yaml", virtual_cluster_definition()),
        ("tenancy.x-k8s.io_clusterversions.yaml", cluster_version_definition()),
    ] {
        let Some(documents) = upstream(file) else { return };
        let theirs: CustomResourceDefinition = serde_json::from_value(documents[0].clone()).unwrap();
        assert_eq!(ours.metadata.name, theirs.metadata.name);
        assert_eq!(ours.spec.group, theirs.spec.group);
        assert_eq!(ours.spec.scope, theirs.spec.scope);
        assert_eq!(ours.spec.names.short_names, theirs.spec.names.short_names);
        assert_eq!(ours.spec.names.plural, theirs.spec.names.plural);
        let (our_version, their_version) = (&ours.spec.versions[0], &theirs.spec.versions[0]);
        assert_eq!(our_version.name, their_version.name);
        assert_eq!(our_version.subresources, their_version.subresources);
        let columns = |version: &k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinitionVersion| {
            version.additional_printer_columns.clone().filter(|columns| !columns.is_empty())
        };
        assert_eq!(columns(our_version), columns(their_version));

        let our_schema = schema_of(&ours);
        for (path, theirs) in schema_of(&theirs) {
            if ["apiVersion", "kind", "metadata"].contains(&path.trim_start_matches('.')) {
                continue; // The API server defines these itself.
            }
            let ours = our_schema.get(&path).unwrap_or_else(|| panic!("{file}: {path} would be discarded"));
            assert_eq!((&ours.type_, &ours.format), (&theirs.type_, &theirs.format), "{file}: {path}");
            assert!(ours.required.is_subset(&theirs.required), "{file}: {path} demands {:?}", ours.required);
            assert!(ours.open || !theirs.open, "{file}: {path} would lose unknown fields");
        }
    }
}

#[test]
fn upstreams_samples_pass_through_the_types_unchanged() {
    let Some(samples) = upstream("virtualcluster_1_nodeport.yaml") else { return };
    let typed: VirtualCluster = serde_json::from_value(samples[0].clone()).unwrap();
    assert_eq!(serde_json::to_value(&typed).unwrap(), samples[0]);

    let Some(samples) = upstream("clusterversion_v1_nodeport.yaml") else { return };
    let typed: ClusterVersion = serde_json::from_value(samples[0].clone()).unwrap();
    assert_eq!(serde_json::to_value(&typed).unwrap(), samples[0]);
}

#[test]
fn a_phase_that_nobody_foresaw_survives() {
    for (text, phase) in [
        ("Running", Phase::Running),
        ("Error", Phase::Error),
        ("Failed", Phase::Failed),
        ("Hibernating", Phase::Other("Hibernating".to_owned())),
    ] {
        assert_eq!(serde_json::from_value::<Phase>(json!(text)).unwrap(), phase);
        assert_eq!(serde_json::to_value(&phase).unwrap(), json!(text));
    }
}
