//! `cargo xtask bench --push`: pushes to a lab's two workers, compared with a login, a plain import, and the Ansible
//! role that vcdist replaces. Everything is measured in one run on one machine: the ratios matter, not the times.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ::lab::packages::Package;
use ::lab::{Lab, Options};
use camino::{Utf8Path, Utf8PathBuf};
use rigs::docker::Docker;
use vcterminal::{Exit, Table, Text};

use crate::command::{capture, root, run as run_command};
use crate::dist::{self, Binaries};
use crate::error::Error;

/// The packages that the role needs in addition to a lab's.
const PEERS: &[Package] =
    &[Package { name: "docker.io", provides: "dockerd", reason: "the role saves images with it" }];

/// The numbers of measurements of quick and of slow operations, of which the best counts.
const TIMES: (usize, usize) = (7, 3);

/// The time limit for a command on a node, and for the start of Docker.
const WITHIN: Duration = Duration::from_secs(120);

const COMPONENTS: [&str; 3] = ["manager", "syncer", "vn-agent"];

const WORKERS: [&str; 2] = ["worker1", "worker2"];

/// Runs the task.
pub(crate) fn run() -> Result<Exit, Error> {
    ::lab::packages::ensure(PEERS)?;
    let binaries = dist::build()?;
    let folder = tempfile::tempdir().map_err(Error::io("making a folder in", "/tmp"))?;
    let path = Utf8PathBuf::try_from(folder.path().to_owned())
        .map_err(|error| Error::Unexpected { step: "making a folder", why: error.to_string() })?;
    let lab = Lab::up(&Options { name: "bench".to_owned(), ..Options::default() })?;
    let table = Bench { binaries, path, lab: &lab }.measure();
    lab.down()?;
    vcterminal::tell_text(&Text::from(&table?));
    Ok(Exit::Done)
}

struct Bench<'a> {
    binaries: Binaries,
    path: Utf8PathBuf,
    lab: &'a Lab,
}

impl Bench<'_> {
    fn measure(&self) -> Result<Table, Error> {
        let store = self.path.join("store");
        self.images("zstd")?;
        // The whole store as one archive, which is everything that an empty node lacks.
        let archive = self.path.join("all.tar");
        run_command(Command::new("tar").args(["-C", store.as_str(), "-cf", archive.as_str()]).args([
            "oci-layout",
            "index.json",
            "blobs",
        ]))?;
        self.copy(&archive, WORKERS[0])?;
        // Places the helper before the measurements.
        capture(&mut self.vcdist("plan"))?;

        let login = best(TIMES.0, || timed(|| self.ssh(WORKERS[0], "true")))?;
        let cold = best(TIMES.1, || {
            self.wipe()?;
            timed(|| capture(&mut self.vcdist("push")).map(drop))
        })?;
        let again = best(TIMES.0, || timed(|| capture(&mut self.vcdist("push")).map(drop)))?;
        let import = best(TIMES.1, || {
            self.wipe()?;
            timed(|| self.ssh(WORKERS[0], "ctr -n k8s.io images import /root/all.tar"))
        })?;
        let role = self.role()?;

        let mut table = Table::new(["what", "time", "beside", "time", "ratio", "goal"]);
        let mut row = |what: &str, this: Duration, beside: &str, other: Duration, ratio: f64, goal: &str| {
            let time = |time: Duration| format!("{:.2} s", time.as_secs_f64());
            table.row([what, &time(this), beside, &time(other), &format!("{ratio:.2}"), goal]);
        };
        let over = |one: Duration, other: Duration| one.as_secs_f64() / other.as_secs_f64();
        row("push again to 2", again, "ssh HOST true", login, over(again, login), "at most 2.0");
        row("first push to 2", cold, "ctr images import on 1", import, over(cold, import), "at most 1.3");
        row("first push to 2", cold, "the role's way to 2", role, over(role, cold), "at least 4 times");
        Ok(table)
    }

    /// Builds the images on a Debian base, with an archive of each.
    fn images(&self, compression: &str) -> Result<(), Error> {
        let mut command = Command::new(&self.binaries.vcbuild);
        // A folder in which a lock may be written.
        command.current_dir(&self.path);
        command.args(["images", "--base", "debian", "--compression", compression, "--source-dir"]);
        command.arg(root().join("fixtures/virtualcluster")).arg("--out").arg(self.path.join(compression));
        capture(command.arg("--store").arg(self.path.join("store"))).map(drop)
    }

    fn vcdist(&self, subcommand: &str) -> Command {
        let mut command = Command::new(&self.binaries.vcdist);
        command.arg(subcommand).arg("--store").arg(self.path.join("store"));
        command.args(["--output", "json", "--kubeconfig", self.lab.kubeconfig().as_str()]);
        command.args(["--ssh-config", self.lab.ssh_config().as_str()]).stderr(Stdio::null());
        command
    }

    /// Measures the role's method: saves each image as a whole, then copies one image after another to one worker after
    /// another.
    fn role(&self) -> Result<Duration, Error> {
        self.images("gzip")?;
        let docker = Docker::start(&self.path.join("docker"))
            .map_err(|source| Error::Start { program: "dockerd".to_owned(), source })?;
        for component in COMPONENTS {
            let archive = self.path.join("gzip").join(format!("vc_{component}-amd64.tar"));
            capture(docker.command().args(["load", "--input", archive.as_str()]))?;
        }
        self.wipe()?;
        timed(|| {
            let saved = |component: &str| self.path.join(format!("saved-{component}.tar"));
            for component in COMPONENTS {
                let name = format!("virtualcluster/{component}-amd64:latest");
                capture(docker.command().args(["save", "--output", saved(component).as_str(), &name]))?;
            }
            for (worker, component) in WORKERS.iter().flat_map(|worker| COMPONENTS.map(|component| (worker, component)))
            {
                self.copy(&saved(component), worker)?;
                self.ssh(worker, &format!("ctr -n k8s.io images import /root/saved-{component}.tar"))?;
            }
            Ok(())
        })
    }

    fn ssh(&self, worker: &str, line: &str) -> Result<(), Error> {
        let mut command = Command::new("ssh");
        command.args(["-n", "-F", self.lab.ssh_config().as_str(), &format!("root@{worker}"), line]);
        capture(&mut command).map(drop)
    }

    fn copy(&self, file: &Utf8Path, worker: &str) -> Result<(), Error> {
        let config = self.lab.ssh_config();
        run_command(Command::new("scp").args([
            "-q",
            "-F",
            config.as_str(),
            file.as_str(),
            &format!("root@{worker}:/root/"),
        ]))
    }

    /// Removes all images of the workers except the one for pods' sandboxes, with their blobs and snapshots.
    fn wipe(&self) -> Result<(), Error> {
        // The CRI recreates names of an image asynchronously, so this repeats until there are none.
        let script = "c='ctr -n k8s.io'; for i in 1 2 3 4 5; do n=$($c images ls -q | grep -v pause) || break; \
                      $c images rm $n >/dev/null; sleep 0.3; done; $c leases delete --sync $($c leases create)";
        for worker in WORKERS {
            self.lab
                .exec(worker, &["sh", "-c", script], WITHIN)?
                .success(format!("removing the images of {worker}"))?;
        }
        Ok(())
    }
}

fn timed(work: impl FnOnce() -> Result<(), Error>) -> Result<Duration, Error> {
    let begun = Instant::now();
    work()?;
    Ok(begun.elapsed())
}

fn best(times: usize, measure: impl Fn() -> Result<Duration, Error>) -> Result<Duration, Error> {
    let measured = (0..times).map(|_| measure()).collect::<Result<Vec<_>, _>>()?;
    Ok(measured.into_iter().min().unwrap_or_default())
}
