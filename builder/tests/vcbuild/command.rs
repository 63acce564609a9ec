//! Components that a command makes: sandboxed, keyed by all it sees, and held to what it declares.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rigs::{Run, wait};

use crate::bench::{Actions, Bench, copy, digests, text, untar};

/// A project of two components that one run of a makefile makes, with an input of this machine.
const PROJECT: &str = r#"
base = "scratch"
compression = "gzip"
[defaults]
image = "registry.example/{component}-{arch}:v1"
command = ["make", "-s", "all", "WHERE=out/{arch}"]
build_env = { GREETING = "hello ${NAME} {version}" }
outputs = { "/usr/local/bin/{component}" = "out/{arch}/{component}" }
inputs = { "/inputs/name" = "../name.txt" }
[components.one]
outputs = { "/usr/share/one" = "out/{arch}/share" }
[components.two]
"#;

const MAKEFILE: &str = r#"
all:
	mkdir -p $(WHERE)/share/deep
	for name in one two; do \
	  printf '#!/bin/sh\necho %s: %s %s\n' $$name "$$GREETING" "$$(cat /inputs/name)" > $(WHERE)/$$name; \
	  chmod 700 $(WHERE)/$$name; \
	done
	cat src/data > $(WHERE)/share/deep/data
"#;

fn with_makefile(folder: &str) -> Bench {
    let bench = Bench::new();
    bench.write(&format!("{folder}/vcbuild.toml"), PROJECT);
    bench.write(&format!("{folder}/Makefile"), MAKEFILE);
    bench.write(&format!("{folder}/src/data"), "data\n");
    bench.write("name.txt", "world");
    bench
}

/// A project of one component that this script makes.
fn with_script(script: &str) -> Bench {
    let bench = Bench::new();
    let project = format!(
        "base = \"scratch\"\n[components.x]\nimage = \"registry.example/x:v1\"\noutputs = {{ \"/x\" = \"x\" }}\n\
         command = [\"bash\", \"-c\", '''{script}''']\n"
    );
    bench.write("vcbuild.toml", &project);
    bench
}

#[test]
fn a_command_makes_the_files_of_components_that_share_it_in_one_run() {
    let bench = with_makefile("app");
    let build = || bench.run(&["images", "--source-dir", "app", "--output", "json"]);
    let first = build();
    let digest = digests(&first.json());
    assert_eq!((first.ran("command"), first.ran("layer")), (1, 2), "{first:?}");
    assert_eq!(build().json()["actions"]["run"], 0);

    untar(&bench.path("out/one-amd64.tar"), &bench.path("layout"));
    bench.tool("umoci", &["unpack", "--rootless", "--image", "layout:v1", "bundle"]);
    let made = |path: &str| bench.path("bundle/rootfs").join(path);
    let script = fs::read_to_string(made("usr/local/bin/one")).unwrap();
    assert_eq!(script, "#!/bin/sh\necho one: hello ${NAME} v0.0.0 world\n");
    assert_eq!(fs::read_to_string(made("usr/share/one/deep/data")).unwrap(), "data\n");
    let mode = |path: &str| fs::metadata(made(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("usr/local/bin/one"), mode("usr/share/one/deep/data")), (0o755, 0o644));

    // What it does not read counts too, because nobody knows that; but it makes no other image.
    bench.write("app/README.md", "Hello.\n");
    let readme = build();
    assert_eq!((readme.ran("command"), readme.ran("layer"), digests(&readme.json())), (1, 0, digest.clone()));
    bench.write("name.txt", "moon");
    let input = build();
    assert_eq!((input.ran("command"), input.ran("layer")), (1, 2), "{input:?}");
    bench.write("name.txt", "world");
    bench.write("app/src/data", "other\n");
    let source = build();
    assert_eq!((source.ran("command"), source.ran("layer")), (1, 1), "{source:?}");
    let after = digests(&source.json());
    assert!(after["one"] != digest["one"] && after["two"] == digest["two"]);
    assert!(!bench.path("app/out").exists(), "the source stays as it is");
}

#[test]
fn a_command_makes_the_same_elsewhere_and_unconfined() {
    let bench = with_makefile("app");
    let here = bench.json(&["images", "--source-dir", "app"]);
    copy(&bench.path("app"), &bench.path("some/where/else"));
    bench.write("some/where/name.txt", "world");
    let mut there = bench.vcbuild(&["images", "--source-dir", "some/where/else", "--output", "json"]);
    there.env("VCBUILD_STORE", bench.path("other")).env("GREETING", "not this").env("LC_ALL", "tr_TR.UTF-8");
    assert_eq!(digests(&Run::of(&mut there).json()), digests(&here));

    let off = bench.run(&["images", "--source-dir", "app", "--sandbox", "off", "--store", "unconfined"]);
    off.failed(1, &["name.txt must appear at /inputs/name, which requires a sandbox", "use the input's own path"]);
    let place = fs::canonicalize(bench.path("name.txt")).unwrap();
    for file in ["vcbuild.toml", "Makefile"] {
        let changed = bench.read(&format!("app/{file}")).replace("/inputs/name", place.to_str().unwrap());
        bench.write(&format!("app/{file}"), &changed);
    }
    let off = bench.json(&["images", "--source-dir", "app", "--sandbox", "off", "--store", "unconfined"]);
    let confined = bench.json(&["images", "--source-dir", "app", "--sandbox", "required"]);
    assert_eq!((digests(&off), digests(&confined)), (digests(&here), digests(&here)));
}

#[test]
fn a_command_sees_the_same_folders_under_every_umask() {
    let bench = with_script("stat -c \"%a %n\" / /build . deep deep/er /inputs /inputs/deep > x");
    bench.edit("vcbuild.toml", "command", "inputs = { \"/inputs/deep/file\" = \"name.txt\" }\ncommand");
    bench.write("name.txt", "world");
    bench.write("deep/er/file", "x");
    let build = |umask: &str| {
        let script = format!("umask {umask}; exec \"$0\" \"$@\"");
        let mut command = bench.around(Command::new("sh"), &["-c", &script, env!("CARGO_BIN_EXE_vcbuild")]);
        command.args(["images", "--store", &format!("store-{umask}"), "--output", "json"]);
        let run = Run::of(&mut command);
        assert_eq!(run.ran("command"), 1, "{run:?}");
        digests(&run.json())
    };
    let usual = build("022");
    for umask in ["077", "002"] {
        assert_eq!(build(umask), usual, "{umask}");
    }
}

/// Starts a build, adds `late` to its input when a file `begun` is in the store, and checks that it fails for that.
pub(crate) fn changed_meanwhile(bench: &Bench, build: &mut Command, input: &Path) {
    let building = build.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    wait::until("the command begins", || has_begun(bench));
    fs::write(input.join("late"), "").unwrap();
    let ended = building.wait_with_output().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    let why = format!("reading {}: the file changed during the build", input.display());
    assert!(said.contains(&why), "{said}");
}

/// Whether the store has a file of this name.
pub(crate) fn has_begun(bench: &Bench) -> bool {
    let mut files = walkdir::WalkDir::new(bench.path("store")).into_iter().filter_map(Result::ok);
    files.any(|entry| entry.file_name() == "begun")
}

#[test]
fn what_a_command_made_while_an_input_changed_is_not_kept() {
    let bench = with_script("touch begun; until [ -e /inputs/late ]; do sleep 0.02; done; ls /inputs > x");
    let inputs = tempfile::tempdir().unwrap();
    fs::set_permissions(&inputs, fs::Permissions::from_mode(0o755)).unwrap();
    let declared = format!("inputs = {{ \"/inputs\" = \"{}\" }}\ncommand", inputs.path().display());
    bench.edit("vcbuild.toml", "command", &declared);
    changed_meanwhile(&bench, &mut bench.vcbuild(&["images", "--timeout", "60"]), inputs.path());
    assert_eq!(fs::read_dir(bench.path("store/actions")).unwrap().count(), 0);
    assert_eq!(bench.run(&["images", "--output", "json"]).ran("command"), 1);
}

#[test]
fn a_command_that_does_not_do_what_it_declares_is_named_with_why() {
    let fails = |script: &str, messages: &[&str]| {
        let bench = with_script(script);
        let run = bench.run(&["images"]);
        run.failed(1, messages);
        let left = walkdir::WalkDir::new(bench.path("store/tmp")).into_iter().map(Result::unwrap);
        assert_eq!(left.filter(|entry| entry.file_type().is_file()).count(), 0, "{script}");
        run
    };
    fails("true", &["running `bash -c true` of x for linux/amd64: it did not make x", "correct `outputs`"]);
    fails("echo no such luck >&2; exit 3", &["running `bash -c ", "no such luck", "no network"]);
    fails("mkdir x", &["its output x is an empty folder"]);
    fails("mkdir x; ln -s /etc x/y", &["its output x/y is a symbolic link"]);
    fails("ln -s /usr/bin/env x", &["its output x is a symbolic link that points outside the source's folder"]);
    fails("mkfifo x", &["its output x is not a file or folder"]);
    fails("head -c 18 /bin/true > x; printf '\\xb7' >> x; tail -c +20 /bin/true >> x", &["x is a program for arm64"]);
}

#[test]
fn a_command_sees_and_changes_nothing_that_is_not_declared() {
    let fails = |script: &str, messages: &[&str]| with_script(script).run(&["images"]).failed(1, messages);
    fails("cp /etc/hostname x", &["/etc/hostname", "its standard error names /etc/hostname"]);
    fails("echo > x; echo > /usr/share/mine", &["/usr/share/mine: Read-only file system"]);
    fails("echo > x; exec 3<>/dev/tcp/192.0.2.1/80", &["Network is unreachable"]);
    let none = with_script("cp /etc/hostname x");
    none.edit("vcbuild.toml", "[components.x]\n", "[components.x]\nsystem = false\n");
    none.run(&["images"]).failed(1, &["running `bash -c ", "bash"]);
    none.edit("vcbuild.toml", "command", "inputs = { \"/etc/hostname\" = \"nowhere\" }\ncommand");
    none.run(&["images"]).failed(1, &["building x: its input nowhere cannot be used", "correct `inputs`"]);
}

#[test]
fn a_command_without_the_machines_programs_is_made_of_its_inputs_alone() {
    let bench = with_script("");
    // A static program needs nothing else: the tests' own Go makes one.
    bench.write("tool/go.mod", "module example.org/tool\n\ngo 1.21\n");
    bench.write(
        "tool/main.go",
        "package main\n\nimport \"os\"\n\nfunc main() { if os.WriteFile(os.Args[1], []byte(\"made\"), 0o644) != nil { os.Exit(1) } }\n",
    );
    let mut go = bench.around(Command::new("go"), &["build", "-o", "../made-by", "."]);
    go.env("CGO_ENABLED", "0").env("GOCACHE", bench.path("store/cache/go-build")).current_dir(bench.path("tool"));
    let compiled = Run::of(&mut go);
    assert_eq!(compiled.code, Some(0), "{compiled:?}");
    let project = "base = \"scratch\"\n[components.x]\nimage = \"registry.example/x:v1\"\noutputs = { \"/x\" = \"x\" }\n\
                   system = false\ninputs = { \"/tool\" = \"made-by\" }\ncommand = [\"/tool\", \"x\"]\n[source]\ndir = \"src\"\n";
    bench.write("vcbuild.toml", project);
    bench.write("src/a", "a");
    let built = bench.json(&["images"]);
    let records = bench.json(&["inspect", "registry.example/x:v1"]);
    assert_eq!(text(&records["images"][0]["name"]), text(&built["images"][0]["reference"]));
    let record = fs::read_dir(bench.path("store/actions"))
        .unwrap()
        .map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap());
    let command = record.into_iter().find(|record| record.contains("\"kind\":\"command\"")).unwrap();
    assert!(command.contains("\"system\":null") && command.contains("\"/tool\":"), "{command}");
}

#[test]
fn archives_of_any_build_are_none_of_the_source() {
    let bench = Bench::new();
    let project = "base = \"scratch\"\ncompression = \"gzip\"\n[components.x]\nimage = \"registry.example/x:v1\"\n\
                   outputs = { \"/x\" = \"x\" }\ncommand = [\"bash\", \"-c\", \"files=$(find * -type f | sort); echo $files > x\"]\n";
    bench.write("app/vcbuild.toml", project);
    let build = |out: &str| bench.run(&["images", "--source-dir", "app", "--out", out, "--output", "json"]);
    let sees = || {
        for folder in ["layout", "bundle"] {
            let _ = fs::remove_dir_all(bench.path(folder));
        }
        untar(&bench.path("app/out/x-amd64.tar"), &bench.path("layout"));
        bench.tool("umoci", &["unpack", "--rootless", "--image", "layout:v1", "bundle"]);
        bench.read("bundle/rootfs/x")
    };
    bench.write("app/out/old.tar", "of a component that is gone");
    assert_eq!(build("app/out").ran("command"), 1);
    assert_eq!(sees(), "vcbuild.toml\n");
    bench.write("app/out/older.tar", "of another one");
    assert_eq!(build("app/out").ran("command"), 0);
    let checked = bench.run(&["check", "app/out/x-amd64.tar", "--source-dir", "app"]);
    assert_eq!(checked.code, Some(0), "{checked:?}");

    // Where git tracks the source it is the same; what it tracks is source, wherever it is.
    bench.write("app/.gitignore", "out\n");
    bench.commit("app");
    assert_eq!(build("app/out").ran("command"), 1);
    bench.write("app/out/oldest.tar", "of one more");
    assert_eq!(build("app/out").ran("command"), 0);
    assert_eq!(sees(), "vcbuild.toml\n");
    bench.git("app", &["add", "--force", "out/old.tar"]);
    assert_eq!(build("app/out").ran("command"), 1);
    assert_eq!(sees(), "out/old.tar vcbuild.toml\n");
    let checked = bench.run(&["check", "app/out/x-amd64.tar", "--source-dir", "app"]);
    assert_eq!(checked.code, Some(0), "{checked:?}");

    // A folder that is the source itself, however it is named, has more in it than archives.
    bench.tool("rm", &["-r", "app/.git", "app/.gitignore"]);
    for out in ["app/", "app/../app", bench.path("app").to_str().unwrap()] {
        bench.write("app/new", out);
        assert_eq!(build(out).ran("command"), 1, "{out}");
    }
}

#[test]
fn what_stands_in_the_place_of_an_output_is_taken_only_if_it_is_a_plain_file() {
    let secret = tempfile::NamedTempFile::new().unwrap();
    fs::write(secret.path(), "a secret of this machine").unwrap();
    let link = format!("ln -s {} x", secret.path().display());
    let behind = format!("mkdir x; ln -s {} x/y", secret.path().display());
    let holes = "for i in 1 2 3; do truncate -s 400M x$i; done; mkdir x; mv x1 x2 x3 x";
    let cases = [
        (link.as_str(), "is a symbolic link that points outside the source's folder"),
        (behind.as_str(), "is a symbolic link, which could point elsewhere"),
        ("ln -s /proc/self/root/etc x", "is a symbolic link that points outside the source's folder"),
        ("mkfifo x", "is not a file or folder"),
        ("mkfifo pipe; ln -s pipe x", "is not a file or folder"),
        ("truncate -s 4T x || exit 153", "it wrote more than 1.07 GB to disk"),
        (holes, "has 419430400 bytes, more than the allowed 234881024 (--max-disk)"),
    ];
    for (script, why) in cases {
        let bench = with_script(script);
        let run = bench.run(&["images", "--sandbox", "required", "--timeout", "1m", "--max-disk", "1G"]);
        run.failed(1, &[why]);
        assert!(!bench.path("out/x-amd64.tar").exists(), "{script}");
    }
    // A link to something that the command made is what it leads to.
    with_script("echo made > y; ln -s y x").run(&["images", "--sandbox", "required"]).succeeded();
}
