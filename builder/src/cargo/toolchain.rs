//! The installed Rust toolchain: its location and its identity.

use std::process::Command;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use serde::Serialize;
use vcnetwork::Network;
use vcnetwork::http;
use vcsandbox::plain;
use vcsandbox::process;
use vcsandbox::{Folder, SYSTEM_FOLDERS, Step};
use vcstore::{Platform, Store};

use crate::error::CargoError;
use crate::source::FileHash;
use crate::{host_inputs, platform};

const LIMIT: Duration = Duration::from_secs(60);

/// A server address that has no content and opens no connection.
const NOWHERE: &str = "file:///dev/null";

/// The folder in the sandbox for a Rust toolchain that is not among the machine's programs.
const INSIDE: &str = "/rust";

/// An installed Rust toolchain.
#[derive(Debug)]
pub(super) struct Toolchain {
    sysroot: Utf8PathBuf,
    /// The sysroot as a folder that can be given to a step.
    folder: Folder,
    /// The Rust target of this machine.
    host: String,
    /// The commit of the compiler. Binaries name the sources of the standard library by it.
    commit: Option<String>,
    identity: Identity,
}

/// The identity of a Rust toolchain: its version output, and its content if it is not among the machine's programs,
/// which are identified as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Identity {
    version: String,
    content: Vec<FileHash>,
}

/// A Rust target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) triple: &'static str,
    /// The C compiler that links for the target, if it is not the machine's own.
    pub(super) linker: Option<String>,
}

impl Toolchain {
    /// Finds the Rust toolchain that is used in `dir`, where `rust-toolchain.toml` may select one.
    pub(super) fn find(dir: &Utf8Path, store: &Store, network: &Network) -> Result<Self, crate::Error> {
        refuse_folder(dir)?;
        let version = rustc(dir, &["-vV"], network)?;
        let sysroot = Utf8PathBuf::from(rustc(dir, &["--print", "sysroot"], network)?.trim());
        if !sysroot.join("bin/cargo").is_file() {
            return Err(CargoError::NoCargo { sysroot }.into());
        }
        let told = |name: &str| version.lines().find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()));
        let (host, commit) = (told("host:").unwrap_or_default(), told("commit-hash:").filter(|hash| hash != "unknown"));
        let mut content = Vec::new();
        if !is_system(&sysroot) {
            for part in ["bin/cargo", "bin/rustc", "lib"] {
                content.push(host_inputs::content(&sysroot.join(part), store)?);
            }
        }
        let folder = if is_system(&sysroot) { Folder::plain(&sysroot) } else { Folder::of(&sysroot, &[])? };
        Ok(Self { sysroot, folder, host, commit, identity: Identity { version, content } })
    }

    pub(super) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Returns the Rust target for `platform`, if this toolchain has its standard library.
    pub(super) fn target(&self, platform: &Platform) -> Result<Target, CargoError> {
        let triple =
            platform::rust_target(platform).ok_or_else(|| CargoError::NoTriple { platform: platform.clone() })?;
        let library = self.sysroot.join("lib/rustlib").join(triple).join("lib");
        if !library.is_dir() {
            let (platform, sysroot, target) = (platform.clone(), self.sysroot.clone(), triple.to_owned());
            return Err(CargoError::NoTarget { platform, sysroot, target });
        }
        let linker = (triple != self.host).then(|| format!("{}-gcc", triple.replace("-unknown-linux-", "-linux-")));
        Ok(Target { triple, linker })
    }

    /// Returns a Cargo command that runs outside the sandbox, without settings of the source.
    pub(super) fn cargo(&self) -> Command {
        let mut command = Command::new(self.sysroot.join("bin/cargo"));
        http::of_programs(apart(&mut command))
            .env("RUSTC", self.sysroot.join("bin/rustc"))
            .env("CARGO_TERM_COLOR", "never");
        command
    }

    /// Makes the toolchain available to a step, and returns its folder there.
    pub(super) fn give(&self, step: &mut Step) -> Result<Utf8PathBuf, crate::Error> {
        if is_system(&self.sysroot) {
            return Ok(self.sysroot.clone());
        }
        Ok(step.folder(&self.folder, INSIDE)?)
    }

    /// Returns the path that sources of the standard library would have in `sysroot`, and the path that binaries
    /// contain instead.
    pub(super) fn library_sources(&self, sysroot: &Utf8Path) -> Option<(String, String)> {
        let commit = self.commit.as_ref()?;
        Some((format!("{sysroot}/lib/rustlib/src/rust"), format!("/rustc/{commit}")))
    }
}

/// Keeps a Cargo that runs unconfined from reading settings of the source, because they can name programs to run. Cargo
/// looks for settings from its working directory upward; at `/` it finds only those of the user and the machine.
pub(super) fn apart(cargo: &mut Command) -> &mut Command {
    cargo.current_dir("/").env("RUSTC_WRAPPER", "").env("RUSTC_WORKSPACE_WRAPPER", "")
}

/// Returns whether a folder is among the machine's programs, which every step of Cargo sees.
fn is_system(folder: &Utf8Path) -> bool {
    SYSTEM_FOLDERS.iter().any(|system| folder.starts_with(system))
}

/// Refuses a source whose `rust-toolchain.toml` names a toolchain by its folder: this could be any program, run with
/// all permissions of the user. Checks all parent folders too, as rustup does.
fn refuse_folder(dir: &Utf8Path) -> Result<(), CargoError> {
    let files =
        dir.ancestors().flat_map(|folder| ["rust-toolchain", "rust-toolchain.toml"].map(|name| folder.join(name)));
    for file in files {
        let Ok(text) = plain::read_text(&file) else { continue };
        let names_folder = match toml::from_str::<toml::Table>(&text) {
            Ok(table) => table.get("toolchain").is_some_and(|toolchain| toolchain.get("path").is_some()),
            // The legacy format contains only a name or a path.
            Err(_) => text.contains('/'),
        };
        if names_folder {
            return Err(CargoError::RustByFolder { file });
        }
    }
    Ok(())
}

/// Runs the `rustc` of `dir`. It may be a rustup proxy, which installs a missing toolchain that a source selects.
fn rustc(dir: &Utf8Path, arguments: &[&str], network: &Network) -> Result<String, CargoError> {
    let mut command = Command::new("rustc");
    http::of_programs(&mut command).current_dir(dir).args(arguments);
    let closed = network.permit("installing Rust").is_err();
    if closed {
        // rustup before 1.28 only knows these two variables: it finds no toolchain at this address.
        command.env("RUSTUP_AUTO_INSTALL", "0");
        command.env("RUSTUP_DIST_SERVER", NOWHERE).env("RUSTUP_UPDATE_ROOT", NOWHERE);
    }
    match process::run(&mut command, LIMIT) {
        Ok(output) => Ok(String::from_utf8_lossy(&output).into_owned()),
        Err(failure) if failure.is_missing_program() => Err(CargoError::NoRust),
        Err(failure) if closed => Err(CargoError::RustOffline { dir: dir.to_owned(), source: Box::new(failure) }),
        Err(failure) => Err(CargoError::Rust { source: Box::new(failure) }),
    }
}
