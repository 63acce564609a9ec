//! What a node is made of: an sshd and a containerd, and what they read.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use camino::{Utf8Path, Utf8PathBuf};
use rigs::{Daemon, port, sshd};
use vcstore::Digest;

use super::network::Network;
use super::{Login, NodeOptions};

/// Where a rig is for whoever logs in to it.
pub(crate) const INSIDE: &str = "/mnt";

/// The folders of a rig that are these for whoever logs in, with their modes.
pub(super) const VAR_TMP: &str = "var-tmp";
pub(super) const VAR_LIB: &str = "var-lib";
pub(super) const RUN: &str = "run";
const OWN: [(&str, &str, u32); 3] = [(VAR_TMP, "/var/tmp", 0o1777), (VAR_LIB, "/var/lib", 0o755), (RUN, "/run", 0o755)];

/// The ordinary user's number.
pub(crate) const ORDINARY_ID: u32 = 10_001;

/// A program of containerd's: of the one in `folder`, else of the machine's.
pub(super) fn tool(name: &str, folder: Option<&Utf8Path>) -> Utf8PathBuf {
    folder.map_or_else(|| name.into(), |folder| folder.join(name))
}

pub(super) fn tmpfs(path: &Utf8Path, options: &str) -> Utf8PathBuf {
    fs::create_dir_all(path).expect("a folder");
    let status = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs", path.as_str()]).status();
    assert!(status.expect("mount runs").success(), "mounting needs root");
    path.to_owned()
}

/// A containerd with folders and a socket of its own.
pub(super) fn start_containerd(path: &Utf8Path, folder: Option<&Utf8Path>) -> Daemon {
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
    let log = fs::File::options().create(true).append(true).open(path.join("containerd.log")).expect("a log");
    let mut command = Command::new(tool("containerd", folder));
    command.arg("--config").arg(path.join("containerd.toml")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    Daemon::start(command.process_group(0))
}

/// Writes what [`start_sshd`] reads: keys, a configuration that takes the login user's cache folder to be the rig's, and the
/// operator's configuration. The port it will listen on.
pub(super) fn write_sshd(path: &Utf8Path, peculiar: &NodeOptions, network: Option<&Network>) -> u16 {
    sshd::write_keys(path);
    let port = port::reserved();
    let address = network.map_or_else(|| "127.0.0.1".to_owned(), Network::address);
    let login = peculiar.noise.map(|noise| format!("printf '%s' '{noise}'\nexec"));
    let more = format!("MaxStartups 100\nSetEnv XDG_CACHE_HOME={path}/cache\n");
    sshd::write_server_config(path, port, &[&address, "127.0.0.1"], login.as_deref(), &more);
    sshd::know_host(path, &format!("[{address}]:{port},[127.0.0.1]:{port}"), "host_key.pub");
    sshd::write_client_config(path, &format!("Port {port}\nConnectTimeout 3\n"));
    port
}

/// An sshd that lets root in with the key made for it.
pub(super) fn start_sshd(path: &Utf8Path, peculiar: &NodeOptions, network: Option<&Network>) -> Daemon {
    let mut command = match network {
        Some(network) => network.enter(),
        None => Command::new("env"),
    };
    // Whoever logs in finds the rig in one place, on whatever node that is, and where helpers may be nothing of another rig's.
    let mut binds = format!("mount --bind {path} {INSIDE}");
    for (own, place, mode) in OWN {
        let own = path.join(own);
        fs::create_dir_all(&own).expect("a folder");
        fs::set_permissions(&own, fs::Permissions::from_mode(mode)).expect("its mode");
        binds += &format!(" && mount --bind {own} {place}");
    }
    fs::create_dir_all(path.join(RUN).join("sshd")).expect("sshd's folder");
    let line = format!("{binds} && {}", with_user(path, peculiar));
    command.args(["unshare", "--mount", "--propagation", "private", "sh", "-c", &line]);
    let log = fs::File::options().create(true).append(true).open(path.join("sshd.log")).expect("a log");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    Daemon::start(command.process_group(0))
}

/// The command that runs sshd where the ordinary user exists, and nowhere else.
fn with_user(path: &Utf8Path, peculiar: &NodeOptions) -> String {
    let alias = peculiar.alias.as_ref().map(|alias| format!("mount --bind {path} {alias} && ")).unwrap_or_default();
    let program = sshd::PROGRAM;
    let sshd = format!("{alias}exec {program} -D -e -f {path}/sshd_config");
    let rule = match peculiar.login {
        Login::Root => return sshd,
        Login::Sudo | Login::NoSudo => "NOPASSWD: ALL".to_owned(),
        Login::SudoWithPassword => "ALL".to_owned(),
        // As docs/how-to/push.md has it.
        Login::SudoHelper => {
            let hash = Digest::of(&fs::read(super::vcdist()).expect("the program")).hex();
            let helper = format!("sha256:{hash} {path}/cache/vcdist/helper-{hash}");
            format!("NOPASSWD: {helper} --version, {helper} helper *, {helper} join")
        }
    };
    let etc = path.join("etc");
    fs::create_dir_all(etc.join("sudoers.d")).expect("a folder");
    let shell = peculiar.shell.unwrap_or("/bin/sh");
    let user = format!("operator:x:{ORDINARY_ID}:{ORDINARY_ID}::{path}/home:{shell}\n");
    for (file, line) in [("passwd", user.as_str()), ("shadow", "operator:*:19000::::::\n")] {
        let own = fs::read_to_string(format!("/etc/{file}")).expect("the machine's users");
        fs::write(etc.join(file), own + line).expect("users");
    }
    let rules = etc.join("sudoers.d/operator");
    fs::write(&rules, format!("operator ALL=(root) {rule}\n")).expect("sudo's rules");
    fs::set_permissions(&rules, fs::Permissions::from_mode(0o440)).expect("their mode");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("the rig's mode");
    for folder in ["cache", "home"] {
        fs::create_dir_all(path.join(folder)).expect("a folder");
        chown(path.join(folder), Some(ORDINARY_ID), Some(ORDINARY_ID)).expect("its owner");
    }
    let bind = |file: &str| format!("mount --bind {etc}/{file} /etc/{file} && ");
    let hide = if peculiar.login == Login::NoSudo { "mount --bind /dev/null /usr/bin/sudo && " } else { "" };
    ["passwd", "shadow", "sudoers.d"].map(bind).concat() + hide + &sshd
}
