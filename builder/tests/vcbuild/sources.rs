//! Sources: modules beside the module, embedded files, modules from a proxy, git repositories.

use crate::bench::{Bench, Run, digests};

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
    bench.write("zip/go.mod", "module zip\n\ngo 1.21\n");
    bench.write("zip/main.go", include_str!("zip.go.txt"));
    let tool = |arguments: &[&str]| {
        let mut go = bench.around(std::process::Command::new("go"), arguments);
        Run::of(
            go.env("GOFLAGS", "-mod=mod")
                .env("GOPATH", bench.path("gopath"))
                .env("GOPROXY", "off")
                .current_dir(bench.path("zip")),
        )
    };
    // The folder lib as a proxy has it.
    let made = tool(&["run", ".", "../lib", "example.org/lib", "v1.0.0", "../proxy"]);
    assert_eq!(made.code, Some(0), "{made:?}");
    let sums = made.stdout;
    bench.write("app/go.mod", "module example.org/app\n\ngo 1.21\n\nrequire example.org/lib v1.0.0\n");
    let build = |proxy: &str| {
        let mut command = bench.vcbuild(&["images"]);
        command
            .env("GOPROXY", proxy)
            .env("GONOSUMDB", "*")
            .env("GOPATH", bench.path("gopath"))
            .env_remove("GOMODCACHE");
        Run::of(&mut command)
    };
    let proxy = format!("file://{}", bench.path("proxy").display());
    bench.write("app/go.sum", &sums.replace("h1:", "h1:A"));
    build(&proxy).failed(1, &["example.org/lib"]);
    bench.write("app/go.sum", &sums);
    build("off").failed(1, &["fetching the Go modules of the source", "example.org/lib", "go env GOPROXY"]);
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
    let git = |arguments: &[&str]| {
        let who = ["-C", "hello", "-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"];
        bench.tool("git", &[&who[..], arguments].concat()).trim().to_owned()
    };
    git(&["init", "--quiet", "--initial-branch=main"]);
    git(&["add", "."]);
    git(&["commit", "--quiet", "-m", "first"]);
    git(&["tag", "v1"]);
    let first = git(&["rev-parse", "HEAD"]);
    let url = format!("file://{}", bench.path("hello").display());
    let build = |version: &str, more: &[&str]| {
        let project = ["images", "--project", "hello/vcbuild.toml", "--lock", "vcbuild.lock", "--source-repo", &url];
        bench.run(&[&project[..], &["--source-version", version, "--output", "json"], more].concat())
    };
    let main = build("main", &[]).json();
    let lock = bench.read("vcbuild.lock");
    assert!(lock.contains(&format!("[source.\"{url}\".main]\ncommit = \"{first}\"\n")), "{lock}");

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
fn an_address_with_a_login_is_refused_and_not_repeated() {
    let bench = Bench::new();
    let run = bench.run(&["images", "--source-repo", "https://me:secret@127.0.0.1:1/r.git"]);
    run.failed(2, &["has a login in it", "credential helper"]);
    assert!(!run.stderr.contains("secret"), "{run:?}");
    assert!(!bench.path("vcbuild.lock").exists());
}
