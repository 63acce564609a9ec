//! A place to run `vcbuild` in: a folder of its own with sources, a store and archives.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rigs::Run;
use serde_json::Value;

/// A folder that goes with everything in it.
pub(crate) struct Bench {
    folder: tempfile::TempDir,
}

/// The sources of a small project of two programs that share a package.
const HELLO: [(&str, &str); 6] = [
    ("go.mod", "module example.org/hello\n\ngo 1.21\n"),
    (
        "pkg/version/version.go",
        "package version\n\nvar gitVersion, gitCommit, buildDate string\n\n\
         func String() string { return gitVersion + \" \" + gitCommit + \" \" + buildDate }\n",
    ),
    (
        "cmd/one/main.go",
        "package main\n\nimport \"example.org/hello/pkg/version\"\n\nfunc main() { println(\"one\", version.String()) }\n",
    ),
    (
        "cmd/two/main.go",
        "package main\n\nimport \"example.org/hello/pkg/version\"\n\nfunc main() { println(\"two\", version.String()) }\n",
    ),
    ("README.md", "Hello.\n"),
    (
        "vcbuild.toml",
        "base = \"scratch\"\n[defaults]\nimage = \"registry.example/hello/{component}-{arch}:v1\"\nldflags = [\"-s\", \"-w\"]\n\
         [defaults.stamps]\n\"{module}/pkg/version.gitVersion\" = \"{version}\"\n\
         \"{module}/pkg/version.gitCommit\" = \"{commit}\"\n\"{module}/pkg/version.buildDate\" = \"{date}\"\n\
         [components.one]\n[components.two]\n",
    ),
];

impl AsRef<Path> for Bench {
    fn as_ref(&self) -> &Path {
        self.folder.path()
    }
}

impl Bench {
    pub(crate) fn new() -> Self {
        let bench = Self { folder: tempfile::tempdir().unwrap() };
        // As most folders are: a project may use what is in it because every user of the machine may read it.
        fs::set_permissions(&bench.folder, fs::Permissions::from_mode(0o755)).unwrap();
        // Go's own packages are compiled once for all benches: its cache goes by the content of all inputs.
        let shared = Path::new(env!("CARGO_TARGET_TMPDIR")).join("go-build");
        fs::create_dir_all(&shared).unwrap();
        fs::create_dir_all(bench.path("store/cache")).unwrap();
        std::os::unix::fs::symlink(shared, bench.path("store/cache/go-build")).unwrap();
        bench
    }

    /// A bench with the small project in its folder `hello`.
    pub(crate) fn with_hello() -> Self {
        let bench = Self::new();
        for (path, content) in HELLO {
            bench.write(&format!("hello/{path}"), content);
        }
        bench
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    pub(crate) fn write(&self, path: &str, content: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub(crate) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }

    /// Replaces the one place where `from` stands in a file.
    pub(crate) fn edit(&self, path: &str, from: &str, to: &str) {
        let text = self.read(path);
        assert_eq!(text.matches(from).count(), 1, "{from:?} in {path}");
        fs::write(self.path(path), text.replace(from, to)).unwrap();
    }

    /// `vcbuild` in the bench's folder with the bench's store, whatever the environment of the tests says.
    pub(crate) fn vcbuild(&self, arguments: &[&str]) -> Command {
        self.around(Command::new(env!("CARGO_BIN_EXE_vcbuild")), arguments)
    }

    /// A command in the bench's folder and environment.
    pub(crate) fn around(&self, mut command: Command, arguments: &[&str]) -> Command {
        for name in ["SOURCE_DATE_EPOCH", "XDG_CACHE_HOME", "RUST_LOG", "CI"] {
            command.env_remove(name);
        }
        // Nor whatever who runs the tests has set up for themselves.
        command.env("XDG_CONFIG_HOME", self.path("config"));
        command.current_dir(self.folder.path()).env("VCBUILD_STORE", self.path("store")).args(arguments);
        command
    }

    /// Publishes a module in the proxy that is the bench's folder `proxy`, and returns its lines of `go.sum`.
    ///
    /// Go's cache, which all benches share, goes by path and version for what a module has in it: each test has modules
    /// of its own.
    pub(crate) fn publish(&self, module: &str, version: &str, files: &[(&str, &str)]) -> String {
        let at = self.path("proxy").join(module).join("@v");
        fs::create_dir_all(&at).unwrap();
        let go_mod = format!("module {module}\n\ngo 1.21\n");
        let mut files: BTreeMap<&str, &str> = files.iter().copied().collect();
        files.entry("go.mod").or_insert(&go_mod);
        let mut zip = zip::ZipWriter::new(fs::File::create(at.join(format!("{version}.zip"))).unwrap());
        for (name, content) in &files {
            let name = format!("{module}@{version}/{name}");
            zip.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
            zip.write_all(content.as_bytes()).unwrap();
        }
        zip.finish().unwrap();
        fs::write(at.join(format!("{version}.mod")), files["go.mod"]).unwrap();
        fs::write(at.join(format!("{version}.info")), format!("{{\"Version\":\"{version}\"}}")).unwrap();
        let mut versions = fs::read_to_string(at.join("list")).unwrap_or_default();
        versions += &format!("{version}\n");
        fs::write(at.join("list"), versions).unwrap();
        let whole = h1(files.iter().map(|(name, content)| (format!("{module}@{version}/{name}"), *content)));
        let alone = h1([("go.mod".to_owned(), files["go.mod"])]);
        format!("{module} {version} {whole}\n{module} {version}/go.mod {alone}\n")
    }

    /// Has the user's Go take modules from the bench's proxy alone.
    pub(crate) fn with_proxy(&self, mut command: Command) -> Command {
        command
            .env("GOPROXY", format!("file://{}", self.path("proxy").display()))
            .env("GONOSUMDB", "*")
            .env("GOPATH", self.path("gopath"))
            .env_remove("GOMODCACHE");
        command
    }

    /// Makes a folder a git repository with all of it in one commit, and returns the commit.
    pub(crate) fn commit(&self, folder: &str) -> String {
        self.git(folder, &["init", "--quiet", "--initial-branch=main"]);
        self.git(folder, &["add", "."]);
        self.git(folder, &["commit", "--quiet", "--allow-empty", "-m", "change"]);
        self.git(folder, &["rev-parse", "HEAD"])
    }

    pub(crate) fn git(&self, folder: &str, arguments: &[&str]) -> String {
        let who = ["-C", folder, "-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"];
        self.tool("git", &[&who[..], arguments].concat()).trim().to_owned()
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Run {
        Run::of(&mut self.vcbuild(arguments))
    }

    /// Runs `vcbuild … --output json`, which must succeed, and returns what it printed.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        self.run(&[arguments, &["--output", "json"]].concat()).json()
    }

    /// Runs another program, which must succeed, and returns what it printed.
    pub(crate) fn tool(&self, program: &str, arguments: &[&str]) -> String {
        let run = Run::of(&mut self.around(Command::new(program), arguments));
        assert_eq!(run.code, Some(0), "{program} {arguments:?}: {run:?}");
        run.stdout
    }
}

/// What is told of a build's actions.
pub(crate) trait Actions {
    /// How many of this kind ran, by the lines on stderr.
    fn ran(&self, kind: &str) -> usize;
}

impl Actions for Run {
    fn ran(&self, kind: &str) -> usize {
        self.stderr.lines().filter(|line| line.split_whitespace().next() == Some(kind)).count()
    }
}

/// The digests of a build's images by component.
pub(crate) fn digests(document: &Value) -> BTreeMap<String, String> {
    let images = document["images"].as_array().unwrap().iter();
    images.map(|image| (text(&image["component"]), text(&image["digest"]))).collect()
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

/// Copies a folder of plain files.
pub(crate) fn copy(from: &Path, to: &Path) {
    for entry in walkdir::WalkDir::new(from) {
        let entry = entry.unwrap();
        let to = to.join(entry.path().strip_prefix(from).unwrap());
        if entry.file_type().is_dir() {
            fs::create_dir_all(to).unwrap();
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// The `h1:` checksum of files.
fn h1<'a>(files: impl IntoIterator<Item = (String, &'a str)>) -> String {
    use base64::Engine;
    use sha2::{Digest, Sha256};
    let mut files: Vec<_> = files.into_iter().collect();
    files.sort();
    let lines = files.into_iter().map(|(name, content)| {
        let hash: String = Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{hash}  {name}\n")
    });
    let sum = Sha256::digest(lines.collect::<String>());
    format!("h1:{}", base64::engine::general_purpose::STANDARD.encode(sum))
}

/// Unpacks a tar file.
pub(crate) fn untar(archive: &Path, to: &Path) {
    tar::Archive::new(fs::File::open(archive).unwrap()).unpack(to).unwrap();
}

/// The SHA-256 of a file.
pub(crate) fn sha256(path: &Path) -> String {
    let mut content = Vec::new();
    fs::File::open(path).unwrap().read_to_end(&mut content).unwrap();
    vcstore::Digest::of(&content).to_string()
}
