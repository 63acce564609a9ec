//! Sources: modules beside the module, embedded files, modules from a proxy, git repositories.

use rigs::Run;

use crate::bench::{Actions, Bench, digests, text, untar};

/// A program that embeds a file and uses a module in a folder beside it.
fn with_app() -> Bench {
    let bench = Bench::new();
    let files = [
        (
            "vcbuild.toml",
            "base = \"scratch\"\n[source]\ndir = \"app\"\n[components.app]\npackage = \".\"\n\
             image = \"registry.example/app:v1\"\n",
        ),
        (
            "app/go.mod",
            "module example.org/app\n\ngo 1.21\n\nrequire example.org/lib v0.0.0\n\n\
             replace example.org/lib => ../lib\n",
        ),
        (
            "app/main.go",
            "package main\n\nimport (\n\t_ \"embed\"\n\n\t\"example.org/lib/greet\"\n)\n\n\
             //go:embed data/name.txt\nvar name string\n\nfunc main() { print(greet.Hello(name)) }\n",
        ),
        ("lib/unused/unused.go", "package unused\n"),
        ("lib/greet/greet.go", "package greet\n\nfunc Hello(name string) string { return \"hello \" + name }\n"),
        ("lib/go.mod", "module example.org/lib\n\ngo 1.21\n"),
        ("app/data/name.txt", "world"),
    ];
    for (path, content) in files {
        bench.write(path, content);
    }
    bench
}

#[test]
fn a_program_is_made_of_its_embedded_files_and_of_modules_beside_it() {
    let bench = with_app();
    let first = bench.json(&["images"]);
    bench.write("lib/unused/unused.go", "package unused // changed\n");
    let unused = bench.run(&["images"]);
    assert_eq!((unused.ran("scan"), unused.ran("compile")), (1, 0), "{unused:?}");
    bench.write("app/data/name.txt", "you");
    let embedded = bench.run(&["images"]);
    assert_eq!((embedded.ran("scan"), embedded.ran("compile")), (0, 1), "{embedded:?}");
    assert_ne!(digests(&first), digests(&bench.json(&["images"])));
    bench.edit("lib/greet/greet.go", "hello ", "good day ");
    assert_eq!(bench.run(&["images"]).ran("compile"), 1);
}

#[test]
fn modules_are_fetched_through_the_users_proxy_and_checked_against_go_sum() {
    let bench = with_app();
    let greet = "package greet\n\nfunc Hello(name string) string { return \"hello \" + name }\n";
    let sums = bench.publish("example.org/fetched", "v1.0.0", &[("greet/greet.go", greet)]);
    bench.edit("app/main.go", "example.org/lib/greet", "example.org/fetched/greet");
    bench.write("app/go.mod", "module example.org/app\n\ngo 1.21\n\nrequire example.org/fetched v1.0.0\n");
    let build = |proxy: &str| Run::of(bench.with_proxy(bench.vcbuild(&["images"])).env("GOPROXY", proxy));
    let proxy = format!("file://{}", bench.path("proxy").display());
    bench.write("app/go.sum", &sums.replace("h1:", "h1:A"));
    build(&proxy).failed(1, &["example.org/fetched"]);
    bench.write("app/go.sum", &sums);
    build("off").failed(1, &["fetching the Go modules of the source", "example.org/fetched", "go env GOPROXY"]);
    let built = build(&proxy);
    assert_eq!((built.code, built.stderr.contains("fetching Go modules")), (Some(0), true), "{built:?}");

    // Who empties the cache has it filled again, when something is to be compiled.
    std::fs::remove_dir_all(bench.path("store/cache/gomod")).unwrap();
    assert!(build("off").stdout.contains(" 0 run,"));
    bench.write("app/data/name.txt", "you");
    let again = build(&proxy);
    assert_eq!((again.code, again.ran("compile")), (Some(0), 1), "{again:?}");
}

#[test]
fn a_repository_is_cloned_at_the_commit_that_is_pinned() {
    let bench = Bench::with_hello();
    let git = |arguments: &[&str]| bench.git("hello", arguments);
    let first = bench.commit("hello");
    git(&["tag", "v1"]);
    let tree = git(&["rev-parse", "HEAD^{tree}"]);
    let url = format!("file://{}", bench.path("hello").display());
    let build = |version: &str, more: &[&str]| {
        let project = ["images", "--project", "hello/vcbuild.toml", "--lock", "vcbuild.lock", "--source-repo", &url];
        bench.run(&[&project[..], &["--source-version", version, "--output", "json"], more].concat())
    };
    let main = build("main", &[]).json();
    let lock = bench.read("vcbuild.lock");
    assert!(lock.contains(&format!("[source.\"{url}\".main]\ncommit = \"{first}\"\ntree = \"{tree}\"\n")), "{lock}");

    bench.edit("hello/cmd/one/main.go", "\"one\"", "\"ONE\"");
    git(&["commit", "--quiet", "-am", "second"]);
    let second = git(&["rev-parse", "HEAD"]);
    assert_eq!(digests(&build("main", &[]).json()), digests(&main), "the branch moved; the lock did not");
    let moved = build("main", &["--update"]);
    assert_ne!(digests(&moved.json()), digests(&main));
    assert!(bench.read("vcbuild.lock").contains(&second));
    // A tag, a short commit and a full one are versions too.
    for version in ["v1", &first[..10], &first] {
        let run = build(version, &["--stamp", "version=main"]);
        assert_eq!(digests(&run.json()), digests(&main), "{version}");
    }
    let run = build("v9", &[]);
    run.failed(1, &[&format!("cloning {url} at v9"), "because: fatal: ", "v9"]);
    let gone = bench.run(&["images", "--source-repo", "file:///nowhere.git"]);
    gone.failed(1, &["cloning file:///nowhere.git at HEAD", "/nowhere.git"]);
}

#[test]
fn submodules_are_checked_out_at_the_commits_that_the_revision_names() {
    let bench = Bench::new();
    for name in ["deep", "lib", "app"] {
        bench.write(&format!("{name}/{name}.txt"), &format!("{name}\n"));
    }
    let project = "base = \"scratch\"\n[components.x]\nimage = \"registry.example/x:v1\"\noutputs = { \"/x\" = \"x\" }\n\
        command = [\"sh\", \"-c\", \"cat app.txt parts/lib/lib.txt parts/lib/deep/deep.txt > x\"]\n";
    bench.write("app/vcbuild.toml", project);
    let files = ["-c", "protocol.file.allow=always", "submodule", "--quiet", "add"];
    bench.commit("deep");
    bench.commit("lib");
    bench.git("lib", &[&files[..], &["../deep", "deep"]].concat());
    bench.commit("lib");
    bench.commit("app");
    let lib = format!("file://{}", bench.path("lib").display());
    bench.git("app", &[&files[..], &[&lib, "parts/lib"]].concat());
    bench.commit("app");
    // What the submodule's branch has now is not what the revision names.
    bench.write("lib/lib.txt", "later\n");
    bench.commit("lib");
    let url = format!("file://{}", bench.path("app").display());
    let arguments = ["images", "--project", "app/vcbuild.toml", "--lock", "vcbuild.lock", "--source-repo", &url];
    let refused = bench.run(&arguments);
    refused.failed(1, &[&format!("cloning {lib} at "), "transport 'file' not allowed"]);
    let mut command = bench.vcbuild(&arguments);
    command
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "protocol.file.allow")
        .env("GIT_CONFIG_VALUE_0", "always");
    Run::of(&mut command).succeeded();
    untar(&bench.path("out/x-amd64.tar"), &bench.path("layout"));
    let layer = bench.json(&["inspect", "x"])["images"][0]["platforms"][0]["layers"][0]["digest"].clone();
    let blob = format!("layout/blobs/sha256/{}", text(&layer).strip_prefix("sha256:").unwrap());
    assert_eq!(bench.tool("tar", &["--zstd", "-xOf", &blob, "x"]), "app\nlib\ndeep\n");
}

#[test]
fn an_address_with_a_login_is_refused_and_not_repeated() {
    let bench = Bench::new();
    let run = bench.run(&["images", "--source-repo", "https://me:secret@127.0.0.1:1/r.git"]);
    run.failed(2, &["contains credentials", "credential helper"]);
    assert!(!run.stderr.contains("secret"), "{run:?}");
    assert!(!bench.path("vcbuild.lock").exists());
}

#[test]
fn of_a_folder_that_git_knows_what_it_tracks_is_the_source() {
    let bench = Bench::with_hello();
    let build = || bench.run(&["images", "--source-dir", "hello", "--output", "json"]);
    let plain = build().json();
    bench.write("hello/.gitignore", "*.log\ngenerated.go\n");
    bench.commit("hello");
    // What is changed counts, committed or not; what is untracked or ignored does not.
    bench.write("hello/cmd/one/debug.go", "package main\n\nfunc init() { println(\"debug\") }\n");
    bench.write("hello/cmd/one/generated.go", "package broken\n");
    bench.write("hello/build.log", "");
    let tracked = build();
    assert_eq!(digests(&tracked.json()), digests(&plain), "{tracked:?}");
    assert_eq!(bench.read("hello/cmd/one/debug.go").lines().count(), 3, "the folder is as it was");
    bench.edit("hello/cmd/one/main.go", "\"one\"", "\"ONE\"");
    assert_ne!(digests(&build().json()), digests(&plain));
    // Where Go misses what is not tracked, that is said.
    bench.edit("hello/cmd/one/main.go", "func main() {", "func main() {\n\tdebug()\n\t");
    bench.write("hello/cmd/one/debug.go", "package main\n\nfunc debug() {}\n");
    let missing = build();
    let untracked = "because git does not track them (`git add` includes them): cmd/one/debug.go\n";
    let ignored = "because git ignores them (`git add --force` includes them): cmd/one/generated.go\n";
    missing.failed(1, &["cmd/one/main.go:6:2: undefined: debug", untracked, ignored]);
    bench.git("hello", &["add", "cmd/one/debug.go"]);
    assert_eq!(build().code, Some(0));
}

#[test]
fn submodules_and_folders_beside_are_source_too() {
    let bench = with_app();
    bench.commit("lib");
    bench.commit("app");
    let from = bench.path("lib").display().to_string();
    bench.git("app", &["-c", "protocol.file.allow=always", "submodule", "--quiet", "add", &from, "sub"]);
    bench.edit("app/go.mod", "=> ../lib", "=> ./sub");
    let with_submodule = bench.json(&["images"]);
    bench.write("app/sub/greet/untracked.go", "package broken\n");
    assert_eq!(digests(&bench.json(&["images"])), digests(&with_submodule));

    // The folder beside is a repository of its own.
    bench.edit("app/go.mod", "=> ./sub", "=> ../lib");
    bench.write("lib/greet/untracked.go", "package broken\n");
    let beside = bench.run(&["images"]);
    assert_eq!(beside.code, Some(0), "{beside:?}");
    bench.git("lib", &["add", "."]);
    bench.run(&["images"]).failed(1, &["found packages", "broken"]);
}

#[test]
fn edits_are_made_to_a_copy_and_must_fit() {
    let bench = Bench::with_hello();
    let build = || bench.run(&["images", "--source-dir", "hello", "--components", "one", "--output", "json"]);
    let plain = build().json();
    bench.write(
        "hello/one.patch",
        "--- a/cmd/one/main.go\n+++ b/cmd/one/main.go\n@@ -4 +4 @@\n \n-func main() { println(\"one\", version.String()) }\n\
         +func main() { println(\"ONE\", version.String()) }\n",
    );
    let edits =
        "[[edits]]\npatch = \"one.patch\"\n[[edits]]\nfile = \"cmd/one/main.go\"\nfind = \"ONE\"\nreplace = \"uno\"\n";
    let project = bench.read("hello/vcbuild.toml");
    bench.write("hello/vcbuild.toml", &(project.clone() + edits));
    build().failed(1, &["reading patch hello/one.patch: 2 changed lines exceed the counts in its @@ lines"]);
    // The hunk is where its header says, or the patch does not fit.
    bench.edit("hello/one.patch", "@@ -4 +4 @@", "@@ -3,2 +3,2 @@");
    build().failed(1, &["applying patch hello/one.patch: hunk ", "hunk 1 (line 3) does not match"]);
    bench.edit("hello/one.patch", "@@ -3,2 +3,2 @@", "@@ -4,2 +4,2 @@");
    let edited = build();
    assert_ne!(digests(&edited.json()), digests(&plain));
    assert!(bench.read("hello/cmd/one/main.go").contains("\"one\""), "the folder is as it was");
    assert_eq!(build().json()["actions"]["run"], 0, "the same edits make the same source");

    bench.edit("hello/vcbuild.toml", "find = \"ONE\"", "find = \"n\"");
    build().failed(1, &["editing cmd/one/main.go: it contains \"n\" ", "times", "exactly once"]);
    bench.edit("hello/vcbuild.toml", "find = \"n\"", "find = \"two\"");
    build().failed(1, &["editing cmd/one/main.go: it does not contain \"two\""]);
    bench.edit("hello/vcbuild.toml", "file = \"cmd/one/main.go\"", "file = \"../one.go\"");
    build().failed(1, &["editing ../one.go: it is not a path below the top of the source"]);
    bench.write("hello/cmd/one/main.go", "package main\n\nfunc main() { println(\"uno\") }\n");
    bench.write("hello/vcbuild.toml", &project);
    assert_eq!(build().code, Some(0));
}

#[test]
fn named_edits_are_made_where_they_apply_or_left_out_and_an_archive_says_which() {
    let bench = Bench::with_hello();
    let run = |more: &[&str]| {
        let mut arguments = vec!["images", "--source-dir", "hello", "--components", "one", "--output", "json"];
        arguments.extend(more);
        bench.run(&arguments)
    };
    let plain = run(&[]).json();
    let edits = "[[edits]]\nname = \"loud\"\nfile = \"cmd/one/main.go\"\nfind = '\"one\"'\nreplace = 'loud'\n\
                 [[edits]]\nname = \"loud\"\nfile = \"cmd/one/loud.go\"\ncontent = \"package main\\n\\nconst loud = \\\"ONE\\\"\\n\"\n\
                 [[edits]]\nname = \"other\"\nfile = \"cmd/two-not-there.go\"\nfind = \"a\"\nreplace = \"b\"\n";
    let project = bench.read("hello/vcbuild.toml");
    bench.write("hello/vcbuild.toml", &(project + edits));
    let without = run(&["--without-edit", "loud"]);
    assert_eq!(digests(&without.json()), digests(&plain));
    assert!(!without.stderr.contains("edited the source"), "{without:?}");
    let edited = run(&[]);
    assert_ne!(digests(&edited.json()), digests(&plain));
    assert!(edited.stderr.contains("edited the source: loud; not applicable: other"), "{edited:?}");
    run(&["--without-edit", "quiet"]).failed(2, &["leaving out edit quiet: the project has loud, other"]);

    // The archive is made again with the edit that it says, of a folder without a project file.
    untar(&bench.path("out/one-amd64.tar"), &bench.path("archive"));
    let provenance: serde_json::Value = serde_json::from_str(&bench.read("archive/provenance.json")).unwrap();
    let names: Vec<_> = provenance["project"]["edits"].as_array().unwrap().iter().map(|edit| &edit["name"]).collect();
    assert_eq!(names, ["loud", "loud"], "{provenance}");
    std::fs::remove_file(bench.path("hello/vcbuild.toml")).unwrap();
    let checked = bench.run(&["check", "out/one-amd64.tar", "--source-dir", "hello", "--store", "other"]);
    assert_eq!(checked.code, Some(0), "{checked:?}");
}

#[test]
fn a_module_of_a_proxy_is_its_own_main_module() {
    let bench = Bench::new();
    let main = "package main\n\nimport (\n\t\"example.org/part\"\n\t\"example.org/old\"\n)\n\n\
                func main() { println(part.Name, old.Name) }\n";
    let go_mod = "module example.org/tool\n\ngo 1.21\n\nrequire (\n\texample.org/part v1.0.0\n\texample.org/old v1.0.0\n)\n\n\
                  replace example.org/part => ../part\n\nreplace example.org/old => example.org/fork v1.2.0\n";
    let name = |package: &str, name: &str| format!("package {package}\n\nconst Name = \"{name}\"\n");
    bench.publish("example.org/part", "v1.0.0", &[("part.go", &name("part", "part"))]);
    bench.publish("example.org/old", "v1.0.0", &[("old.go", &name("old", "old"))]);
    let fork = bench.publish("example.org/fork", "v1.2.0", &[("old.go", &name("old", "fork"))]);
    bench.publish("example.org/tool", "v0.9.0", &[("main.go", main), ("go.mod", go_mod), ("go.sum", &fork)]);
    bench.publish("example.org/tool", "v1.0.0", &[("main.go", main), ("go.mod", go_mod), ("go.sum", &fork)]);
    bench.write(
        "vcbuild.toml",
        "base = \"scratch\"\n[source]\nmodule = \"example.org/tool@latest\"\n[components.tool]\npackage = \".\"\n\
         image = \"registry.example/tool:{version}\"\n",
    );
    let build = |more: &[&str]| {
        Run::of(
            &mut bench
                .with_proxy(bench.vcbuild(&[&["images", "--compression", "gzip", "--output", "json"], more].concat())),
        )
    };
    let built = build(&[]);
    assert_eq!(built.json()["images"][0]["reference"], "registry.example/tool:v1.0.0", "{built:?}");
    untar(&bench.path("out/tool-amd64.tar"), &bench.path("layout"));
    bench.tool("umoci", &["unpack", "--rootless", "--image", "layout:v1.0.0", "bundle"]);
    let said = Run::of(&mut std::process::Command::new(bench.path("bundle/rootfs/usr/local/bin/tool")));
    assert_eq!(said.stderr, "part fork\n", "the folder that it would be replaced by is not there; the fork is");
    let lock = bench.read("vcbuild.lock");
    assert!(lock.contains("[source.\"example.org/tool\".latest]\nversion = \"v1.0.0\"\nsum = \"h1:"), "{lock}");
    assert!(lock.contains("    \"example.org/fork v1.2.0 h1:") && !lock.contains("example.org/old"), "{lock}");

    // A newer version is there; the lock did not move. Nothing is asked of the proxy for what is pinned.
    bench.publish("example.org/tool", "v1.1.0", &[("main.go", main), ("go.mod", go_mod), ("go.sum", &fork)]);
    let again = build(&["--offline", "--locked"]);
    assert_eq!((digests(&again.json()), &again.json()["actions"]["run"]), (digests(&built.json()), &0.into()));
    // That the user's Go has the old one says nothing of which is the newest.
    let old = ["mod", "download", "-modcacherw", "example.org/tool@v1.0.0"];
    let known = Run::of(&mut bench.with_proxy(bench.around(std::process::Command::new("go"), &old)));
    assert_eq!(known.code, Some(0), "{known:?}");
    let moved = Run::of(&mut bench.with_proxy(bench.vcbuild(&["lock", "--update", "example.org/tool"])));
    assert_eq!(moved.stdout, "source example.org/tool latest\n  version v1.0.0 -> v1.1.0\n", "{moved:?}");

    bench.edit("vcbuild.lock", "sum = \"h1:", "sum = \"h1:A");
    build(&[]).failed(
        1,
        &["it pins Go module example.org/tool@v1.1.0 to h1:A", "the content of a version must never change"],
    );
}
