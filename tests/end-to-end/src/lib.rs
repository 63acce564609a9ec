//! What the end-to-end tests share: the two commands as users run them, a source to build, a place to work in.
//!
//! A test that cannot set the stage panics with what it attempted.
#![expect(clippy::missing_panics_doc, clippy::unwrap_used, reason = "test code: a panic is a failed test")]

mod operator;

use std::fs;
use std::process::{Command, Output};

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::Value;

pub use operator::Operator;

/// A place of a test's own, with a store and a copy of the fixture's source; it goes when dropped.
#[derive(Debug)]
pub struct Stage {
    folder: tempfile::TempDir,
}

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code; -1 when a signal ended it.
    pub code: i32,
    /// What it printed on stdout.
    pub stdout: String,
    /// What it printed on stderr.
    pub stderr: String,
}

impl Stage {
    /// Sets up a new stage.
    #[must_use]
    pub fn new() -> Self {
        let stage = Self { folder: tempfile::tempdir().unwrap() };
        copy_tree(&repository().join("fixtures/virtualcluster"), &stage.source());
        // Go's own packages are compiled once for all stages and for vcbuild's own tests, which keep them there: its cache
        // goes by the content of all inputs. This program is in the target folder's `debug/deps`.
        let program = Utf8PathBuf::try_from(std::env::current_exe().unwrap()).unwrap();
        let shared = program.ancestors().nth(3).unwrap().join("tmp/go-build");
        fs::create_dir_all(&shared).unwrap();
        fs::create_dir_all(stage.path().join("store/cache")).unwrap();
        std::os::unix::fs::symlink(shared, stage.path().join("store/cache/go-build")).unwrap();
        stage
    }

    /// The stage's folder.
    #[must_use]
    pub fn path(&self) -> &Utf8Path {
        Utf8Path::from_path(self.folder.path()).unwrap()
    }

    /// The source that [`Stage::images`] builds.
    #[must_use]
    pub fn source(&self) -> Utf8PathBuf {
        self.path().join("source")
    }

    /// Where archives are written to.
    #[must_use]
    pub fn out(&self) -> Utf8PathBuf {
        self.path().join("out")
    }

    /// Adds a line to one component that shows in its binary.
    pub fn change(&self, component: &str) {
        let path = self.source().join("cmd").join(component).join("main.go");
        let code = fs::read_to_string(&path).unwrap();
        let number = code.len();
        fs::write(&path, format!("{code}\nfunc init() {{ println(\"change {number}\") }}\n")).unwrap();
    }

    /// `vcbuild` with this stage's store, run in the stage's folder.
    #[must_use]
    pub fn vcbuild(&self) -> Command {
        self.command("VCBUILD", "vcbuild")
    }

    /// `vcdist` with this stage's store, run in the stage's folder.
    #[must_use]
    pub fn vcdist(&self) -> Command {
        self.command("VCDIST", "vcdist")
    }

    /// `vcbuild images` on the stage's source; what it printed as JSON.
    #[must_use]
    pub fn images(&self, arguments: &[&str]) -> Value {
        let ended = run(self
            .vcbuild()
            .args(["images", "--output", "json", "--source-dir", self.source().as_str(), "--out", self.out().as_str()])
            .args(arguments));
        ended.json(0)
    }

    fn command(&self, variable: &str, name: &str) -> Command {
        let program = std::env::var(variable).unwrap_or_else(|_| {
            panic!(
                "${variable} does not say where the static {name} is: run these tests by `cargo xtask test end-to-end`"
            )
        });
        let mut command = Command::new(program);
        command.env("VCBUILD_STORE", self.path().join("store")).current_dir(self.path());
        // What the machine that runs the tests is set to is no part of them.
        for name in ["KUBECONFIG", "SOURCE_DATE_EPOCH", "RUST_LOG", "CI"] {
            command.env_remove(name);
        }
        command
    }
}

impl Default for Stage {
    fn default() -> Self {
        Self::new()
    }
}

impl Ended {
    /// Asserts the exit code, and returns what was printed on stdout.
    #[must_use]
    pub fn expect(self, code: i32) -> String {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self.stdout
    }

    /// Asserts the exit code, and reads stdout as one JSON document.
    #[must_use]
    pub fn json(self, code: i32) -> Value {
        let stdout = self.expect(code);
        serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error} in:\n{stdout}"))
    }

    /// Asserts the exit code and that stderr has all these words, and no panic.
    pub fn refused(self, code: i32, words: &[&str]) {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        for word in words {
            assert!(self.stderr.contains(word), "{word:?} is not in:\n{}", self.stderr);
        }
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
    }
}

/// Runs a command to its end.
#[must_use]
pub fn run(command: &mut Command) -> Ended {
    let output: Output = command.output().unwrap_or_else(|error| panic!("starting {command:?}: {error}"));
    Ended {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The repository's root.
#[must_use]
pub fn repository() -> Utf8PathBuf {
    Utf8Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

/// Copies a folder.
pub fn copy_tree(from: &Utf8Path, to: &Utf8Path) {
    assert!(Command::new("cp").args(["-a", from.as_str(), to.as_str()]).status().unwrap().success());
}
