//! Files that are there for whoever looks and none of the source: the error that their absence leads to says why.

use std::fs;

use rigs::Run;

use crate::bench::Bench;

const IGNORED: &str = "not part of the source, because git ignores them (`git add --force` includes them): ";
const UNTRACKED: &str = "not part of the source, because git does not track them (`git add` includes them): ";

#[test]
fn what_go_embeds_and_git_ignores_is_named() {
    let bench = Bench::with_hello();
    let main =
        "package main\n\nimport \"embed\"\n\n//go:embed dist\nvar files embed.FS\n\nfunc main() { println(files) }\n";
    bench.write("hello/cmd/one/main.go", main);
    bench.write("hello/cmd/one/dist/deep/index.html", "hi");
    bench.write("hello/cmd/one/dist/more.js", "hi");
    bench.write("hello/.gitignore", "dist\n");
    bench.commit("hello");
    let build = || bench.run(&["images", "--source-dir", "hello", "--components", "one"]);
    let missing = build();
    missing.failed(1, &["pattern dist: no matching files found", &format!("{IGNORED}cmd/one/dist\n")]);
    // What git's user has ignored everywhere is ignored, too, and is not advised to be added as if it were not.
    bench.write("hello/.gitignore", "");
    bench.write("config/git/ignore", "dist\n");
    build().failed(1, &[&format!("{IGNORED}cmd/one/dist\n")]);
    fs::remove_file(bench.path("config/git/ignore")).unwrap();
    build().failed(1, &[&format!("{UNTRACKED}cmd/one/dist\n")]);
    // The advice holds.
    bench.write("hello/.gitignore", "dist\n");
    bench.git("hello", &["add", "--force", "cmd/one/dist"]);
    bench.edit("hello/cmd/one/main.go", "println(files)", "_ = files");
    build().succeeded();
}

#[test]
fn what_a_command_or_an_image_wants_and_git_ignores_is_named() {
    let bench = Bench::new();
    let project = |rest: &str| {
        let text = format!("base = \"scratch\"\n[components.x]\nimage = \"registry.example/x:v1\"\n{rest}\n");
        bench.write("s/vcbuild.toml", &text);
    };
    let command = |command: &str, output: &str| {
        project(&format!("command = [\"sh\", \"-c\", '''{command}''']\noutputs = {{ \"/x\" = \"{output}\" }}"));
    };
    bench.write("s/.gitignore", "dist\n*.gen\n");
    bench.write("s/dist/index.html", "hi");
    bench.write("s/src/table.gen", "hi");
    bench.write("s/src/new.txt", "hi");
    bench.write("beside.txt", "hi");
    project("prebuilt = { \"/x\" = \"vcbuild.toml\" }");
    bench.git("s", &["init", "--quiet"]);
    bench.git("s", &["add", ".gitignore", "vcbuild.toml"]);
    let fails = |messages: &[&str]| bench.run(&["images", "--source-dir", "s"]).failed(1, messages);
    let dist = format!("{IGNORED}dist\n");
    command("cp -r dist www", "www");
    fails(&["cannot stat 'dist'", &dist]);
    command("cat src/table.gen > x", "x");
    fails(&["src/table.gen", IGNORED]);
    command("cat ./src/new.txt > x", "x");
    fails(&["src/new.txt", UNTRACKED, "src\n"]);
    // Where the words name nothing, all counts that may be missed.
    command("echo 'Error: No such file or directory' >&2; exit 1", "x");
    fails(&[&dist, UNTRACKED]);
    command("true", "dist");
    fails(&["it did not make dist; ", IGNORED]);
    command("cat ../beside.txt > x", "x");
    fails(&["beside.txt", "not part of the source, because they are outside its folder"]);
    // Other failures have other reasons.
    command("echo 'the cat sat on dist' >&2; exit 1", "x");
    let other = bench.run(&["images", "--source-dir", "s"]);
    assert!(!other.stderr.contains("not part of the source"), "{other:?}");

    project(
        "prebuilt = { \"/x\" = \"vcbuild.toml\" }\n[components.x.files]\n\"/usr/share/web\" = { from = \"dist\", in = \"source\" }",
    );
    fails(&["adding /usr/share/web to x", IGNORED]);
}

#[test]
fn a_submodule_that_is_not_checked_out_is_named() {
    let bench = Bench::with_hello();
    bench.write("lib/lib.txt", "lib");
    bench.commit("lib");
    bench.commit("hello");
    let from = bench.path("lib").display().to_string();
    bench.git("hello", &["-c", "protocol.file.allow=always", "submodule", "--quiet", "add", &from, "parts/lib"]);
    bench.commit("hello");
    bench.tool("git", &["clone", "--quiet", "hello", "clone"]);
    bench.write(
        "clone/vcbuild.toml",
        "base = \"scratch\"\n[components.x]\nimage = \"registry.example/x:v1\"\noutputs = { \"/x\" = \"x\" }\n\
         command = [\"cp\", \"parts/lib/lib.txt\", \"x\"]\n",
    );
    let missing = bench.run(&["images", "--source-dir", "clone"]);
    missing.failed(1, &["submodules that are not checked out (`git submodule update --init`): parts/lib"]);
}

#[test]
fn what_cargo_reads_and_git_ignores_is_named() {
    let bench = Bench::new();
    bench.write("s/Cargo.toml", "[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2021\"\n");
    bench.write("s/Cargo.lock", "version = 4\n\n[[package]]\nname = \"app\"\nversion = \"0.1.0\"\n");
    bench.write("s/src/main.rs", "fn main() { println!(include_str!(\"../dist/index.html\")); }\n");
    bench.write("s/dist/index.html", "hi");
    bench.write("s/target/left", "");
    bench.write("s/.gitignore", "dist\ntarget\n");
    bench.write(
        "s/vcbuild.toml",
        "base = \"scratch\"\n[components.app]\nbin = \"app\"\nimage = \"registry.example/app:v1\"\n",
    );
    bench.commit("s");
    let build = || Run::of(&mut crate::cargo::build(&bench, &["--source-dir", "s"]));
    build().failed(1, &["couldn't read", &format!("{IGNORED}dist\n")]);
    // A build script seldom says which file it did not find.
    bench.write("s/src/main.rs", "fn main() {}\n");
    bench.write("s/build.rs", "fn main() { std::fs::read(\"dist/index.html\").unwrap(); }\n");
    bench.git("s", &["add", "."]);
    build().failed(1, &["NotFound", &format!("{IGNORED}dist\n")]);

    bench.write("s/.gitignore", "dist\ntarget\nCargo.lock\n");
    bench.git("s", &["rm", "--quiet", "--cached", "Cargo.lock"]);
    build().failed(1, &["opening the source s: the folder has no Cargo.lock; ", &format!("{IGNORED}Cargo.lock\n")]);
    fs::remove_file(bench.path("s/Cargo.lock")).unwrap();
    build().failed(1, &["the folder has no Cargo.lock\n", "`cargo generate-lockfile`", "commit it"]);
}
