//! The Debian packages that the project's tasks require on the machine, the reasons, and their installation.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use camino::Utf8Path;

use crate::binaries::Containerd;
use crate::error::{Error, file};
use crate::process::run;

/// A Debian package, and a file by which its presence is detected, whatever installed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Package {
    /// Its name.
    pub name: &'static str,
    /// A file that it installs.
    pub provides: &'static str,
    /// The reason why it is needed.
    pub reason: &'static str,
}

/// The packages for every lab.
const LAB: &[Package] = &[
    Package { name: "iproute2", provides: "ip", reason: "network namespaces and links" },
    Package { name: "iptables", provides: "iptables", reason: "kube-proxy writes its rules through it" },
    Package { name: "util-linux", provides: "nsenter", reason: "entering the nodes' namespaces" },
    Package { name: "openssh-server", provides: "/usr/sbin/sshd", reason: "SSH into the nodes" },
    Package { name: "openssh-client", provides: "ssh-keygen", reason: "keys, and the operator's own ssh" },
    Package { name: "runc", provides: "runc", reason: "runs the containers, with seccomp" },
    Package { name: "containernetworking-plugins", provides: "/usr/lib/cni/bridge", reason: "the pods' network" },
    Package { name: "sudo", provides: "sudo", reason: "the nodes' ordinary user becomes root by it" },
];

/// The additional package for a lab with Debian's own containerd.
const DEBIAN_CONTAINERD: Package =
    Package { name: "containerd", provides: "/usr/bin/containerd", reason: "the lab was asked for containerd 1.6" };

/// Returns the packages that a lab with this containerd needs.
#[must_use]
pub fn for_lab(containerd: Containerd) -> Vec<Package> {
    let mut packages = LAB.to_vec();
    if containerd == Containerd::V1_6 {
        packages.push(DEBIAN_CONTAINERD);
    }
    packages
}

/// Ensures that the packages are present: as root, installs missing ones without starting services.
///
/// # Errors
/// Returns [`Error::MissingPackages`] if the process is not root or if this machine has no apt-get; returns
/// [`Error::Command`] with apt-get's output if it fails.
pub fn ensure(packages: &[Package]) -> Result<(), Error> {
    let missing: Vec<&Package> = packages.iter().filter(|package| !is_there(package.provides)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = missing.iter().map(|package| package.name).collect();
    if !rustix::process::geteuid().is_root() || !is_there("apt-get") {
        return Err(Error::MissingPackages { packages: names.join(" ") });
    }
    for package in &missing {
        vcterminal::say(format_args!("installing {}: {}", package.name, package.reason));
    }
    let _no_services = NoServices::new()?;
    if install(&names).is_err() {
        // Missing or outdated package lists are the usual cause.
        apt_get(&["update"])?;
        install(&names)?;
    }
    match packages.iter().find(|package| !is_there(package.provides)) {
        Some(package) => Err(Error::MissingPackages { packages: package.name.to_owned() }),
        None => Ok(()),
    }
}

/// Whether a program is on the path or in the system's folders, or an absolute path exists.
fn is_there(file: &str) -> bool {
    if file.starts_with('/') {
        return Utf8Path::new(file).exists();
    }
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/usr/bin:/sbin:/bin";
    path.split(':').any(|folder| Utf8Path::new(folder).join(file).is_file())
}

fn install(names: &[&str]) -> Result<String, Error> {
    apt_get(&[&["install", "--yes", "--no-install-recommends"], names].concat())
}

fn apt_get(arguments: &[&str]) -> Result<String, Error> {
    let mut command = Command::new("apt-get");
    command.args(["-q", "-o", "DPkg::Lock::Timeout=120"]).args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
    run(&mut command, b"", Duration::from_secs(15 * 60))?.success(format!("apt-get {}", arguments.join(" ")))
}

/// While it exists, maintainer scripts start no service (`policy-rc.d`, the invoke-rc.d interface in Debian Policy).
struct NoServices {
    ours: bool,
}

impl NoServices {
    const POLICY: &'static str = "/usr/sbin/policy-rc.d";

    fn new() -> Result<Self, Error> {
        if Utf8Path::new(Self::POLICY).exists() {
            return Ok(Self { ours: false }); // The machine's own policy is kept.
        }
        fs::write(Self::POLICY, "#!/bin/sh\nexit 101\n").map_err(file("writing", Self::POLICY))?;
        let guard = Self { ours: true };
        fs::set_permissions(Self::POLICY, fs::Permissions::from_mode(0o755)).map_err(file("changing", Self::POLICY))?;
        Ok(guard)
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.ours {
            // A failure cannot be handled here; the next run keeps the file as the machine's policy.
            let _ = fs::remove_file(Self::POLICY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debians_containerd_is_asked_for_by_the_labs_that_run_it_alone() {
        assert!(for_lab(Containerd::V1_6).contains(&DEBIAN_CONTAINERD));
        assert!(!for_lab(Containerd::V2).contains(&DEBIAN_CONTAINERD));
    }

    #[test]
    fn programs_are_found_on_the_path_and_files_by_name() {
        assert!(is_there("sh") && is_there("/bin/sh"));
        assert!(!is_there("no-such-program") && !is_there("/no/such/file"));
    }
}
