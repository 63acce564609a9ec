//! Our archives in other tools' hands: skopeo reads both of their forms, umoci unpacks them, Docker loads and runs them.

use std::process::Command;

use camino::Utf8PathBuf;
use end_to_end::Stage;
use rigs::Run;
use rigs::docker::Docker;

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
                let seen = Run::of(Command::new("skopeo").args(["inspect", &source])).json();
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
    Run::of(Command::new("skopeo").args(["--insecure-policy", "copy", &source, &target])).succeeded();
}

#[test]
fn umoci_unpacks_a_gzip_archive() {
    let stage = Stage::new();
    let _ = stage.images(&["--base", "scratch", "--compression", "gzip", "--components", "manager"]);
    let layout = stage.path().join("layout");
    std::fs::create_dir(&layout).unwrap();
    Run::of(Command::new("tar").args(["-xf", archive(&stage, "manager").as_str(), "-C", layout.as_str()])).succeeded();
    let bundle = stage.path().join("bundle");
    let unpack = ["unpack", "--image", &format!("{layout}:latest"), bundle.as_str()];
    Run::of(Command::new("umoci").args(unpack)).succeeded();
    let version = Run::of(Command::new(bundle.join("rootfs/usr/local/bin/manager")).arg("--version")).printed();
    assert!(version.contains("1970-01-01T00:00:00Z"), "the stamp of the fixed build date: {version}");
}

#[test]
fn docker_loads_a_gzip_archive_and_runs_it() {
    let stage = Stage::new();
    let built = stage.images(&["--base", "scratch", "--compression", "gzip"]);
    let docker = Docker::start(&stage.path().join("docker")).unwrap();
    for (i, component) in COMPONENTS.iter().enumerate() {
        let loaded = Run::of(docker.command().args(["load", "--input", archive(&stage, component).as_str()])).printed();
        assert!(loaded.contains(&format!("virtualcluster/{component}-amd64:latest")), "{loaded}");
        let reference = built["images"][i]["reference"].as_str().unwrap();
        let arguments = ["run", "--rm", "--network", "none", reference, "--version"];
        let version = Run::of(docker.command().args(arguments)).printed();
        assert!(version.contains("1970-01-01T00:00:00Z"), "{version}");
    }
}
