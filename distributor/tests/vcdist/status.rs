//! How images stand on a node: as pushed, changed there, changed in the store, running.

use std::process::Command;

use serde_json::{Value, json};

use crate::rig::api::Api;
use crate::rig::{LinkFault, Rig, image, noise};

const NAME: &str = "docker.io/virtualcluster/manager-amd64:latest";

fn command(rig: &Rig) -> Command {
    let config = rig.path().join("ssh_config");
    rig.vcdist("status", &["manager", "--ssh-config", config.as_str(), "--ssh-user", "root", "--host", "127.0.0.1"])
}

/// What it prints of the image; it must end with `code`.
fn status(rig: &Rig, code: i32) -> Value {
    let output = command(rig).args(["--output", "json"]).output().expect("vcdist runs");
    assert_eq!(output.status.code(), Some(code), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["drift"], code == 3, "{report}");
    report["nodes"][0]["images"][0].clone()
}

#[test]
fn an_image_is_as_it_was_pushed_until_something_changes() {
    let rig = Rig::up();
    image(&rig.store(), "manager", b"base", b"own");
    let absent = status(&rig, 3);
    assert_eq!(absent["found"], Value::Null);
    assert_eq!(
        (&absent["present"], &absent["complete"], &absent["drift"]),
        (&json!(false), &json!(false), &json!(true))
    );

    rig.push(&["manager"]).report(0);
    let pushed = status(&rig, 0);
    for key in ["present", "complete", "unpacked", "pinned"] {
        assert_eq!(pushed[key], true, "{key}: {pushed}");
    }
    assert_eq!((&pushed["found"], &pushed["running"]), (&pushed["digest"], &json!([])));

    rig.ctr(&["images", "label", NAME, "io.cri-containerd.pinned=no"]);
    let unpinned = status(&rig, 3);
    assert_eq!((&unpinned["pinned"], &unpinned["complete"]), (&json!(false), &json!(true)));
    rig.push(&["manager"]).report(0);
    assert_eq!(status(&rig, 0)["pinned"], true);

    image(&rig.store(), "manager", b"base", &noise(1, 1000));
    let changed = status(&rig, 3);
    assert_eq!((&changed["present"], &changed["found"]), (&json!(false), &pushed["digest"]));
    let table = command(&rig).output().expect("vcdist runs");
    let table = String::from_utf8(table.stdout).expect("UTF-8");
    let row: Vec<&str> = table.lines().nth(1).expect("a row").split_whitespace().collect();
    assert_eq!(row, ["127.0.0.1", NAME, "OLDER", "NO", "NO", "NO", "NO", "nowhere"], "{table}");
    assert_eq!(rig.ctr(&["leases", "ls", "-q"]), "", "nothing is changed by asking");
}

#[test]
fn an_operators_clock_that_was_ahead_decides_nothing() {
    let rig = Rig::up();
    image(&rig.store(), "manager", b"base", b"own");
    rig.push(&["manager"]).report(0);
    for record in rig.ctr(&["images", "ls", "-q"]).lines() {
        rig.ctr(&["images", "label", record, "vcdist.pushed-at=2999-01-01T00:00:00Z"]);
    }
    let ahead = status(&rig, 0);
    assert_eq!(ahead["pushed"]["digest"], ahead["digest"], "it is the last one until another is pushed");
    image(&rig.store(), "manager", b"base", &noise(1, 1000));
    rig.push(&["manager"]).report(0);
    let later = status(&rig, 0);
    assert_ne!(later["digest"], ahead["digest"]);
    assert_eq!((&later["pushed"]["digest"], &later["found"]), (&later["digest"], &later["digest"]), "{later}");
}

#[test]
fn an_archive_stands_for_what_it_brings() {
    let rig = Rig::up();
    image(&rig.store(), "manager", b"base", b"own");
    let archive = rig.path().join("manager.tar");
    let brings = [rig.store().image("manager").expect("an image")];
    vcstore::archive::write(&rig.store(), &brings, &[], &archive).expect("an archive");
    rig.push(&[archive.as_str()]).report(0);
    let config = rig.path().join("ssh_config");
    let arguments = ["--host", "127.0.0.1", "--ssh-user", "root", "--output", "json", "--ssh-config", config.as_str()];
    let output = rig.vcdist("status", &[&[archive.as_str()], &arguments[..]].concat()).output().expect("vcdist runs");
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let image = &report["nodes"][0]["images"][0];
    assert_eq!((&image["pushed"]["digest"], output.status.code()), (&image["digest"], Some(0)), "{report}");
}

#[test]
fn a_node_that_cannot_be_asked_is_said() {
    let rig = Rig::up();
    image(&rig.store(), "manager", b"base", b"own");
    std::fs::write(rig.path().join("authorized_keys"), "").expect("no keys");
    let output = command(&rig).output().expect("vcdist runs");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("error: asking 127.0.0.1: root@127.0.0.1 does not let us in"), "{said}");
}

#[test]
fn a_login_that_breaks_off_is_tried_again_and_that_is_said() {
    let rig = Rig::up();
    image(&rig.store(), "manager", b"base", b"own");
    rig.push(&["manager"]).report(0);
    let alias = format!("HostKeyAlias=[127.0.0.1]:{}", rig.port());
    let config = rig.path().join("ssh_config");
    let login = ["--ssh-config", config.as_str(), "--ssh-user", "root", "--host", "127.0.0.1", "--ssh-option", &alias];
    for (subcommand, arguments) in [("status", &["manager"][..]), ("prune", &["--ignore-cluster", "--dry-run"])] {
        let run = |retries: &str| {
            let port = format!("Port={}", rig.link(LinkFault::BreaksOnce(100)));
            let mut command = Command::new(env!("CARGO_BIN_EXE_vcdist"));
            command.arg(subcommand).args(arguments).args(login).args(["--ssh-option", &port, "--retries", retries]);
            command.arg("--containerd-address").arg(rig.path().join("containerd.sock"));
            command.env("VCBUILD_STORE", rig.path().join("store")).env("NO_COLOR", "1");
            let output = command.output().expect("vcdist runs");
            (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
        };
        let (code, said) = run("3");
        assert_eq!((code, said.matches("trying again").count()), (Some(0), 1), "{subcommand}: {said}");
        let (code, said) = run("0");
        assert_eq!((code, said.matches("trying again").count()), (Some(1), 0), "{subcommand}: {said}");
    }
}

#[test]
fn the_pods_that_run_an_image_are_named_and_one_that_runs_another_is_drift() {
    for way in ["helper", "ctr"] {
        let rig = Rig::up();
        if way == "ctr" {
            rig.runs_no_helper();
        }
        pods_are_named(&rig, way);
    }
}

fn pods_are_named(rig: &Rig, way: &str) {
    image(&rig.store(), "manager", b"base", b"own");
    assert_eq!(rig.push(&["manager"]).node()["via"], way);
    let labels =
        ["io.cri-containerd.kind=container", "io.kubernetes.pod.namespace=vc", "io.kubernetes.pod.name=manager-0"];
    // The image has no program that would wait: the machine's own does.
    let mounts = ["/usr", "/lib", "/lib64"].map(|path| format!("type=bind,src={path},dst={path},options=rbind:ro"));
    let mut run = vec!["run", "--detach"];
    run.extend(labels.iter().flat_map(|label| ["--label", label]));
    run.extend(mounts.iter().flat_map(|mount| ["--mount", mount]));
    // The CRI makes containers by tag, which moves with the next push; this one still runs what it was made from.
    run.extend([NAME, "one", "/usr/bin/sleep", "600"]);
    rig.ctr(&run);
    let running = status(rig, 0);
    image(&rig.store(), "manager", b"base", b"another");
    rig.push(&["manager"]).report(0);
    let other = status(rig, 3);
    rig.ctr(&["tasks", "kill", "--signal", "SIGKILL", "one"]);
    rig.ctr(&["tasks", "delete", "--force", "one"]);
    rig.ctr(&["containers", "delete", "one"]);
    assert_eq!((&running["running"], &running["running_other"]), (&json!(["vc/manager-0"]), &json!([])), "{way}");
    assert_eq!((&other["running"], &other["running_other"]), (&json!([]), &json!(["vc/manager-0"])), "{way}");
    assert_eq!(status(rig, 0)["drift"], false);
}

#[test]
fn what_was_pushed_last_is_known_without_the_store_that_it_came_from() {
    let rig = Rig::up();
    let syncer = image(&rig.store(), "syncer", b"base", &noise(2, 1000));
    image(&rig.store(), "manager", b"base", b"own");
    let config = rig.path().join("ssh_config");
    // Another operator, who has no store.
    let other = |arguments: &[&str], code: i32| -> Value {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vcdist"));
        command.args(["status", "--host", "127.0.0.1", "--ssh-user", "root", "--output", "json", "--ssh-config"]);
        command.arg(&config).arg("--containerd-address").arg(rig.path().join("containerd.sock"));
        command.args(["--store", "nowhere"]).args(arguments).current_dir(rig.path());
        let output = command.output().expect("vcdist runs");
        assert_eq!(output.status.code(), Some(code), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    };
    assert_eq!(other(&[], 0)["nodes"][0]["images"], json!([]), "nothing was pushed");
    other(&["manager"], 1);
    for helper in ["auto", "never"] {
        rig.push(&["manager", "syncer", "--helper", helper]).report(0);
        let images = other(&[], 0)["nodes"][0]["images"].clone();
        let names: Vec<&Value> = images.as_array().expect("images").iter().map(|image| &image["name"]).collect();
        assert_eq!(names, [NAME, &syncer]);
        for key in ["present", "complete", "unpacked", "pinned"] {
            assert_eq!(images[1][key], true, "{key}: {images}");
        }
        assert_eq!((&images[0]["pushed"]["digest"], &images[0]["running"]), (&images[0]["found"], &json!([])));
        rig.ctr(&["images", "rm", NAME]);
        let lost = other(&["manager"], 3)["nodes"][0]["images"].clone();
        assert_eq!(lost.as_array().map(Vec::len), Some(1));
        assert_eq!((&lost[0]["found"], &lost[0]["digest"]), (&Value::Null, &images[0]["digest"]));
        assert_eq!(
            (&lost[0]["complete"], &lost[0]["unpacked"]),
            (&json!(true), &json!(true)),
            "its other name is there"
        );
        other(&["syncer"], 0);
    }
    // Somebody gives the name to another image: neither the store nor what is there says so.
    rig.push(&["manager"]).report(0);
    rig.ctr(&["images", "tag", "--force", &syncer, NAME]);
    let moved = other(&["manager"], 3)["nodes"][0]["images"][0].clone();
    assert_eq!((&moved["present"], &moved["complete"]), (&json!(false), &json!(true)));
    assert_ne!(moved["found"], moved["pushed"]["digest"]);
}

const SYNCER: &str = "/apis/apps/v1/namespaces/vc-manager/deployments/vc-syncer";
const MANAGER: &str = "/apis/apps/v1/namespaces/vc-manager/deployments/vc-manager";
const REVISIONS: &str = "/apis/apps/v1/namespaces/vc-manager/controllerrevisions";

#[test]
fn what_is_rolled_out_is_judged_and_compared_beside_the_images() {
    let (rig, api) = (Rig::up(), Api::up());
    api.put_worker();
    let (config, socket) = (rig.path().join("ssh_config"), rig.path().join("containerd.sock"));
    let (store, components) = (rig.store(), ["manager", "syncer", "vn-agent"]);
    let images = components.map(|component| {
        image(&store, component, b"base", component.as_bytes());
        let image = store.image(component).expect("an image");
        format!("{component}={}@{}", image.name.split_once(':').expect("a tag").0, image.digest())
    });
    let status = |code: i32| -> (Value, String) {
        let run = |further: &[&str]| {
            let mut command = api.vcdist(&["status", "--ssh-user", "root", "--ssh-config", config.as_str()]);
            command.args(["--containerd-address", socket.as_str()]).args(further);
            let output = command.env("VCBUILD_STORE", rig.path().join("store")).output().expect("vcdist runs");
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(code), "{said}");
            (String::from_utf8_lossy(&output.stdout).into_owned(), said)
        };
        let document: Value = serde_json::from_str(&run(&["--output", "json"]).0).expect("JSON");
        let (text, said) = run(&[]);
        (document["rollout"].clone(), text + &said)
    };
    rig.push(&components).report(0);
    assert_eq!(status(0).0, Value::Null, "nothing is rolled out yet");

    let mut deploy = api.vcdist(&["deploy"]);
    for image in &images {
        deploy.args(["--image", image]);
    }
    assert!(deploy.output().expect("vcdist runs").status.success());
    let (rollout, text) = status(0);
    assert_eq!((&rollout["revision"], &rollout["healthy"]), (&json!(1), &json!(true)), "{rollout}");
    assert!(text.contains("revision 1 in vc-manager: all ") && text.contains(" objects work"), "{text}");

    let as_applied = api.snapshot();
    let mut edited = api.get(SYNCER).expect("a deployment");
    edited["spec"]["replicas"] = json!(3);
    edited["status"]["availableReplicas"] = json!(0);
    api.put(SYNCER, edited);
    api.take(MANAGER);
    let (rollout, text) = status(3);
    let of = |name: &str| {
        rollout["objects"]
            .as_array()
            .expect("objects")
            .iter()
            .find(|one| one["kind"] == "Deployment" && one["name"] == name)
            .cloned()
    };
    let (syncer, manager) = (of("vc-syncer").expect("a syncer"), of("vc-manager").expect("a manager"));
    assert_eq!((&syncer["ready"], &syncer["change"]), (&json!(false), &json!("configured")), "{syncer}");
    assert_eq!(syncer["fields"][0]["field"], "spec.replicas", "{syncer}");
    assert_eq!((&manager["ready"], &manager["change"]), (&json!(false), &json!("created")), "{manager}");
    for line in [
        "2 of ",
        "deployment/vc-manager does not exist",
        "deployment/vc-syncer does not work: ",
        "    spec.replicas: 3 -> 1",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }

    api.restore(&as_applied);
    let mut other = api.vcdist(&["status", "--name", "shpo", "--namespace", "vc-manager", "--ssh-user", "root"]);
    other.args(["--ssh-config", config.as_str(), "--containerd-address", socket.as_str()]);
    let output = other.env("VCBUILD_STORE", rig.path().join("store")).output().expect("vcdist runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), said.contains("vc-manager/shpo")), (Some(4), true), "{said}");
    api.refuse_to_read(REVISIONS);
    let (rollout, text) = status(4);
    assert_eq!(rollout, Value::Null);
    assert!(text.contains("docker.io/virtualcluster/manager-amd64") && text.contains("error: listing"), "{text}");
}
