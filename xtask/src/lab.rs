//! `cargo xtask lab`: a real Kubernetes cluster in network namespaces, for experiments.

use std::time::Instant;

use ::lab::{Containerd, Error, Kubernetes, Lab, Options};
use camino::Utf8PathBuf;
use clap::Subcommand;
use vcterminal::{Exit, Table, Text, duration, tell, tell_text};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create a lab; an existing lab with the same name is removed first
    Up {
        /// Its name; labs with different names can run at the same time
        #[arg(long, default_value = "lab")]
        name: String,
        /// The number of workers, in addition to the control-plane node
        #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=i64::from(::lab::MOST_WORKERS)))]
        workers: u8,
        /// Which Kubernetes it runs
        #[arg(long, value_enum, default_value_t)]
        kubernetes: Kubernetes,
        /// Which containerd its nodes run: Debian's 1.6, or 1.7 or 2 compiled from their Go modules
        #[arg(long, value_enum, default_value_t)]
        containerd: Containerd,
        /// The folder of its files [default: /var/lib/vclab/NAME]
        #[arg(long)]
        dir: Option<Utf8PathBuf>,
        /// Give each worker's containerd a disk of this many MiB, in memory
        #[arg(long, value_name = "MIB")]
        worker_disk: Option<u64>,
    },
    /// Remove a lab: its processes, namespaces, mounts, cgroups and files
    Down {
        /// Its name
        #[arg(long, default_value = "lab")]
        name: String,
    },
    /// Show the labs, their nodes and the running daemons
    Status,
    /// Run a command on a node as root
    Exec {
        /// The lab's name
        #[arg(long, default_value = "lab")]
        name: String,
        /// The node, such as worker1
        node: String,
        /// The command and its arguments
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
}

pub(crate) fn run(command: Command) -> Result<Exit, Error> {
    match command {
        Command::Up { name, workers, kubernetes, containerd, dir, worker_disk } => {
            let worker_disk = worker_disk.map(|mib| mib << 20);
            up(&Options { name, workers, kubernetes, containerd, dir, worker_disk, ..Options::default() })
        }
        Command::Down { name } => {
            let start = Instant::now();
            let found = Lab::down_by_name(&name)?;
            let what = if found { "is down" } else { "was not up" };
            tell(format_args!("lab {name} {what} ({})", duration(start.elapsed())));
            Ok(Exit::Done)
        }
        Command::Status => status(),
        Command::Exec { name, node, command } => exec(&Lab::load(&name)?, &node, &command),
    }
}

fn up(options: &Options) -> Result<Exit, Error> {
    let start = Instant::now();
    let lab = Lab::up_telling(options, &mut |step, elapsed| tell(format_args!("{:>8}  {step}", duration(elapsed))))?;
    let (name, elapsed) = (lab.name(), duration(start.elapsed()));
    tell(format_args!("{elapsed:>8}  in all: lab {name} is up, {} workers", lab.workers().len()));
    tell(format_args!("  export KUBECONFIG={}", lab.kubeconfig()));
    tell(format_args!("  kubectl get nodes -o wide"));
    tell(format_args!("  ssh -F {} worker1", lab.ssh_config()));
    tell(format_args!("  cargo xtask lab down --name {name}"));
    Ok(Exit::Done)
}

fn status() -> Result<Exit, Error> {
    let mut table = Table::new(["lab", "node", "address", "running", "ended"]);
    for name in Lab::names()? {
        let Ok(lab) = Lab::load(&name) else {
            table.row([name.as_str(), "-", "-", "-", "incomplete: remove it"]);
            continue;
        };
        for node in lab.nodes() {
            let daemons = |alive: bool| {
                let daemons = lab.daemons().iter().filter(|daemon| daemon.node == node.name);
                let some = daemons.filter(|daemon| daemon.process.is_alive() == alive);
                some.map(|daemon| daemon.component.as_str()).collect::<Vec<_>>().join(", ")
            };
            table.row([name.clone(), node.name.clone(), node.address.to_string(), daemons(true), daemons(false)]);
        }
    }
    tell_text(&Text::from(&table));
    Ok(Exit::Done)
}

/// Exits with the command's own exit code, as a shell would.
fn exec(lab: &Lab, node: &str, command: &[String]) -> Result<Exit, Error> {
    let status = lab.command(node, command)?.status();
    let status = status.map_err(|source| Error::Start { program: command.join(" "), source })?;
    match status.code() {
        Some(0) => Ok(Exit::Done),
        code => std::process::exit(code.unwrap_or(i32::from(Exit::Failed.code()))),
    }
}
