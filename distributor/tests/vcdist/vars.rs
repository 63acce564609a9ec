//! The variables of the Ansible role, as the command prints them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

/// A repository as people have it: disabled, an endpoint from two files, and a namespace that two files set.
fn repository() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_owned();
    let files = [
        ("inventory/hosts", "[k8s_ctrl_plane]\nk8sctrlplane01.local\n[k8s_worker]\nw1.local\nw2.local\n"),
        ("group_vars/all/all.yml", "ansible_user: ansible\nansible_home_dir: '/home/{{ ansible_user }}'\n"),
        (
            "host_vars/k8sctrlplane01.local",
            "k8s_virtualcluster_enabled: false\nvirtualcluster_namespace: of-the-host\n\
             k8s_ctrlplane_endpoint: \"{{gpm_mgmt_ipv4_prefix}}.{{k8sctrlplane01_ipv4_addr_octet}}\"\n",
        ),
        (
            "vars/all-config.yml",
            "gpm_mgmt_ipv4_prefix: 192.168.20\nk8sctrlplane01_ipv4_addr_octet: 41\nvirtualcluster_namespace: of-all\n",
        ),
    ];
    for (name, text) in files {
        let file = path.join(name);
        fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
        fs::write(file, text).expect("a file");
    }
    (folder, path)
}

fn vars(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vcdist"));
    command.arg("vars").args(arguments).current_dir(folder).env("NO_COLOR", "1").env_remove("RUST_LOG");
    command.output().expect("vcdist runs")
}

fn document(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn variable<'a>(document: &'a Value, name: &str) -> &'a Value {
    let all = document["variables"].as_array().expect("variables");
    all.iter().find(|one| one["name"] == name).unwrap_or_else(|| panic!("{name}"))
}

#[test]
fn the_values_of_a_repository_are_those_of_the_control_plane() {
    let (_folder, path) = repository();
    let output = vars(&path, &["--vars", ".", "--output", "json"]);
    let found = document(&output);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(found["host"], "k8sctrlplane01.local");
    let value = |name: &str| &variable(&found, name)["value"];
    assert_eq!(value("k8s_virtualcluster_enabled"), &json!(false));
    assert_eq!(value("k8s_api_wait_host"), "192.168.20.41");
    assert_eq!(value("virtualcluster_config_dir"), "/home/ansible/kubeadm/virtual-cluster");
    assert_eq!(value("virtualcluster_ssh_user"), &Value::Null);
    let namespace = variable(&found, "virtualcluster_namespace");
    assert_eq!((&namespace["value"], &namespace["effect"]), (&json!("of-all"), &json!("used")));
    assert_eq!(namespace["source"]["file"], "./vars/all-config.yml");
    assert_eq!(namespace["replaced"][0]["text"], "of-the-host");
    assert_eq!((&namespace["replaced"][0]["line"], &namespace["replaced"][1]["line"]), (&json!(2), &Value::Null));
    assert_eq!(variable(&found, "virtualcluster_clean_build")["effect"], "shown");
    // Another host sees neither.
    let other = document(&vars(&path, &["--vars", ".", "--host", "w1.local", "--output", "json"]));
    assert_eq!(variable(&other, "k8s_virtualcluster_enabled")["source"]["file"], Value::Null);
}

#[test]
fn one_variable_is_explained_for_people() {
    let (_folder, path) = repository();
    let output = vars(&path, &["--vars", ".", "--explain", "virtualcluster_namespace"]);
    let text = String::from_utf8(output.stdout).expect("text");
    assert_eq!(
        text,
        "virtualcluster_namespace = \"of-all\"\n  host: k8sctrlplane01.local\n  from: ./vars/all-config.yml:3 (a file that the role \
         includes)\n    of-all\n  replaces: ./host_vars/k8sctrlplane01.local:2 (host_vars)\n    of-the-host\n  replaces: default (the \
         role's default)\n    vc-manager\n  role: k8s-virtual-cluster\n  corresponds to: vcdist run, vcdist deploy --namespace, vcdist verify \
         --namespace\n"
    );
}

#[test]
fn variables_that_cannot_be_used_end_with_2() {
    let (_folder, path) = repository();
    let cases = [
        ("virtualcluster_build_timeout: 30m\n", "must be a whole number of seconds"),
        ("virtualcluster_namespace: '{{ nowhere }}'\n", "the variable nowhere is not defined"),
        ("virtualcluster_enabled: true\n", "are two names of one variable and have different values"),
        ("virtualcluster_namespace: !vault x\n", "an encrypted value (!vault)"),
        ("a: [\n", "more.yml, line"),
        ("- a\n", "it is not a mapping of names to values"),
    ];
    for (text, why) in cases {
        fs::write(path.join("more.yml"), text).expect("a file");
        let output = vars(&path, &["--vars", ".", "--vars", "more.yml"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{text}: {said}");
        assert!(said.contains("error: ") && said.contains(why) && said.contains("more.yml"), "{text}: {said}");
    }
    for arguments in [&["--vars", "none.yml"][..], &["--vars", "vars"], &["--vars", ".", "--host", "none"], &[]] {
        assert_eq!(vars(&path, arguments).status.code(), Some(2), "{arguments:?}");
    }
    fs::write(path.join("more.yml"), "virtualcluster_namspace: a\n").expect("a file");
    let output = vars(&path, &["--vars", ".", "--vars", "more.yml"]);
    assert_eq!(output.status.code(), Some(0));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("did you mean virtualcluster_namespace?"), "{said}");
}

#[test]
fn the_document_has_the_keys_that_are_documented() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/output.md"))
        .expect("the page");
    let mut lines = page.lines().skip_while(|line| *line != "## `vcdist vars`").skip(1);
    let shape: String =
        lines.by_ref().take_while(|line| !line.starts_with("## ")).filter(|line| line.starts_with("    ")).collect();
    let documented: BTreeSet<&str> = shape.split('"').skip(1).step_by(2).collect();
    let (_folder, path) = repository();
    let found = document(&vars(&path, &["--vars", ".", "--output", "json"]));
    let one = variable(&found, "virtualcluster_namespace");
    let objects = [&found, one, &one["source"], &one["replaced"][1]];
    let printed: BTreeSet<&str> =
        objects.iter().flat_map(|one| one.as_object().expect("an object").keys()).map(String::as_str).collect();
    assert_eq!(printed, documented);
}
