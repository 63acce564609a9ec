//! Tests of the whole installation: compared with upstream's manifests, as YAML, and as files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use k8s_openapi::api::rbac::v1::PolicyRule;
use proptest::prelude::*;
use serde_json::Value;

use crate::{
    Budget, CommandLine, Component, EtcdScheme, Images, LocalVolume, Object, Parameters, Placement, PullPolicy,
    VnAgentFolders, files, objects, yaml,
};

/// Returns the YAML documents of one of upstream's files. If the file is missing, prints a message and returns `None`.
pub(crate) fn upstream(file: &str) -> Option<Vec<Value>> {
    let folder = std::env::var_os("VC_UPSTREAM_DATA").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/virtualcluster"),
        PathBuf::from,
    );
    let path = folder.join(file);
    match std::fs::read_to_string(&path) {
        Ok(text) => Some(serde_saphyr::from_multiple(&text).unwrap()),
        Err(error) => {
            eprintln!("SKIPPED: no comparison with upstream: {}: {error}; set VC_UPSTREAM_DATA", path.display());
            None
        }
    }
}

pub(crate) fn parameters() -> Parameters {
    let image = |component: &str, digit: char| {
        let digest = String::from(digit).repeat(64);
        format!("docker.io/virtualcluster/{component}-amd64@sha256:{digest}").parse().unwrap()
    };
    Parameters::new(Images {
        manager: image("manager", 'a'),
        syncer: image("syncer", 'b'),
        vn_agent: image("vn-agent", 'c'),
    })
}

fn as_json(objects: &[Object]) -> BTreeMap<(String, String), Value> {
    objects
        .iter()
        .map(|object| ((object.kind().to_owned(), object.name().to_owned()), serde_json::to_value(object).unwrap()))
        .collect()
}

#[test]
fn objects_come_in_dependency_order_and_say_what_they_are() {
    let objects = objects(&parameters());
    assert!(objects.is_sorted_by_key(Object::stage));
    for object in &objects {
        let json = serde_json::to_value(object).unwrap();
        assert_eq!((&json["kind"], &json["apiVersion"]), (&object.kind().into(), &object.api_version().into()));
        assert_eq!(json["metadata"]["name"], object.name());
        assert_eq!(json["metadata"].get("namespace").and_then(Value::as_str), object.namespace());
    }
}

#[test]
fn everything_follows_the_namespace() {
    let elsewhere = Parameters { namespace: "tenants".parse().unwrap(), ..parameters() };
    let text = yaml(&objects(&elsewhere)).unwrap();
    assert!(!text.contains("namespace: vc-manager") && !text.contains("vc-manager/"), "{text}");
    assert!(text.contains("--vn-agent-namespace-name=tenants/vn-agent"));
}

#[test]
fn upstreams_names_selectors_and_ports_are_kept() {
    let Some(documents) = upstream("all_in_one.yaml") else { return };
    let ours = as_json(&objects(&parameters()));
    for theirs in documents {
        let key = (text(&theirs["kind"]), text(&theirs["metadata"]["name"]));
        let ours = ours.get(&key).unwrap_or_else(|| panic!("{key:?} is missing"));
        assert_eq!(ours["apiVersion"], theirs["apiVersion"], "{key:?}");
        assert_eq!(ours["metadata"].get("namespace"), theirs["metadata"].get("namespace"), "{key:?}");
        for same in ["/spec/selector", "/spec/replicas", "/roleRef", "/subjects", "/data"] {
            assert_eq!(ours.pointer(same), theirs.pointer(same), "{key:?} {same}");
        }
        let Some(pod) = theirs.pointer("/spec/template") else { continue };
        let our_pod = &ours["spec"]["template"];
        for (label, value) in pod["metadata"]["labels"].as_object().unwrap() {
            assert_eq!(our_pod["metadata"]["labels"][label], *value, "{key:?}");
        }
        let (container, our_container) = (&pod["spec"]["containers"][0], &our_pod["spec"]["containers"][0]);
        assert_eq!(our_container["name"], container["name"]);
        assert_eq!(
            our_container.get("livenessProbe").map(|probe| &probe["tcpSocket"]),
            container.get("livenessProbe").map(|probe| &probe["tcpSocket"])
        );
        assert_eq!(our_pod["spec"]["hostNetwork"], pod["spec"]["hostNetwork"]);
        let words = command_line(container);
        assert!(words.is_subset(&command_line(our_container)), "{key:?} lacks a flag of {words:?}");
    }
}

#[test]
fn at_least_upstreams_rights_are_granted() {
    let Some(documents) = upstream("all_in_one.yaml") else { return };
    let ours = as_json(&objects(&parameters()));
    let mut roles = 0;
    for theirs in documents.iter().filter(|document| document["kind"] == "ClusterRole") {
        let name = text(&theirs["metadata"]["name"]);
        let missing: Vec<_> =
            rights(theirs).difference(&rights(&ours[&("ClusterRole".to_owned(), name.clone())])).cloned().collect();
        assert!(missing.is_empty(), "{name} lacks {missing:?}");
        roles += 1;
    }
    assert_eq!(roles, 3);
}

#[test]
fn workloads_run_where_a_push_goes() {
    let terms = |parameters: &Parameters| {
        let ours = as_json(&objects(parameters));
        let pod = &ours[&("DaemonSet".to_owned(), "vn-agent".to_owned())]["spec"]["template"]["spec"];
        let required = &pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
        (required["nodeSelectorTerms"].as_array().unwrap().clone(), pod["tolerations"].clone())
    };
    let expression = |key: &str, operator: &str, values: &[&str]| match values {
        [] => serde_json::json!({ "key": key, "operator": operator }),
        values => serde_json::json!({ "key": key, "operator": operator, "values": values }),
    };
    let (workers, tolerations) = terms(&parameters());
    assert_eq!((workers.len(), tolerations), (1, Value::Null));
    for label in ["control-plane", "master", "controlplane", "etcd"] {
        let absent = expression(&format!("node-role.kubernetes.io/{label}"), "DoesNotExist", &[]);
        assert!(workers[0]["matchExpressions"].as_array().unwrap().contains(&absent), "{label}");
    }

    let architectures = [(Component::VnAgent, vec!["arm64".to_owned()])].into_iter().collect();
    let (arm, _) = terms(&Parameters { architectures, ..parameters() });
    assert!(arm[0]["matchExpressions"].as_array().unwrap().contains(&expression(
        "kubernetes.io/arch",
        "In",
        &["arm64"]
    )));

    let placement = Placement { include_control_plane: true, exclude: vec!["w9".to_owned()], ..Placement::default() };
    let (all, tolerations) = terms(&Parameters { placement, ..parameters() });
    assert_eq!((all.len(), tolerations.as_array().unwrap().len()), (4, 3));
    assert!(all.iter().all(|term| term["matchFields"][0] == expression("metadata.name", "NotIn", &["w9"])));

    let names = vec!["cp".to_owned(), "w1".to_owned()];
    let (named, tolerations) =
        terms(&Parameters { placement: Placement { names, ..Placement::default() }, ..parameters() });
    let fields: Vec<_> = named.iter().map(|term| term["matchFields"][0].clone()).collect();
    assert_eq!(tolerations.as_array().unwrap().len(), 4, "the control plane's taints and etcd's");
    assert_eq!(fields, ["cp", "w1"].map(|name| expression("metadata.name", "In", &[name])));
}

#[test]
fn every_pod_is_confined_and_runs_by_digest() {
    let ours = as_json(&objects(&parameters()));
    for component in Component::ALL {
        let kind = if component == Component::VnAgent { "DaemonSet" } else { "Deployment" };
        let pod = &ours[&(kind.to_owned(), component.workload().to_owned())]["spec"]["template"]["spec"];
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        let container = &pod["containers"][0];
        assert_eq!(container["imagePullPolicy"], "IfNotPresent");
        assert!(text(&container["image"]).contains("@sha256:"));
        assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
        for resource in ["cpu", "memory"] {
            for bound in ["requests", "limits"] {
                assert!(container["resources"][bound][resource].is_string(), "{component} {bound} {resource}");
            }
        }
    }
}

#[test]
fn what_is_asked_for_reaches_the_pods() {
    let asked = Parameters {
        vn_agent_metrics_port: 9199,
        tolerations: vec!["gpu:NoSchedule".parse().unwrap()],
        ..parameters()
    };
    let ours = as_json(&objects(&asked));
    let agent = &ours[&("DaemonSet".to_owned(), "vn-agent".to_owned())]["spec"]["template"]["spec"];
    assert!(command_line(&agent["containers"][0]).contains("--metrics-addr=:9199"));
    assert!(agent["containers"][0]["ports"].as_array().unwrap().iter().any(|port| port["hostPort"] == 9199));
    assert_eq!(agent["tolerations"][0]["key"], "gpu");
}

#[test]
fn every_option_reaches_an_object() {
    let volume = LocalVolume::new("etcd-0", "1Gi", "/mnt/etcd-0", "w1");
    let folders = VnAgentFolders { certificates: "/run/vn".to_owned(), pki: "/run/pki".to_owned() };
    let mut asked = Parameters {
        pull_policy: PullPolicy::Never,
        etcd_scheme: Some(EtcdScheme::Https),
        feature_gates: [("B".to_owned(), false), ("A".to_owned(), true)].into(),
        syncer_replicas: 2,
        vn_agent_folders: folders,
        volumes: vec![volume],
        network_policies: true,
        service_monitors: true,
        ..parameters()
    };
    asked.budgets.syncer = Budget::default();
    asked.command_lines.0.insert(
        Component::Manager,
        CommandLine { command: Some(vec!["/app".to_owned()]), args: vec!["--enable-webhook=false".to_owned()] },
    );
    let ours = as_json(&objects(&asked));
    let get = |kind: &str, name: &str| &ours[&(kind.to_owned(), name.to_owned())];
    let container = |kind: &str, name: &str| get(kind, name)["spec"]["template"]["spec"]["containers"][0].clone();
    let manager = container("Deployment", "vc-manager");
    assert_eq!(manager["command"], serde_json::json!(["/app"]));
    assert_eq!(manager["imagePullPolicy"], "Never");
    assert_eq!(manager["env"][0], serde_json::json!({ "name": "VIRTUALCLUSTER_ETCD_SCHEME", "value": "https" }));
    let words = command_line(&manager);
    assert!(words.contains("--enable-webhook=false") && !words.contains("--enable-webhook=true"), "{words:?}");
    let syncer = container("Deployment", "vc-syncer");
    assert!(command_line(&syncer).contains("--feature-gates=A=true,B=false"));
    assert_eq!(syncer["resources"], serde_json::json!({}));
    assert_eq!(get("Deployment", "vc-syncer")["spec"]["replicas"], 2);
    assert_eq!(get("PodDisruptionBudget", "vc-syncer")["spec"]["maxUnavailable"], 1);
    let agent = container("DaemonSet", "vn-agent");
    let words = command_line(&agent);
    assert!(words.contains("--cert-dir=/run/vn/") && words.contains("--kubelet-client-key=/run/pki/client.key"));
    let mounts: Vec<_> =
        agent["volumeMounts"].as_array().unwrap().iter().map(|mount| text(&mount["mountPath"])).collect();
    assert_eq!(mounts, ["/run/vn", "/run/pki"]);
    let volume = &get("PersistentVolume", "etcd-0")["spec"];
    let node = "/nodeAffinity/required/nodeSelectorTerms/0/matchExpressions/0/values/0";
    assert_eq!((&volume["local"]["path"], volume.pointer(node).unwrap()), (&"/mnt/etcd-0".into(), &"w1".into()));
    for (name, port) in [("vc-manager", 9443), ("vc-syncer", 80)] {
        assert_eq!(get("NetworkPolicy", name)["spec"]["ingress"][0]["ports"][0]["port"], port);
    }
    let label = get("ServiceMonitor", "virtualcluster")["spec"]["selector"]["matchLabels"].as_object().unwrap();
    for name in ["vc-syncer-metrics", "vn-agent-metrics"] {
        let labels = get("Service", name)["metadata"]["labels"].as_object().unwrap();
        assert!(label.iter().all(|(key, value)| labels.get(key) == Some(value)), "{name}");
    }
    assert!(objects(&asked).is_sorted_by_key(Object::stage));
}

#[test]
fn the_installation_reads_as_people_expect() {
    let files = files(&objects(&parameters())).unwrap();
    let names: Vec<_> = files.keys().map(String::as_str).collect();
    assert_eq!(names, ["all-in-one.yaml", "clusterversion-crd.yaml", "namespace.yaml", "virtualcluster-crd.yaml"]);
    insta::assert_snapshot!("all-in-one", files["all-in-one.yaml"]);
    for (name, part) in &files {
        assert!(files["all-in-one.yaml"].contains(part.as_str()), "{name}");
    }
}

#[test]
fn yaml_reads_back_as_the_same_objects() {
    let objects = objects(&parameters());
    let read: Vec<Value> = serde_saphyr::from_multiple(&yaml(&objects).unwrap()).unwrap();
    let written: Vec<Value> = objects.iter().map(|object| serde_json::to_value(object).unwrap()).collect();
    assert_eq!(read, written);
}

/// Strings that YAML 1.1, which Kubernetes uses, would interpret as booleans, numbers or null.
#[test]
fn strings_that_look_like_other_things_are_quoted() {
    for word in [
        "yes",
        "no",
        "on",
        "off",
        "y",
        "n",
        "true",
        "null",
        "~",
        "",
        "1",
        "0644",
        "1e3",
        "1.0",
        "1:30",
        "0x1f",
        "=",
        "2001-01-01",
    ] {
        let text =
            serde_saphyr::to_string_with_options(&BTreeMap::from([("key", word)]), crate::yaml::options()).unwrap();
        assert!(text.starts_with("key: \"") || text.starts_with("key: '"), "{text}");
    }
}

proptest! {
    #[test]
    fn any_text_survives_yaml(value in "\\PC{0,80}", key in "[a-z][a-z0-9./-]{0,20}") {
        let map = BTreeMap::from([(key, value)]);
        let text = serde_saphyr::to_string_with_options(&map, crate::yaml::options()).unwrap();
        prop_assert_eq!(serde_saphyr::from_str::<BTreeMap<String, String>>(&text).unwrap(), map);
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn command_line(container: &Value) -> BTreeSet<String> {
    ["command", "args"].iter().filter_map(|field| container[field].as_array()).flatten().map(text).collect()
}

/// Returns a role's rules as single permissions: group, resource, resource name, verb.
fn rights(role: &Value) -> BTreeSet<[String; 4]> {
    let rules: Vec<PolicyRule> = serde_json::from_value(role["rules"].clone()).unwrap();
    let mut rights = BTreeSet::new();
    for rule in rules {
        let any = vec![String::new()];
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                for name in rule.resource_names.as_ref().unwrap_or(&any) {
                    for verb in &rule.verbs {
                        rights.insert([group.clone(), resource.clone(), name.clone(), verb.clone()]);
                    }
                }
            }
        }
    }
    rights
}
