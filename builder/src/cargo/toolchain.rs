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

/// The address of a server that has nothing, and that no connection is opened for.
const NOWHERE: &str = "file:///dev/null";

/// The folder in the sandbox of a Rust that is not among the machine's programs.
const INSIDE: &str = "/rust";

/// An installed Rust.
#[derive(Debug)]
pub(super) struct Toolchain {
    sysroot: Utf8PathBuf,
    /// The same, to be given to a step.
    folder: Folder,
    /// The Rust target of the machine.
    host: String,
    /// The commit of the compiler, by which the standard library's sources are named in programs.
    commit: Option<String>,
    identity: Identity,
}

/// What a Rust is: by its own words, and by its content where it is not among the machine's programs, which count as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Identity {
    version: String,
    content: Vec<FileHash>,
}

/// A Rust target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) triple: &'static str,
    /// The C compiler that links for it, where it is not the machine's own.
    pub(super) linker: Option<String>,
}

impl Toolchain {
    /// Finds the Rust that is used in `dir`, which may name one in its `rust-toolchain.toml`.
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

    /// What it is.
    pub(super) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The target that stands for `platform`, when this Rust can compile for it.
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

    /// Cargo, to be run as its user's is.
    pub(super) fn cargo(&self) -> Command {
        let mut command = Command::new(self.sysroot.join("bin/cargo"));
        http::of_programs(apart(&mut command))
            .env("RUSTC", self.sysroot.join("bin/rustc"))
            .env("CARGO_TERM_COLOR", "never");
        command
    }

    /// Gives it to a step, and returns its folder there.
    pub(super) fn give(&self, step: &mut Step) -> Result<Utf8PathBuf, crate::Error> {
        if is_system(&self.sysroot) {
            return Ok(self.sysroot.clone());
        }
        Ok(step.folder(&self.folder, INSIDE)?)
    }

    /// Where the sources of the standard library would be in `sysroot`, and what they are called in programs everywhere.
    pub(super) fn library_sources(&self, sysroot: &Utf8Path) -> Option<(String, String)> {
        let commit = self.commit.as_ref()?;
        Some((format!("{sysroot}/lib/rustlib/src/rust"), format!("/rustc/{commit}")))
    }
}

/// Has a Cargo that runs unconfined find no settings of a source, for they can name programs to run. It looks for settings
/// from its folder upward: at the top there are none but its user's own, and the machine's.
pub(super) fn apart(cargo: &mut Command) -> &mut Command {
    cargo.current_dir("/").env("RUSTC_WRAPPER", "").env("RUSTC_WORKSPACE_WRAPPER", "")
}

/// Whether a folder is among the machine's programs, which every step of Cargo sees.
fn is_system(folder: &Utf8Path) -> bool {
    SYSTEM_FOLDERS.iter().any(|system| folder.starts_with(system))
}

/// Refuses a source whose `rust-toolchain.toml`, which rustup looks for from its folder upward, names a Rust by its folder: that
/// would be any program, run with all that its user may do.
fn refuse_folder(dir: &Utf8Path) -> Result<(), CargoError> {
    let files =
        dir.ancestors().flat_map(|folder| ["rust-toolchain", "rust-toolchain.toml"].map(|name| folder.join(name)));
    for file in files {
        let Ok(text) = plain::read_text(&file) else { continue };
        let names_folder = match toml::from_str::<toml::Table>(&text) {
            Ok(table) => table.get("toolchain").is_some_and(|toolchain| toolchain.get("path").is_some()),
            // The older form is a name, or a path, and nothing else.
            Err(_) => text.contains('/'),
        };
        if names_folder {
            return Err(CargoError::RustByFolder { file });
        }
    }
    Ok(())
}

/// Asks the `rustc` of `dir`, which may be rustup's: that one installs what a source asks for and is not there.
fn rustc(dir: &Utf8Path, arguments: &[&str], network: &Network) -> Result<String, CargoError> {
    let mut command = Command::new("rustc");
    http::of_programs(&mut command).current_dir(dir).args(arguments);
    let closed = network.permit("installing Rust").is_err();
    if closed {
        // A rustup before 1.28 knows the servers alone: what is looked for at these is not there.
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
