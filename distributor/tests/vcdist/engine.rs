//! Nodes whose kubelet uses no containerd: Docker and CRI-O, filled by the node's own programs.

use std::fs;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

use rigs::docker::Docker;
use rigs::files::write_program;
use rigs::wait;
use serde_json::{Value, json};
use vcstore::Digest;

use crate::rig::{PushOutput, Rig, image, noise};

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

fn push(rig: &Rig, arguments: &[&str]) -> PushOutput {
    vcdist(rig, "push", &[&["--output", "json"], arguments].concat()).output().expect("vcdist runs").into()
}

/// What somebody else asks who has no images.
const WITHOUT_STORE: [&str; 2] = ["--store", "nowhere"];

/// How the manager stands on the node; the command must end with `code`.
fn status(rig: &Rig, arguments: &[&str], code: i32) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vcdist"));
    command.args(["status", "manager", "--host", "127.0.0.1", "--ssh-user", "root", "--output", "json"]);
    command.arg("--ssh-config").arg(rig.path().join("ssh_config")).current_dir(rig.path());
    if arguments.is_empty() {
        command.arg("--store").arg(rig.path().join("store"));
    }
    let output = command.args(arguments).output().expect("vcdist runs");
    assert_eq!(output.status.code(), Some(code), "{}", String::from_utf8_lossy(&output.stderr));
    // Of an image that nobody knows there is no report.
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    report["nodes"][0]["images"][0].clone()
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

/// Prunes as these arguments have it, asking no cluster; the report on the node.
fn prune(rig: &Rig, arguments: &[&str]) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vcdist"));
    command.args(["prune", "--host", "127.0.0.1", "--ssh-user", "root", "--ignore-cluster", "--output", "json"]);
    command.arg("--ssh-config").arg(rig.path().join("ssh_config")).args(arguments).env("NO_COLOR", "1");
    let pruned: PushOutput = command.output().expect("vcdist runs").into();
    pruned.node()
}

/// The image of this digest in a report, and whether it went.
fn of<'a>(node: &'a Value, digest: &str) -> &'a Value {
    let images = node["images"].as_array().expect("images");
    images.iter().find(|image| image["digest"] == digest).unwrap_or_else(|| panic!("{digest} in {node}"))
}

fn digest(rig: &Rig) -> String {
    rig.store().image("manager").expect("an image").digest().to_string()
}

/// What the rig's manager has for itself, in bytes.
fn freed(node: &Value) -> u64 {
    assert_eq!((&node["blobs_freed"], &node["blob_bytes_freed"]), (&json!(0), &json!(0)));
    node["unpacked_bytes_freed"].as_u64().expect("bytes")
}

/// A node with CRI-O's socket and a storage of the rig's own, on which these programs are not there.
fn crio(rig: &Rig, lacks: &[&str]) -> Storage {
    let socket = rig.path().join("crio.sock");
    let listener = UnixListener::bind(&socket).expect("a socket");
    let conf = rig.path().join("storage.conf");
    let (root, run) = (rig.path().join("storage"), rig.path().join("storage-run"));
    fs::write(&conf, format!("[storage]\ndriver = \"vfs\"\ngraphroot = \"{root}\"\nrunroot = \"{run}\"\n"))
        .expect("a file");
    rig.within(&format!("ln -s {socket} /run/crio/crio.sock"));
    rig.add_to_environment(&format!("CONTAINERS_STORAGE_CONF={conf}"));
    let storage = Storage { _listener: listener, conf };
    storage.hide(rig, lacks);
    storage
}

/// The storage of CRI-O.
struct Storage {
    _listener: UnixListener,
    conf: camino::Utf8PathBuf,
}

impl Storage {
    /// Takes programs away from the node.
    fn hide(&self, rig: &Rig, programs: &[&str]) {
        for program in programs {
            rig.within(&format!("test ! -e /usr/bin/{program} || mount --bind /dev/null /usr/bin/{program}"));
        }
    }

    /// What a program prints that works on it.
    fn printed(&self, program: &str, arguments: &[&str]) -> String {
        printed(Command::new(program).args(arguments).env("CONTAINERS_STORAGE_CONF", &self.conf))
    }

    /// How many pushes are noted in it.
    fn notes(&self) -> usize {
        self.all_names().iter().filter(|name| name.starts_with("vcdist.invalid/")).count()
    }

    /// Every name in it that is no note.
    fn names(&self) -> Vec<String> {
        let mut names = self.all_names();
        names.retain(|name| !name.starts_with("vcdist.invalid/"));
        names
    }

    fn all_names(&self) -> Vec<String> {
        let listed = fs::read(self.conf.with_file_name("storage").join("vfs-images/images.json")).expect("images");
        let images: Value = serde_json::from_slice(&listed).expect("JSON");
        let names = images.as_array().expect("images").iter().flat_map(|image| image["names"].as_array().cloned());
        let names = names.flatten().map(|name| name.as_str().expect("a name").to_owned());
        names.collect()
    }
}

/// A Docker of the rig's own, by the name of `docker` where logins look first.
struct RigDocker(Docker);

impl RigDocker {
    fn start(rig: &Rig) -> Self {
        let folder = rig.path().join("docker");
        let docker = Docker::start(&folder).expect("dockerd");
        let program = printed(Command::new("sh").args(["-c", "command -v docker"]));
        let script = format!("#!/bin/sh\nexec {program} --host {} \"$@\"\n", docker.host());
        write_program(folder.join("bin/docker"), script);
        rig.prefer_programs_in(&folder.join("bin"));
        Self(docker)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.0.command();
        command.args(arguments);
        command
    }

    fn id(&self, name: &str) -> String {
        printed(&mut self.command(&["image", "inspect", "--format", "{{.Id}}", name]))
    }
}

#[test]
fn docker_loads_what_it_lacks_whole_and_nothing_twice() {
    let rig = without_containerd();
    let docker = RigDocker::start(&rig);
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

    image(&rig.store(), "manager", &noise(1, 2 * MB), &noise(9, MB));
    let table = vcdist(&rig, "push", &images).output().expect("vcdist runs");
    let table = String::from_utf8_lossy(&table.stdout).into_owned();
    assert!(table.contains("pushed    docker load") || table.contains("pushed   docker load"), "{table}");
    assert_eq!(docker.id(NAME), config(&rig));
}

#[test]
fn docker_tells_what_was_pushed_last_and_what_runs() {
    let rig = without_containerd();
    let docker = RigDocker::start(&rig);
    image(&rig.store(), "manager", b"base", b"own");
    assert_eq!(status(&rig, &[], 3)["pushed"], Value::Null);
    push(&rig, &["manager"]).report(0);
    // The image has no program that would wait: the machine's own does.
    let mounts = ["/usr", "/lib", "/lib64"].map(|path| format!("--volume={path}:{path}:ro"));
    let mut run = vec!["run", "--detach", "--name=one", "--network=none", "--entrypoint=/usr/bin/sleep"];
    run.extend(["--label=io.kubernetes.pod.namespace=vc", "--label=io.kubernetes.pod.name=manager-0"]);
    run.extend(mounts.iter().map(String::as_str).chain([NAME, "600"]));
    let _ = printed(&mut docker.command(&run));
    let ours = status(&rig, &[], 0);
    assert_eq!((&ours["complete"], &ours["pinned"]), (&json!(true), &Value::Null), "{ours}");
    assert_eq!((&ours["running"], &ours["running_other"]), (&json!(["vc/manager-0"]), &json!([])), "{ours}");
    assert_eq!(status(&rig, &WITHOUT_STORE, 0), ours);

    image(&rig.store(), "manager", b"base", b"another");
    let older = status(&rig, &[], 3);
    assert_eq!((&older["found"], &older["pushed"]), (&ours["digest"], &ours["pushed"]));
    push(&rig, &["manager"]).report(0);
    for asked in [&[][..], &WITHOUT_STORE] {
        let other = status(&rig, asked, 3);
        assert_eq!((&other["running"], &other["running_other"]), (&json!([]), &json!(["vc/manager-0"])), "{other}");
        assert_eq!((&other["found"], &other["digest"]), (&json!(digest(&rig)), &json!(digest(&rig))), "{other}");
    }
    let _ = printed(&mut docker.command(&["rm", "--force", "one"]));
    // An image that came another way is noted when it is pushed, and need not be sent.
    let names = printed(&mut docker.command(&["image", "ls", "--format", "{{.Repository}}:{{.Tag}}"]));
    let notes: Vec<&str> = names.lines().filter(|name| name.starts_with("vcdist.invalid/")).collect();
    let _ = printed(&mut docker.command(&[&["rmi"], &notes[..]].concat()));
    assert_eq!(status(&rig, &WITHOUT_STORE, 1), Value::Null);
    assert_eq!(push(&rig, &["manager"]).node()["result"], "up-to-date");
    assert_eq!(status(&rig, &WITHOUT_STORE, 0)["present"], true);
    let _ = printed(&mut docker.command(&["rmi", NAME]));
    let lost = status(&rig, &WITHOUT_STORE, 3);
    assert_eq!((&lost["found"], &lost["present"], &lost["complete"]), (&Value::Null, &json!(false), &json!(true)));
}

#[test]
fn a_damaged_blob_leaves_docker_without_the_image() {
    let rig = without_containerd();
    let docker = RigDocker::start(&rig);
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
    let storage = crio(&rig, &[]);
    let conf = storage.conf.clone();
    two(&rig);
    let images = ["manager", "syncer"];
    let cold = push(&rig, &images).node();
    assert_eq!((&cold["result"], &cold["via"]), (&json!("pushed"), &json!("skopeo")), "{cold}");
    assert_eq!(cold["blobs"], json!({"needed": 7, "sent": 7}));
    let again = push(&rig, &images).node();
    assert_eq!((&again["result"], &again["bytes"]["sent"]), (&json!("up-to-date"), &json!(0)));
    assert_eq!(storage.notes(), 2);
    // An image that came another way is noted when it is pushed, and stays what it is.
    let notes = storage.all_names().into_iter().filter(|name| name.starts_with("vcdist.invalid/"));
    for note in notes {
        let _ = storage.printed("podman", &["untag", &note, &note]);
    }
    assert_eq!(storage.notes(), 0);
    assert_eq!(push(&rig, &images).node()["result"], "up-to-date");
    assert_eq!(storage.notes(), 2);
    let by_digest = format!("containers-storage:docker.io/virtualcluster/manager-amd64@{}", digest(&rig));
    let manifest = storage.printed("skopeo", &["inspect", "--raw", &by_digest]);
    assert_eq!(Digest::of(manifest.as_bytes()).to_string(), digest(&rig));

    image(&rig.store(), "manager", &noise(1, 2 * MB), &noise(9, MB));
    let changed = push(&rig, &images).node();
    assert_eq!(changed["blobs"], json!({"needed": 3, "sent": 3}), "layer, configuration, manifest");
    let standing = status(&rig, &WITHOUT_STORE, 0);
    assert_eq!((&standing["found"], &standing["present"]), (&json!(digest(&rig)), &json!(true)), "{standing}");
    assert_eq!((&standing["pinned"], &standing["running"]), (&Value::Null, &Value::Null), "the storage does not tell");
    assert_eq!(status(&rig, &[], 0), standing);
    let digest = digest(&rig);
    for name in [NAME.to_owned(), format!("docker.io/virtualcluster/manager-amd64@{digest}")] {
        let mut inspect = Command::new("skopeo");
        inspect.args(["inspect", "--config", "--raw", &format!("containers-storage:{name}")]);
        let output = inspect.env("CONTAINERS_STORAGE_CONF", &conf).output().expect("skopeo runs");
        assert_eq!(Digest::of(&output.stdout).to_string(), config(&rig), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let left = rig.var_tmp().read_dir_utf8().expect("a folder").count();
    assert_eq!(left, 0, "the folder it went through is gone");

    // A CRI-O node with nothing that could take images in.
    storage.hide(&rig, &["skopeo", "podman"]);
    let refused = push(&rig, &["manager"]);
    assert_eq!(refused.code(), 1);
    let said = refused.stderr();
    assert!(said.contains("its container runtime is CRI-O, and the node has neither skopeo nor podman"), "{said}");
    assert!(said.contains("help: install skopeo on the node"), "{said}");
}

#[test]
fn a_push_to_crio_that_is_cut_leaves_no_folder_behind() {
    let rig = without_containerd();
    let _storage = crio(&rig, &["podman"]);
    image(&rig.store(), "manager", &noise(1, MB), &noise(2, MB));
    let slow = rig.path().join("bin/skopeo");
    write_program(&slow, "#!/bin/sh\ncase $1 in copy) sleep 2;; esac\nexec /usr/bin/skopeo \"$@\"\n");
    rig.prefer_programs_in(&rig.path().join("bin"));
    rig.add_to_environment(&format!("CONTAINERS_STORAGE_CONF={}", rig.path().join("storage.conf")));
    // Others died of a worse cut, one long ago.
    let folders = ["vcdist-1-1", "vcdist-2-2", "vcdist-relay"].map(|name| rig.var_tmp().join(name));
    folders.iter().for_each(|folder| fs::create_dir_all(folder).expect("a folder"));
    let touched = Command::new("touch").args(["--date", "2 days ago"]).args([&folders[0], &folders[2]]).status();
    assert!(touched.expect("touch runs").success());

    let mut push =
        vcdist(&rig, "push", &["manager"]).stderr(Stdio::null()).stdout(Stdio::null()).spawn().expect("vcdist");
    let left = || -> Vec<String> {
        let entries = rig.var_tmp().read_dir_utf8().expect("a folder");
        let mut names: Vec<String> = entries.flatten().map(|entry| entry.file_name().to_owned()).collect();
        names.sort();
        names
    };
    let until = |what: &str, is_so: &dyn Fn() -> bool| {
        wait::until_within(wait::WITHIN, is_so, || format!("{what}: {:?}", left()));
    };
    until("its layout comes", &|| left().len() == 3 && !left().contains(&"vcdist-1-1".to_owned()));
    push.kill().expect("it runs");
    push.wait().expect("it ends");
    until("its folder goes", &|| left() == ["vcdist-2-2", "vcdist-relay"]);
}

#[test]
fn docker_loses_what_was_pushed_and_nothing_needs() {
    let rig = without_containerd();
    let docker = RigDocker::start(&rig);
    image(&rig.store(), "manager", &noise(1, 2 * MB), &noise(2, MB));
    let old = digest(&rig);
    push(&rig, &["manager"]).report(0);
    let old_id = docker.id(NAME);
    let _ = printed(&mut docker.command(&["create", "--name", "made", NAME, "/none"]));
    image(&rig.store(), "manager", &noise(1, 2 * MB), &noise(3, MB));
    let new = digest(&rig);
    push(&rig, &["manager"]).report(0);
    // Somebody else's image of the very same name, which no push of ours brought.
    let _ = printed(&mut docker.command(&["tag", &old_id, "docker.io/others/theirs:v1"]));

    let used = prune(&rig, &[]);
    assert_eq!((&used["via"], &of(&used, &new)["kept_by"]), (&json!("docker"), &json!("the last push")));
    let kept_by = of(&used, &old)["kept_by"].as_str().expect("a container").to_owned();
    assert!(kept_by.starts_with("container ") && freed(&used) == 0, "{used}");
    let _ = printed(&mut docker.command(&["rm", "made"]));

    let named = prune(&rig, &[]);
    assert_eq!((&of(&named, &old)["removed"], freed(&named)), (&json!(true), 0), "the other name keeps it");
    assert_eq!(docker.id("docker.io/others/theirs:v1"), old_id);

    let listed = || -> Vec<String> {
        let listed = printed(&mut docker.command(&["image", "ls", "-a", "--format", "{{.Repository}}:{{.Tag}}"]));
        let mut names: Vec<String> = listed.lines().map(str::to_owned).collect();
        names.sort();
        names
    };
    let before = listed();
    let dry = prune(&rig, &["--all", "--dry-run"]);
    assert_eq!(listed(), before, "a dry run changes nothing");
    assert_eq!(dry["images"].as_array().map(Vec::len), Some(1), "the old one is theirs now");
    let all = prune(&rig, &["--all"]);
    assert_eq!(all, dry);
    assert_eq!(of(&all, &new)["records"].as_array().map(Vec::len), Some(2), "its name and the note");
    assert_eq!(freed(&all), MB as u64, "the base is the other's too: {all}");
    let left = listed();
    assert!(left == ["docker.io/others/theirs:v1"] || left == ["others/theirs:v1"], "{left:?}");
}

#[test]
fn podman_fills_the_storage_of_crio_and_removes_single_names() {
    let rig = without_containerd();
    let storage = crio(&rig, &["skopeo"]);
    image(&rig.store(), "manager", &noise(1, 2 * MB), &noise(2, MB));
    let cold = push(&rig, &["manager"]).node();
    assert_eq!((&cold["result"], &cold["via"]), (&json!("pushed"), &json!("podman")), "{cold}");
    assert_eq!(push(&rig, &["manager"]).node()["result"], "up-to-date");
    assert_eq!(storage.notes(), 1, "the second push notes nothing anew");
    let id = storage.printed("podman", &["image", "inspect", "--format", "{{.Id}}", NAME]);
    assert_eq!(format!("sha256:{id}"), config(&rig));
    let old = digest(&rig);
    assert_eq!(storage.names(), [NAME], "podman's own name for the folder it came from is gone");

    image(&rig.store(), "manager", &noise(1, 2 * MB), &noise(3, MB));
    let new = digest(&rig);
    push(&rig, &["manager"]).report(0);
    let _ = storage.printed("podman", &["create", "--name", "made", &id, "/none"]);
    let used = prune(&rig, &[]);
    assert_eq!((&used["via"], &of(&used, &new)["kept_by"]), (&json!("podman"), &json!("the last push")));
    assert!(of(&used, &old)["kept_by"].as_str().is_some_and(|by| by.starts_with("container ")), "{used}");
    let _ = storage.printed("podman", &["rm", "made"]);

    let _ = storage.printed("podman", &["tag", &id, "docker.io/others/theirs:v1"]);
    let dry = prune(&rig, &["--dry-run"]);
    let named = prune(&rig, &[]);
    assert_eq!((&named, &of(&named, &old)["removed"], freed(&named)), (&dry, &json!(true), 0));
    assert_eq!(
        storage.printed("podman", &["image", "inspect", "--format", "{{.Id}}", "docker.io/others/theirs:v1"]),
        id
    );
    assert_eq!(storage.names().len(), 2, "{:?}", storage.names());
    let all = prune(&rig, &["--all"]);
    assert!(freed(&all) > MB as u64 && freed(&all) < MB as u64 + 10_000, "the base is the other's too: {all}");
    assert_eq!(storage.names(), ["docker.io/others/theirs:v1"]);
}

#[test]
fn skopeo_removes_what_nobody_else_has_named() {
    let rig = without_containerd();
    let storage = crio(&rig, &["podman"]);
    image(&rig.store(), "manager", &noise(1, 2 * MB), &noise(2, MB));
    let old = digest(&rig);
    push(&rig, &["manager"]).report(0);
    image(&rig.store(), "manager", &noise(1, 2 * MB), &noise(3, MB));
    push(&rig, &["manager"]).report(0);
    let theirs = ["containers-storage:docker.io/others/theirs:v1"];
    let copy = ["copy", "--insecure-policy", "--quiet"];
    let from = format!("containers-storage:docker.io/virtualcluster/manager-amd64@{old}");
    let _ = storage.printed("skopeo", &[&copy[..], &[&from], &theirs].concat());
    let kept = prune(&rig, &[]);
    assert_eq!(kept["via"], "skopeo");
    assert_eq!(of(&kept, &old)["kept_by"], "the name docker.io/others/theirs:v1", "skopeo would take it away too");
    assert_eq!(storage.names().len(), 4);

    let all = prune(&rig, &["--all"]);
    assert!(freed(&all) > MB as u64 && freed(&all) < MB as u64 + 10_000, "the base is the other's too: {all}");
    assert_eq!(storage.names().len(), 2, "{:?}", storage.names());
    storage.hide(&rig, &["skopeo"]);
    let mut refused = Command::new(env!("CARGO_BIN_EXE_vcdist"));
    refused.args(["prune", "--host", "127.0.0.1", "--ssh-user", "root", "--ignore-cluster", "--ssh-config"]);
    let refused: PushOutput = refused.arg(rig.path().join("ssh_config")).output().expect("vcdist runs").into();
    assert_eq!(refused.code(), 1);
    let said = refused.stderr();
    assert!(said.contains("the node has neither podman nor skopeo to remove images with"), "{said}");
}
