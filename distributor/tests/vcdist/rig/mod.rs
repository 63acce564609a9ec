//! A node to push to, of real parts on the loopback interface: an sshd with keys of its own, and a containerd with
//! folders and a socket of its own. It needs root. Everything goes when it is dropped.
//! containerd is Debian's unless a test asks for another.

pub(crate) mod api;
mod content;
mod daemons;
mod fleet;
mod images;
mod link_fault;
mod network;
mod slow_link;

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use rigs::{Daemon, files, process, wait};
use serde_json::Value;
use vcstore::{Digest, Store};

pub(crate) use daemons::{INSIDE, ORDINARY_ID};
use daemons::{RUN, VAR_LIB, VAR_TMP, start_containerd, start_sshd, tmpfs, tool, write_sshd};
pub(crate) use fleet::Fleet;
pub(crate) use images::{image, noise, program};
pub(crate) use link_fault::LinkFault;
use network::Network;
pub(crate) use slow_link::SlowLink;

/// What sshd says of itself in its log when it takes connections.
const LISTENS: &str = "Server listening";

/// What is peculiar about a node.
#[derive(Debug, Default, Clone)]
pub(crate) struct NodeOptions {
    /// sshd prints this on stdout before any command.
    pub(crate) noise: Option<&'static str>,
    /// containerd's content lies on a file system of this many bytes.
    pub(crate) disk: Option<u64>,
    /// Who logs in.
    pub(crate) login: Login,
    /// It has a network namespace of its own, and a link to it.
    pub(crate) network: bool,
    /// That link is long and slow.
    pub(crate) line: Option<SlowLink>,
    /// The ordinary user's login shell.
    pub(crate) shell: Option<&'static str>,
    /// A folder with the programs of another containerd than the machine's.
    pub(crate) containerd: Option<Utf8PathBuf>,
    /// Where whoever logs in finds the rig's folder as well.
    pub(crate) alias: Option<Utf8PathBuf>,
    /// The login user's cache folder is on a file system mounted with these options.
    pub(crate) home: Option<&'static str>,
    /// Whose SSH goes there, as `--ssh` has it; when empty, nothing is said.
    pub(crate) ssh: &'static str,
}

/// Who logs in to a node.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Login {
    #[default]
    Root,
    /// An ordinary user whom sudo asks for no password.
    Sudo,
    /// An ordinary user whom sudo asks for a password.
    SudoWithPassword,
    /// An ordinary user whom sudo lets run this helper as root, and nothing else.
    SudoHelper,
    /// An ordinary user on a node without sudo.
    NoSudo,
}

impl Login {
    fn user(self) -> &'static str {
        if self == Self::Root { "root" } else { "operator" }
    }
}

/// A node and an operator's folder.
pub(crate) struct Rig {
    folder: tempfile::TempDir,
    sshd: Daemon,
    containerd: Daemon,
    port: u16,
    mounts: Vec<Utf8PathBuf>,
    peculiar: NodeOptions,
    network: Option<Network>,
}

/// vcdist, without what debuggers read: it is placed on every node, and hashed for every push.
fn vcdist() -> &'static Utf8Path {
    static PROGRAM: OnceLock<Utf8PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let folder = Utf8Path::new(env!("CARGO_TARGET_TMPDIR"));
        let (own, shared) = (folder.join(format!("vcdist.{}", std::process::id())), folder.join("vcdist"));
        let mut strip = Command::new("strip");
        strip.args(["-o", own.as_str(), env!("CARGO_BIN_EXE_vcdist")]);
        assert!(strip.status().expect("strip runs").success());
        fs::rename(own, &shared).expect("a name");
        shared
    })
}

impl Rig {
    /// A node as any other.
    pub(crate) fn up() -> Self {
        Self::with(&NodeOptions::default())
    }

    /// A node as any other, reached by this SSH.
    pub(crate) fn over(ssh: &'static str) -> Self {
        Self::with(&NodeOptions { ssh, ..Default::default() })
    }

    /// A node that is reached from this one alone, and that lets this one in.
    pub(crate) fn behind(&self) -> Self {
        let rig = Self::at(&NodeOptions::default(), Some(self.network().behind()));
        fs::copy(self.path().join("user_key.pub"), rig.path().join("authorized_keys")).expect("a key");
        rig
    }

    /// A node with something peculiar about it.
    pub(crate) fn with(peculiar: &NodeOptions) -> Self {
        Self::at(peculiar, peculiar.network.then(|| Network::up(peculiar.line)))
    }

    fn at(peculiar: &NodeOptions, network: Option<Network>) -> Self {
        let folder = tempfile::Builder::new().prefix("vcdist-rig-").tempdir().expect("a folder");
        let path = Utf8PathBuf::try_from(folder.path().to_owned()).expect("UTF-8");
        let mut mounts = Vec::new();
        if let Some(bytes) = peculiar.disk {
            mounts.push(tmpfs(&path.join("root"), &format!("size={bytes}")));
        }
        if let Some(options) = peculiar.home {
            mounts.push(tmpfs(&path.join("cache"), options));
        }
        let containerd = start_containerd(&path, peculiar.containerd.as_deref());
        let port = write_sshd(&path, peculiar, network.as_ref());
        let sshd = start_sshd(&path, peculiar, network.as_ref());
        let rig = Self { folder, sshd, containerd, port, mounts, peculiar: peculiar.clone(), network };
        rig.wait();
        rig
    }

    /// The rig's folder.
    pub(crate) fn path(&self) -> &Utf8Path {
        Utf8Path::from_path(self.folder.path()).expect("UTF-8")
    }

    /// The operator's store.
    pub(crate) fn store(&self) -> Store {
        Store::open(&self.path().join("store")).expect("a store")
    }

    /// Turns a bit in the middle of a blob of the store.
    pub(crate) fn damage_in_store(&self, digest: &Digest) {
        let path = self.store().blob_path(digest);
        let mut bytes = fs::read(&path).expect("a blob");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("its mode");
        fs::write(&path, bytes).expect("damage");
    }

    /// `vcdist push ARGUMENTS` to this node.
    pub(crate) fn push(&self, arguments: &[&str]) -> PushOutput {
        self.push_to(&[&self.address()], arguments)
    }

    /// `vcdist push ARGUMENTS` to these hosts, which all get this node's port.
    pub(crate) fn push_to(&self, hosts: &[&str], arguments: &[&str]) -> PushOutput {
        let output = self.command(hosts, arguments).output().expect("vcdist runs");
        PushOutput(output)
    }

    /// The command behind [`Rig::push_to`].
    pub(crate) fn command(&self, hosts: &[&str], arguments: &[&str]) -> Command {
        let mut command = self.vcdist("push", arguments);
        command.args(["--output", "json", "--ssh-user", self.peculiar.login.user()]);
        command.arg("--ssh-config").arg(self.path().join("ssh_config"));
        command.args(hosts.iter().flat_map(|host| ["--host", host]));
        command
    }

    /// `vcdist SUBCOMMAND ARGUMENTS` with the rig's store and containerd, and no nodes named.
    pub(crate) fn vcdist(&self, subcommand: &str, arguments: &[&str]) -> Command {
        let path = self.path();
        let mut command = Command::new(vcdist());
        command.arg(subcommand).arg("--containerd-address").arg(path.join("containerd.sock"));
        command.arg("--store").arg(path.join("store"));
        if !self.peculiar.ssh.is_empty() {
            command.args(["--ssh", self.peculiar.ssh]);
        }
        command.args(arguments).env_remove("RUST_LOG").env("NO_COLOR", "1").stdin(Stdio::null());
        // Where a helper on this machine goes when no SSH is between.
        command.env("XDG_CACHE_HOME", path.join("cache"));
        command
    }

    /// `ctr -n k8s.io ARGUMENTS`, which must succeed; its stdout.
    pub(crate) fn ctr(&self, arguments: &[&str]) -> String {
        let mut command = self.ctr_program();
        command.arg("-a").arg(self.path().join("containerd.sock")).args(["-n", "k8s.io"]).args(arguments);
        let output = command.output().expect("ctr runs");
        assert!(output.status.success(), "ctr {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    fn ctr_program(&self) -> Command {
        Command::new(tool("ctr", self.peculiar.containerd.as_deref()))
    }

    /// Has containerd collect garbage, and waits for it.
    pub(crate) fn collect_garbage(&self) {
        let lease = self.ctr(&["leases", "create"]);
        self.ctr(&["leases", "delete", "--sync", lease.trim()]);
    }

    /// `ssh NODE true`, and how long it took.
    pub(crate) fn ssh_true(&self) -> Duration {
        let begun = Instant::now();
        let mut command = Command::new("ssh");
        command.arg("-F").arg(self.path().join("ssh_config")).args(["root@127.0.0.1", "true"]);
        assert!(command.status().expect("ssh runs").success());
        begun.elapsed()
    }

    /// The helpers that are placed.
    pub(crate) fn helpers(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path().join("cache/vcdist")).into_iter().flatten();
        entries.map(|entry| entry.expect("an entry").path()).collect()
    }

    /// What logins have for `/var/tmp`.
    pub(crate) fn var_tmp(&self) -> Utf8PathBuf {
        self.path().join(VAR_TMP)
    }

    /// What logins have for `/var/lib`.
    pub(crate) fn var_lib(&self) -> Utf8PathBuf {
        self.path().join(VAR_LIB)
    }

    /// What logins have for `/run`.
    pub(crate) fn run(&self) -> Utf8PathBuf {
        self.path().join(RUN)
    }

    /// Places the helper as a push would, without a byte on the link.
    pub(crate) fn place_helper(&self) {
        let hash = Digest::of(&fs::read(vcdist()).expect("the program")).hex();
        let folder = self.path().join("cache/vcdist");
        fs::create_dir_all(&folder).expect("a folder");
        fs::copy(vcdist(), folder.join(format!("helper-{hash}"))).expect("the helper");
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).expect("its mode");
    }

    /// Whether any helper of this rig runs.
    pub(crate) fn helper_runs(&self) -> bool {
        !process::of_programs_in(self.path().join("cache")).is_empty()
    }

    /// Whether anything still runs that a login began.
    pub(crate) fn script_runs(&self) -> bool {
        let variable = format!("XDG_CACHE_HOME={}/cache", self.path());
        let of_login = |entry: fs::DirEntry| {
            let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
            String::from_utf8_lossy(&environment).contains(&variable)
        };
        fs::read_dir("/proc").expect("/proc").flatten().any(of_login)
    }

    /// Sends every helper of this rig a signal: KILL, STOP, CONT.
    pub(crate) fn signal_helpers(&self, name: &str) {
        let helpers = process::of_programs_in(self.path().join("cache"));
        helpers.into_iter().for_each(|helper| process::signal(helper, name));
    }

    /// The processes of this rig's pushes that do this: `helper`, `join`.
    pub(crate) fn helpers_for(&self, job: &str) -> Vec<u32> {
        let mut helpers = process::of_programs_in(self.path().join("cache"));
        helpers.retain(|helper| process::has_argument(*helper, job));
        helpers
    }

    /// Kills those of them that do this.
    pub(crate) fn kill_helpers(&self, job: &str) {
        self.helpers_for(job).into_iter().for_each(|helper| process::signal(helper, "KILL"));
    }

    /// Ends sshd and all it lets in without warning, and starts it again.
    pub(crate) fn kill_sshd(&mut self) {
        self.sshd.kill_with_children();
        self.sshd = start_sshd(self.path(), &self.peculiar, self.network.as_ref());
        self.wait();
    }

    /// Ends containerd without warning, and starts it again.
    pub(crate) fn kill_containerd(&mut self) {
        self.containerd.kill_with_children();
        self.containerd = start_containerd(self.path(), self.peculiar.containerd.as_deref());
        self.wait();
    }

    /// Replaces what `known_hosts` says of this node.
    pub(crate) fn know_host(&self, key: Option<&str>) {
        let line = key.map(|key| format!("[127.0.0.1]:{} {key}\n", self.port)).unwrap_or_default();
        fs::write(self.path().join("known_hosts"), line).expect("known_hosts");
    }

    /// Has sshd heed further lines of configuration, for every connection after this.
    pub(crate) fn configure_sshd(&self, lines: &str) {
        let config = self.path().join("sshd_config");
        let text = fs::read_to_string(&config).expect("a configuration");
        fs::write(&config, text + lines).expect("a configuration");
        self.reload_sshd();
    }

    /// Logins find programs in `folder` before any other.
    pub(crate) fn prefer_programs_in(&self, folder: &Utf8Path) {
        let config = self.path().join("sshd_config");
        let text = fs::read_to_string(&config).expect("a configuration");
        let path = format!("SetEnv XDG_CACHE_HOME={}/cache PATH={folder}:/usr/bin:/bin:/usr/sbin:/sbin", self.path());
        let line = text.lines().find(|line| line.starts_with("SetEnv")).expect("its environment").to_owned();
        fs::write(&config, text.replace(&line, &path)).expect("a configuration");
        self.reload_sshd();
    }

    /// Has the node seem a machine of another architecture to whoever would place a helper, and of its own to whoever asks
    /// next: the images are of that.
    pub(crate) fn runs_no_helper(&self) {
        let folder = self.path().join("bin");
        let script = "#!/bin/sh\n[ \"$1\" = -m ] || exec /bin/uname \"$@\"\n[ -e \"$0.said\" ] && rm \"$0.said\" && exec /bin/uname \"$@\"\ntouch \"$0.said\"; echo s390x\n";
        files::write_program(folder.join("uname"), script);
        self.prefer_programs_in(&folder);
        self.helpers().iter().for_each(|helper| fs::remove_file(helper).expect("its helper"));
    }

    /// Logins have these variables too, `NAME=VALUE`.
    pub(crate) fn add_to_environment(&self, variables: &str) {
        let config = self.path().join("sshd_config");
        let text = fs::read_to_string(&config).expect("a configuration");
        let line = text.lines().find(|line| line.starts_with("SetEnv")).expect("its environment").to_owned();
        fs::write(&config, text.replace(&line, &format!("{line} {variables}"))).expect("a configuration");
        self.reload_sshd();
    }

    /// Has sshd read its configuration again, for every connection after this.
    fn reload_sshd(&self) {
        self.sshd.reload(self.path().join("sshd.log"), LISTENS);
        self.wait();
    }

    /// Runs a script where logins run: what it mounts, they alone see.
    pub(crate) fn within(&self, script: &str) {
        let status =
            Command::new("nsenter").args(["-m", "-t", &self.sshd.id().to_string(), "sh", "-ec", script]).status();
        assert!(status.expect("nsenter runs").success(), "{script}");
    }

    /// The node's address.
    pub(crate) fn address(&self) -> String {
        self.network.as_ref().map_or_else(|| "127.0.0.1".to_owned(), Network::address)
    }

    /// The link to the node.
    pub(crate) fn network(&self) -> &Network {
        self.network.as_ref().expect("a node with a network of its own")
    }

    /// Where its sshd listens.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// A port that leads to its sshd.
    pub(crate) fn link(&self, fate: LinkFault) -> u16 {
        link_fault::to(self.port, fate)
    }

    /// Waits until sshd and containerd answer.
    pub(crate) fn wait(&self) {
        let socket = self.path().join("containerd.sock");
        let answers = || {
            let mut ctr = self.ctr_program();
            ctr.args(["-a", socket.as_str(), "version"]).stdout(Stdio::null()).stderr(Stdio::null());
            socket.exists() && ctr.status().is_ok_and(|status| status.success())
        };
        let listens = || match self.network.as_ref().is_some_and(Network::is_behind) {
            // Nothing gets there from here.
            true => fs::read_to_string(self.path().join("sshd.log")).is_ok_and(|log| log.contains(LISTENS)),
            false => TcpStream::connect((self.address(), self.port)).is_ok(),
        };
        let log = || fs::read_to_string(self.path().join("containerd.log")).unwrap_or_default();
        let describe = || format!("the node comes up: {}", log());
        wait::until_every(Duration::from_millis(100), wait::WITHIN, || answers() && listens(), describe);
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.sshd.end();
        self.containerd.end();
        for mount in &self.mounts {
            let _ = Command::new("umount").arg(mount).status();
        }
    }
}

/// What `vcdist push` did.
pub(crate) struct PushOutput(Output);

impl From<Output> for PushOutput {
    fn from(output: Output) -> Self {
        Self(output)
    }
}

impl PushOutput {
    /// Its exit code.
    pub(crate) fn code(&self) -> i32 {
        self.0.status.code().expect("an exit code")
    }

    /// What it said on stderr.
    pub(crate) fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.0.stderr).into_owned()
    }

    /// Its report; the push must have ended with `code`.
    pub(crate) fn report(&self, code: i32) -> Value {
        assert_eq!(self.code(), code, "{}", self.stderr());
        serde_json::from_slice(&self.0.stdout).expect("one JSON document")
    }

    /// The first node of its report; the push must have succeeded.
    pub(crate) fn node(&self) -> Value {
        self.report(0)["nodes"][0].clone()
    }
}
