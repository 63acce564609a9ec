//! The Nix derivations, on Debian's Nix with its sandbox on: the images are those that `vcbuild images` makes anywhere else.
//!
//! nixpkgs cannot be had on every machine that tests: the flake is evaluated and built with the stand-in in `nixpkgs/`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use camino::{Utf8Path, Utf8PathBuf};
use end_to_end::{Stage, copy_tree, repository};
use rigs::Run;
use serde_json::Value;

/// What the flake says of the images that it builds.
const FIXTURE: [&str; 4] = ["--base", "scratch", "--go", "1.26.8"];

/// Nix with a store of its own in the stage's folder.
struct Nix<'a> {
    stage: &'a Stage,
}

impl Nix<'_> {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("nix");
        let config = "substituters =\nexperimental-features = nix-command flakes\nbuild-users-group =\nsandbox = true\n\
                      sandbox-fallback = false\nallow-import-from-derivation = false\nflake-registry =\n";
        command
            .args(["--store", self.stage.path().join("nix").as_str()])
            .args(arguments)
            .current_dir(self.stage.path())
            .env("NIX_CONFIG", config)
            // Nix keeps what it evaluated and fetched.
            .env("HOME", self.stage.path().join("home"))
            .env_remove("XDG_CACHE_HOME");
        command
    }

    /// Builds, and returns the output's place on this machine. What may be fetched comes from `/downloads`.
    fn build(&self, arguments: &[&str]) -> Utf8PathBuf {
        let mut command = self.command(&[&["build", "--no-link", "--json"], arguments].concat());
        let built = Run::of(command.env("GOPROXY", "file:///downloads")).json();
        let out = built[0]["outputs"]["out"].as_str().unwrap();
        self.stage.path().join("nix").join(out.trim_start_matches('/'))
    }

    /// Builds again what was built, which must come out the same.
    fn again(&self, arguments: &[&str]) -> Run {
        Run::of(&mut self.command(&[&["build", "--no-link", "--rebuild"], arguments].concat()))
    }
}

impl Drop for Nix<'_> {
    fn drop(&mut self) {
        // Nothing in a Nix store may be written, and so not be removed with the stage.
        let _ = Command::new("chmod").args(["-R", "u+w", self.stage.path().join("nix").as_str()]).status();
    }
}

/// A stage with the lock that the flake has for the fixture.
fn stage() -> Stage {
    let stage = Stage::new();
    fs::copy(repository().join("nix/fixture.lock"), stage.path().join("vcbuild.lock")).unwrap();
    stage
}

/// Has Go's own cache stand for the proxy: nothing is fetched twice, and nothing need be reachable.
fn downloads() -> Utf8PathBuf {
    let go = |arguments: &[&str]| Run::of(Command::new("go").current_dir("/").args(arguments)).printed();
    let _ = go(&["mod", "download", &format!("golang.org/toolchain@v0.0.1-go1.26.8.linux-{}", architecture())]);
    Utf8PathBuf::from(go(&["env", "GOMODCACHE"]).trim()).join("cache/download")
}

fn architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}

/// The names and contents of the files in a folder.
fn contents(folder: &Utf8Path) -> BTreeMap<String, Vec<u8>> {
    let entries = folder.read_dir_utf8().unwrap().map(Result::unwrap);
    entries.map(|entry| (entry.file_name().to_owned(), fs::read(entry.path()).unwrap())).collect()
}

#[test]
fn a_derivation_that_needs_no_nixpkgs_builds_the_very_images_and_builds_them_again() {
    let stage = stage();
    let nix = Nix { stage: &stage };
    let proxy = format!("file://{}", downloads());
    let fetch = ["fetch", "--locked", "--to", "inputs", "--source-dir", "source"];
    Run::of(stage.vcbuild().args(fetch).args(FIXTURE).env("GOPROXY", proxy)).succeeded();
    let _ = stage.images(&[&["--inputs", "inputs", "--locked"], &FIXTURE[..]].concat());

    let expression = format!(
        "import {}/nix/images.nix {{ vcbuild = {}; src = ./source; lock = ./vcbuild.lock; inputs = ./inputs; \
         base = \"scratch\"; go = \"1.26.8\"; }}",
        repository(),
        program("VCBUILD"),
    );
    fs::write(stage.path().join("images.nix"), expression).unwrap();
    let archives = nix.build(&["-f", "images.nix"]);
    assert_eq!(contents(&archives).keys().collect::<Vec<_>>(), contents(&stage.out()).keys().collect::<Vec<_>>());
    assert!(contents(&archives) == contents(&stage.out()), "the archives differ");
    nix.again(&["-f", "images.nix"]).succeeded();
}

#[test]
fn the_flake_has_what_it_says_and_its_images_and_bundle_are_the_same_every_time() {
    let stage = stage();
    let nix = Nix { stage: &stage };
    flake(&stage);
    let downloads = downloads();
    let paths = format!("/bin /usr /lib /lib64? /downloads={downloads}");
    let stand_in = format!("path:{}", stage.path().join("nixpkgs"));
    let of = |what: &str| format!("path:{}{what}", stage.path().join("flake"));
    let options =
        ["--override-input", "nixpkgs", &stand_in, "--no-write-lock-file", "--option", "sandbox-paths", &paths];

    let shown = Run::of(&mut nix.command(&[&["flake", "show", "--json"], &options[..], &[&of("")]].concat())).json();
    let names = |of: &Value| of.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    let outputs = ["apps", "checks", "devShells", "formatter", "lib", "overlays", "packages"];
    assert_eq!(names(&shown), set(&outputs));
    for system in ["x86_64-linux", "aarch64-linux"] {
        let packages = ["bundle", "default", "images", "vcbuild", "vcdist"];
        assert_eq!(names(&shown["packages"][system]), set(&packages), "{system}");
        assert_eq!(names(&shown["apps"][system]), set(&["default", "vcbuild", "vcdist"]), "{system}");
    }
    Run::of(&mut nix.command(&[&["flake", "check", "--no-build"], &options[..], &[&of("")]].concat())).succeeded();

    let images = nix.build(&[&options[..], &[&of("#images")]].concat());
    let _ = stage.images(&[&["--locked", "--offline"], &FIXTURE[..]].concat());
    assert!(contents(&images) == contents(&stage.out()), "the archives differ");

    let bundle = of("#bundle");
    let arguments = [&options[..], &[&bundle]].concat();
    let bundle = nix.build(&arguments);
    nix.again(&arguments).succeeded();
    let unpacked = stage.path().join("unpacked");
    fs::create_dir(&unpacked).unwrap();
    Run::of(Command::new("tar").args(["-xf", bundle.as_str(), "-C", unpacked.as_str()])).succeeded();
    let checked = Run::of(Command::new("sha256sum").args(["--check", "SHA256SUMS"]).current_dir(&unpacked)).printed();
    let arch = architecture();
    let expected = ["bin/vcbuild", "bin/vcdist", "manifests/all-in-one.yaml"].map(str::to_owned).into_iter();
    for file in expected.chain(["manager", "syncer", "vn-agent"].map(|name| format!("images/vc_{name}-{arch}.tar"))) {
        assert!(checked.contains(&format!("{file}: OK")), "{file} in {checked}");
    }
    let manifests = fs::read_to_string(unpacked.join("manifests/all-in-one.yaml")).unwrap();
    let inspected = Run::of(
        stage.vcbuild().args(["inspect", "--output", "json"]).arg(images.join(format!("vc_syncer-{arch}.tar"))),
    );
    let digest = inspected.json()["images"][0]["digest"].as_str().unwrap().to_owned();
    assert!(manifests.contains(&digest), "{digest} is not in {manifests}");
}

/// The flake and what its derivations read, in the stage's folder `flake`, with the stand-in for nixpkgs beside it.
fn flake(stage: &Stage) {
    let to = stage.path().join("flake");
    fs::create_dir_all(to.join("fixtures")).unwrap();
    let manifest = fs::read_to_string(repository().join("Cargo.toml")).unwrap();
    let members = manifest.lines().find_map(|line| line.strip_prefix("members = ")).unwrap();
    for file in ["flake.nix", "Cargo.toml", "Cargo.lock", "nix", "fixtures/virtualcluster"] {
        copy_tree(&repository().join(file), &to.join(file));
    }
    // The stand-in looks whether they are there, and not what is in them.
    for member in members.split('"').skip(1).step_by(2) {
        fs::create_dir_all(to.join(member)).unwrap();
    }
    copy_tree(&repository().join("tests/end-to-end/nixpkgs"), &stage.path().join("nixpkgs"));
    let programs = stage.path().join("nixpkgs/bin");
    fs::create_dir(&programs).unwrap();
    for name in ["vcbuild", "vcdist"] {
        fs::copy(program(&name.to_uppercase()), programs.join(name)).unwrap();
        fs::set_permissions(programs.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
}

/// A static binary, as the task that runs these tests names it.
fn program(variable: &str) -> Utf8PathBuf {
    std::env::var(variable)
        .unwrap_or_else(|_| panic!("${variable} is not set: run `cargo xtask test end-to-end`"))
        .into()
}
