//! The operator's side of a test: the commands, pointed at a lab.

use std::process::Command;
use std::time::Duration;

use lab::{Containerd, Kubernetes, Lab, Options, ScopedLab};
use rigs::Run;
use serde_json::Value;

use crate::Stage;

/// A stage and a lab.
#[derive(Debug)]
pub struct Operator {
    /// Where images are built.
    pub stage: Stage,
    /// Where they go.
    pub lab: ScopedLab,
}

impl Operator {
    /// A new stage, and a lab of that name with two workers.
    #[must_use]
    pub fn with_lab(name: &str, containerd: Containerd) -> Self {
        Self::with(&Options { name: name.to_owned(), containerd, ..Options::default() })
    }

    /// A new stage, and a lab as these options have it, with the version of Kubernetes that the environment names.
    #[must_use]
    pub fn with(options: &Options) -> Self {
        let kubernetes = Kubernetes::of_environment().unwrap_or_else(|error| panic!("{error}"));
        let lab = Lab::up(&Options { kubernetes, ..options.clone() })
            .unwrap_or_else(|error| panic!("bringing the lab up: {error:?}"));
        Self { stage: Stage::new(), lab: lab.scoped() }
    }

    /// `vcdist SUBCOMMAND` with the lab's kubeconfig.
    #[must_use]
    pub fn vcdist(&self, subcommand: &str) -> Command {
        let mut command = self.stage.vcdist();
        command.args([subcommand, "--kubeconfig", self.lab.kubeconfig().as_str()]);
        command
    }

    /// `vcdist push` with the lab's SSH configuration, printing JSON.
    #[must_use]
    pub fn push(&self) -> Command {
        let mut command = self.vcdist("push");
        command.args(["--output", "json", "--ssh-config", self.lab.ssh_config().as_str()]);
        command
    }

    /// Pushes to all workers and expects it to work; what was printed.
    #[must_use]
    pub fn pushed(&self) -> Value {
        Run::of(&mut self.push()).json()
    }

    /// Rolls out and expects it to work.
    pub fn deploy(&self) {
        Run::of(self.vcdist("deploy").args(["--timeout", "120s"])).succeeded();
    }

    /// `vcdist verify`, printing JSON; its exit code must be this.
    #[must_use]
    pub fn verify(&self, code: i32) -> Value {
        Run::of(self.vcdist("verify").args(["--output", "json"])).json_and(code)
    }

    /// What kubectl prints with these arguments.
    #[must_use]
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        self.lab.kubectl(arguments).unwrap_or_else(|error| panic!("{error:?}"))
    }

    /// What a program prints on a node, which must succeed there.
    #[must_use]
    pub fn on(&self, node: &str, program: &[&str]) -> String {
        let finished =
            self.lab.exec(node, program, Duration::from_secs(60)).unwrap_or_else(|error| panic!("{error:?}"));
        finished.success(format!("{program:?} on {node}")).unwrap_or_else(|error| panic!("{error:?}"))
    }
}
