//! What vcbuild is given by somebody who means it no good, or by an unlucky machine: refused in words, and nothing half done.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Command, Stdio};

use rigs::Run;
use serde_json::json;

use crate::bench::Bench;

/// A project of one file, which is built in no time.
fn with_note() -> Bench {
    let bench = Bench::new();
    bench.write("note", "Hello.\n");
    bench.write("vcbuild.toml", &project("prebuilt = { \"/note\" = \"note\" }"));
    bench
}

fn project(lines: &str) -> String {
    format!("base = \"scratch\"\n[components.note]\nimage = \"registry.example/note:v1\"\n{lines}\n")
}

#[test]
fn a_file_that_cannot_be_read_as_what_it_is_named_for_is_a_mistake_of_the_user() {
    let bench = with_note();
    let refused = |arguments: &[&str], messages: &[&str]| bench.run(arguments).failed(2, messages);
    refused(&["images", "--project", "gone.toml"], &["reading project gone.toml", "No such file", "help: "]);
    refused(&["images", "--project", "/dev/zero"], &["reading project /dev/zero", "larger than the limit of 16 MiB"]);
    fs::write(bench.path("latin"), b"base = \"\xe4\"\n").unwrap();
    refused(&["images", "--project", "latin"], &["reading project latin", "not valid UTF-8 from line 1 on"]);
    refused(&["images", "--lock", "latin"], &["reading lock file latin", "not valid UTF-8"]);
    refused(&["images", "--lock", "store"], &["reading lock file store", "Is a directory"]);
    refused(&["images", "--trust-key", "gone.pub"], &["reading the key gone.pub", "No such file", "NAME:BASE64"]);
    bench.write("edited.toml", &format!("{}[[edits]]\npatch = \"gone.patch\"\n", bench.read("vcbuild.toml")));
    refused(&["images", "--project", "edited.toml"], &["reading patch gone.patch"]);
    assert!(!bench.path("out").exists());
}

#[test]
fn an_address_or_a_module_that_would_be_an_option_is_refused_before_a_program_has_it() {
    let bench = with_note();
    let source = |lines: &str| {
        bench.write("source.toml", &format!("{}[source]\n{lines}\n", bench.read("vcbuild.toml")));
        bench.run(&["images", "--project", "source.toml", "--offline"])
    };
    for (lines, word) in [
        ("repo = \"--upload-pack=x\"", "\"--upload-pack=x\" is not a valid address of a git repository"),
        ("repo = \"\"", "\"\" is not a valid address"),
        ("repo = \"a\\nb\"", "\"a\\nb\" is not a valid address"),
        ("repo = \"file:///x\"\nversion = \"-x\"", "\"-x\" is not a valid version of a git repository"),
        ("module = \"-reuse=/x@v1\"", "\"-reuse=/x@v1\": it is not a valid module path"),
        ("module = \"../x@v1\"", "it is not a valid module path"),
        ("module = \"example.org/x@\"", "it is not a valid module version"),
    ] {
        source(lines).failed(2, &["opening the source", word, "help: "]);
    }
}

#[test]
fn a_lock_cannot_name_a_folder_of_this_machine_as_what_was_cloned() {
    let bench = with_note();
    let project = format!("{}[source]\nrepo = \"https://example.org/a.git\"\n", bench.read("vcbuild.toml"));
    bench.write("vcbuild.toml", &project);
    let elsewhere = bench.path("elsewhere").display().to_string();
    for commit in [elsewhere.as_str(), "../../x", "--git-dir", "4444", &"G".repeat(40)] {
        let lock = format!("version = 2\n\n[source.\"https://example.org/a.git\".HEAD]\ncommit = \"{commit}\"\n");
        bench.write("vcbuild.lock", &lock);
        bench.run(&["images", "--offline"]).failed(2, &["reading lock file vcbuild.lock", "git hashes", "line 3"]);
    }
    bench.write("vcbuild.lock", "version = 2\n\n[go.\"1.26.x\"]\nversion = \"../../x\"\n\n[go.\"1.26.x\".sums]\n");
    bench
        .run(&["images", "--offline"])
        .failed(2, &["reading lock file vcbuild.lock", "\"../../x\" is not a Go version"]);
}

#[test]
fn an_input_of_a_command_makes_no_file_on_this_machine() {
    let bench = with_note();
    let outside = bench.path("outside");
    fs::create_dir(&outside).unwrap();
    let built = |inside: &str| {
        let inputs = format!("inputs = {{ \"{inside}\" = \"/etc/hostname\" }}");
        bench.write(
            "vcbuild.toml",
            &project(&format!("command = [\"true\"]\noutputs = {{ \"/x\" = \"x\" }}\n{inputs}")),
        );
        let run = bench.run(&["images", "--sandbox", "required"]);
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "{run:?}");
        run
    };
    let there = format!("/.host{}", outside.display());
    let where_it_is = "is a path that the sandbox reserves for the machine's own files";
    built(&format!("{there}/new")).failed(2, &["project vcbuild.toml: component note: its input", where_it_is]);
    symlink(&there, bench.path("link")).unwrap();
    built("/build/source/link/new").failed(
        1,
        &[
            "mount /etc/hostname at /build/source/link/new",
            "/build/source/link is a symbolic link in the sandbox, which could point elsewhere",
        ],
    );
}

#[test]
fn a_path_of_the_environment_that_is_no_text_is_not_passed_over_for_another() {
    let bench = with_note();
    for name in ["VCBUILD_STORE", "VCBUILD_CONFIG", "HOME"] {
        let run = Run::of(bench.vcbuild(&["images"]).env(name, OsStr::from_bytes(b"/nowhere/\xff")));
        run.failed(2, &[&format!("using {name}: \"/nowhere/\\xFF\" is not UTF-8"), "help: "]);
    }
}

#[test]
fn who_stops_reading_or_cannot_be_written_to_changes_nothing_but_what_is_read() {
    let bench = with_note();
    let code = |command: &mut Command| command.stdin(Stdio::null()).status().unwrap().code();
    let full = || File::create("/dev/full").unwrap();
    let missing = bench.run(&["images", "--project", "gone.toml"]);
    assert_eq!(code(bench.vcbuild(&["images", "--project", "gone.toml"]).stderr(full())), missing.code);
    assert_eq!(code(bench.vcbuild(&["-vv", "images"]).stderr(full()).stdout(Stdio::null())), Some(0));
    assert_eq!(code(bench.vcbuild(&["schema"]).stdout(full()).stderr(Stdio::null())), Some(1));
    // As in `vcbuild schema | head`, once head is gone.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let left = bench.vcbuild(&["schema"]).stdout(writer).stderr(Stdio::piped()).output().unwrap();
    assert_eq!((left.status.code(), left.stderr.as_slice()), (Some(0), &b""[..]));
}

#[test]
fn a_check_leaves_names_alone_and_needs_no_folder_for_temporary_files() {
    let bench = with_note();
    let digest = |bench: &Bench| bench.json(&["inspect", "registry.example/note:v1"])["images"][0]["digest"].clone();
    bench.json(&["images"]);
    let built = digest(&bench);
    bench.edit("vcbuild.toml", "[components.note]", "[components.note]\nuser = \"65532\"");
    // One that is not there, and one in the source.
    for folder in ["/nowhere", ""] {
        let run = Run::of(bench.vcbuild(&["check", "--output", "json"]).env("TMPDIR", folder));
        assert_eq!(run.json(), json!({"actions": 4, "differences": []}), "{run:?}");
    }
    assert_eq!(digest(&bench), built);
    bench.json(&["images"]);
    assert_ne!(digest(&bench), built);
}

#[test]
fn a_look_at_an_image_makes_no_store() {
    let bench = Bench::new();
    bench
        .run(&["inspect", "note", "--store", "none"])
        .failed(1, &["opening the store ", "there is no store", "--store"]);
    assert!(!bench.path("none").exists());
}

#[test]
fn what_an_image_says_does_not_steer_the_terminal() {
    let bench = with_note();
    bench.write(
        "vcbuild.toml",
        &project("prebuilt = { \"/note\" = \"note\" }\nlabels = { a = \"\\u001b]0;x\\u0007\" }"),
    );
    bench.json(&["images"]);
    let inspected = bench.run(&["inspect", "out/note-amd64.tar"]);
    inspected.succeeded();
    assert!(inspected.stdout.contains("labels      a=\\u{1b}]0;x\\u{7}\n"), "{inspected:?}");
    let labels = &bench.json(&["inspect", "registry.example/note:v1"])["images"][0]["platforms"][0]["config"]["config"]
        ["Labels"];
    assert_eq!(labels["a"], "\u{1b}]0;x\u{7}", "a program reads it as it is");
}

#[test]
fn a_file_takes_none_of_the_base_away() {
    let bench = with_note();
    bench.write("folder/.wh.passwd", "");
    bench
        .write("vcbuild.toml", &project("prebuilt = { \"/note\" = \"note\" }\nfiles.\"/etc\" = { from = \"folder\" }"));
    bench.run(&["images"]).failed(1, &["adding etc/.wh.passwd to a layer", "of a lower layer", "help: "]);
    bench.write("vcbuild.toml", &project("prebuilt = { \"/etc/.wh.passwd\" = \"note\" }"));
    bench.run(&["images"]).failed(2, &["\"/etc/.wh.passwd\" is not an absolute path of a file"]);
    assert!(!bench.path("out").exists());
}

#[test]
fn a_file_that_could_not_be_written_whole_is_not_there() {
    let bench = Bench::with_hello();
    fs::remove_file(bench.path("hello/vcbuild.toml")).unwrap();
    for arguments in [["init", "hello"], ["key", "generate"]] {
        // No file may have a byte, as on a full disk.
        let limited = "trap '' XFSZ; ulimit -f 0; exec \"$0\" \"$@\"";
        let mut command = bench.around(Command::new("sh"), &["-c", limited, env!("CARGO_BIN_EXE_vcbuild")]);
        command.args(arguments).args((arguments[0] == "key").then_some("cache-1"));
        Run::of(&mut command).failed(1, &["error: writing ", "File too large"]);
    }
    assert!(!bench.path("hello/vcbuild.toml").exists() && !bench.path("cache-1.key").exists());
    bench.run(&["key", "generate", "cache-1"]).succeeded();
    bench.run(&["key", "generate", "cache-1"]).failed(1, &["writing ./cache-1.key", "File exists"]);
}

#[test]
fn a_folder_of_any_name_makes_a_project_that_can_be_read() {
    let bench = Bench::with_hello();
    fs::remove_file(bench.path("hello/vcbuild.toml")).unwrap();
    bench.write("hello/cmd/\"three\\/main.go", "package main\n\nfunc main() {}\n");
    let written = bench.json(&["init", "hello"]);
    assert_eq!(written["components"], json!(["one", "three-", "two"]));
}

#[test]
fn a_package_is_found_where_images_without_dpkg_describe_it() {
    let bench = with_note();
    bench.write("tzdata", "Package: tzdata\nVersion: 2026f-0\nArchitecture: all\n");
    let files = "files.\"/var/lib/dpkg/status.d/tzdata\" = { from = \"tzdata\" }";
    bench.write("vcbuild.toml", &project(&format!("prebuilt = {{ \"/note\" = \"note\" }}\n{files}")));
    bench.json(&["images"]);
    let chain = &bench.json(&["why", "tzdata"])["reasons"][0]["chain"];
    let kinds: Vec<_> = chain.as_array().unwrap().iter().map(|link| link["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["layer", "action", "package"]);
    assert_eq!((&chain[2]["name"], &chain[0]["detail"]), (&json!("tzdata 2026f-0"), &json!("1 of 2, 186 B")));
}

#[test]
fn a_store_that_another_user_may_change_is_refused_unless_its_user_says_that_it_is_safe() {
    let bench = with_note();
    bench.run(&["images"]).succeeded();
    let actions = bench.path("store/actions");
    fs::set_permissions(&actions, fs::Permissions::from_mode(0o777)).unwrap();
    let messages = ["opening the store", "actions is writable by all users (mode 0777)", "VCBUILD_SAFE_STORES="];
    for command in ["images", "gc"] {
        bench.run(&[command]).failed(1, &messages);
    }
    let trusting = |safe: &str| Run::of(bench.vcbuild(&["images"]).env("VCBUILD_SAFE_STORES", safe));
    trusting(bench.path("store").to_str().unwrap()).succeeded();
    trusting("*").succeeded();
    trusting("/elsewhere").failed(1, &messages);
    fs::set_permissions(&actions, fs::Permissions::from_mode(0o755)).unwrap();
    // A folder around it that everybody may write to is said.
    fs::set_permissions(bench.path(""), fs::Permissions::from_mode(0o777)).unwrap();
    let warned = bench.run(&["images"]);
    warned.succeeded();
    assert!(warned.stderr.contains("another user could replace the store"), "{warned:?}");
    if std::os::unix::fs::chown(&actions, Some(65534), None).is_ok() {
        bench.run(&["images"]).failed(1, &["actions belongs to user 65534, but you are user 0"]);
        Run::of(bench.vcbuild(&["images"]).env("SUDO_UID", "65534")).succeeded();
    }
}

/// Makes a folder a repository of one commit: of its files, and of these entries for submodules.
fn with_links(bench: &Bench, folder: &str, links: &str) {
    bench.commit(folder);
    bench.write("links", links);
    bench.tool("sh", &["-c", &format!("git -C {folder} update-index --index-info < links")]);
    bench.git(folder, &["commit", "--quiet", "-m", "submodules"]);
}

#[test]
fn what_a_submodule_names_reaches_no_program_and_no_file_of_this_machine() {
    let bench = with_note();
    bench.write("secret/file", "a secret of this machine");
    bench.commit("secret");
    let secret = bench.path("secret").display().to_string();
    let ran = bench.path("ran").display().to_string();
    let commit = bench.git("secret", &["rev-parse", "HEAD"]);
    let shell = format!("ext::sh -c touch% {ran}");
    let option = format!("--upload-pack=touch {ran}");
    let ssh = format!("ssh://-oProxyCommand=touch%20{ran}/x");
    let file = format!("file://{secret}");
    let helper = format!("hg::{secret}");
    let broken = format!("https://example.org/x\\nupload-pack = touch {ran}");
    let addresses = [&shell, &option, &ssh, &file, &secret, &helper, &broken, "../secret", ""].map(str::to_owned);
    for (number, address) in addresses.into_iter().enumerate() {
        let app = format!("app{number}");
        bench.write(&format!("{app}/note"), "Hello.\n");
        let modules = format!("[submodule \"sub\"]\n\tpath = sub\n\turl = \"{address}\"\n");
        bench.write(&format!("{app}/.gitmodules"), &modules);
        with_links(&bench, &app, &format!("160000 {commit}\tsub\n"));
        let project = format!(
            "{}[source]\nrepo = \"file://{}\"\n",
            project("prebuilt = { \"/note\" = \"note\" }"),
            bench.path(&app).display()
        );
        bench.write("source.toml", &project);
        let mut build = bench.vcbuild(&["images", "--project", "source.toml", "--lock", &format!("{app}.lock")]);
        let run = Run::of(build.env("GIT_CONFIG_GLOBAL", "/dev/null"));
        assert_eq!(run.code, Some(1), "{address}: {run:?}");
        assert!(run.stderr.contains("cloning "), "{address}: {run:?}");
        assert!(!bench.path("ran").exists(), "{address}");
    }
}

#[test]
fn a_submodule_stays_in_its_place_and_there_is_an_end_to_them() {
    let bench = with_note();
    bench.write("app/note", "Hello.\n");
    let commit = "4444444444444444444444444444444444444444";
    // More of them than any source has.
    let many: String = (0..1001).map(|number| format!("160000 {commit}\tsub{number}\n")).collect();
    with_links(&bench, "app", &many);
    let build = |folder: &str| {
        let project = format!(
            "{}[source]\nrepo = \"file://{}\"\n",
            project("prebuilt = { \"/note\" = \"note\" }"),
            bench.path(folder).display()
        );
        bench.write("source.toml", &project);
        bench.run(&["images", "--project", "source.toml", "--lock", &format!("{folder}.lock")])
    };
    build("app").failed(1, &["it has more than 1000 submodules, or nests them deeper than 10"]);
    // The address of another place, which a link of the source leads to, is not the address of this one.
    bench.write("linked/note", "Hello.\n");
    symlink("..", bench.path("linked/out")).unwrap();
    bench.write("linked/.gitmodules", "[submodule \"x\"]\n\tpath = out/linked/deep/sub\n\turl = ../x\n");
    with_links(&bench, "linked", &format!("160000 {commit}\tdeep/sub\n"));
    build("linked").failed(1, &["its submodule deep/sub has no address in .gitmodules"]);
}
