//! Sources that git knows: the same files whatever git its user has set up, wherever vcbuild is run, and however the
//! repository is kept.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use rigs::Run;

use crate::bench::{Bench, digests};

/// A project that takes files as they are, of a repository `s` whose own attributes say how some are checked out.
fn with_files() -> Bench {
    let bench = Bench::new();
    let project = "base = \"scratch\"\n[components.x]\nimage = \"registry.example/x:v1\"\nbinary = \"/text.txt\"\n[components.x.prebuilt]\n";
    let files = [
        ("text.txt", "one\ntwo\n"),
        ("mark.id", "$Id$\n"),
        ("lines.crlf", "one\ntwo\n"),
        ("data.bin", "data\n"),
        ("wide.u16", "wide\n"),
        ("old.c", "$Format:%H$\n"),
    ];
    let listed: String = files.iter().map(|(name, _)| format!("\"/{name}\" = \"{name}\"\n")).collect();
    bench.write("vcbuild.toml", &format!("{project}{listed}"));
    for (name, content) in files {
        bench.write(&format!("s/{name}"), content);
    }
    bench
        .write("s/.gitattributes", "* text=auto\n*.id ident\n*.crlf text eol=crlf\n*.bin filter=x\n*.c export-subst\n");
    bench.commit("s");
    bench
}

fn url(bench: &Bench, folder: &str) -> String {
    format!("file://{}", bench.path(folder).display())
}

/// The images of a build in a new store, by a user with an empty home.
fn built(bench: &Bench, arguments: &[&str], set: impl FnOnce(&mut Command)) -> BTreeMap<String, String> {
    for folder in ["other", "home"] {
        let _ = fs::remove_dir_all(bench.path(folder));
    }
    let _ = fs::remove_file(bench.path("vcbuild.lock"));
    fs::create_dir(bench.path("home")).unwrap();
    let mut command = bench.vcbuild(&[&["images", "--output", "json"], arguments].concat());
    command.env("VCBUILD_STORE", bench.path("other")).env("HOME", bench.path("home"));
    set(&mut command);
    digests(&Run::of(&mut command).json())
}

#[test]
fn a_commit_has_the_same_files_whatever_the_settings_of_git_are() {
    let bench = with_files();
    let repo = url(&bench, "s");
    let arguments = ["--source-repo", repo.as_str()];
    let plain = built(&bench, &arguments, |_| ());
    // What the commit itself says holds, as in a clone.
    bench.tool("git", &["clone", "--quiet", "s", "clone"]);
    assert_eq!(bench.read("clone/lines.crlf"), "one\r\ntwo\r\n");
    let layers = |document: serde_json::Value| document["images"][0]["platforms"][0]["layers"].clone();
    let of_clone = layers(bench.json(&["images", "--source-dir", "clone"]));
    assert_eq!(layers(bench.json(&["images", "--source-repo", &repo])), of_clone);

    let ran = bench.path("ran").display().to_string();
    bench.write("hooks/post-checkout", &format!("#!/bin/sh\ntouch {ran}\n"));
    bench.write("hooks/reference-transaction", &format!("#!/bin/sh\ntouch {ran}\n"));
    bench.tool("chmod", &["-R", "+x", "hooks"]);
    bench.write("template/info/attributes", "*.txt text eol=crlf\n");
    bench.write("template/config", "[core]\n\tautocrlf = true\n");
    bench.write("attributes", "*.txt filter=x\n*.u16 text working-tree-encoding=UTF-16\n*.txt ident\n");
    let at = |path: &str| bench.path(path).display().to_string();
    let settings = [
        "[core]\n\teol = crlf\n".to_owned(),
        "[core]\n\tautocrlf = true\n".to_owned(),
        format!(
            "[filter \"x\"]\n\tsmudge = tr a-z A-Z\n\trequired = true\n[core]\n\tattributesFile = {}\n",
            at("attributes")
        ),
        format!("[init]\n\ttemplateDir = {}\n\tdefaultBranch = x\n\tdefaultObjectFormat = sha256\n", at("template")),
        format!("[core]\n\thooksPath = {}\n\tsparseCheckout = true\n\tsymlinks = false\n", at("hooks")),
    ];
    for text in settings {
        let of_user = built(&bench, &arguments, |_| bench.write("home/.gitconfig", &text));
        assert_eq!(of_user, plain, "{text}");
        bench.write("config/git/config", &text);
        assert_eq!(built(&bench, &arguments, |_| ()), plain, "{text}");
        fs::remove_file(bench.path("config/git/config")).unwrap();
        bench.write("system", &text);
        let of_machine = built(&bench, &arguments, |command| {
            command.env("GIT_CONFIG_SYSTEM", at("system"));
        });
        assert_eq!(of_machine, plain, "{text}");
    }
    bench.write("config/git/attributes", "*.txt text eol=crlf\n");
    assert_eq!(built(&bench, &arguments, |_| ()), plain);
    let given = built(&bench, &arguments, |command| {
        command.env("GIT_CONFIG_COUNT", "1").env("GIT_CONFIG_KEY_0", "core.autocrlf").env("GIT_CONFIG_VALUE_0", "true");
        command.env("GIT_CONFIG_PARAMETERS", "'core.eol=crlf'").env("GIT_TEMPLATE_DIR", at("template"));
    });
    assert_eq!(given, plain);
    assert!(!bench.path("ran").exists(), "a hook of the user's ran");
}

#[test]
fn how_a_repository_is_reached_is_for_its_user_to_say() {
    let bench = with_files();
    let arguments = ["--source-repo", "https://git.example.org/s.git"];
    let instead = format!("[url \"file://{}/\"]\n\tinsteadOf = https://git.example.org/\n", bench.path("").display());
    bench.tool("git", &["clone", "--quiet", "--bare", "s", "s.git"]);
    built(&bench, &arguments, |_| bench.write("home/.gitconfig", &instead));
    built(&bench, &arguments, |command| {
        bench.write("own", &instead);
        command.env("GIT_CONFIG_GLOBAL", bench.path("own"));
    });
    built(&bench, &arguments, |command| {
        let key = format!("url.file://{}/.insteadOf", bench.path("").display());
        command.env("GIT_CONFIG_COUNT", "1").env("GIT_CONFIG_KEY_0", key);
        command.env("GIT_CONFIG_VALUE_0", "https://git.example.org/");
    });
}

#[test]
fn a_host_of_a_repository_is_lent_nothing_unless_its_user_says_how_to_reach_it() {
    let bench = Bench::new();
    bench.write("bin/ssh", "#!/bin/sh\necho \"$*\" > \"$(dirname \"$0\")/../told\"\nexit 1\n");
    bench.tool("chmod", &["755", "bin/ssh"]);
    let told = |settings: &str| {
        bench.write("home/.gitconfig", settings);
        let mut command = bench.vcbuild(&["images", "--source-repo", "ssh://git.example.org/s.git"]);
        let path = format!("{}:{}", bench.path("bin").display(), std::env::var("PATH").unwrap());
        command.env("HOME", bench.path("home")).env("PATH", path);
        assert_eq!(Run::of(&mut command).code, Some(1));
        bench.read("told")
    };
    let plain = told("");
    for option in ["-o ForwardAgent=no", "-o ClearAllForwardings=yes", "-o PermitLocalCommand=no", "git.example.org"] {
        assert!(plain.contains(option), "{option} is not in {plain}");
    }
    let own = told("[core]\n\tsshCommand = ssh -o Tag=mine\n");
    assert!(own.contains("-o Tag=mine") && !own.contains("ForwardAgent"), "{own}");
}

#[test]
fn a_project_has_no_remote_helper_run_that_its_users_git_does_not_allow() {
    let bench = Bench::new();
    bench.write("bin/git-remote-odd", "#!/bin/sh\n: > \"$(dirname \"$0\")/../ran\"\nexit 1\n");
    bench.tool("chmod", &["755", "bin/git-remote-odd"]);
    let project = "[source]\nrepo = \"odd::address\"\n[components.a]\nimage = \"registry.example/a:v1\"\nprebuilt = { \"/a\" = \"a\" }\n";
    bench.write("vcbuild.toml", project);
    let ran = |settings: &str| {
        bench.write("home/.gitconfig", settings);
        let mut command = bench.vcbuild(&["images", "--base", "scratch"]);
        let path = format!("{}:{}", bench.path("bin").display(), std::env::var("PATH").unwrap());
        command.env("HOME", bench.path("home")).env("PATH", path);
        assert_eq!(Run::of(&mut command).code, Some(1));
        bench.path("ran").exists()
    };
    assert!(!ran(""));
    assert!(ran("[protocol \"odd\"]\n\tallow = always\n"), "the user allows it");
}

#[test]
fn repositories_and_users_of_sha_256_are_served_as_others_are() {
    let bench = with_files();
    bench.tool("cp", &["-r", "s", "s256"]);
    fs::remove_dir_all(bench.path("s256/.git")).unwrap();
    bench.git("s256", &["init", "--quiet", "--object-format=sha256", "--initial-branch=main"]);
    let commit = bench.commit("s256");
    bench.git("s256", &["tag", "v1"]);
    assert_eq!(commit.len(), 64);
    let (sha1, sha256) = (url(&bench, "s"), url(&bench, "s256"));
    built(&bench, &["--source-repo", &sha1], |command| {
        command.env("GIT_DEFAULT_HASH", "sha256");
    });
    for version in ["HEAD", "main", "v1", &commit, &commit[..12]] {
        built(&bench, &["--source-repo", &sha256, "--source-version", version], |_| ());
        let lock = bench.read("vcbuild.lock");
        assert!(lock.contains(&format!("commit = \"{commit}\"")), "{version}: {lock}");
    }
    built(&bench, &["--source-dir", "s256"], |_| ());

    // It is carried as well, and checked by git's hash of its tree.
    bench.write("s256/.gitattributes", "");
    bench.git("s256", &["commit", "--quiet", "-am", "as they are"]);
    let commit = bench.git("s256", &["rev-parse", "HEAD"]);
    let _ = fs::remove_file(bench.path("vcbuild.lock"));
    let of = |arguments: &[&str]| bench.run(&[arguments, &["--source-repo", &sha256]].concat());
    of(&["fetch", "--to", "inputs"]).succeeded();
    let carried = ["images", "--inputs", "inputs", "--locked", "--store", "empty"];
    of(&carried).succeeded();
    bench.write(&format!("inputs/git/{commit}/text.txt"), "tampered\n");
    fs::remove_dir_all(bench.path("empty")).unwrap();
    of(&carried).failed(1, &["have tree"]);
}

#[test]
fn a_build_in_a_hook_of_git_is_about_its_own_source() {
    let bench = with_files();
    let repo = url(&bench, "s");
    bench.write("main/file", "file\n");
    bench.commit("main");
    bench.git("main", &["worktree", "add", "--quiet", "../tree"]);
    let state = || {
        let told = [&["status", "--porcelain"][..], &["ls-files", "--stage"], &["count-objects"], &["show-ref"]];
        told.map(|arguments| bench.git("tree", arguments))
    };
    let (before, at) = (state(), |path: &str| bench.path(path).display().to_string());
    let objects = at("main/.git/objects");
    fs::create_dir(bench.path("quarantine")).unwrap();
    let hooks: [Vec<(&str, String)>; 4] = [
        vec![
            ("GIT_DIR", at("main/.git/worktrees/tree")),
            ("GIT_INDEX_FILE", at("main/.git/worktrees/tree/index")),
            ("GIT_PREFIX", String::new()),
        ],
        vec![("GIT_DIR", at("main/.git")), ("GIT_WORK_TREE", at("tree")), ("GIT_COMMON_DIR", at("main/.git"))],
        vec![
            ("GIT_DIR", at("main/.git")),
            ("GIT_OBJECT_DIRECTORY", at("quarantine")),
            ("GIT_ALTERNATE_OBJECT_DIRECTORIES", objects),
            ("GIT_QUARANTINE_PATH", at("quarantine")),
            ("GIT_NAMESPACE", "other".to_owned()),
            ("GIT_SHALLOW_FILE", at("nowhere")),
        ],
        vec![
            ("GIT_CEILING_DIRECTORIES", at("")),
            ("GIT_LITERAL_PATHSPECS", "1".to_owned()),
            ("GIT_DEFAULT_REF_FORMAT", "files".to_owned()),
            ("GIT_NO_REPLACE_OBJECTS", "1".to_owned()),
        ],
    ];
    for source in [["--source-repo", repo.as_str()], ["--source-dir", "s"]] {
        // Of a folder in a repository, what is not tracked is none of the source.
        bench.write("s/cmd/untracked", "x");
        let plain = built(&bench, &source, |_| ());
        for hook in &hooks {
            let in_hook = built(&bench, &source, |command| {
                command.envs(hook.iter().cloned());
            });
            assert_eq!(in_hook, plain, "{hook:?}");
        }
    }
    assert_eq!(state(), before, "the repository of the hook is as it was");
    assert_eq!(fs::read_dir(bench.path("quarantine")).unwrap().count(), 0);
}

#[test]
fn a_checkout_is_the_same_source_however_it_is_kept() {
    let bench = Bench::with_hello();
    bench.commit("hello");
    bench.git("hello", &["config", "uploadpack.allowFilter", "true"]);
    let repo = url(&bench, "hello");
    let build =
        |folder: &str| bench.run(&["images", "--source-dir", folder, "--components", "one", "--output", "json"]);
    let plain = digests(&build("hello").json());
    bench.git("hello", &["worktree", "add", "--quiet", "../worktree"]);
    bench.tool("git", &["clone", "--quiet", "--depth=1", &repo, "shallow"]);
    bench.tool("git", &["clone", "--quiet", "--filter=blob:none", &repo, "partial"]);
    bench.tool("git", &["clone", "--quiet", &repo, "sparse"]);
    bench.git("sparse", &["sparse-checkout", "set", "--sparse-index", "cmd/one", "pkg"]);
    for folder in ["worktree", "shallow", "partial", "sparse"] {
        bench.write(&format!("{folder}/cmd/one/untracked.go"), "package broken\n");
        assert_eq!(digests(&build(folder).json()), plain, "{folder}");
    }
    // As repositories they are fetched from, too.
    let fetched = |folder: &str| {
        let repo = url(&bench, folder);
        let arguments =
            ["images", "--project", "hello/vcbuild.toml", "--lock", "l", "--components", "one", "--source-repo"];
        let stamps = ["--stamp", "version=v0.0.0", "--stamp", "commit=unknown", "--output", "json"];
        let document = bench.run(&[&arguments[..], &[&repo], &stamps].concat()).json();
        document["images"][0]["platforms"][0]["layers"].clone()
    };
    let of_main = fetched("hello");
    for folder in ["worktree", "shallow", "sparse"] {
        assert_eq!(fetched(folder), of_main, "{folder}");
    }
    // What a sparse checkout leaves out, and is needed, is named.
    bench.git("sparse", &["sparse-checkout", "set", "cmd/one"]);
    let sparse = build("sparse");
    sparse.failed(1, &["pkg/version", "tracked but not in the folder", "git sparse-checkout add"]);
}

#[test]
fn whose_a_repository_is_does_not_matter() {
    let bench = with_files();
    if !rustix::process::geteuid().is_root() {
        return;
    }
    bench.tool("chown", &["-R", "4711:4711", "s"]);
    let repo = url(&bench, "s");
    for source in [["--source-repo", repo.as_str()], ["--source-dir", "s"]] {
        bench.write("s/untracked.txt", "x");
        built(&bench, &source, |command| {
            command.env_remove("SUDO_UID");
        });
    }
}
