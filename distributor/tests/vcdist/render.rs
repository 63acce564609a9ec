//! `vcdist render`, and the values that it shares with deploy and diff.

use std::process::{Command, Output};

fn render(arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vcdist"));
    command.arg("render").env("NO_COLOR", "1").env_remove("RUST_LOG");
    for component in ["manager", "syncer", "vn-agent"] {
        command.arg("--image").arg(format!("{component}=docker.io/a/{component}@sha256:{}", "a".repeat(64)));
    }
    let Output { status, stdout, stderr } = command.args(arguments).output().expect("vcdist runs");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (status.code().unwrap_or(-1), text(stdout), text(stderr))
}

#[test]
fn the_same_input_renders_the_same_objects_to_stdout_and_to_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("made").into_os_string().into_string().expect("UTF-8");
    let (code, out, _) = render(&["--namespace", "tenants"]);
    assert_eq!((code, &out), (0, &render(&["--namespace", "tenants"]).1));
    assert!(out.starts_with("apiVersion: v1\nkind: Namespace\n") && out.contains("\n---\n"));
    let (code, told, _) = render(&["--namespace", "tenants", "--output-dir", &path]);
    assert_eq!((code, told.matches("wrote ").count()), (0, 4), "{told}");
    assert_eq!(std::fs::read_to_string(folder.path().join("made/all-in-one.yaml")).expect("a file"), out);
}

#[test]
fn files_of_values_and_settings_change_the_objects() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path.into_os_string().into_string().expect("UTF-8")
    };
    let first = file("a.yaml", "syncer: { replicas: 3, args: [--v=4] }\nnetworkPolicy: { enabled: true }\n");
    let second = file("b.yaml", "syncer: { replicas: 4 }\n");
    let (code, out, _) = render(&["--values", &first, "--values", &second, "--set", "vnAgent.metricsPort=9200"]);
    assert_eq!(code, 0);
    for part in
        ["replicas: 4\n", "- --v=4\n", "kind: NetworkPolicy\n", "kind: PodDisruptionBudget\n", "hostPort: 9200\n"]
    {
        assert!(out.contains(part), "{part}");
    }
    let (_, values, _) = render(&["--values", &first, "--vn-agent-metrics-port", "9300", "--show-values"]);
    assert!(values.contains("replicas: 3\n") && values.contains("metricsPort: 9300\n"), "{values}");
    for (setting, why) in [
        ("syncer.replica=2", "unknown field"),
        ("manager.replicas=2", "webhook's certificate"),
        ("vnAgent.args=[--port=1]", "10550"),
    ] {
        let (code, out, said) = render(&["--set", setting]);
        assert!(code == 1 && out.is_empty() && said.contains(why), "{setting}: {said}");
    }
    let (code, _, said) = render(&["--values", "/nowhere/values.yaml"]);
    assert!(code == 1 && said.contains("/nowhere/values.yaml"), "{said}");
}
