//! A reader of the documentation, who does what a page says and compares what is printed.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use camino::Utf8PathBuf;
use lab::Lab;
use pages::{Item, Page, Step, differs, items};

use crate::Stage;

/// Commands that only ask, and so are repeated until they print what the page shows: what they ask about is under way.
const QUESTIONS: [&str; 4] = ["kubectl get ", "kubectl logs ", "vcdist status", "vcdist prune --dry-run"];
/// How long that may take.
const WITHIN: Duration = Duration::from_secs(90);

/// A reader in a folder with both tools on the PATH.
#[derive(Debug)]
pub struct Reader {
    stage: Stage,
    stands_for: Vec<(String, String)>,
    kubeconfig: Option<Utf8PathBuf>,
}

impl Reader {
    /// A reader in a stage's folder, where `virtualcluster` is the stand-in's source.
    #[must_use]
    pub fn new() -> Self {
        let stage = Stage::new();
        symlink(stage.source(), stage.path().join("virtualcluster")).unwrap();
        let programs = stage.path().join("programs");
        fs::create_dir(&programs).unwrap();
        for (name, command) in [("vcbuild", stage.vcbuild()), ("vcdist", stage.vcdist())] {
            symlink(command.get_program(), programs.join(name)).unwrap();
        }
        Self { stage, stands_for: Vec::new(), kubeconfig: None }
    }

    /// Replaces a text of the pages for this reader.
    #[must_use]
    pub fn with(mut self, text: &str, is: &str) -> Self {
        self.stands_for.push((text.to_owned(), is.to_owned()));
        self
    }

    /// A reader whose cluster is this lab: kubectl finds it, and ssh reaches its nodes by their addresses.
    #[must_use]
    pub fn of(mut self, lab: &Lab) -> Self {
        let ssh = self.stage.path().join("programs/ssh");
        fs::write(&ssh, format!("#!/bin/sh\nexec /usr/bin/ssh -F {} \"$@\"\n", lab.ssh_config())).unwrap();
        fs::set_permissions(&ssh, fs::Permissions::from_mode(0o755)).unwrap();
        self.kubeconfig = Some(lab.kubeconfig());
        self
    }

    /// Does everything that a page says, in order.
    ///
    /// # Panics
    /// When a command ends otherwise or prints something else than the page says.
    pub fn follow(&self, page: &Page) {
        for item in items(page) {
            match item {
                Item::File(name, content) => fs::write(self.folder().join(name), content).unwrap(),
                Item::Command(step) => self.take(&step),
            }
        }
    }

    fn take(&self, step: &Step) {
        let deadline = Instant::now() + WITHIN;
        let is_question = QUESTIONS.iter().any(|question| step.command.starts_with(question));
        loop {
            let (code, printed) = self.run(&step.command);
            let why = match differs(&self.real(&step.output), &printed) {
                None if code == step.code => return,
                None => format!("it ended with exit code {code}:\n{printed}"),
                Some(why) => why,
            };
            let is_over = !is_question || Instant::now() > deadline;
            assert!(!is_over, "{}: `{}`\n{why}", step.place, step.command);
            std::thread::sleep(Duration::from_millis(300));
        }
    }

    /// Runs a command; its exit code, and what it printed.
    fn run(&self, command: &str) -> (i32, String) {
        let output = self.shell(command).output().unwrap();
        (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// A shell for a command, whose folder and variables are those that the one before left.
    #[must_use]
    pub fn shell(&self, command: &str) -> Command {
        let state = self.stage.path().join("state");
        let command = self.real(command);
        let script = format!(
            "[ ! -f {state} ] || . {state}\nexec 2>&1\n{{ {command}\n}}\ncode=$?\n\
             {{ export -p; printf \"cd '%s'\\n\" \"$PWD\"; }} > {state}\nexit $code\n"
        );
        let path = format!("{}:{}", self.stage.path().join("programs"), std::env::var("PATH").unwrap_or_default());
        let mut shell = Command::new("timeout");
        shell.args(["300", "sh", "-c", &script]).current_dir(self.stage.path()).stdin(Stdio::null());
        shell.env("PATH", path).env("VCBUILD_STORE", self.stage.path().join("store"));
        for name in ["KUBECONFIG", "SOURCE_DATE_EPOCH", "RUST_LOG", "CI"] {
            shell.env_remove(name);
        }
        if let Some(kubeconfig) = &self.kubeconfig {
            shell.env("KUBECONFIG", kubeconfig);
        }
        shell
    }

    /// The folder that the reader is in.
    fn folder(&self) -> Utf8PathBuf {
        let (_, printed) = self.run("pwd");
        printed.trim().into()
    }

    fn real(&self, text: &str) -> String {
        self.stands_for.iter().fold(text.to_owned(), |text, (what, is)| text.replace(what, is))
    }
}

impl Default for Reader {
    fn default() -> Self {
        Self::new()
    }
}
