//! What gets to a terminal, and what never does: escapes of others, passwords, advice that cannot be followed.

use std::fs::{self, OpenOptions};
use std::path::Path;
use std::process::{Command, Stdio};

use rigs::Run;

use crate::bench::Bench;
use crate::help_commands::Tool;

/// A project of files alone: nothing has to be compiled.
fn with_files() -> Bench {
    let bench = Bench::new();
    bench.write("folder/a", "a");
    bench.write(
        "vcbuild.toml",
        "base = \"scratch\"\n[components.note]\nimage = \"registry.example/note:v1\"\nprebuilt = { \"/note\" = \"folder/a\" }\n\
         files.\"/d\" = { from = \"folder\" }\n",
    );
    bench
}

/// A pipe that nobody reads.
fn unread() -> Stdio {
    let (read, write) = std::io::pipe().unwrap();
    drop(read);
    write.into()
}

#[test]
fn a_file_name_forges_no_line_of_a_diff() {
    let bench = with_files();
    bench.json(&["images", "--out", "before"]);
    for name in ["x\n  - /etc/passwd  0644  1 B", "invoice\u{202e}gpj.sh", "\u{1b}]52;c;eA==\u{7}", "a\u{200b}b"] {
        bench.write(&format!("folder/{name}"), "b");
    }
    bench.json(&["images"]);
    let printed = bench.run(&["diff", "before/note-amd64.tar", "note"]);
    printed.succeeded();
    for shown in ["x\\n  - /etc/passwd", "invoice\\u{202e}gpj.sh", "\\u{1b}]52;c;eA==\\u{7}", "a\\u{200b}b"] {
        assert!(printed.stdout.contains(&format!("  + /d/{shown}")), "{shown} is not in\n{}", printed.stdout);
    }
    assert!(!printed.stdout.lines().any(|line| line.starts_with("  - /etc/passwd")), "{}", printed.stdout);
    let hidden = ['\u{1b}', '\u{7}', '\u{202e}', '\u{200b}'];
    for arguments in [
        &["why", "/d/invoice\u{202e}gpj.sh", "note"][..],
        &["diff", "before/note-amd64.tar", "note", "--output", "json"],
    ] {
        let run = bench.run(arguments);
        assert!(!run.stdout.contains(hidden) && !run.stderr.contains(hidden), "{run:?}");
    }
    bench.json(&["report", "--out", "report.html"]);
    assert!(!bench.read("report.html").contains(hidden));
}

#[test]
fn a_reader_that_goes_away_stops_no_build() {
    let bench = with_files();
    let run = bench.vcbuild(&["images", "-vv"]).stdout(unread()).stderr(unread()).status().unwrap();
    assert_eq!(run.code(), Some(0));
    assert!(bench.path("out/note-amd64.tar").is_file());
    for reading in [
        &["inspect", "note"][..],
        &["graph"],
        &["store", "list", "--output", "json"],
        &["store", "du"],
        &["schema"],
        &["help"],
    ] {
        let run = Run::of(bench.vcbuild(reading).stdout(unread()));
        assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "{reading:?}");
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let run = bench.vcbuild(reading).stdout(full).output().unwrap();
        let said = String::from_utf8(run.stderr).unwrap();
        assert!(run.status.code() == Some(1) && said.starts_with("error: writing "), "{reading:?}: {said}");
    }
}

const SECRET: &str = "s3cretpassw0rd";

/// Whether a file below `folder` has the secret in it.
fn holds(folder: &Path) -> bool {
    fs::read_dir(folder).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        // Go's own cache is all benches'.
        if path.is_symlink() {
            false
        } else if path.is_dir() {
            holds(&path)
        } else {
            fs::read(&path).is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(SECRET))
        }
    })
}

#[test]
fn no_password_or_token_of_an_address_is_said_or_kept() {
    let bench = Bench::with_hello();
    // Of a port that nobody listens on.
    let address = format!("http://user:{SECRET}@127.0.0.1:9/debian");
    let token = format!("https://127.0.0.1:9/a.git?access_token={SECRET}");
    let sums = bench.publish("example.org/secret", "v1.0.0", &[("a.go", "package secret\n")]);
    bench.write("hello/go.sum", &sums);
    bench.edit("hello/cmd/one/main.go", "import ", "import _ \"example.org/secret\"\nimport ");
    bench.edit("hello/go.mod", "go 1.21\n", "go 1.21\n\nrequire example.org/secret v1.0.0\n");
    bench.write("key.pub", "k:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
    let images = ["images", "-vvv", "--source-dir", "hello"];
    let with = |more: &[&str]| bench.vcbuild(&[&images[..], more].concat());
    let mut commands = vec![
        bench.vcbuild(&["base", "debian", "-vvv", "--debian-mirror", &address]),
        bench.vcbuild(&["push", "--to", &address]),
        bench.vcbuild(&["images", "--source-repo", &token]),
        bench.vcbuild(&["images", "--source-repo", &format!("ssh://git:{SECRET}@127.0.0.1:9/a.git")]),
        bench.vcbuild(&["inspect", &format!("docker://{address}")]),
        with(&["--substituter", &address]),
        with(&["--substituter", &token]),
        with(&["--build-host", &format!("ssh://root:{SECRET}@127.0.0.1:9")]),
        with(&["--base", &address]),
        with(&["--base", "debian", "--debian-snapshot", &format!("{address}/{{archive}}")]),
        with(&[&address]),
    ];
    for proxy in [address.clone(), format!("http://127.0.0.1:9/?token={SECRET}|{address}")] {
        let mut command = with(&[]);
        command.env("GOPROXY", proxy).env("GONOSUMDB", "*");
        commands.push(command);
    }
    let mut proxied = bench.vcbuild(&["base", "debian", "-vvv", "--debian-mirror", "http://mirror.invalid/debian"]);
    proxied.env("http_proxy", &address);
    commands.push(proxied);
    for mut command in commands {
        let run = Run::of(&mut command);
        assert!(run.code.is_some_and(|code| code == 1 || code == 2), "{command:?}: {run:?}");
        assert!(!run.stderr.contains(SECRET) && !run.stdout.contains(SECRET), "{command:?}: {run:?}");
        assert!(!holds(&bench.path("")), "{command:?}");
    }
}

#[test]
fn a_store_that_cannot_be_written_to_is_read() {
    let bench = with_files();
    bench.json(&["images"]);
    let store = bench.path("store");
    // In namespaces of its own, the store is on a file system that is read-only.
    let script =
        "mount --bind \"$0\" \"$0\" && mount -o remount,bind,ro \"$0\" && ! touch \"$0/x\" 2>/dev/null && exec \"$@\"";
    let reading = |arguments: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]).arg(&store);
        command.arg(env!("CARGO_BIN_EXE_vcbuild"));
        Run::of(&mut bench.around(command, arguments))
    };
    let before = fs::read_dir(store.join("tmp")).unwrap().count();
    for arguments in [
        &["inspect", "note"][..],
        &["diff", "note", "note"],
        &["graph"],
        &["why", "/note", "note"],
        &["report", "--out", "report.html"],
        &["store", "list", "--actions"],
        &["store", "du"],
        &["store", "path"],
        &["store", "verify"],
    ] {
        let run = reading(arguments);
        assert_eq!(run.code, Some(0), "{arguments:?}: {run:?}");
        // Ages and times are of the moment.
        if !matches!(arguments, ["store", "list" | "du", ..] | ["report", ..]) {
            assert_eq!(run.stdout, bench.run(arguments).stdout, "{arguments:?}");
        }
    }
    assert_eq!(fs::read_dir(store.join("tmp")).unwrap().count(), before);
    // What changes it says why it cannot; damage is told, and stays where it is.
    assert_eq!(reading(&["store", "untag", "note"]).code, Some(1));
    let manifest = bench.json(&["inspect", "note"])["images"][0]["digest"].as_str().unwrap().replace("sha256:", "");
    let blob = store.join("blobs/sha256").join(manifest);
    fs::set_permissions(&blob, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    fs::write(&blob, "damage").unwrap();
    let run = reading(&["store", "verify"]);
    assert!(run.code == Some(3) && run.stdout.contains(", not removed: the store is read-only"), "{run:?}");
    assert!(blob.is_file());
}

/// Options of Cargo, container engines and git that messages speak of.
const FOREIGN: [&str; 5] = ["--workspace", "--security-opt", "--git", "--init", "--no-renames"];

#[test]
fn advice_can_be_followed() {
    let tool = Tool::of("vcbuild", env!("CARGO_BIN_EXE_vcbuild"), &["sandbox", "build-host"]);
    let missing = tool.missing(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")), &FOREIGN);
    assert!(missing.is_empty(), "messages name what there is not:\n{}", missing.join("\n"));
}
