//! The options of every command that works on nodes: which nodes, and how SSH reaches them.

use std::time::Duration;

use camino::Utf8PathBuf;
use clap::Args;

use crate::cluster::{self, Cluster, ClusterArgs};
use crate::duration::parse_duration;
use crate::nodes::{self, Choice, Error, Node, ansible};
use crate::session::{Namespace, Settings, SocketPath};
use crate::transport::{Client, HostKeys, Keyring, SshOptions};

/// The limit of a connection attempt.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Which of a cluster's nodes. Push, deploy and verify take the same choice.
#[derive(Debug, Args)]
#[command(next_help_heading = "Nodes")]
pub(super) struct ChoiceArgs {
    /// Only these nodes, whatever their role [default: all workers]
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    nodes: Vec<String>,

    /// Only nodes with these labels, as for `kubectl -l`
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    selector: Option<String>,

    /// Not these nodes
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    exclude: Vec<String>,

    /// The nodes of the control plane too
    #[arg(long)]
    include_control_plane: bool,
}

impl ChoiceArgs {
    /// Returns the choice of nodes.
    pub(super) fn choice(&self) -> Choice {
        Choice {
            names: self.nodes.clone(),
            exclude: self.exclude.clone(),
            selector: self.selector.clone(),
            include_control_plane: self.include_control_plane,
            ..Choice::default()
        }
    }
}

/// Which nodes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Nodes")]
pub(super) struct Nodes {
    #[command(flatten)]
    choice: ChoiceArgs,

    /// This host, without the Kubernetes API; repeatable
    #[arg(
        long,
        value_name = "[USER@]HOST[:PORT]",
        conflicts_with_all = ["kubeconfig", "context", "nodes", "selector", "exclude", "include_control_plane"]
    )]
    host: Vec<String>,

    /// The hosts of this Ansible inventory, without the API
    ///
    /// Its format is INI or YAML.
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["kubeconfig", "context", "selector", "include_control_plane", "host"]
    )]
    inventory: Option<Utf8PathBuf>,

    /// The group of the inventory
    #[arg(long, value_name = "NAME", default_value = "all", requires = "inventory")]
    group: String,

    #[command(flatten)]
    cluster: ClusterArgs,

    /// Look nodes up in known_hosts by name, not by address
    ///
    /// As with ssh's HostKeyAlias. A node then cannot answer in the place of another.
    #[arg(long, help_heading = "SSH", display_order = 500, conflicts_with = "host")]
    host_key_alias: bool,
}

/// How SSH gets there.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "SSH")]
pub(super) struct Ssh {
    /// The client
    ///
    /// The system's `ssh`, or the one built into vcdist.
    #[arg(long = "ssh", value_enum, value_name = "CLIENT", default_value_t)]
    client: Client,

    /// The login user [default: of the inventory or ssh's configuration]
    #[arg(long, value_name = "USER", value_parser = ssh_user)]
    ssh_user: Option<String>,

    /// An option for ssh, as after -o; repeatable
    #[arg(long, value_name = "KEY=VALUE", value_parser = ssh_option)]
    ssh_option: Vec<String>,

    /// The configuration file for ssh, instead of the user's
    #[arg(long, value_name = "FILE")]
    ssh_config: Option<Utf8PathBuf>,

    /// Keys
    ///
    /// How vcdist checks the host keys of the nodes.
    #[arg(long, value_enum, value_name = "POLICY", default_value_t)]
    host_keys: HostKeys,

    /// Give up a connection attempt after this time [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    connect_timeout: Option<Duration>,

    /// Treat a connection as lost after this silence
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_duration)]
    stall_timeout: Duration,
}

/// Where containerd is on the nodes.
#[derive(Debug, Args)]
#[command(next_help_heading = "On the node")]
pub(super) struct Containerd {
    /// containerd's socket [default: the usual places]
    ///
    /// vcdist looks where containerd, k3s, rke2, k0s and microk8s have it.
    #[arg(long, value_name = "PATH")]
    containerd_address: Option<SocketPath>,

    /// containerd's namespace
    #[arg(long, value_name = "NAME", default_value = "k8s.io")]
    containerd_namespace: Namespace,
}

impl Containerd {
    /// Returns the settings for the helper.
    pub(super) fn settings(&self, ssh: &Ssh) -> Settings {
        Settings {
            namespace: self.containerd_namespace.clone(),
            address: self.containerd_address.clone(),
            stall_timeout: ssh.stall_timeout,
        }
    }
}

impl Nodes {
    /// Returns the choice of nodes.
    pub(super) fn choice(&self) -> Choice {
        Choice { keys_by_name: self.host_key_alias, ..self.choice.choice() }
    }

    /// Connects to the nodes' cluster. Returns `None` if the nodes are given without one.
    pub(super) async fn cluster(&self) -> Result<Option<Cluster>, cluster::Error> {
        if !self.host.is_empty() || self.inventory.is_some() {
            return Ok(None);
        }
        Cluster::connect(&self.cluster).await.map(Some)
    }

    /// The cluster that is worked on, however its nodes are named.
    pub(super) async fn any_cluster(&self) -> Result<Cluster, cluster::Error> {
        Cluster::connect(&self.cluster).await
    }

    /// The nodes that are meant.
    pub(super) async fn find(&self, ssh: &Ssh) -> Result<Vec<Node>, Error> {
        match self.find_without_api(ssh)? {
            Some(nodes) => Ok(nodes),
            None => nodes::from_api(&Cluster::connect(&self.cluster).await?, &self.choice()).await,
        }
    }

    /// The nodes of the command line or of an inventory; none if the API has to be asked for them.
    pub(super) fn find_without_api(&self, ssh: &Ssh) -> Result<Option<Vec<Node>>, Error> {
        if !self.host.is_empty() {
            return nodes::from_hosts(&self.host, ssh.is_unsaid()).map(Some);
        }
        let Some(path) = &self.inventory else { return Ok(None) };
        let choice = self.choice();
        let ansible::Hosts { hosts, notes } = ansible::read(path, &self.group, &choice)?;
        for note in notes {
            tracing::warn!("{path}: {note}");
        }
        nodes::from_inventory(hosts, &choice).map(Some)
    }
}

impl Nodes {
    /// Finds one node by its name, regardless of its role; the name is a host if neither an API nor an inventory is
    /// used.
    pub(super) async fn find_one(&self, name: &str, ssh: &Ssh) -> Result<Node, Error> {
        let choice = Choice { names: vec![name.to_owned()], keys_by_name: self.host_key_alias, ..Choice::default() };
        let found = match &self.inventory {
            Some(path) => nodes::from_inventory(ansible::read(path, "all", &choice)?.hosts, &choice)?,
            None if !self.host.is_empty() => nodes::from_hosts(&choice.names, ssh.is_unsaid())?,
            None => nodes::from_api(&Cluster::connect(&self.cluster).await?, &choice).await?,
        };
        let missing = || Error::Missing { missing: vec![name.to_owned()], known: Vec::new() };
        found.into_iter().next().ok_or_else(missing)
    }
}

impl Ssh {
    /// Returns the options for the transport.
    pub(super) fn options(&self) -> SshOptions {
        SshOptions {
            client: self.client,
            user: self.ssh_user.clone(),
            options: self.ssh_option.clone(),
            config: self.ssh_config.clone(),
            host_keys: self.host_keys,
            connect_timeout: self.connect_timeout.unwrap_or(CONNECT_TIMEOUT),
            stall_timeout: self.stall_timeout,
            keyring: Keyring::default(),
        }
    }

    /// Has these be the login user and the limit of a connection attempt where no option says them.
    pub(super) fn or(self, user: Option<String>, connect_timeout: Option<Duration>) -> Self {
        Self { ssh_user: self.ssh_user.or(user), connect_timeout: self.connect_timeout.or(connect_timeout), ..self }
    }

    /// Whether no option is given that could change the meaning of a host name.
    fn is_unsaid(&self) -> bool {
        self.ssh_user.is_none() && self.ssh_option.is_empty() && self.ssh_config.is_none()
    }
}

/// Parses a user name for ssh.
fn ssh_user(text: &str) -> Result<String, String> {
    let valid = vcremote::destination::is_user(text);
    valid.then(|| text.to_owned()).ok_or_else(|| "this is not a valid name of a user".to_owned())
}

/// Parses an option for ssh's `-o`. Rejects the one that `--host-keys` sets.
pub(super) fn ssh_option(text: &str) -> Result<String, String> {
    let keyword = text.split(['=', ' ']).next().unwrap_or_default().trim();
    if keyword.eq_ignore_ascii_case("StrictHostKeyChecking") {
        return Err("say how host keys are checked with --host-keys".to_owned());
    }
    if keyword.is_empty() { Err("write KEY=VALUE".to_owned()) } else { Ok(text.to_owned()) }
}
