//! Tests of the choice among the nodes of an API, and of hosts from the command line.

use k8s_openapi::api::core::v1::Node as ApiNode;
use serde_json::{Value, json};

use super::api::choose;
use super::{Choice, Error, Node, Reach, from_hosts};

fn node(name: &str, addresses: &Value, extra: &Value) -> ApiNode {
    let mut node = json!({
        "metadata": {"name": name},
        "status": {
            "addresses": addresses,
            "conditions": [{"type": "Ready", "status": "True"}],
            "nodeInfo": {
                "architecture": "amd64", "containerRuntimeVersion": "containerd://1.6.20~ds1", "bootID": "",
                "kernelVersion": "", "kubeProxyVersion": "", "kubeletVersion": "", "machineID": "",
                "operatingSystem": "linux", "osImage": "", "systemUUID": "",
            },
        },
    });
    for (key, value) in extra.as_object().expect("an object") {
        node["metadata"][key] = value.clone();
        if key == "taints" {
            node["spec"]["taints"] = value.clone();
        }
    }
    serde_json::from_value(node).expect("a node")
}

fn cluster() -> Vec<ApiNode> {
    let ip = |ip: &str| json!([{"type": "Hostname", "address": "h"}, {"type": "InternalIP", "address": ip}]);
    vec![
        node("w2", &ip("10.0.0.3"), &json!({})),
        node(
            "w1",
            &json!([{"type": "Hostname", "address": "w1.lan"}, {"type": "ExternalIP", "address": "8.8.4.4"}]),
            &json!({}),
        ),
        node("cp", &ip("10.0.0.1"), &json!({"labels": {"node-role.kubernetes.io/control-plane": ""}})),
        node("old", &ip("10.0.0.9"), &json!({"labels": {"node-role.kubernetes.io/master": ""}})),
        node(
            "hidden",
            &ip("10.0.0.8"),
            &json!({"taints": [{"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}]}),
        ),
    ]
}

fn host(node: &Node) -> &str {
    match &node.reach {
        Reach::Ssh(address) => &address.host,
        Reach::Local => "here",
    }
}

fn all(items: &[ApiNode], choice: &Choice) -> Result<Vec<String>, Error> {
    choose(items, None, choice).map(|nodes| nodes.into_iter().map(|node| node.name).collect())
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

#[test]
fn workers_are_the_nodes_without_the_control_planes_labels_and_taints() {
    let nodes = choose(&cluster(), None, &Choice::default()).expect("workers");
    let seen: Vec<_> = nodes.iter().map(|node| (node.name.as_str(), host(node))).collect();
    assert_eq!(seen, [("w1", "8.8.4.4"), ("w2", "10.0.0.3")]);
    let runtime = nodes[0].runtime.clone().expect("runtime");
    assert_eq!((runtime.name.as_str(), runtime.version.as_str()), ("containerd", "1.6.20~ds1"));
    assert_eq!(nodes[0].ready, Some(true));
}

#[test]
fn what_a_node_says_of_its_address_is_an_address_or_a_name_and_nothing_else() {
    let reached = |addresses: serde_json::Value| {
        let nodes = choose(&[node("w1", &addresses, &json!({}))], None, &Choice::default()).expect("a worker");
        let Reach::Ssh(address) = &nodes[0].reach else { panic!("{nodes:?}") };
        assert_eq!((&address.user, address.port, address.is_sound()), (&None, None, true));
        address.host.clone()
    };
    for bad in [
        "root@10.0.0.5",
        "-oProxyCommand=reboot",
        "10.0.0.5:22",
        "[fd00::5]",
        "fe80::1%eth0",
        "ssh://root@w2",
        "a b",
        "",
        "w2;x",
        "w2\n",
        "\u{1b}[2Jw2",
        "*",
    ] {
        let one = |kind: &str, address: &str| json!({"type": kind, "address": address});
        assert_eq!(reached(json!([one("InternalIP", bad), one("ExternalIP", "8.8.4.4")])), "8.8.4.4", "{bad:?}");
        assert_eq!(reached(json!([one("InternalIP", bad), one("InternalIP", "10.0.0.7")])), "10.0.0.7", "{bad:?}");
        assert_eq!(reached(json!([one("Hostname", bad)])), "w1", "{bad:?}");
    }
    assert_eq!(reached(json!([{"type": "InternalIP", "address": "fd00::5"}])), "fd00::5");
    for bad in ["-v", "root@w1", "a b", ""] {
        let nodes = choose(&[node(bad, &json!([]), &json!({}))], None, &Choice::default());
        assert!(matches!(nodes, Err(Error::BadHost { .. })), "{bad:?}: {nodes:?}");
    }
}

#[test]
fn host_keys_are_known_by_addresses_unless_asked_otherwise() {
    let aliases = |keys_by_name| {
        let nodes = choose(&cluster(), None, &Choice { keys_by_name, ..Choice::default() }).expect("workers");
        nodes.into_iter().map(|node| match node.reach {
            Reach::Ssh(address) => address.key_alias,
            Reach::Local => None,
        })
    };
    assert!(aliases(false).all(|alias| alias.is_none()));
    assert_eq!(aliases(true).flatten().collect::<Vec<_>>(), ["w1", "w2"]);
}

#[test]
fn a_node_that_is_named_is_meant_whatever_its_role() {
    let names = |names: &[&str]| Choice { names: strings(names), ..Choice::default() };
    assert_eq!(all(&cluster(), &names(&["cp"])).expect("the control plane"), ["cp"]);
    match all(&cluster(), &names(&["w1", "w7"])) {
        Err(Error::Missing { missing, known }) => assert_eq!((missing.len(), known.len()), (1, 5)),
        other => panic!("{other:?}"),
    }
    assert!(matches!(all(&cluster()[2..], &Choice::default()), Err(Error::NoWorker { .. })));
}

#[test]
fn nodes_are_left_out_and_the_control_plane_is_taken_in_on_request() {
    let exclude = Choice { exclude: strings(&["w1"]), ..Choice::default() };
    assert_eq!(all(&cluster(), &exclude).expect("workers"), ["w2"]);
    let every = Choice { include_control_plane: true, ..exclude.clone() };
    assert_eq!(all(&cluster(), &every).expect("nodes"), ["cp", "hidden", "old", "w2"]);
    let unknown = all(&cluster(), &Choice { exclude: strings(&["w7"]), ..Choice::default() });
    assert_eq!(unknown.expect_err("unknown").to_string(), "there is no node w7");
    let none = all(&cluster(), &Choice { exclude: strings(&["w1", "w2"]), ..Choice::default() });
    assert_eq!(none.expect_err("none").to_string(), "no worker is left");
}

#[test]
fn a_named_node_that_the_selector_leaves_out_is_said_to_be_so_and_not_absent() {
    let selected = strings(&["w2", "cp"]).into_iter().collect();
    let choice = |names: &[&str]| Choice { names: strings(names), selector: Some("a=b".into()), ..Choice::default() };
    let names = |nodes: Vec<Node>| nodes.into_iter().map(|node| node.name).collect::<Vec<_>>();
    assert_eq!(names(choose(&cluster(), Some(&selected), &choice(&[])).expect("one")), ["w2"]);
    assert_eq!(names(choose(&cluster(), Some(&selected), &choice(&["cp"])).expect("one")), ["cp"]);
    let error = choose(&cluster(), Some(&selected), &choice(&["w1", "w2"])).expect_err("w1 is not selected");
    assert_eq!(error.to_string(), "w1 does not match a=b");
    let nowhere = std::collections::BTreeSet::new();
    let error = choose(&cluster(), Some(&nowhere), &choice(&[])).expect_err("none");
    assert_eq!(error.to_string(), "no worker matches a=b");
}

#[test]
fn nodes_that_run_windows_are_no_workers() {
    let mut nodes = cluster();
    nodes.push(node("win", &json!([]), &json!({"labels": {"kubernetes.io/os": "windows"}})));
    let mut unlabelled = node("win2", &json!([]), &json!({}));
    unlabelled.status.as_mut().and_then(|status| status.node_info.as_mut()).expect("info").operating_system =
        "windows".into();
    nodes.push(unlabelled);
    let every = Choice { include_control_plane: true, ..Choice::default() };
    assert_eq!(all(&nodes, &Choice::default()).expect("workers"), ["w1", "w2"]);
    assert_eq!(all(&nodes, &every).expect("nodes").len(), 5);
    let named = all(&nodes, &Choice { names: strings(&["win2"]), ..Choice::default() });
    assert_eq!(named.expect_err("windows").to_string(), "win2 runs windows, and the images are for linux");
}

#[test]
fn nodes_that_are_nobodys_workers_are_left_out() {
    let ip = |ip: &str| json!([{"type": "InternalIP", "address": ip}]);
    let taint = |key: &str| json!({"taints": [{"key": key, "effect": "NoSchedule"}]});
    let nodes = [
        node("w", &ip("10.0.0.1"), &json!({})),
        node("etcd", &ip("10.0.0.2"), &json!({"labels": {"node-role.kubernetes.io/etcd": "true"}})),
        node("etcd2", &ip("10.0.0.3"), &taint("node-role.kubernetes.io/etcd")),
        node("rke1", &ip("10.0.0.4"), &json!({"labels": {"node-role.kubernetes.io/controlplane": "true"}})),
        node(
            "server",
            &ip("10.0.0.5"),
            &json!({"labels": {"node-role.kubernetes.io/etcd": "true", "node-role.kubernetes.io/master": "true"}}),
        ),
        node("vk", &ip("10.0.0.6"), &json!({"labels": {"type": "virtual-kubelet"}})),
        node("vk2", &ip("10.0.0.7"), &taint("virtual-kubelet.io/provider")),
    ];
    assert_eq!(all(&nodes, &Choice::default()).expect("a worker"), ["w"]);
    let every = Choice { include_control_plane: true, ..Choice::default() };
    assert_eq!(all(&nodes, &every).expect("nodes"), ["rke1", "server", "w"]);
    let named = |name: &str| all(&nodes, &Choice { names: strings(&[name]), ..Choice::default() });
    assert_eq!(named("etcd").expect("by name"), ["etcd"]);
    let why = named("vk").expect_err("no machine").to_string();
    assert_eq!(why, "vk is a virtual node, behind which there is no machine");
    for (item, covered) in nodes.iter().zip([true, false, false, false, false, false, false]) {
        assert_eq!(Choice::default().covers(item), covered, "{:?}", item.metadata.name);
    }
}

#[test]
fn an_address_that_several_nodes_report_is_not_used() {
    let vagrant = |name: &str, extra: &Value| {
        let mut addresses =
            json!([{"type": "InternalIP", "address": "10.0.2.15"}, {"type": "Hostname", "address": name}]);
        addresses.as_array_mut().expect("a list").extend(extra.as_array().expect("a list").iter().cloned());
        node(name, &addresses, &json!({}))
    };
    let outer = json!([{"type": "ExternalIP", "address": "192.168.56.11"}]);
    let nodes = [
        vagrant("w1", &json!([])),
        vagrant("w2", &outer),
        node("w3", &json!([{"type": "InternalIP", "address": "10.0.2.15"}]), &json!({})),
        node("cp", &json!([{"type": "InternalIP", "address": "10.0.2.16"}]), &json!({})),
    ];
    let chosen = choose(&nodes, None, &Choice::default()).expect("workers");
    let seen: Vec<_> = chosen.iter().map(host).collect();
    assert_eq!(seen, ["10.0.2.16", "w1", "192.168.56.11", "w3"]);
    // Even if only one of them is selected.
    let w1 = Choice { names: strings(&["w1"]), ..Choice::default() };
    assert_eq!(host(&choose(&nodes, None, &w1).expect("one")[0]), "w1");
    // A machine that joined again under another name: its former Node object does not keep its address.
    let mut gone = nodes[2].clone();
    gone.status.as_mut().expect("a status").conditions = None;
    assert_eq!(host(&choose(&[nodes[0].clone(), gone], None, &w1).expect("one")[0]), "10.0.2.15");
}

#[test]
fn no_two_hosts_have_one_name() {
    let names = |hosts: &[&str]| {
        let nodes = from_hosts(&strings(hosts), true).expect("hosts");
        nodes.into_iter().map(|node| node.name).collect::<Vec<_>>()
    };
    assert_eq!(names(&["root@127.0.0.1:22011", "root@127.0.0.1:22012"]), ["127.0.0.1:22011", "127.0.0.1:22012"]);
    assert_eq!(names(&["w1", "w2:22", "w1"]), ["w1", "w2"]);
    assert_eq!(names(&["w1", "w1:2222", "w2"]), ["w1", "w1:2222", "w2"]);
    assert_eq!(names(&["w1", "w1:22"]), ["w1", "w1:22"], "ssh may have another port for the first");
    assert_eq!(names(&["a@w1", "b@w1", "w1"]), ["a@w1", "b@w1", "w1"]);
    assert_eq!(names(&["[fd00::5]:1", "[fd00::5]:2", "fd00::6"]), ["[fd00::5]:1", "[fd00::5]:2", "fd00::6"]);
}

#[test]
fn a_node_without_addresses_is_reached_by_its_name() {
    let nodes = choose(&[node("alone", &json!([]), &json!({}))], None, &Choice::default()).expect("a worker");
    assert_eq!(host(&nodes[0]), "alone");
}

#[test]
fn hosts_that_ssh_would_read_as_options_are_refused() {
    for bad in ["", "-oProxyCommand=x", "ops@-x", "@host", "ops@", "a b", "host:", "host:x", "host:0", "[::1]x"] {
        assert!(matches!(from_hosts(&strings(&["w1", bad]), true), Err(Error::BadHost { .. })), "{bad}");
    }
    let node = from_hosts(&strings(&["ops@192.0.2.5:2222"]), true).expect("a host").remove(0);
    assert_eq!(node.name, "192.0.2.5");
    let Reach::Ssh(address) = node.reach else { panic!("far away") };
    assert_eq!((address.destination(None), address.port), ("ops@192.0.2.5".to_owned(), Some(2222)));
}
