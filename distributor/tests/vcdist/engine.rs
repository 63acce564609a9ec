//! Nodes whose kubelet uses no containerd: Docker and CRI-O, filled by the node's own programs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use vcstore::Digest;

use crate::rig::{Pushed, Rig, image, noise};

const MB: usize = 1_000_000;
const NAME: &str = "docker.io/virtualcluster/manager-amd64:latest";

/// A node that has no containerd where one would be looked for.
fn without_containerd() -> Rig {
    let rig = Rig::up();
    rig.within("mount -t tmpfs tmpfs /run; mkdir -m 755 /run/sshd /run/crio");
    rig
}

/// `vcdist SUBCOMMAND ARGUMENTS` on the node, which finds out for itself what runs there.
fn vcdist(rig: &Rig, subcommand: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vcdist"));
    command.args([subcommand, "--host", "127.0.0.1", "--ssh-user", "root", "--ssh-config"]);
    command.arg(rig.path().join("ssh_config")).arg("--store").arg(rig.path().join("store")).args(arguments);
    command.env("NO_COLOR", "1");
    command
}

fn push(rig: &Rig, arguments: &[&str]) -> Pushed {
    vcdist(rig, "push", &[&["--output", "json"], arguments].concat()).output().expect("vcdist runs").into()
}

/// Two images on one base.
fn two(rig: &Rig) {
    for (name, seed) in [("manager", 2), ("syncer", 3)] {
        image(&rig.store(), name, &noise(1, 2 * MB), &noise(seed, MB));
    }
}

fn config(rig: &Rig) -> String {
    rig.store().image("manager").expect("an image").platforms[0].config.digest().to_string()
}

/// What a program prints, which must succeed.
fn printed(command: &mut Command) -> String {
    let output = command.output().expect("it runs");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8").trim().to_owned()
}

/// A Docker of the rig's own, by the name of `docker` where logins look first.
struct Docker {
    daemon: Child,
    program: std::path::PathBuf,
}

impl Docker {
    fn up(rig: &Rig) -> Self {
        let folder = rig.path().join("docker");
        fs::create_dir_all(folder.join("bin")).expect("a folder");
        let path = |name: &str| folder.join(name).into_string();
        let socket = format!("unix://{}", path("docker.sock"));
        let log = fs::File::create(path("dockerd.log")).expect("a log");
        let mut daemon = Command::new("dockerd");
        daemon.args(["--iptables=false", "--bridge=none", "--host", &socket, "--pidfile", &path("docker.pid")]);
        daemon.args(["--data-root", &path("data"), "--exec-root", &path("exec")]);
        let daemon = daemon.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).process_group(0).spawn();
        let program = folder.join("bin/docker");
        let docker = printed(Command::new("sh").args(["-c", "command -v docker"]));
        fs::write(&program, format!("#!/bin/sh\nexec {docker} --host {socket} \"$@\"\n")).expect("a program");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("its mode");
        rig.prefer_programs_in(&folder.join("bin"));
        let this = Self { daemon: daemon.expect("dockerd starts"), program: program.into() };
        let deadline = Instant::now() + Duration::from_secs(60);
        while !this
            .command(&["version"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .expect("docker")
            .success()
        {
            assert!(Instant::now() < deadline, "{}", fs::read_to_string(path("dockerd.log")).unwrap_or_default());
            std::thread::sleep(Duration::from_millis(100));
        }
        this
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments);
        command
    }

    fn id(&self, name: &str) -> String {
        printed(&mut self.command(&["image", "inspect", "--format", "{{.Id}}", name]))
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-TERM", &self.daemon.id().to_string()]).status();
        let _ = self.daemon.wait();
    }
}

#[test]
fn docker_loads_what_it_lacks_whole_and_nothing_twice() {
    let rig = without_containerd();
    let docker = Docker::up(&rig);
    // Docker's own containerd is where a kubelet's would be, and no kubelet ever asks it.
    let folder = rig.path().join("docker");
    rig.within(&format!(
        "mkdir /run/containerd; ln -s {folder}/exec/containerd/containerd.sock /run/containerd/containerd.sock; \
         ln -s {folder}/docker.sock /run/docker.sock"
    ));
    two(&rig);
    let images = ["manager", "syncer"];
    let plan = push(&rig, &["manager", "syncer", "--dry-run"]).report(0);
    assert_eq!(plan["nodes"][0]["images"][0]["state"], "incomplete");
    let cold = push(&rig, &images).node();
    assert_eq!((&cold["result"], &cold["via"]), (&json!("pushed"), &json!("docker")));
    assert_eq!(cold["blobs"]["needed"], 7, "the base goes once");
    assert_eq!(docker.id(NAME), config(&rig));
    let _ = printed(&mut docker.command(&["create", NAME, "/none"]));

    let again = push(&rig, &images).node();
    assert_eq!((&again["result"], &again["bytes"]["sent"]), (&json!("up-to-date"), &json!(0)));
    let status = |code: i32| -> Value {
        let output = vcdist(&rig, "status", &["manager", "--output", "json"]).output().expect("vcdist runs");
        assert_eq!(output.status.code(), Some(code), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON")
    };
    assert_eq!(status(0)["nodes"][0]["images"][0]["complete"], true);

    image(&rig.store(), "manager", &noise(1, 2 * MB), &noise(9, MB));
    assert_eq!(status(3)["nodes"][0]["via"], "docker");
    let table = vcdist(&rig, "push", &images).output().expect("vcdist runs");
    let table = String::from_utf8_lossy(&table.stdout).into_owned();
    assert!(table.contains("pushed    docker load") || table.contains("pushed   docker load"), "{table}");
    assert_eq!(docker.id(NAME), config(&rig));
}

#[test]
fn a_damaged_blob_leaves_docker_without_the_image() {
    let rig = without_containerd();
    let docker = Docker::up(&rig);
    image(&rig.store(), "manager", &noise(1, MB), &noise(2, MB));
    let layer = rig.store().image("manager").expect("an image").platforms[0].layers[1].digest;
    rig.damage_in_store(&layer);
    let refused = push(&rig, &["manager"]);
    assert_eq!(refused.code(), 1);
    assert!(refused.stderr().contains("reading the images from the store"), "{}", refused.stderr());
    assert_eq!(printed(&mut docker.command(&["image", "ls", "-q"])), "");
}

#[test]
fn skopeo_fills_the_storage_of_crio_with_what_it_lacks() {
    let rig = without_containerd();
    let socket = rig.path().join("crio.sock");
    let _listener = UnixListener::bind(&socket).expect("a socket");
    let conf = rig.path().join("storage.conf");
    let (root, run) = (rig.path().join("storage"), rig.path().join("storage-run"));
    fs::write(&conf, format!("[storage]\ndriver = \"vfs\"\ngraphroot = \"{root}\"\nrunroot = \"{run}\"\n"))
        .expect("a file");
    rig.within(&format!("ln -s {socket} /run/crio/crio.sock"));
    rig.add_to_environment(&format!("CONTAINERS_STORAGE_CONF={conf}"));
    two(&rig);
    let images = ["manager", "syncer"];
    let cold = push(&rig, &images).node();
    assert_eq!((&cold["result"], &cold["via"]), (&json!("pushed"), &json!("skopeo")), "{cold}");
    assert_eq!(cold["blobs"], json!({"needed": 7, "sent": 7}));
    let again = push(&rig, &images).node();
    assert_eq!((&again["result"], &again["bytes"]["sent"]), (&json!("up-to-date"), &json!(0)));

    image(&rig.store(), "manager", &noise(1, 2 * MB), &noise(9, MB));
    let changed = push(&rig, &images).node();
    assert_eq!(changed["blobs"], json!({"needed": 3, "sent": 3}), "layer, configuration, manifest");
    let digest = rig.store().image("manager").expect("an image").digest();
    for name in [NAME.to_owned(), format!("docker.io/virtualcluster/manager-amd64@{digest}")] {
        let mut inspect = Command::new("skopeo");
        inspect.args(["inspect", "--config", "--raw", &format!("containers-storage:{name}")]);
        let output = inspect.env("CONTAINERS_STORAGE_CONF", &conf).output().expect("skopeo runs");
        assert_eq!(Digest::of(&output.stdout).to_string(), config(&rig), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let left = printed(Command::new("sh").args(["-c", "ls -d /var/tmp/vcdist-*-* 2>/dev/null | wc -l"]));
    assert_eq!(left, "0", "the folder it went through is gone");

    // A CRI-O node with nothing that could take images in.
    rig.within("for p in skopeo podman; do test ! -e /usr/bin/$p || mount --bind /dev/null /usr/bin/$p; done");
    let refused = push(&rig, &["manager"]);
    assert_eq!(refused.code(), 1);
    let said = refused.stderr();
    assert!(said.contains("its container runtime is CRI-O, and the node has neither skopeo nor podman"), "{said}");
    assert!(said.contains("help: install skopeo on the node"), "{said}");
}
