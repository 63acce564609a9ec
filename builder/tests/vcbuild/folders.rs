//! Folders that are copied and sources that commands see: the same from a clone, a checkout in use and a copy, whatever odd
//! files lie in them.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

use rigs::Run;

use crate::bench::{Actions, Bench, copy, digests, text};
use crate::file_placement::entries;

const HEAD: &str =
    "base = \"scratch\"\ncompression = \"none\"\n[components.app]\nimage = \"registry.example/app:v1\"\n";

/// The files of the first layer of the image, without what is said of them.
fn names(bench: &Bench, run: &Run) -> Vec<String> {
    let document = run.json();
    let layer = &document["images"][0]["platforms"][0]["layers"][0];
    entries(bench, layer).iter().map(|entry| entry.splitn(3, ' ').nth(2).unwrap().to_owned()).collect()
}

#[test]
fn a_folder_that_is_copied_is_the_same_wherever_it_was_checked_out() {
    let bench = Bench::new();
    let project = |place: &str| {
        format!("{HEAD}prebuilt = {{ \"/app\" = \"app\" }}\nfiles.\"/src\" = {{ from = \".\"{place} }}\n")
    };
    for (number, place) in [", in = \"source\"", ""].into_iter().enumerate() {
        let top = |name: &str| format!("{number}/{name}");
        bench.write(&top("one/vcbuild.toml"), &project(place));
        bench.write(&top("one/app"), "app");
        bench.write(&top("one/web/index.html"), "hi");
        symlink("index.html", bench.path(&top("one/web/link"))).unwrap();
        bench.commit(&top("one"));
        let build = |name: &str| {
            let folder = top(name);
            let store = format!("{folder}/kept/store");
            let (project, out) = (format!("{folder}/vcbuild.toml"), format!("{folder}/archives"));
            let arguments = ["images", "--project", &project, "--out", &out, "--output", "json"];
            let mut command = bench.vcbuild(&arguments);
            // Its blobs are looked at where the bench's store has them.
            Run::of(command.env("VCBUILD_STORE", bench.path(&store)))
        };
        let first = build("one");
        bench.git(".", &["clone", "--quiet", &top("one"), &top("clone")]);
        let cloned = build("clone");
        assert_eq!(digests(&first.json()), digests(&cloned.json()), "{place}");
        // Twice, with all that the first build left: its lock, its archives, its store.
        assert_eq!(digests(&build("one").json()), digests(&first.json()), "{place}");
        // A report, a store and inputs of other runs, folders without files, and the worktree's own `.git`.
        fs::create_dir_all(bench.path(&top("one/web/empty/inner"))).unwrap();
        fs::create_dir_all(bench.path(&top("one/.hg/store"))).unwrap();
        bench.write(&top("one/.hg/store/data"), "x");
        bench.write(&top("one/modules/lib/.git"), "gitdir: ../../.git/modules/lib\n");
        bench.write(&top("one/carried/vcbuild-inputs.json"), "{\"version\":1}");
        bench.write(&top("one/carried/git/x"), "x");
        let report = bench.path(&top("one/last.html"));
        let mut command = bench.vcbuild(&["report", "--out", report.to_str().unwrap()]);
        Run::of(command.env("VCBUILD_STORE", bench.path(&top("one/kept/store")))).succeeded();
        copy(&bench.path(&top("one/kept/store")), &bench.path(&top("one/web/other")));
        let again = build("one");
        assert_eq!(digests(&again.json()), digests(&first.json()), "{place}: {again:?}");
        // A copy that git knows nothing of.
        bench.tool("cp", &["-a", &top("clone"), &top("copy")]);
        fs::remove_dir_all(bench.path(&top("copy/.git"))).unwrap();
        assert_eq!(digests(&build("copy").json()), digests(&first.json()), "{place}");
        bench.write(&top("one/extra"), "x");
        let same = digests(&build("one").json()) == digests(&first.json());
        assert_eq!(same, number == 0, "what git does not track is part of a project's folder, and not of a source");
    }
}

#[test]
fn archives_of_the_build_before_are_not_in_the_image() {
    let bench = Bench::new();
    bench.write("p/app", "app");
    let files = "files.\"/src\" = { from = \".\", in = \"source\" }\nprebuilt = { \"/app\" = \"app\" }\n";
    bench.write("p/vcbuild.toml", &format!("{HEAD}{files}"));
    let build = |out: &str| {
        let mut command = bench.vcbuild(&["images", "--output", "json", "--out", out]);
        Run::of(command.current_dir(bench.path("p")))
    };
    let first = build("out");
    assert_eq!(names(&bench, &first), ["src/", "src/app", "src/vcbuild.toml"]);
    for out in ["out", ".", "elsewhere", "elsewhere"] {
        assert_eq!(digests(&build(out).json()), digests(&first.json()), "{out}");
    }
    // An edit has the source copied.
    bench.write(
        "p/vcbuild.toml",
        &format!("{files}[[edits]]\nfile = \"note\"\nfind = \"a\"\nreplace = \"b\"\n")
            .replace("files.", &format!("{HEAD}files.")),
    );
    bench.write("p/note", "a");
    let edited = build(".");
    assert_eq!(names(&bench, &edited), ["src/", "src/app", "src/note", "src/vcbuild.toml"]);
    assert_eq!(digests(&build(".").json()), digests(&edited.json()));
}

#[test]
fn what_is_asked_for_and_cannot_be_copied_is_said() {
    let bench = Bench::new();
    bench.write("app", "app");
    bench.write("dist/index.html", "hi");
    bench.write("late/file", "x");
    bench.write(".gitignore", "dist\n");
    let project = |from: &str, place: &str| {
        let files = format!("files.\"/x\" = {{ from = \"{from}\"{place} }}\nprebuilt = {{ \"/app\" = \"app\" }}\n");
        bench.write("vcbuild.toml", &format!("{HEAD}{files}"));
        bench.run(&["images", "--output", "json"])
    };
    bench.write("vcbuild.toml", HEAD);
    bench.git(".", &["init", "--quiet"]);
    bench.git(".", &["add", "app", ".gitignore", "vcbuild.toml"]);
    bench.git(".", &["commit", "--quiet", "-m", "x"]);
    let source = ", in = \"source\"";
    let ignored = "there is no dist in .; not part of the source, because git ignores them (`git add --force`";
    project("dist", source).failed(1, &[ignored]);
    let untracked = "there is no late/file in .; not part of the source, because git does not track them (`git add`";
    project("late/file", source).failed(1, &[untracked]);
    project("none", source).failed(1, &["there is no none in "]);
    assert_eq!(names(&bench, &project("dist", "")), ["x/", "x/index.html"]);
    fs::create_dir_all(bench.path("empty/inner")).unwrap();
    project("empty", "").failed(1, &["adding /x to app: empty has no files", "add an empty folder by its path alone"]);
    project(".git/HEAD", "").failed(1, &[".git/HEAD is a folder of version control"]);
    project("vcbuild.lock", "").failed(1, &["vcbuild.lock is a lock that vcbuild writes"]);
    project("store/oci-layout", "").failed(1, &["store/oci-layout is a store of vcbuild"]);
    project("out/app-amd64.tar", "").failed(1, &["out/app-amd64.tar is a file that vcbuild writes"]);
    rustix::fs::mknodat(rustix::fs::CWD, bench.path("pipe"), rustix::fs::FileType::Fifo, 0o644.into(), 0).unwrap();
    project("pipe", "").failed(1, &["pipe is not a file, folder or symbolic link"]);
}

#[test]
fn an_edit_that_would_have_no_effect_is_refused() {
    let bench = Bench::new();
    bench.write("app.conf", "port = 80\n");
    bench.write("etc/app.conf", "port = 80\n");
    bench.write("fix.patch", "--- a/etc/app.conf\n+++ b/etc/app.conf\n@@ -1 +1 @@\n-port = 80\n+port = 8080\n");
    let build = |made: &str, edit: &str| {
        bench.write("vcbuild.toml", &format!("{HEAD}{made}\n[[edits]]\n{edit}\n"));
        bench.run(&["images", "--output", "json"])
    };
    let edit = |file: &str| format!("file = \"{file}\"\nfind = \"80\"\nreplace = \"8080\"");
    let refused = "using the prebuilt app.conf of app: an edit changes it, but prebuilt files are used unchanged";
    build("prebuilt = { \"/pre\" = \"app.conf\" }", &edit("app.conf")).failed(1, &[refused, "in = \"source\""]);
    let patched = "using the prebuilt etc/app.conf of app: an edit changes it";
    build("prebuilt = { \"/pre\" = \"etc/app.conf\" }", "patch = \"fix.patch\"").failed(1, &[patched]);
    let other = "prebuilt = { \"/pre\" = \"app.conf\" }\nfiles.\"/etc\" = { from = \"etc\" }";
    build(other, &edit("etc/app.conf")).failed(1, &["an edit changes ", "etc/app.conf only in the source"]);
    let source = other.replace("from = \"etc\"", "from = \"etc\", in = \"source\"");
    let built = build(&source, &edit("etc/app.conf"));
    let layer = &built.json()["images"][0]["platforms"][0]["layers"][0];
    let layer = fs::read(bench.path(&format!("store/blobs/{}", text(&layer["digest"]).replacen(':', "/", 1)))).unwrap();
    let count = |messages: &[u8]| layer.windows(messages.len()).filter(|part| *part == messages).count();
    assert_eq!((count(b"port = 80"), count(b"port = 8080")), (1, 1), "the edited file, and no other");
}

#[test]
fn what_would_have_no_effect_on_a_base_or_a_compiler_is_refused() {
    let bench = Bench::new();
    bench.write("app", "app");
    let project = |lines: &str| {
        let made = "prebuilt = { \"/app\" = \"app\" }\n";
        bench.write("vcbuild.toml", &format!("{lines}{HEAD}{made}").replace("compression", "# compression"));
    };
    let build = |more: &[&str]| bench.run(&[&["images"][..], more].concat());
    project("");
    for option in
        [["--debian-packages", "curl"], ["--debian-suite", "trixie"], ["--debian-mirror", "http://127.0.0.1:1/debian"]]
    {
        let why = format!("{} applies to the bases debian and static, but the base is scratch", option[0]);
        build(&option).failed(2, &[&why, "--base debian"]);
    }
    build(&["--go", "1.26.x"]).failed(2, &["--go applies to Go programs, but the project has none"]);
    let debian = format!("{HEAD}prebuilt = {{ \"/app\" = \"app\" }}\n[debian]\npackages = [\"curl\"]\n");
    bench.write("vcbuild.toml", &debian);
    build(&[]).failed(2, &["[debian] of the project applies to the bases debian and static, but the base is scratch"]);
    bench.write("vcbuild.toml", &debian.replace("base = \"scratch\"", "base = \"debian\""));
    build(&["--base", "scratch"]).succeeded();
    bench.write("vcbuild.toml", &format!("go = \"1.26.x\"\n{HEAD}prebuilt = {{ \"/app\" = \"app\" }}\n"));
    build(&[]).failed(2, &["`go` of the project applies to Go programs"]);
}

#[test]
fn odd_files_fail_nothing_that_does_not_need_them() {
    let bench = Bench::new();
    bench.write("a", "a");
    bench.write("d/x\ny", "odd");
    let latin = bench.path("d").join(OsStr::from_bytes(b"caf\xe9"));
    fs::write(&latin, "latin").unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, bench.path("d/pipe"), rustix::fs::FileType::Fifo, 0o644.into(), 0).unwrap();
    let _socket = UnixListener::bind(bench.path("d/socket")).unwrap();
    for (target, link) in
        [("itself", "itself"), ("/no/such", "nowhere"), ("/", "root"), ("..", "up"), ("/proc/self", "self")]
    {
        symlink(target, bench.path("d").join(link)).unwrap();
    }
    symlink(OsStr::from_bytes(b"caf\xe9"), bench.path("d/to-latin")).unwrap();
    let made = "command = [\"sh\", \"-c\", \"ls d > o; cat d/caf* d/to-latin >> o\"]\noutputs = { \"/o\" = \"o\" }\n";
    bench.write("vcbuild.toml", &format!("{HEAD}{made}"));
    let build = || bench.run(&["images", "--output", "json"]);
    let first = build();
    let layer = first.json()["images"][0]["platforms"][0]["layers"][0].clone();
    let bytes = fs::read(bench.path(&format!("store/blobs/{}", text(&layer["digest"]).replacen(':', "/", 1)))).unwrap();
    let has = |messages: &[u8]| bytes.windows(messages.len()).any(|part| part == messages);
    assert!(
        has(b"caf\xe9\nitself\nnowhere\nroot\nself\nto-latin\nup\nx\ny\nlatinlatin"),
        "{}",
        String::from_utf8_lossy(&bytes)
    );
    assert_eq!(build().json()["actions"]["run"], 0);
    fs::write(&latin, "other").unwrap();
    assert_eq!(build().ran("command"), 1, "a file of any name counts");

    // The same beside a Go program, known to git and not.
    let bench = Bench::with_hello();
    let build = || bench.run(&["images", "--source-dir", "hello", "--components", "one", "--output", "json"]);
    let first = build();
    for (target, link) in [("itself", "itself"), ("/", "root"), ("../..", "up"), ("/proc", "proc")] {
        symlink(target, bench.path("hello/pkg").join(link)).unwrap();
    }
    fs::write(bench.path("hello/pkg").join(OsStr::from_bytes(b"caf\xe9")), "latin").unwrap();
    let odd = build();
    assert_eq!((odd.code, odd.ran("compile")), (Some(0), 0), "{odd:?}");
    assert_eq!(digests(&odd.json()), digests(&first.json()));
    bench.commit("hello");
    rustix::fs::mknodat(rustix::fs::CWD, bench.path("hello/pipe"), rustix::fs::FileType::Fifo, 0o644.into(), 0)
        .unwrap();
    assert_eq!(digests(&build().json()), digests(&first.json()));
}

#[test]
fn a_link_out_of_a_source_leads_to_the_same_whether_the_source_is_copied() {
    let bench = Bench::with_hello();
    bench.write("shared/shared.go", "package main\n\nfunc init() { println(\"shared\") }\n");
    symlink("../../../shared/shared.go", bench.path("hello/cmd/one/shared.go")).unwrap();
    bench.commit("hello");
    let build =
        |folder: &str| bench.run(&["images", "--source-dir", folder, "--components", "one", "--output", "json"]);
    let clean = build("hello").json();
    bench.write("hello/untracked", "x");
    assert_eq!(digests(&build("hello").json()), digests(&clean));
    bench.write("shared/shared.go", "package main\n");
    assert_ne!(digests(&build("hello").json()), digests(&clean), "and what it leads to counts");
}

#[test]
fn sources_stores_and_archives_may_be_in_folders_of_any_name() {
    let bench = Bench::with_hello();
    let first = bench.json(&["images", "--source-dir", "hello", "--components", "one"]);
    for name in ["new\nline", "a:b,c=d", "o'hare \"q\" $x", "-dash", "ends."] {
        copy(&bench.path("hello"), &bench.path(&format!("{name}/src")));
        let mut command = bench.vcbuild(&["images", "--components", "one", "--out", "../out", "--output", "json"]);
        command
            .current_dir(bench.path(&format!("{name}/src")))
            .env("VCBUILD_STORE", bench.path(&format!("{name}/store")));
        fs::create_dir_all(bench.path(&format!("{name}/store/cache"))).unwrap();
        symlink(bench.path("store/cache/go-build"), bench.path(&format!("{name}/store/cache/go-build"))).unwrap();
        let run = Run::of(&mut command);
        assert_eq!(run.code, Some(0), "{name:?}: {run:?}");
        assert_eq!(digests(&run.json()), digests(&first), "{name:?}");
    }
}

#[test]
fn a_pointer_of_git_lfs_is_not_taken_for_its_file() {
    let bench = Bench::with_hello();
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n";
    bench.write("hello/cmd/one/model.bin", pointer);
    bench.write("hello/unused.bin", pointer);
    let build = || bench.run(&["images", "--source-dir", "hello", "--components", "one"]);
    build().succeeded();
    bench.edit(
        "hello/cmd/one/main.go",
        "package main\n",
        "package main\n\nimport _ \"embed\"\n\n//go:embed model.bin\nvar model string\n",
    );
    build().failed(1, &["compiling one: cmd/one/model.bin is a Git LFS pointer", "`git lfs pull`"]);

    let bench = Bench::new();
    bench.write("model.bin", pointer);
    bench.write("app", "app");
    bench.write("vcbuild.toml", &format!("{HEAD}prebuilt = {{ \"/app\" = \"model.bin\" }}\n"));
    bench
        .run(&["images"])
        .failed(1, &["using the prebuilt model.bin of app: it is a Git LFS pointer", "`git lfs pull`"]);
    let files = "prebuilt = { \"/app\" = \"app\" }\nfiles.\"/model\" = { from = \"model.bin\" }\n";
    bench.write("vcbuild.toml", &format!("{HEAD}{files}"));
    bench.run(&["images"]).failed(1, &["adding /model to app: ", "model.bin is a Git LFS pointer"]);
}

#[test]
fn a_full_disk_is_named_whoever_meets_it() {
    let bench = Bench::new();
    let made = "command = [\"sh\", \"-c\", \"echo 'cp: error writing: No space left on device' >&2; exit 1\"]\n";
    bench.write("vcbuild.toml", &format!("{HEAD}{made}outputs = {{ \"/o\" = \"o\" }}\n"));
    bench
        .run(&["images"])
        .failed(1, &["No space left on device", "the disk is full: free space (`vcbuild gc` ", "--store"]);
}
