//! A build host: an sshd on the loopback address, and a folder of its own for what vcbuild keeps there.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use rigs::files::write_program;
use rigs::sshd::Sshd;
use rigs::{Run, port, process, wait};
use serde_json::Value;

use crate::bench::{Bench, digests, text};

/// What a shell of Debian's needs of its machine, where a command finds it.
const SHELL: [(&str, &str); 4] = [
    ("/bin/sh", "/bin/dash"),
    ("/bin/sleep", "/bin/sleep"),
    ("/lib64/ld-linux-x86-64.so.2", "/lib64/ld-linux-x86-64.so.2"),
    ("/lib/x86_64-linux-gnu/libc.so.6", "/lib/x86_64-linux-gnu/libc.so.6"),
];

/// Writes a project whose one component a script makes, with nothing of the machine but a shell.
fn write(bench: &Bench, script: &str) {
    let inputs: Vec<_> = SHELL.iter().map(|(inside, host)| format!("\"{inside}\" = \"{host}\"")).collect();
    let project = format!(
        "base = \"scratch\"\n[components.x]\nimage = \"registry.example/x:v1\"\noutputs = {{ \"/x\" = \"x\" }}\n\
         system = false\ninputs = {{ {} }}\ncommand = [\"/bin/sh\", \"-c\", '''{script}''']\n",
        inputs.join(", ")
    );
    bench.write("app/vcbuild.toml", &project);
    bench.write("app/data", "data\n");
}

/// Gives the component more programs of coreutils.
fn add_programs(bench: &Bench, programs: &[&str]) {
    let libraries = ["/lib/x86_64-linux-gnu/libselinux.so.1", "/lib/x86_64-linux-gnu/libpcre2-8.so.0"];
    for path in [&libraries[..], programs].concat() {
        bench.edit("app/vcbuild.toml", "inputs = { ", &format!("inputs = {{ \"{path}\" = \"{path}\", "));
    }
}

/// Builds on the host, into a store of its own.
fn build(bench: &Bench, sshd: &Sshd, store: &str, more: &[&str]) -> Run {
    Run::of(&mut on_host(bench, sshd, store, more))
}

fn on_host(bench: &Bench, sshd: &Sshd, store: &str, more: &[&str]) -> Command {
    let host = format!("ssh://127.0.0.1:{}{}", sshd.port, bench.path("host").display());
    let images = ["images", "--store", store, "--build-host", &host, "--output", "json"];
    let mut command = bench.vcbuild(&[&images[..], more].concat());
    command.env("VCBUILD_SSH_CONFIG", sshd.client_config());
    command
}

fn number(document: &Value, name: &str) -> u64 {
    document["build_host"][name].as_u64().unwrap()
}

#[test]
fn a_host_makes_the_same_is_sent_only_what_it_lacks_and_gives_only_what_is_lacked() {
    let (bench, sshd) = (Bench::new(), Sshd::noisy());
    write(&bench, "read line < data; echo $line $line > x");
    let source = ["--source-dir", "app"];
    let here = digests(&bench.json(&[&["images"][..], &source].concat()));

    let first = build(&bench, &sshd, "one", &source);
    let document = first.json();
    assert_eq!(digests(&document), here);
    assert_eq!(number(&document, "steps"), 1);
    assert!(number(&document, "sent") > 1_000_000 && number(&document, "received") == 10, "{document}");
    let second = build(&bench, &sshd, "two", &source).json();
    assert_eq!((digests(&second), number(&second, "sent"), number(&second, "received")), (here.clone(), 0, 10));
    let known = build(&bench, &sshd, "one", &source).json();
    assert_eq!((digests(&known), number(&known, "steps")), (here, 0), "what was made is not made again");

    // A changed file alone goes there, and what this store has does not come back.
    bench.write("app/data", "data\nmore\n");
    let changed = build(&bench, &sshd, "one", &source).json();
    assert_eq!((number(&changed, "steps"), number(&changed, "sent"), number(&changed, "received")), (1, 10, 0));
    let inspected = bench.json(&["inspect", "x", "--store", "one"]);
    let notes = &inspected["images"][0]["platforms"][0]["provenance"][0]["notes"];
    let sandbox = text(&notes["sandbox"]);
    assert!(sandbox.contains("namespaces, ") && sandbox.contains("filter, on ssh://127.0.0.1:"), "{sandbox}");
    bench.run(&["store", "verify", "--store", "host/store"]).succeeded();
}

#[test]
fn a_damaged_copy_here_or_there_is_never_taken_for_the_file() {
    let (bench, sshd) = (Bench::new(), Sshd::start());
    write(&bench, "read line < data; echo $line $line > x");
    let source = ["--source-dir", "app"];
    let good = digests(&build(&bench, &sshd, "one", &source).json());
    let spoil = |file: &Path, content: &str| {
        fs::set_permissions(file, fs::Permissions::from_mode(0o644)).unwrap();
        fs::write(file, content).unwrap();
    };
    let hex = |content: &str| vcstore::Digest::of(content.as_bytes()).hex();

    // What this store has does not come back, unless it is damaged.
    let output = hex("data data\n");
    spoil(&bench.path(&format!("one/blobs/sha256/{output}")), "DATA data\n");
    bench.write("app/data", "data\nmore\n");
    let again = build(&bench, &sshd, "one", &source).json();
    assert_eq!((number(&again, "steps"), number(&again, "received")), (1, 10));
    assert_eq!(digests(&again), good);

    // A damaged file of the host's is removed, and sent again with the next build.
    let input = hex("data\nmore\n");
    spoil(&bench.path(&format!("host/store/cache/host/files/{}/{input}", &input[..2])), "DATA\nmore\n");
    let why = format!("the kept copy of {input} is damaged, and was removed");
    build(&bench, &sshd, "two", &source).failed(1, &[&why]);
    assert_eq!(digests(&build(&bench, &sshd, "two", &source).json()), good);
}

#[test]
fn what_a_command_removes_on_a_host_is_in_no_image() {
    let (bench, sshd) = (Bench::new(), Sshd::start());
    write(&bench, "rm -r out/gone out/file out/folder; echo > out/folder; mkfifo pipe");
    add_programs(&bench, &["/bin/rm", "/bin/mkfifo"]);
    bench.edit("app/vcbuild.toml", "\"/x\" = \"x\"", "\"/x\" = \"out\"");
    for file in ["out/gone/deep", "out/file", "out/folder/file", "out/kept"] {
        bench.write(&format!("app/{file}"), "x\n");
    }
    let source = ["--source-dir", "app"];
    let here = bench.json(&[&["images"][..], &source].concat());
    let there = build(&bench, &sshd, "one", &source).json();
    assert_eq!(digests(&there), digests(&here));
    assert_eq!(number(&there, "steps"), 1);
    bench.edit("app/vcbuild.toml", "mkfifo pipe", "mkfifo out/pipe");
    for run in [bench.run(&[&["images"][..], &source].concat()), build(&bench, &sshd, "one", &source)] {
        run.failed(1, &["its output out/pipe is not a file or folder"]);
    }
}

#[test]
fn a_command_sees_the_same_folders_on_a_host() {
    let (bench, sshd) = (Bench::new(), Sshd::start());
    write(&bench, "stat -c \"%a %n\" / /build . deep deep/er /bin > x");
    add_programs(&bench, &["/bin/stat"]);
    bench.write("app/deep/er/file", "x\n");
    let source = ["--source-dir", "app"];
    let here = bench.json(&[&["images"][..], &source].concat());
    assert_eq!(digests(&build(&bench, &sshd, "one", &source).json()), digests(&here));
}

#[test]
fn what_fails_on_a_host_is_told_as_it_is_here() {
    let (bench, sshd) = (Bench::new(), Sshd::start());
    let source = ["--source-dir", "app"];
    write(&bench, "echo no such luck >&2; exit 3");
    let run = build(&bench, &sshd, "one", &source);
    run.failed(1, &["running `/bin/sh -c ", "no such luck", "the whole output is in "]);
    write(&bench, "while :; do :; done");
    let run = build(&bench, &sshd, "one", &["--source-dir", "app", "--timeout", "1"]);
    run.failed(1, &["it took longer than 1 s", "--timeout"]);
    write(&bench, "read line < /etc/hostname && echo $line > x");
    build(&bench, &sshd, "one", &source).failed(1, &["/etc/hostname", "declare it as an input"]);
    bench.edit("app/vcbuild.toml", "system = false", "system = true");
    let run = build(&bench, &sshd, "one", &source);
    run.failed(1, &["running /bin/sh on ssh://127.0.0.1:", "this machine's own programs, which are not sent"]);
    assert_eq!(fs::read_dir(bench.path("one/actions")).map_or(0, Iterator::count), 0);
}

#[test]
fn a_host_that_cannot_be_used_is_named_with_why() {
    let bench = Bench::new();
    write(&bench, "echo > x");
    let on = |host: &str, more: &[&str]| {
        bench.run(&[&["images", "--source-dir", "app", "--build-host", host][..], more].concat())
    };
    on("builder", &[])
        .failed(2, &["using a build host: \"builder\" is not a valid URL", "ssh://[USER@]HOST[:PORT][/FOLDER]"]);
    on("ssh://a", &["--offline"]).failed(2, &["'--build-host <URL>' cannot be used with '--offline'"]);
    let closed = port::free();
    let address = format!("ssh://127.0.0.1:{closed}");
    let refused = on(&address, &[]);
    refused
        .failed(1, &[&format!("connecting to build host {address}: "), "Connection refused", "`ssh 127.0.0.1 true`"]);

    let sshd = Sshd::of_machine("i686");
    let run = build(&bench, &sshd, "one", &["--source-dir", "app"]);
    run.failed(1, &["its platform is Linux i686, but this machine is Linux x86_64", "use a host of the same platform"]);
    sshd.know_host(false);
    let run = build(&bench, &sshd, "one", &["--source-dir", "app"]);
    run.failed(1, &["connecting to build host ssh://127.0.0.1:", "ost key verification failed"]);
    assert!(!bench.path("host").exists());
}

#[test]
fn a_folder_that_another_user_can_change_is_refused_and_left_as_it_is() {
    let (bench, sshd) = (Bench::new(), Sshd::start());
    write(&bench, "echo > x");
    let host = bench.path("host");
    let set = |path: &Path, owner: u32, mode: u32| {
        std::os::unix::fs::chown(path, Some(owner), None).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    fs::create_dir(&host).unwrap();
    let refused = |messages: &str| {
        build(&bench, &sshd, "one", &["--source-dir", "app"])
            .failed(1, &["its folder is not safe or not usable: ", messages]);
    };
    for (owner, mode, messages) in [
        (0, 0o777, "is writable by other users"),
        (0, 0o775, "is writable by other users"),
        (12_345, 0o755, "belongs to user 12345"),
    ] {
        set(&host, owner, mode);
        refused(&format!("{} {messages}", host.display()));
        assert_eq!(fs::read_dir(&host).unwrap().count(), 0, "nothing is made there");
        assert_eq!(fs::metadata(&host).unwrap().permissions().mode() & 0o7777, mode, "its mode stays");
    }
    // A link in the place of the program's folder, as another could have made it before the folder was the user's.
    set(&host, 0, 0o700);
    let secret = bench.path("secret");
    fs::create_dir(&secret).unwrap();
    set(&secret, 0, 0o755);
    symlink(&secret, host.join("host")).unwrap();
    refused(&format!("{} is a link", host.join("host").display()));
    assert_eq!(
        (fs::read_dir(&secret).unwrap().count(), fs::metadata(&secret).unwrap().permissions().mode() & 0o777),
        (0, 0o755)
    );
    fs::remove_file(host.join("host")).unwrap();
    // What lies there under the program's name and is another is not run; what a cut login left goes.
    build(&bench, &sshd, "one", &["--source-dir", "app"]).succeeded();
    let program = fs::read_dir(host.join("host")).unwrap().next().unwrap().unwrap().path();
    // The build before may still be ending, and what runs is not written to.
    fs::remove_file(&program).unwrap();
    write_program(&program, "#!/bin/sh\ntouch ran\n");
    fs::write(host.join("host/new.4194999"), "part").unwrap();
    build(&bench, &sshd, "two", &["--source-dir", "app"]).succeeded();
    assert!(fs::metadata(&program).unwrap().len() > 1_000_000 && !host.join("host/ran").exists());
    assert_eq!(fs::read_dir(host.join("host")).unwrap().count(), 1);
}

#[test]
fn ssh_lends_the_host_nothing_and_runs_nothing_here() {
    let (bench, sshd) = (Bench::new(), Sshd::start());
    write(&bench, "echo > x");
    let marker = bench.path("ran");
    let config = fs::read_to_string(sshd.client_config()).unwrap();
    let lent = format!(
        "PermitLocalCommand yes\nLocalCommand touch {}\nRemoteCommand false\nRequestTTY force\nForwardAgent yes\n\
         LocalForward {} 127.0.0.1:1\nExitOnForwardFailure yes\n",
        marker.display(),
        bench.path("missing/forwarded").display()
    );
    fs::write(sshd.client_config(), config + &lent).unwrap();
    build(&bench, &sshd, "one", &["--source-dir", "app"]).succeeded();
    assert!(!marker.exists());
}

#[test]
fn a_build_that_is_cut_leaves_nothing_running_and_both_stores_right() {
    let (bench, sshd) = (Bench::new(), Sshd::start());
    // By no other's time is this one's known.
    let seconds = format!("300.{}", std::process::id());
    write(&bench, &format!("sleep {seconds}; echo > x"));
    let mut process = on_host(&bench, &sshd, "one", &["--source-dir", "app"]).spawn().unwrap();
    wait::until("the command runs", || running(&seconds));
    process.kill().unwrap();
    process.wait().unwrap();
    wait::until("the command ends", || !running(&seconds));
    write(&bench, "echo > x");
    let after = build(&bench, &sshd, "one", &["--source-dir", "app"]).json();
    assert_eq!(digests(&after), digests(&bench.json(&["images", "--source-dir", "app"])));
    for store in ["one", "host/store"] {
        bench.run(&["store", "verify", "--store", store]).succeeded();
    }
    // Whoever uses a store next clears what the dead left.
    wait::until("the host's folders go", || fs::read_dir(bench.path("host/store/tmp")).unwrap().count() <= 1);
}

#[test]
fn go_compiles_on_a_host_that_has_none() {
    let (bench, sshd) = (Bench::with_hello(), Sshd::start());
    let source = ["--source-dir", "hello"];
    let here = digests(&bench.json(&[&["images"][..], &source].concat()));
    // Go's own packages are compiled once for all benches.
    fs::create_dir_all(bench.path("host/store/cache")).unwrap();
    symlink(Path::new(env!("CARGO_TARGET_TMPDIR")).join("go-build"), bench.path("host/store/cache/go-build")).unwrap();
    let first = build(&bench, &sshd, "one", &source).json();
    assert_eq!(digests(&first), here);
    assert!(!bench.path("one/cache/go-build").join("confined").exists());
    bench.edit("hello/cmd/one/main.go", "\"one\"", "\"1\"");
    let changed = build(&bench, &sshd, "one", &source).json();
    assert_eq!(digests(&changed)["two"], here["two"]);
    // The changed file, and Go's own few that say of a home that it is new.
    assert!(number(&changed, "sent") < 1000, "{changed}");
    bench.edit("hello/cmd/one/main.go", "println(\"1\"", "printn(\"1\"");
    build(&bench, &sshd, "one", &source)
        .failed(1, &["compiling one for linux/amd64", "cmd/one/main.go:5", "undefined: printn"]);
    bench.edit("hello/cmd/one/main.go", "printn(\"1\"", "println(\"one\"");
    let unconfined = build(&bench, &sshd, "off", &["--source-dir", "hello", "--sandbox", "off"]).json();
    assert_eq!(digests(&unconfined), here);
}

/// Whether a process on this machine sleeps so long.
fn running(seconds: &str) -> bool {
    process::with_argument(seconds)
        .into_iter()
        .any(|id| ["sleep", "/bin/sleep"].into_iter().any(|program| process::has_argument(id, program)))
}
