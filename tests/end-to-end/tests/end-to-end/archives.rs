//! Our archives in other tools' hands: skopeo reads both of their forms, umoci unpacks them, Docker loads and runs them.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use end_to_end::{Stage, run};

const COMPONENTS: [&str; 3] = ["manager", "syncer", "vn-agent"];

fn archive(stage: &Stage, component: &str) -> Utf8PathBuf {
    stage.out().join(format!("vc_{component}-amd64.tar"))
}

#[test]
fn skopeo_reads_an_archive_as_oci_archive_and_as_docker_archive() {
    for compression in ["zstd", "gzip", "none"] {
        let stage = Stage::new();
        let built = stage.images(&["--base", "scratch", "--compression", compression]);
        for (i, component) in COMPONENTS.iter().enumerate() {
            for form in ["oci-archive", "docker-archive"] {
                let source = format!("{form}:{}", archive(&stage, component));
                let seen = run(Command::new("skopeo").args(["inspect", &source])).json(0);
                assert_eq!(seen["Architecture"], "amd64", "{form}");
                let layers = built["images"][i]["platforms"][0]["layers"].as_array().unwrap().len();
                assert_eq!(seen["Layers"].as_array().unwrap().len(), layers, "{form}");
                if form == "oci-archive" {
                    assert_eq!(seen["Digest"], built["images"][i]["digest"]);
                }
            }
        }
    }
}

#[test]
fn skopeo_copies_out_of_the_store_itself() {
    let stage = Stage::new();
    let built = stage.images(&["--base", "scratch"]);
    let name = built["images"][0]["reference"].as_str().unwrap();
    let source = format!("oci:{}:{name}", stage.path().join("store"));
    let target = format!("oci:{}", stage.path().join("copy"));
    let _ = run(Command::new("skopeo").args(["--insecure-policy", "copy", &source, &target])).expect(0);
}

#[test]
fn umoci_unpacks_a_gzip_archive() {
    let stage = Stage::new();
    let _ = stage.images(&["--base", "scratch", "--compression", "gzip", "--components", "manager"]);
    let layout = stage.path().join("layout");
    std::fs::create_dir(&layout).unwrap();
    let _ =
        run(Command::new("tar").args(["-xf", archive(&stage, "manager").as_str(), "-C", layout.as_str()])).expect(0);
    let bundle = stage.path().join("bundle");
    let unpack = ["unpack", "--image", &format!("{layout}:latest"), bundle.as_str()];
    let _ = run(Command::new("umoci").args(unpack)).expect(0);
    let version = run(Command::new(bundle.join("rootfs/usr/local/bin/manager")).arg("--version")).expect(0);
    assert!(version.contains("1970-01-01T00:00:00Z"), "the stamp of the fixed build date: {version}");
}

#[test]
fn docker_loads_a_gzip_archive_and_runs_it() {
    let stage = Stage::new();
    let built = stage.images(&["--base", "scratch", "--compression", "gzip"]);
    let docker = Docker::start(stage.path());
    for (i, component) in COMPONENTS.iter().enumerate() {
        let loaded = run(docker.command().args(["load", "--input", archive(&stage, component).as_str()])).expect(0);
        assert!(loaded.contains(&format!("virtualcluster/{component}-amd64:latest")), "{loaded}");
        let reference = built["images"][i]["reference"].as_str().unwrap();
        let arguments = ["run", "--rm", "--network", "none", reference, "--version"];
        let version = run(docker.command().args(arguments)).expect(0);
        assert!(version.contains("1970-01-01T00:00:00Z"), "{version}");
    }
}

/// A Docker daemon of the test's own; it ends when dropped.
struct Docker {
    daemon: Child,
    socket: String,
}

impl Docker {
    fn start(folder: &Utf8Path) -> Self {
        let path = |name: &str| folder.join(name).into_string();
        let socket = format!("unix://{}", path("docker.sock"));
        let log = std::fs::File::create(path("dockerd.log")).unwrap();
        let daemon = Command::new("dockerd")
            .args(["--iptables=false", "--bridge=none", "--host", &socket, "--pidfile", &path("docker.pid")])
            .args(["--data-root", &path("docker-data"), "--exec-root", &path("docker-run")])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let docker = Self { daemon, socket };
        let deadline = Instant::now() + Duration::from_secs(60);
        while run(docker.command().arg("version")).code != 0 {
            let log = std::fs::read_to_string(path("dockerd.log")).unwrap();
            assert!(Instant::now() < deadline, "dockerd does not answer:\n{log}");
            std::thread::sleep(Duration::from_millis(200));
        }
        docker
    }

    fn command(&self) -> Command {
        let mut command = Command::new("docker");
        command.args(["--host", &self.socket]);
        command
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        // SIGTERM, so that it ends its containerd and unmounts what it mounted.
        let _ = Command::new("kill").arg(self.daemon.id().to_string()).status();
        let _ = self.daemon.wait();
    }
}
