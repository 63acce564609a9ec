//! A node to push to, of real parts on the loopback interface: an sshd with keys of its own, and a containerd with
//! folders and a socket of its own. It needs root. Everything goes when it is dropped.
//!
//! containerd is Debian's; `VCDIST_TEST_CONTAINERD` names a folder with another one (and its `ctr`).

use std::fs;
use std::io::{self, Read};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::{Value, json};
use vcstore::{Blob, Compression, Content, Layer, Store, Tree};

/// How long a daemon may take to answer.
const UP_WITHIN: Duration = Duration::from_secs(60);

/// What is peculiar about a node.
#[derive(Debug, Default, Clone)]
pub(crate) struct Peculiar {
    /// sshd prints this on stdout before any command.
    pub(crate) noise: Option<&'static str>,
    /// containerd's content lies on a file system of this many bytes.
    pub(crate) disk: Option<u64>,
    /// The login user's cache folder is on a file system mounted noexec.
    pub(crate) noexec: bool,
    /// Who logs in.
    pub(crate) login: Login,
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
}

impl Login {
    fn user(self) -> &'static str {
        if self == Self::Root { "root" } else { "operator" }
    }
}

/// The ordinary user's number.
const ORDINARY_ID: u32 = 10_001;

/// A node and an operator's folder.
pub(crate) struct Rig {
    folder: tempfile::TempDir,
    sshd: Daemon,
    containerd: Daemon,
    port: u16,
    mounts: Vec<Utf8PathBuf>,
    login: Login,
}

/// A process that is ended with the rig.
struct Daemon(Child);

impl Daemon {
    fn end(&mut self) {
        let id = self.0.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &id]).status();
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline && self.0.try_wait().is_ok_and(|ended| ended.is_none()) {
            sleep(Duration::from_millis(20));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Rig {
    /// A node as any other.
    pub(crate) fn up() -> Self {
        Self::with(&Peculiar::default())
    }

    /// A node with something peculiar about it.
    pub(crate) fn with(peculiar: &Peculiar) -> Self {
        let folder = tempfile::Builder::new().prefix("vcdist-rig-").tempdir().expect("a folder");
        let path = Utf8PathBuf::try_from(folder.path().to_owned()).expect("UTF-8");
        let mut mounts = Vec::new();
        if let Some(bytes) = peculiar.disk {
            mounts.push(tmpfs(&path.join("root"), &format!("size={bytes}")));
        }
        if peculiar.noexec {
            mounts.push(tmpfs(&path.join("cache"), "noexec"));
        }
        let containerd = containerd(&path);
        let (sshd, port) = sshd(&path, peculiar);
        let rig = Self { folder, sshd, containerd, port, mounts, login: peculiar.login };
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

    /// `vcdist push ARGUMENTS` to this node.
    pub(crate) fn push(&self, arguments: &[&str]) -> Pushed {
        self.push_to(&["127.0.0.1"], arguments)
    }

    /// `vcdist push ARGUMENTS` to these hosts, which all get this node's port.
    pub(crate) fn push_to(&self, hosts: &[&str], arguments: &[&str]) -> Pushed {
        let output = self.command(hosts, arguments).output().expect("vcdist runs");
        Pushed(output)
    }

    /// The command behind [`Rig::push_to`].
    pub(crate) fn command(&self, hosts: &[&str], arguments: &[&str]) -> Command {
        let path = self.path();
        let mut command = Command::new(env!("CARGO_BIN_EXE_vcdist"));
        command.arg("push").args(["--ssh-user", self.login.user(), "--output", "json"]);
        command.arg("--ssh-config").arg(path.join("ssh_config"));
        command.arg("--containerd-address").arg(path.join("containerd.sock"));
        command.arg("--store").arg(path.join("store"));
        command.args(hosts.iter().flat_map(|host| ["--host", host]));
        command.args(arguments).env_remove("RUST_LOG").env("NO_COLOR", "1").stdin(Stdio::null());
        command
    }

    /// `ctr -n k8s.io ARGUMENTS`, which must succeed; its stdout.
    pub(crate) fn ctr(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(tool("ctr"));
        command.arg("-a").arg(self.path().join("containerd.sock")).args(["-n", "k8s.io"]).args(arguments);
        let output = command.output().expect("ctr runs");
        assert!(output.status.success(), "ctr {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
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

    /// Whether any helper of this rig runs.
    pub(crate) fn helper_runs(&self) -> bool {
        let ours = |entry: fs::DirEntry| {
            fs::read_link(entry.path().join("exe")).is_ok_and(|exe| exe.starts_with(self.path().join("cache")))
        };
        fs::read_dir("/proc").expect("/proc").flatten().any(ours)
    }

    /// Replaces what `known_hosts` says of this node.
    pub(crate) fn know_host(&self, key: Option<&str>) {
        let line = key.map(|key| format!("[127.0.0.1]:{} {key}\n", self.port)).unwrap_or_default();
        fs::write(self.path().join("known_hosts"), line).expect("known_hosts");
    }

    /// Where its sshd listens.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// A port that leads to its sshd and closes once it has carried `limit` bytes there.
    pub(crate) fn link(&self, limit: u64) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let (here, there) = (listener.local_addr().expect("its address").port(), self.port);
        std::thread::spawn(move || {
            let (near, _) = listener.accept().expect("a connection");
            let far = TcpStream::connect(("127.0.0.1", there)).expect("sshd");
            let (mut answers, mut back) = (far.try_clone().expect("a socket"), near.try_clone().expect("a socket"));
            let returning = std::thread::spawn(move || io::copy(&mut answers, &mut back));
            // Either side may close first: then there is nothing left to carry.
            let _ = io::copy(&mut (&near).take(limit), &mut &far);
            let _ = (near.shutdown(Shutdown::Both), far.shutdown(Shutdown::Both));
            let _ = returning.join();
        });
        here
    }

    fn wait(&self) {
        let deadline = Instant::now() + UP_WITHIN;
        let socket = self.path().join("containerd.sock");
        let answers = || {
            let mut ctr = Command::new(tool("ctr"));
            ctr.args(["-a", socket.as_str(), "version"]).stdout(Stdio::null()).stderr(Stdio::null());
            socket.exists() && ctr.status().is_ok_and(|status| status.success())
        };
        while !answers() || TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let log = || fs::read_to_string(self.path().join("containerd.log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "the node does not come up: {}", log());
            sleep(Duration::from_millis(100));
        }
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
pub(crate) struct Pushed(Output);

impl Pushed {
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

/// An image of a layer that others may share and one of its own, under `docker.io/virtualcluster/NAME-amd64:latest`.
pub(crate) fn image(store: &Store, name: &str, base: &[u8], own: &[u8]) -> String {
    let layers: Vec<Layer> = [("base", base), (name, own)]
        .iter()
        .map(|(file, bytes)| {
            let mut tree = Tree::new();
            tree.file(&format!("usr/local/bin/{file}"), 0o755, Content::Bytes(bytes.to_vec())).expect("a file");
            vcstore::layer::write(store, &tree, Compression::Zstd, 0).expect("a layer")
        })
        .collect();
    let diff_ids: Vec<_> = layers.iter().map(|layer| layer.diff_id).collect();
    let descriptor = |kind: &str, blob: Blob| json!({"mediaType": kind, "digest": blob.digest, "size": blob.size});
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {}, "history": [],
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let config = store.put_document(&config).expect("a config");
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", config),
        "layers": layers.iter().map(Layer::descriptor).collect::<Vec<_>>(),
    });
    let manifest = store.put_document(&manifest).expect("a manifest");
    let full = format!("docker.io/virtualcluster/{name}-amd64:latest");
    let target = descriptor("application/vnd.oci.image.manifest.v1+json", manifest);
    store.tag(&full, &serde_json::from_value(target).expect("a descriptor")).expect("a name");
    full
}

/// `count` bytes that no encoder makes smaller, the same for the same `seed`.
pub(crate) fn noise(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..count.div_ceil(8)).flat_map(|_| next()).take(count).collect()
}

fn tool(name: &str) -> PathBuf {
    std::env::var_os("VCDIST_TEST_CONTAINERD").map_or_else(|| name.into(), |folder| PathBuf::from(folder).join(name))
}

fn tmpfs(path: &Utf8Path, options: &str) -> Utf8PathBuf {
    fs::create_dir_all(path).expect("a folder");
    let status = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs", path.as_str()]).status();
    assert!(status.expect("mount runs").success(), "mounting needs root");
    path.to_owned()
}

fn containerd(path: &Utf8Path) -> Daemon {
    let config = format!(
        r#"
version = 2
root = "{path}/root"
state = "{path}/state"
[grpc]
address = "{path}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
restrict_oom_score_adj = true
disable_apparmor = true
stream_server_port = "0"
[plugins."io.containerd.grpc.v1.cri".cni]
conf_dir = "{path}/cni"
[plugins."io.containerd.nri.v1.nri"]
disable = true
"#
    );
    fs::write(path.join("containerd.toml"), config).expect("a configuration");
    let log = fs::File::create(path.join("containerd.log")).expect("a log");
    let mut command = Command::new(tool("containerd"));
    command.arg("--config").arg(path.join("containerd.toml")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    Daemon(command.process_group(0).spawn().expect("containerd starts"))
}

/// An sshd that lets root in with a key made here, and takes the login user's cache folder to be the rig's.
fn sshd(path: &Utf8Path, peculiar: &Peculiar) -> (Daemon, u16) {
    fs::create_dir_all("/run/sshd").expect("sshd's folder");
    for key in ["host_key", "user_key"] {
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-f", path.join(key).as_str()]);
        assert!(keygen.status().expect("ssh-keygen runs").success());
    }
    fs::copy(path.join("user_key.pub"), path.join("authorized_keys")).expect("a key");
    let port = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port();
    let mut config = format!(
        "Port {port}\nListenAddress 127.0.0.1\nHostKey {path}/host_key\nAuthorizedKeysFile {path}/authorized_keys\n\
         PidFile none\nUsePAM no\nStrictModes no\nPermitRootLogin prohibit-password\nMaxStartups 100\n\
         SetEnv XDG_CACHE_HOME={path}/cache\n"
    );
    if let Some(noise) = peculiar.noise {
        let script = format!("#!/bin/sh\nprintf '%s' '{noise}'\nexec /bin/sh -c \"$SSH_ORIGINAL_COMMAND\"\n");
        fs::write(path.join("login"), script).expect("a login script");
        fs::set_permissions(path.join("login"), fs::Permissions::from_mode(0o755)).expect("its mode");
        config += &format!("ForceCommand {path}/login\n");
    }
    fs::write(path.join("sshd_config"), config).expect("a configuration");
    let host_key = fs::read_to_string(path.join("host_key.pub")).expect("a host key");
    fs::write(path.join("known_hosts"), format!("[127.0.0.1]:{port} {host_key}")).expect("known_hosts");
    let client = format!(
        "Port {port}\nIdentityFile {path}/user_key\nIdentitiesOnly yes\nUserKnownHostsFile {path}/known_hosts\n\
         GlobalKnownHostsFile none\nConnectTimeout 3\n"
    );
    fs::write(path.join("ssh_config"), client).expect("a configuration");
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", &with_user(path, peculiar.login)]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(path.join("sshd.log")).expect("a log"));
    (Daemon(command.process_group(0).spawn().expect("sshd starts")), port)
}

/// The command that runs sshd where the ordinary user exists, and nowhere else.
fn with_user(path: &Utf8Path, login: Login) -> String {
    let sshd = format!("exec /usr/sbin/sshd -D -e -f {path}/sshd_config");
    let rule = match login {
        Login::Root => return sshd,
        Login::Sudo => "NOPASSWD: ALL",
        Login::SudoWithPassword => "ALL",
    };
    let etc = path.join("etc");
    fs::create_dir_all(etc.join("sudoers.d")).expect("a folder");
    let user = format!("operator:x:{ORDINARY_ID}:{ORDINARY_ID}::{path}/home:/bin/sh\n");
    for (file, line) in [("passwd", user.as_str()), ("shadow", "operator:*:19000::::::\n")] {
        let own = fs::read_to_string(format!("/etc/{file}")).expect("the machine's users");
        fs::write(etc.join(file), own + line).expect("users");
    }
    let rules = etc.join("sudoers.d/operator");
    fs::write(&rules, format!("operator ALL=(root) {rule}\n")).expect("sudo's rules");
    fs::set_permissions(&rules, fs::Permissions::from_mode(0o440)).expect("their mode");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("the rig's mode");
    fs::create_dir_all(path.join("cache")).expect("a folder");
    chown(path.join("cache"), Some(ORDINARY_ID), Some(ORDINARY_ID)).expect("its owner");
    let bind = |file: &str| format!("mount --bind {etc}/{file} /etc/{file} && ");
    ["passwd", "shadow", "sudoers.d"].map(bind).concat() + &sshd
}
