//! A control group that the system's or the user's systemd delegates (systemd.resource-control(5), Delegate=); an
//! ordinary user cannot create one otherwise. It is requested only if memory is limited and no group is available
//! without it.

use std::process::{Command, Stdio};
use std::sync::OnceLock;

use camino::Utf8PathBuf;
use nix::unistd::geteuid;

use super::cgroup::{self, Group};
use super::spec::Limits;

/// The program that runs a command in a scope.
const SYSTEMD_RUN: &str = "systemd-run";

/// Returns a command that runs this program in a scope, or `None` if a scope is not useful or not available.
pub(super) fn command(limits: &Limits) -> Option<Command> {
    static USEFUL: OnceLock<bool> = OnceLock::new();
    limits.memory?;
    USEFUL.get_or_init(|| !has_group(limits) && is_given()).then(|| {
        let mut command = systemd_run();
        // `/proc/self/exe` would refer to systemd-run.
        command.arg(format!("/proc/{}/exe", std::process::id()));
        command
    })
}

/// Whether a group that limits memory can be created without a scope.
fn has_group(limits: &Limits) -> bool {
    let mut group = Group::make(limits);
    let limits_memory = group.limits_memory();
    let _ = group.remove(std::time::Instant::now());
    limits_memory
}

/// Whether systemd provides scopes in a version 2 hierarchy with the memory controller.
fn is_given() -> bool {
    let has_memory = cgroup::own().is_some_and(|own| {
        let top = own.ancestors().take_while(|folder| folder.join("cgroup.controllers").exists()).last();
        top.is_some_and(|top| cgroup::has(top, "cgroup.controllers", "memory"))
    });
    let run = || systemd_run().arg("true").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    has_memory && socket().exists() && run().is_ok_and(|status| status.success())
}

fn systemd_run() -> Command {
    let mut command = Command::new(SYSTEMD_RUN);
    command.arg(if geteuid().is_root() { "--system" } else { "--user" });
    command.args(["--scope", "--quiet", "--collect", "--property=Delegate=yes", "--"]);
    command
}

/// The path of systemd's socket.
fn socket() -> Utf8PathBuf {
    if geteuid().is_root() {
        return "/run/systemd/private".into();
    }
    vcstore::path_variable("XDG_RUNTIME_DIR").unwrap_or_default().join("systemd/private")
}
