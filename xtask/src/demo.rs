//! `cargo xtask demo`: the main workflow with real components: source → images → two workers → rollout → verification,
//! then once more with one changed line.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use ::lab::{Containerd, Kubernetes, Lab, Options};
use camino::{Utf8Path, Utf8PathBuf};
use serde::Deserialize;
use vcterminal::{Exit, Table, Text, bytes, duration, tell, tell_text};

use crate::command::{self, root};
use crate::dist::{self, Binaries};
use crate::error::Error;

/// Run the main job on a lab.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The source to build; our stand-ins for VirtualCluster's components unless given
    #[arg(long, value_name = "DIR")]
    source_dir: Option<Utf8PathBuf>,

    /// How many workers the lab has
    #[arg(long, default_value_t = 2, value_name = "N")]
    workers: u8,

    /// Which containerd the nodes run
    #[arg(long, value_enum, default_value_t)]
    containerd: Containerd,

    /// Leave the lab running at the end
    #[arg(long)]
    keep: bool,

    /// Build the two commands as they are released, and not for this machine alone: faster, and three times as long to compile
    #[arg(long)]
    release: bool,
}

/// Runs the task.
pub(crate) fn run(arguments: &Arguments) -> Result<Exit, Error> {
    let mut report = Report::new();
    let binaries = report.step("build vcbuild, vcdist and Kubernetes", || built(arguments))?;
    let workers = arguments.workers;
    let options = Options { name: "demo".to_owned(), workers, containerd: arguments.containerd, ..Options::default() };
    let lab = report.step("start a cluster", || {
        let lab = Lab::up(&options)?;
        Ok((lab, format!("{workers} workers and a control plane, in network namespaces")))
    })?;
    let result = main_job(&mut report, arguments, &binaries, &lab);
    if arguments.keep {
        tell("");
        tell("The lab is left running:");
        tell(format_args!("  export KUBECONFIG={}", lab.kubeconfig()));
        tell(format_args!("  ssh -F {} worker1", lab.ssh_config()));
        tell("  cargo xtask lab down --name demo");
    } else {
        lab.down()?;
    }
    result?;
    tell("");
    tell_text(&Text::from(&report.table));
    Ok(Exit::Done)
}

/// Builds the two commands and the cluster's programs concurrently, because neither uses all CPUs.
fn built(arguments: &Arguments) -> Result<(Binaries, String), Error> {
    std::thread::scope(|scope| {
        let cluster = scope.spawn(|| ::lab::Binaries::ensure(Kubernetes::default(), arguments.containerd));
        let binaries = if arguments.release { dist::build() } else { dist::build_for_this_machine() }?;
        let cluster =
            cluster.join().map_err(|_| Error::Unexpected { step: "compiling", why: "it panicked".to_owned() })?;
        cluster?;
        Ok((binaries, if arguments.release { "as released" } else { "for this machine" }.to_owned()))
    })
}

fn main_job(report: &mut Report, arguments: &Arguments, binaries: &Binaries, lab: &Lab) -> Result<(), Error> {
    let work =
        tempfile::tempdir().map_err(Error::io("making a folder in", std::env::temp_dir().display().to_string()))?;
    let work = Utf8Path::from_path(work.path()).unwrap_or(Utf8Path::new("/tmp"));
    // A copy, because one line of it is changed later.
    let source = work.join("source");
    let given = arguments.source_dir.clone().unwrap_or_else(|| root().join("fixtures/virtualcluster"));
    copy_tree(&given, &source)?;
    let tools = Tools { binaries, lab, work, source: &source };

    let first = report.step("vcbuild images", || tools.images())?;
    for image in &first.images {
        tell(format_args!("  {}@{}", image.reference, image.digest));
    }
    report.step("vcdist push", || tools.push())?;
    report.step("vcdist deploy", || tools.deploy())?;
    report.step("vcdist verify", || tools.verify())?;
    tools.show_pods()?;

    let again = report.step("vcdist push, again", || tools.push())?;
    if again.bytes_sent != 0 {
        return Err(Error::Unexpected { step: "pushing again", why: format!("{} were sent", bytes(again.bytes_sent)) });
    }

    change_a_line(&source)?;
    let second = report.step("vcbuild images, one line changed", || tools.images())?;
    let changed = first.images.iter().zip(&second.images).filter(|(old, new)| old.digest != new.digest).count();
    if changed != 1 {
        let why = format!("{changed} images changed");
        return Err(Error::Unexpected { step: "building with one changed line", why });
    }
    report.step("vcdist push, one layer", || tools.push())?;
    report.step("vcdist deploy", || tools.deploy())?;
    report.step("vcdist verify", || tools.verify())?;
    tools.show_pods()
}

/// Runs the two commands as a user would, and parses their output.
struct Tools<'a> {
    binaries: &'a Binaries,
    lab: &'a Lab,
    work: &'a Utf8Path,
    source: &'a Utf8Path,
}

/// The document of `vcbuild images --output json`.
#[derive(Debug, Deserialize)]
struct Images {
    images: Vec<ImageLine>,
    actions: Actions,
}

#[derive(Debug, Deserialize)]
struct ImageLine {
    reference: String,
    digest: String,
}

#[derive(Debug, Deserialize)]
struct Actions {
    total: u64,
    run: u64,
}

/// The document of `vcdist push --output json`.
#[derive(Debug, Deserialize)]
struct Pushed {
    nodes: Vec<NodeLine>,
    bytes_sent: u64,
}

#[derive(Debug, Deserialize)]
struct NodeLine {
    blobs: Counts,
    bytes: ByteCounts,
}

#[derive(Debug, Deserialize)]
struct Counts {
    sent: u64,
}

#[derive(Debug, Deserialize)]
struct ByteCounts {
    total: u64,
}

impl Tools<'_> {
    fn images(&self) -> Result<(Images, String), Error> {
        let built: Images = command::json(
            Command::new(&self.binaries.vcbuild)
                .args(["images", "--base", "debian", "--no-locked", "--output", "json"])
                .args(["--source-dir", self.source.as_str(), "--out", self.work.join("out").as_str()])
                .current_dir(self.work),
        )?;
        let said = format!("{} of {} actions run", built.actions.run, built.actions.total);
        Ok((built, said))
    }

    fn push(&self) -> Result<(Pushed, String), Error> {
        let pushed: Pushed = command::json(self.vcdist("push").args([
            "--ssh-config",
            self.lab.ssh_config().as_str(),
            "--output",
            "json",
        ]))?;
        let blobs: u64 = pushed.nodes.iter().map(|node| node.blobs.sent).sum();
        let total: u64 = pushed.nodes.iter().map(|node| node.bytes.total).sum();
        let said = format!(
            "{blobs} blobs, {} of {} sent to {} workers",
            bytes(pushed.bytes_sent),
            bytes(total),
            pushed.nodes.len()
        );
        Ok((pushed, said))
    }

    fn deploy(&self) -> Result<((), String), Error> {
        command::run(&mut self.vcdist("deploy"))?;
        Ok(((), "rolled out, images by digest".to_owned()))
    }

    fn verify(&self) -> Result<((), String), Error> {
        command::run(&mut self.vcdist("verify"))?;
        Ok(((), "nine checks passed".to_owned()))
    }

    fn show_pods(&self) -> Result<(), Error> {
        const COLUMNS: &str = "custom-columns=POD:.metadata.name,NODE:.spec.nodeName,STATUS:.status.phase,\
                               IMAGE:.spec.containers[*].image";
        let pods = self.lab.kubectl(&["-n", "vc-manager", "get", "pods", "-o", COLUMNS])?;
        tell_text(Text::default().program(&pods));
        Ok(())
    }

    fn vcdist(&self, subcommand: &str) -> Command {
        let mut command = Command::new(&self.binaries.vcdist);
        command.args([subcommand, "--kubeconfig", self.lab.kubeconfig().as_str()]).current_dir(self.work);
        command
    }
}

/// Prints the steps as they run, and collects them in a table.
struct Report {
    table: Table,
}

impl Report {
    fn new() -> Self {
        Self { table: Table::new(["step", "time", "what was done"]) }
    }

    fn step<T>(&mut self, name: &str, step: impl FnOnce() -> Result<(T, String), Error>) -> Result<T, Error> {
        tell(format_args!("── {name}"));
        let begun = Instant::now();
        let (value, said) = step()?;
        let time: Duration = begun.elapsed();
        tell(format_args!("   {said} ({})", duration(time)));
        self.table.row([name.to_owned(), duration(time), said]);
        Ok(value)
    }
}

/// Adds one line to the manager that changes its binary.
fn change_a_line(source: &Utf8Path) -> Result<(), Error> {
    let path = source.join("cmd/manager/main.go");
    let mut code = fs::read_to_string(&path).map_err(Error::io("reading", &path))?;
    code += "\nfunc init() { println(\"one changed line\") }\n";
    fs::write(&path, code).map_err(Error::io("writing", &path))
}

/// Copies files and folders, without a repository's history.
fn copy_tree(from: &Utf8Path, to: &Utf8Path) -> Result<(), Error> {
    fs::create_dir_all(to).map_err(Error::io("making", to))?;
    for entry in from.read_dir_utf8().map_err(Error::io("listing", from))? {
        let entry = entry.map_err(Error::io("listing", from))?;
        let target = to.join(entry.file_name());
        let kind = entry.file_type().map_err(Error::io("reading", entry.path()))?;
        if kind.is_dir() {
            if entry.file_name() != ".git" {
                copy_tree(entry.path(), &target)?;
            }
        } else if kind.is_file() {
            fs::copy(entry.path(), &target).map_err(Error::io("copying", entry.path()))?;
        }
    }
    Ok(())
}
