//! Builds in the sandbox: the same images as without it, what is recorded of it, and a project's say in it.

use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

use rigs::wait;

use crate::bench::{Actions, Bench, digests};

/// Checks what an action's record says of its sandbox; whether the machine has Landlock is its own affair.
#[track_caller]
fn assert_confined(note: &str) {
    let begin = "\"sandbox\":\"user, mount, pid, network, ipc and uts namespaces, session keyring";
    assert!(note.starts_with(begin) && note.contains(", system call filter"), "{note}");
    assert_eq!(note.lines().count(), 1, "{note}");
}

#[test]
fn images_are_the_same_with_and_without_it_and_what_confined_them_is_recorded() {
    let (confined, free) = (Bench::with_hello(), Bench::with_hello());
    let build = |bench: &Bench, mode: &str| {
        digests(&bench.json(&["images", "--source-dir", "hello", "--components", "one", "--sandbox", mode]))
    };
    assert_eq!(build(&confined, "required"), build(&free, "off"));
    let note = |bench: &Bench| bench.tool("sh", &["-c", "grep -ho '\"sandbox\":\"[^\"]*\"' store/actions/*"]);
    assert_confined(&note(&confined));
    assert_eq!(note(&free), "\"sandbox\":\"none: turned off\"\n");
}

#[test]
fn what_ran_unconfined_is_made_again_where_it_would_be_confined() {
    let bench = Bench::new();
    bench.write(
        "vcbuild.toml",
        "base = \"scratch\"\n[components.x]\nimage = \"registry.example/x:v1\"\noutputs = { \"/x\" = \"x\" }\n\
         command = [\"bash\", \"-c\", \"ls / > x\"]\n",
    );
    let build = |mode: &str| {
        let run = bench.run(&["images", "--sandbox", mode, "--output", "json"]);
        (run.ran("command"), digests(&run.json()))
    };
    let free = build("off");
    assert_eq!((free.0, build("off")), (1, (0, free.1.clone())));
    let confined = build("auto");
    assert_eq!(confined.0, 1);
    assert_ne!(confined.1, free.1);
    for mode in ["required", "off"] {
        assert_eq!(build(mode), (0, confined.1.clone()), "{mode}");
    }
    let note = bench.tool("sh", &["-c", "grep -ho '\"sandbox\":\"[^\"]*\"' store/actions/*"]);
    assert_confined(&note);

    let hello = Bench::with_hello();
    let build = |mode: &str| {
        hello.run(&["images", "--source-dir", "hello", "--components", "one", "--sandbox", mode]).ran("compile")
    };
    assert_eq!((build("off"), build("required"), build("required")), (1, 1, 0));
}

#[test]
fn a_project_says_how_it_is_confined_and_the_command_line_says_otherwise() {
    let bench = Bench::new();
    let project = "base = \"scratch\"\n[sandbox]\nmode = \"required\"\ntimeout = \"1s\"\n[components.x]\n\
                   image = \"registry.example/x:v1\"\noutputs = { \"/x\" = \"x\" }\n\
                   command = [\"bash\", \"-c\", \"sleep 2; uname -n > x\"]\n";
    bench.write("vcbuild.toml", project);
    bench.run(&["images"]).failed(
        1,
        &[
            "bash was stopped: it took longer than 1 s",
            "raise the limit with --timeout, or `timeout` in [sandbox] of the user's settings",
        ],
    );
    assert_eq!(bench.json(&["images", "--timeout", "1m"])["actions"]["run"], 4);
    bench.edit("vcbuild.toml", "\"1s\"", "\"soon\"");
    bench
        .run(&["images"])
        .failed(2, &["[sandbox]: \"soon\" is not a duration: use a number of seconds, or a number with s, m or h"]);
}

#[test]
fn a_command_that_wants_what_it_did_not_declare_is_told_what() {
    let bench = Bench::new();
    let project = "base = \"scratch\"\n[components.x]\nimage = \"registry.example/x:v1\"\noutputs = { \"/x\" = \"x\" }\n\
                   command = [\"cp\", \"/etc/hostname\", \"x\"]\n";
    bench.write("vcbuild.toml", project);
    bench.run(&["images", "--sandbox", "required"]).failed(
        1,
        &[
            "cannot stat '/etc/hostname'",
            "the program runs in a sandbox that contains only declared inputs, and its standard error names /etc/hostname",
        ],
    );
}

#[test]
fn a_project_tightens_its_sandbox_and_its_user_loosens_it_and_is_told() {
    let bench = Bench::new();
    let project = "base = \"scratch\"\n[components.x]\nimage = \"registry.example/x:v1\"\noutputs = { \"/x\" = \"x\" }\n\
                   command = [\"bash\", \"-c\", \"uname -n > x; test ! -e /etc/hostname -o \\\"$ANY\\\"\"]\n\
                   build_env = { ANY = \"\" }\n[sandbox]\nmode = \"off\"\ntimeout = \"3h\"\nmax-disk = \"1T\"\n";
    bench.write("vcbuild.toml", project);
    let asked_in_vain = "the project requests mode = off in [sandbox] but gets auto: a project may only tighten";
    let unconfined = "running programs without a sandbox, as --sandbox or the user's settings specify";
    let confined = bench.run(&["images"]);
    confined.succeeded();
    for said in [asked_in_vain, "timeout = 10800", "max-disk = 1099511627776", "(--sandbox off, or mode in the user's"]
    {
        assert!(confined.stderr.contains(said), "{confined:?}");
    }
    assert!(!confined.stderr.contains(unconfined), "{confined:?}");
    let note = || bench.tool("sh", &["-c", "grep -ho '\"sandbox\":\"[^\"]*\"' store/actions/*"]);
    assert_confined(&note());

    // The user's own settings and the command line may loosen it: said each time, and recorded.
    bench.edit("vcbuild.toml", "ANY = \"\"", "ANY = \"x\"");
    bench.write("config/vcbuild/config.toml", "[sandbox]\nmode = \"off\"\ntimeout = \"4h\"\nmax-disk = \"2T\"\n");
    for _ in 0..2 {
        let run = bench.run(&["images"]);
        run.succeeded();
        assert!(run.stderr.contains(unconfined) && !run.stderr.contains("in vain"), "{run:?}");
        assert!(!run.stderr.contains("may only tighten"), "{run:?}");
    }
    assert!(note().contains("\"sandbox\":\"none: turned off\"\n"));
    // What a user requires stays required, whatever a project says.
    bench.write("config/vcbuild/config.toml", "[sandbox]\nmode = \"required\"\ntimeout = \"1s\"\n");
    bench.edit("vcbuild.toml", "uname -n > x;", "sleep 60;");
    bench.run(&["images"]).failed(1, &["gets required", "bash was stopped: it took longer than 1 s"]);
    bench.write("config/vcbuild/config.toml", "[sandbox]\nmode = \"loose\"\n");
    bench.run(&["images"]).failed(2, &["reading the settings", "config.toml"]);
}

#[test]
fn what_a_build_makes_is_out_of_others_reach_whatever_modes_it_sets() {
    let bench = Bench::new();
    let steps =
        "echo secret > f; chmod 777 f . /build /build/source; while [ ! -e go ]; do sleep 0.05; done; uname -n > x";
    bench.write(
        "vcbuild.toml",
        &format!(
            "base = \"scratch\"\n[sandbox]\nmode = \"required\"\ntimeout = \"2m\"\n[components.x]\n\
             image = \"registry.example/x:v1\"\noutputs = {{ \"/x\" = \"x\" }}\ncommand = [\"bash\", \"-c\", \"{steps}\"]\n"
        ),
    );
    // Others come as far as the store: that is where what they may not see has to be closed.
    std::fs::set_permissions(bench.path(""), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut build = bench.vcbuild(&["images"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let file = || {
        let files = walkdir::WalkDir::new(bench.path("store/tmp")).into_iter().filter_map(Result::ok);
        let files = files.filter(|entry| {
            entry.file_name() == "f" && entry.metadata().is_ok_and(|meta| meta.mode() & 0o777 == 0o777)
        });
        files.map(walkdir::DirEntry::into_path).next()
    };
    let mut found = None;
    wait::until("the build writes a file of its command's", || {
        assert!(build.try_wait().unwrap().is_none(), "the build never came so far");
        found = file().filter(|file| file.parent().unwrap().metadata().unwrap().mode() & 0o777 == 0o777);
        found.is_some()
    });
    let found = found.unwrap();
    let private = found.ancestors().take_while(|folder| *folder != bench.path("store"));
    let private = private.filter(|folder| folder.metadata().unwrap().mode() & 0o077 == 0).count();
    // As somebody else, where the tests may be somebody else.
    let other = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    let read = other.then(|| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "cat"]).arg(&found).output().unwrap()
    });
    std::fs::write(found.with_file_name("go"), "").unwrap();
    assert!(build.wait().unwrap().success());
    assert!(private > 0, "nothing around {} is private", found.display());
    if let Some(read) = read {
        let said = String::from_utf8_lossy(&read.stderr).into_owned();
        assert!(!read.status.success() && said.contains("Permission denied"), "{said}");
    }
}
