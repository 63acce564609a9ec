//! Cargo workspaces: compiled from the lock and the source alone, the same wherever that is.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use rigs::Run;

use crate::bench::{Actions, Bench, copy, digests, sha256, untar};
use crate::command::{changed_meanwhile, has_begun};

/// Both programs of the fixture.
const PROJECT: &str = "base = \"scratch\"\ncompression = \"gzip\"\n[defaults]\nimage = \"registry.example/{component}:v1\"\n\
                       bin = \"{component}\"\nbuild_env = { HELLO_VERSION = \"{version}\" }\n\
                       [components.hello]\n[components.goodbye]\n";

fn with_workspace(folder: &str) -> Bench {
    let bench = Bench::new();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/cargo");
    copy(&fixture, &bench.path(folder));
    bench.write(&format!("{folder}/vcbuild.toml"), PROJECT);
    bench
}

/// Builds with nothing of the Cargo that runs this test.
pub(crate) fn build(bench: &Bench, arguments: &[&str]) -> Command {
    let mut command = bench.vcbuild(&[&["images", "--output", "json"], arguments].concat());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CARGO_") && name != "CARGO_HOME") {
        command.env_remove(name);
    }
    command
}

/// Whether a program asks for the loader of shared libraries.
fn needs_libraries(bench: &Bench, program: &Path) -> bool {
    bench.tool("readelf", &["--program-headers", program.to_str().unwrap()]).contains("INTERP")
}

#[test]
fn a_workspace_is_compiled_once_and_to_the_same_wherever_it_is() {
    let bench = with_workspace("here");
    let run = |arguments: &[&str]| Run::of(&mut build(&bench, &[&["--source-dir", "here"], arguments].concat()));
    let first = run(&[]);
    let digest = digests(&first.json());
    assert_eq!((first.ran("compile"), first.ran("layer")), (2, 2), "{first:?}");
    assert_eq!(run(&[]).json()["actions"]["run"], 0);

    untar(&bench.path("out/hello-amd64.tar"), &bench.path("layout"));
    bench.tool("umoci", &["unpack", "--rootless", "--image", "layout:v1", "bundle"]);
    let program = bench.path("bundle/rootfs/usr/local/bin/hello");
    assert_eq!(Run::of(&mut Command::new(&program)).stdout, "hello to all 1! v0.0.0\n");
    // It needs no library of a base, and names no place of this machine, not even in what it says of a failure.
    let content = fs::read(&program).unwrap();
    let has = |text: &str| content.windows(text.len()).any(|part| part == text.as_bytes());
    assert!(!needs_libraries(&bench, &program), "a static binary");
    assert!(!has(bench.path("").to_str().unwrap()) && !has("/.cargo/"), "{}", program.display());
    assert!(has("greet/src/lib.rs"));

    // Elsewhere, in another store, with other settings, unconfined: the same.
    copy(&bench.path("here"), &bench.path("some/where/else"));
    bench.write("some/where/else/target/debug/left", "not mine");
    let mut there = build(&bench, &["--source-dir", "some/where/else", "--sandbox", "off", "--jobs", "1"]);
    there.env("VCBUILD_STORE", bench.path("other")).env("RUSTFLAGS", "-g").env("HELLO_VERSION", "not this");
    assert_eq!(digests(&Run::of(&mut there).json()), digest);

    // What is compiled already stays in the store's care, and a changed file is all that is compiled again.
    let mark = bench.path("store/cache/cargo");
    let library = || {
        let find = walkdir::WalkDir::new(&mark).into_iter().map(Result::unwrap);
        let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
        let rlib = |path: &Path| name(path).starts_with("libitoa") && path.extension().is_some_and(|ext| ext == "rlib");
        let found = find.map(walkdir::DirEntry::into_path).find(|path| rlib(path)).unwrap();
        (fs::metadata(&found).unwrap().modified().unwrap(), sha256(&found))
    };
    let before = library();
    bench.edit("here/hello/src/bin/goodbye.rs", "goodbye after", "goodbye, after");
    let changed = run(&[]);
    assert_eq!((changed.ran("compile"), changed.ran("layer")), (2, 1), "{changed:?}");
    let after = digests(&changed.json());
    assert!(after["hello"] == digest["hello"] && after["goodbye"] != digest["goodbye"]);
    assert_eq!(library(), before);
    // Back again: from the store, and nothing is compiled.
    bench.edit("here/hello/src/bin/goodbye.rs", "goodbye, after", "goodbye after");
    assert_eq!((run(&[]).ran("compile"), digests(&run(&[]).json())), (0, digest));
}

#[test]
fn features_profiles_and_flags_reach_the_compiler() {
    let bench = with_workspace("here");
    let says = || {
        let mut command = build(&bench, &["--source-dir", "here", "--components", "hello"]);
        let made = Run::of(&mut command);
        assert_eq!(made.code, Some(0), "{made:?}");
        let _ = fs::remove_dir_all(bench.path("layout"));
        let _ = fs::remove_dir_all(bench.path("bundle"));
        untar(&bench.path("out/hello-amd64.tar"), &bench.path("layout"));
        bench.tool("umoci", &["unpack", "--rootless", "--image", "layout:v1", "bundle"]);
        let program = bench.path("bundle/rootfs/usr/local/bin/hello");
        (Run::of(&mut Command::new(&program)).stdout, needs_libraries(&bench, &program))
    };
    bench.edit(
        "here/vcbuild.toml",
        "[components.hello]\n",
        "[components.hello]\nbin = \"hello/hello\"\nprofile = \"dev\"\ndefault_features = false\n",
    );
    let (said, quiet) = says();
    assert_eq!(said, "hello to all 1. v0.0.0\n");
    bench.edit(
        "here/vcbuild.toml",
        "false\n",
        "false\nfeatures = [\"loud\"]\nlink_static = false\nrustflags = [\"-Copt-level=1\"]\n",
    );
    let (said, loud) = says();
    assert_eq!(said, "hello to all 1! v0.0.0\n");
    assert!(!quiet && loud, "the second needs the C library of its base");
}

#[test]
fn another_environment_or_input_compiles_anew_whatever_build_scripts_say() {
    let bench = with_workspace("here");
    bench.edit("here/hello/build.rs", "    println!(\"cargo::rerun-if-env-changed=HELLO_VERSION\");\n", "");
    let mark = "std::env::var(\"HELLO_VERSION\").unwrap() + &std::fs::read_to_string(\"/opt/word\").unwrap()";
    bench.edit(
        "here/hello/build.rs",
        "\"const MARK: &str = \\\"!\\\";\\n\"",
        &format!("format!(\"const MARK: &str = {{:?}};\", {mark})"),
    );
    bench.write("word", "first");
    let word = bench.path("word");
    bench.edit("here/vcbuild.toml", "bin = ", &format!("inputs = {{ \"/opt/word\" = {word:?} }}\nbin = "));
    let says = |version: &str| {
        let stamp = format!("version={version}");
        let arguments = ["--source-dir", "here", "--components", "hello", "--stamp", &stamp];
        let made = Run::of(&mut build(&bench, &arguments));
        assert_eq!(made.code, Some(0), "{made:?}");
        for folder in ["layout", "bundle"] {
            let _ = fs::remove_dir_all(bench.path(folder));
        }
        untar(&bench.path("out/hello-amd64.tar"), &bench.path("layout"));
        bench.tool("umoci", &["unpack", "--rootless", "--image", "layout:v1", "bundle"]);
        Run::of(&mut Command::new(bench.path("bundle/rootfs/usr/local/bin/hello"))).stdout
    };
    assert_eq!(says("v1"), "hello to all 1v1first v1\n");
    assert_eq!(says("v2"), "hello to all 1v2first v2\n");
    bench.write("word", "second");
    assert_eq!(says("v2"), "hello to all 1v2second v2\n");
    // What was compiled for what is not asked for any more is gone.
    let find = walkdir::WalkDir::new(bench.path("store/cache/cargo")).into_iter().map(Result::unwrap);
    let of_source = |entry: &walkdir::DirEntry| entry.path().components().any(|part| part.as_os_str() == "targets");
    assert_eq!(find.filter(|entry| entry.file_name() == ".rustc_info.json" && of_source(entry)).count(), 1);
}

#[test]
fn no_program_that_a_source_names_runs_outside_the_sandbox() {
    let bench = with_workspace("here");
    let mark = bench.path("ran");
    bench.write("here/wrap", &format!("#!/bin/sh\n{{ echo $* >> {}; }} 2> /dev/null\nexec \"$@\"\n", mark.display()));
    bench.tool("chmod", &["+x", "here/wrap"]);
    bench.write(
        "here/.cargo/config.toml",
        "[build]\nrustc-wrapper = \"./wrap\"\nrustc-workspace-wrapper = \"./wrap\"\n\
         [registry]\nglobal-credential-providers = [\"./wrap\"]\n[source.crates-io]\nreplace-with = \"near\"\n\
         [source.near]\nregistry = \"sparse+http://127.0.0.1:1/\"\n",
    );
    let made = Run::of(&mut build(&bench, &["--source-dir", "here", "--components", "hello"]));
    assert!(!mark.exists(), "{}", bench.read("ran"));
    // The wrappers are the source's to use in the sandbox; where crates come from is not.
    assert_eq!(made.code, Some(0), "{made:?}");

    bench.write("here/rust/bin/rustc", &format!("#!/bin/sh\ntouch {}\n", mark.display()));
    bench.tool("chmod", &["+x", "here/rust/bin/rustc"]);
    let rust = bench.path("here/rust").display().to_string();
    let forms = [("rust-toolchain", rust.clone()), ("rust-toolchain.toml", format!("[toolchain]\npath = {rust:?}\n"))];
    for (file, text) in forms {
        bench.write(&format!("here/{file}"), &text);
        let mut named = build(&bench, &["--source-dir", "here"]);
        Run::of(named.env_remove("RUSTUP_TOOLCHAIN"))
            .failed(1, &["looking for Rust: ", file, "names a toolchain by its folder"]);
        assert!(!mark.exists(), "{file}");
        fs::remove_file(bench.path("here").join(file)).unwrap();
    }
    assert_eq!(bench.run(&["init", "here", "--force"]).code, Some(0));
    assert!(!mark.exists(), "{}", bench.read("ran"));
}

#[test]
fn what_cannot_be_compiled_is_named() {
    let bench = with_workspace("here");
    let fails = |messages: &[&str]| Run::of(&mut build(&bench, &["--source-dir", "here"])).failed(1, messages);
    bench.edit("here/vcbuild.toml", "[components.goodbye]", "[components.adieu]");
    fails(&["compiling adieu: the workspace has no binary adieu", "hello/goodbye, hello/hello"]);
    bench.edit("here/vcbuild.toml", "[components.adieu]", "[components.adieu]\nbin = \"goodbye\"");
    bench.edit("here/greet/src/lib.rs", "itoa::Buffer", "itoa::Puffer");
    fails(&["error: compiling adieu for linux/amd64", "cannot find", "Puffer", "greet/src/lib.rs"]);
    bench.edit("here/greet/src/lib.rs", "itoa::Puffer", "itoa::Buffer");
    // A build script is code as any other: it has no network, and sees what is declared.
    let script = bench.read("here/hello/build.rs");
    bench.edit(
        "here/hello/build.rs",
        "fn main() {",
        "fn main() {\n    std::net::TcpStream::connect(\"192.0.2.1:80\").unwrap();",
    );
    fails(&["compiling adieu", "NetworkUnreachable"]);
    bench.write("here/hello/build.rs", &script);
    bench.edit("here/hello/build.rs", "fn main() {", "fn main() {\n    std::fs::read(\"/etc/hostname\").unwrap();");
    fails(&["compiling adieu", "No such file or directory"]);
    bench.write("here/hello/build.rs", &script);

    let lock = bench.read("here/Cargo.lock");
    bench.write("here/Cargo.lock", &lock.replace("checksum = \"", "checksum = \"0000"));
    fails(&["here/vcbuild.lock: it pins crate itoa ", ", but found sha256:0000"]);
    fs::remove_file(bench.path("here/vcbuild.lock")).unwrap();
    fails(&["fetching the crates of ", "itoa"]);
    fs::remove_file(bench.path("here/vcbuild.lock")).unwrap();
    fs::remove_file(bench.path("here/Cargo.lock")).unwrap();
    fails(&["opening the source here: the folder has no Cargo.lock"]);
    bench.write("here/Cargo.lock", &lock);
    let mut none = build(&bench, &["--source-dir", "here"]);
    Run::of(none.env("PATH", bench.path("")))
        .failed(1, &["looking for Rust: the rustc command is not installed", "install Rust"]);
    let mut offline = build(&bench, &["--source-dir", "here", "--offline", "--store", "empty"]);
    Run::of(&mut offline).failed(1, &["fetching the crates of ", "--offline forbids"]);
    let mut inner = build(&bench, &["--source-dir", "here", "--source-subdir", "hello"]);
    bench.write("here/hello/Cargo.lock", &lock);
    Run::of(&mut inner).failed(1, &["it is a member of the workspace in ", "the whole workspace"]);
}

#[test]
fn offline_no_rust_is_installed() {
    // Another rustc than rustup's passes over what a source asks for.
    if Command::new("rustup").arg("--version").output().is_err() {
        return;
    }
    let bench = with_workspace("here");
    bench.write("here/rust-toolchain.toml", "[toolchain]\nchannel = \"1.2.0\"\n");
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    server.set_nonblocking(true).unwrap();
    let mut offline = build(&bench, &["--source-dir", "here", "--offline"]);
    offline.env("RUSTUP_AUTO_INSTALL", "1").env_remove("RUSTUP_TOOLCHAIN");
    offline.env("RUSTUP_DIST_SERVER", format!("http://{}", server.local_addr().unwrap()));
    Run::of(&mut offline).failed(
        1,
        &["looking for the Rust toolchain of ", "installing it requires network access", "1.2.0", "install"],
    );
    assert!(server.accept().is_err(), "a connection was opened");
}

#[test]
fn a_platform_that_rust_cannot_compile_for_is_named() {
    let installed =
        Run::of(Command::new("rustc").args(["--print", "target-libdir", "--target", "aarch64-unknown-linux-gnu"]));
    if Path::new(installed.stdout.trim()).is_dir() {
        return;
    }
    let bench = with_workspace("here");
    let run = Run::of(&mut build(&bench, &["--source-dir", "here", "--platform", "linux/arm64"]));
    run.failed(1, &["compiling for linux/arm64: the Rust in ", "rustup target add aarch64-unknown-linux-gnu"]);
}

#[test]
fn what_cargo_compiled_while_an_input_changed_is_not_kept() {
    let bench = Bench::new();
    let inputs = tempfile::tempdir().unwrap();
    fs::set_permissions(&inputs, fs::Permissions::from_mode(0o755)).unwrap();
    let project = format!(
        "base = \"scratch\"\n[components.x]\nimage = \"registry.example/x:v1\"\nbin = \"x\"\ninputs = {{ \"/inputs\" = {:?} }}\n",
        inputs.path()
    );
    bench.write("here/vcbuild.toml", &project);
    bench.write("here/Cargo.toml", "[package]\nname = \"x\"\nversion = \"0.1.0\"\nedition = \"2021\"\n");
    bench.write("here/Cargo.lock", "version = 4\n\n[[package]]\nname = \"x\"\nversion = \"0.1.0\"\n");
    bench.write("here/src/main.rs", "fn main() {}\n");
    bench.write(
        "here/build.rs",
        "fn main() {\n    std::fs::write(std::env::var(\"OUT_DIR\").unwrap() + \"/begun\", \"\").unwrap();\n    \
         while !std::path::Path::new(\"/inputs/late\").exists() {\n        \
         std::thread::sleep(std::time::Duration::from_millis(20));\n    }\n}\n",
    );
    changed_meanwhile(&bench, &mut build(&bench, &["--source-dir", "here", "--timeout", "60"]), inputs.path());
    assert!(!has_begun(&bench), "Cargo would take it again when the input is what it was");
    assert_eq!(Run::of(&mut build(&bench, &["--source-dir", "here"])).ran("compile"), 1);
}

/// A workspace whose linker links nothing, and leaves what this script makes at `$out`, where Cargo would put the program.
fn with_linker(script: &str) -> Bench {
    let bench = Bench::new();
    bench.write("app/Cargo.toml", "[package]\nname = \"app\"\nversion = \"1.0.0\"\nedition = \"2021\"\n");
    bench.write("app/Cargo.lock", "version = 4\n\n[[package]]\nname = \"app\"\nversion = \"1.0.0\"\n");
    bench.write("app/src/main.rs", "fn main() {}\n");
    let find = "while [ \"$1\" != -o ]; do shift; done; out=$(dirname \"$2\")/../app";
    bench.write("app/ld.sh", &format!("#!/bin/bash\n{find}\n{script}\n"));
    bench.tool("chmod", &["755", "app/ld.sh"]);
    let target = std::env::consts::ARCH;
    bench.write("app/.cargo/config.toml", &format!("[target.{target}-unknown-linux-gnu]\nlinker = \"./ld.sh\"\n"));
    let component = "[components.app]\nimage = \"registry.example/app:v1\"\nbin = \"app\"\nlink_static = false\n";
    bench.write("app/vcbuild.toml", &format!("base = \"scratch\"\n{component}"));
    bench
}

#[test]
fn what_stands_in_the_place_of_a_binary_is_taken_only_if_it_is_a_plain_file() {
    let secret = tempfile::NamedTempFile::new().unwrap();
    fs::write(secret.path(), "a secret of this machine").unwrap();
    let secret = format!("ln -s {} \"$out\"", secret.path().display());
    let cases = [
        (secret.as_str(), "is a symbolic link or below one"),
        ("ln -s deps \"$out\"", "is a symbolic link or below one"),
        ("ln -s /dev/zero \"$out\"", "is a symbolic link or below one"),
        ("mkfifo \"$out\"", "is not a regular file"),
        ("truncate -s 4T \"$out\" || exit 153", "failed: exit status: 153"),
    ];
    for (script, why) in cases {
        let bench = with_linker(script);
        let run = Run::of(&mut build(&bench, &["--source-dir", "app", "--sandbox", "required", "--timeout", "1m"]));
        run.failed(1, &[why]);
        assert!(!bench.path("out/app-amd64.tar").exists(), "{script}");
        assert_eq!(bench.tool("bash", &["-c", "grep -rl 'a secret of' store/blobs || true"]), "", "{script}");
    }
}

#[test]
fn what_one_source_leaves_in_cargos_folder_is_never_taken_for_another() {
    let bench = with_workspace("here");
    let manifest = "here/hello/Cargo.toml";
    bench.write(manifest, &format!("{}\n[build-dependencies]\nitoa = \"1\"\n", bench.read(manifest)));
    bench.edit("here/Cargo.lock", " \"greet\",\n]", " \"greet\",\n \"itoa\",\n]");
    bench.edit("here/hello/build.rs", "fn main() {\n", "fn main() {\n    let _ = itoa::Buffer::new();\n");
    let honest = bench.read("here/hello/build.rs");
    let run = || Run::of(&mut build(&bench, &["--source-dir", "here", "--sandbox", "required"]));
    let first = digests(&run().json());

    // As whoever may propose a change: it spoils what others would link, and makes the same program as before.
    let spoil = "for file in std::fs::read_dir(\"/build/target/release/deps\").unwrap().map(|file| file.unwrap().path()) {\n\
                 if file.to_string_lossy().contains(\"libitoa\") { std::fs::write(file, \"spoiled\").unwrap(); }\n}\n";
    bench.edit("here/hello/build.rs", "fn main() {\n", &format!("fn main() {{\n{spoil}"));
    run();

    bench.write("here/hello/build.rs", &honest);
    bench.edit("here/hello/src/bin/goodbye.rs", "goodbye after", "goodbye, after");
    let after = run();
    assert_eq!(after.ran("compile"), 2, "{after:?}");
    let after = digests(&after.json());
    assert!(after["hello"] == first["hello"] && after["goodbye"] != first["goodbye"]);
}

#[test]
fn a_workspace_has_what_is_above_and_beside_it_in_its_source() {
    let bench = Bench::new();
    let package = |name: &str| format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2021\"\n");
    let files = [
        (
            "s/vcbuild.toml",
            "base = \"scratch\"\ncompression = \"gzip\"\n[source]\nsubdir = \"rust\"\n[components.app]\nbin = \"app\"\n\
             image = \"registry.example/app:v1\"\n"
                .to_owned(),
        ),
        ("s/README.md", "read me,".to_owned()),
        ("s/.cargo/config.toml", "[env]\nWORD = \"configured\"\n".to_owned()),
        ("s/rust/Cargo.toml", "[workspace]\nmembers = [\"app\"]\nresolver = \"2\"\n".to_owned()),
        (
            "s/rust/Cargo.lock",
            "version = 4\n\n[[package]]\nname = \"app\"\nversion = \"0.1.0\"\ndependencies = [\n \"shared\",\n]\n\n\
             [[package]]\nname = \"shared\"\nversion = \"0.1.0\"\n"
                .to_owned(),
        ),
        ("s/rust/app/Cargo.toml", package("app") + "[dependencies]\nshared = { path = \"../../shared\" }\n"),
        (
            "s/rust/app/src/main.rs",
            "fn main() {\n    print!(\"{} {} {}\", include_str!(\"../../../README.md\"), shared::word(), env!(\"WORD\"));\n}\n".to_owned(),
        ),
        ("s/shared/Cargo.toml", package("shared")),
        ("s/shared/src/lib.rs", "pub fn word() -> &'static str {\n    \"shared,\"\n}\n".to_owned()),
    ];
    for (path, text) in &files {
        bench.write(path, text);
    }
    bench.commit("s");
    let run = |arguments: &[&str]| Run::of(&mut build(&bench, arguments));
    let first = run(&["--project", "s/vcbuild.toml"]);
    let digest = digests(&first.json());
    untar(&bench.path("out/app-amd64.tar"), &bench.path("layout"));
    bench.tool("umoci", &["unpack", "--rootless", "--image", "layout:v1", "bundle"]);
    let said = Run::of(&mut Command::new(bench.path("bundle/rootfs/usr/local/bin/app"))).stdout;
    assert_eq!(said, "read me, shared, configured");
    // Where the source is does not count, nor do the surroundings, though Cargo tells apart where crates beside it are.
    copy(&bench.path("s"), &bench.path("some/where/else"));
    let mut there = build(&bench, &["--project", "some/where/else/vcbuild.toml"]);
    assert_eq!(digests(&Run::of(there.env("VCBUILD_STORE", bench.path("other"))).json()), digest);
    let mut check = bench.vcbuild(&["check", "--project", "s/vcbuild.toml"]);
    check.envs(std::env::vars().filter(|(name, _)| name == "CARGO_HOME"));
    Run::of(&mut check).succeeded();

    // From the workspace alone they are not there, and that is said.
    run(&["--source-dir", "s/rust", "--project", "s/vcbuild.toml"]).failed(
        1,
        &["reading the Cargo workspace ", "the crate shared is in ../shared, outside the source", "--source-subdir"],
    );
    bench.write("s/rust/app/Cargo.toml", &package("app"));
    bench.write("s/rust/Cargo.lock", "version = 4\n\n[[package]]\nname = \"app\"\nversion = \"0.1.0\"\n");
    bench.write("s/rust/app/src/main.rs", "fn main() {\n    print!(include_str!(\"../../../README.md\"));\n}\n");
    bench.write(
        "alone.toml",
        "base = \"scratch\"\n[components.app]\nbin = \"app\"\nimage = \"registry.example/app:v1\"\n",
    );
    run(&["--source-dir", "s/rust", "--project", "alone.toml"])
        .failed(1, &["README.md", "not part of the source, because they are outside its folder"]);
    // A part of a workspace is told which whole it is a part of.
    let part = run(&["--source-dir", "s", "--source-subdir", "rust/app", "--project", "alone.toml"]);
    part.failed(1, &["rust/app: it is a member of the workspace in ", "name the folder of the whole workspace"]);
}
