//! Many nodes that one command pushes to: each as any other, with a network of its own, and one store for all.

use std::process::Stdio;
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};
use std::{fs, io};

use camino::Utf8PathBuf;
use rigs::process;
use vcstore::Store;

use super::{NodeOptions, PushOutput, Rig};

/// The nodes.
pub(crate) struct Fleet {
    folder: tempfile::TempDir,
    rigs: Vec<Rig>,
}

/// A push to some of them, measured.
pub(crate) struct PushMeasurement {
    /// What it did.
    pub(crate) pushed: PushOutput,
    /// How long it took.
    pub(crate) elapsed: Duration,
    /// The most memory it had at once, in bytes.
    pub(crate) peak_memory: u64,
}

impl Fleet {
    /// So many nodes.
    pub(crate) fn of(count: usize) -> Self {
        let folder = tempfile::Builder::new().prefix("vcdist-fleet-").tempdir().expect("a folder");
        let path = Utf8PathBuf::try_from(folder.path().to_owned()).expect("UTF-8");
        // One path leads to every node's containerd: the command has one address for all.
        let alias = path.join("node");
        fs::create_dir(&alias).expect("a folder");
        let peculiar = NodeOptions { network: true, alias: Some(alias), ..Default::default() };
        let rigs: Vec<Rig> = scope(|scope| {
            let starting: Vec<_> = (0..count).map(|_| scope.spawn(|| Rig::with(&peculiar))).collect();
            starting.into_iter().map(|rig| rig.join().expect("a node")).collect()
        });
        let config = rigs.iter().map(|rig| {
            let own = fs::read_to_string(rig.path().join("ssh_config"))?;
            Ok(format!("Host {}\n{own}", rig.address()))
        });
        let config = config.collect::<io::Result<String>>().expect("the nodes' configurations");
        fs::write(path.join("ssh_config"), config).expect("a configuration");
        Self { folder, rigs }
    }

    /// The operator's store.
    pub(crate) fn store(&self) -> Store {
        Store::open(&self.path().join("store")).expect("a store")
    }

    /// `vcdist push ARGUMENTS` to the first `count` nodes.
    pub(crate) fn push(&self, count: usize, arguments: &[&str]) -> PushMeasurement {
        let path = self.path();
        let mut command = std::process::Command::new(super::vcdist());
        command.arg("push").args(arguments).args(["--output", "json", "--ssh-user", "root"]);
        command.arg("--store").arg(path.join("store")).arg("--ssh-config").arg(path.join("ssh_config"));
        command.arg("--containerd-address").arg(path.join("node/containerd.sock"));
        command.args(self.rigs[..count].iter().flat_map(|rig| ["--host".to_owned(), rig.address()]));
        command.env_remove("RUST_LOG").env("NO_COLOR", "1").stdin(Stdio::null());
        let begun = Instant::now();
        let push = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("vcdist starts");
        let id = push.id();
        let (output, peak_memory) = scope(|scope| {
            let push = scope.spawn(|| push.wait_with_output().expect("it ends"));
            let mut peak_memory = 0;
            while !push.is_finished() {
                peak_memory = process::memory(id, "VmHWM").unwrap_or(peak_memory);
                sleep(Duration::from_millis(2));
            }
            (push.join().expect("the push"), peak_memory)
        });
        PushMeasurement { pushed: output.into(), elapsed: begun.elapsed(), peak_memory }
    }

    fn path(&self) -> Utf8PathBuf {
        Utf8PathBuf::try_from(self.folder.path().to_owned()).expect("UTF-8")
    }
}
