//! What the end-to-end tests share: the two commands as users run them, a source to build, a place to work in.
//!
//! A test that cannot set the stage panics with what it attempted.
#![expect(clippy::missing_panics_doc, clippy::unwrap_used, reason = "test code: a panic is a failed test")]

mod far_away;
mod operator;
mod reader;

use std::fs;
use std::process::Command;

use camino::{Utf8Path, Utf8PathBuf};
use rigs::Run;
use serde_json::Value;

pub use far_away::far_away;
pub use operator::Operator;
pub use reader::Reader;

/// A place of a test's own, with a store and a copy of the fixture's source; it goes when dropped.
#[derive(Debug)]
pub struct Stage {
    folder: tempfile::TempDir,
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
        let run = Run::of(
            self.vcbuild()
                .args([
                    "images",
                    "--output",
                    "json",
                    "--source-dir",
                    self.source().as_str(),
                    "--out",
                    self.out().as_str(),
                ])
                .args(arguments),
        );
        run.json()
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

/// The repository's root.
#[must_use]
pub fn repository() -> Utf8PathBuf {
    Utf8Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

/// Copies a folder.
pub fn copy_tree(from: &Utf8Path, to: &Utf8Path) {
    assert!(Command::new("cp").args(["-a", from.as_str(), to.as_str()]).status().unwrap().success());
}
