//! The step "dependencies" of `cargo xtask test`: cargo-deny checks the dependency graph against `deny.toml`.
//!
//! The registry contains only sources: cargo-deny is compiled once for each version, and cached beside the lab's
//! programs.

use std::fs;
use std::process::Command;

use camino::Utf8PathBuf;

use crate::command::{root, run_beside, target_dir};
use crate::error::Error;

/// The version that runs. A newer one may reject what this one permits.
const VERSION: &str = "0.20.2";

/// Checks licences, banned crates and sources, and advisories if their database is present.
pub(crate) fn check() -> Result<(), Error> {
    let program = installed()?;
    let check = |options: &[&str], which: &[&str]| {
        let mut command = Command::new(&program);
        command.current_dir(root()).args(["--workspace", "--locked"]).args(options);
        run_beside(command.args(["check", "--hide-inclusion-graph"]).args(which))
    };
    check(&[], &["bans", "licenses", "sources"])?;
    if has_advisories() { check(&["--offline"], &["advisories"]) } else { Ok(()) }
}

/// Returns the program; compiles it if necessary.
fn installed() -> Result<Utf8PathBuf, Error> {
    let folder = ::lab::cache_folder().join(format!("cargo-deny-{VERSION}"));
    let program = folder.join("bin/cargo-deny");
    if !program.is_file() {
        let mut install = crate::command::cargo();
        // Without optimization: it runs for seconds, but an optimized build would take minutes.
        install.args(["install", "cargo-deny", "--version", VERSION, "--locked", "--debug", "--quiet"]);
        let target = target_dir().join("cargo-deny");
        run_beside(install.args(["--root", folder.as_str(), "--target-dir", target.as_str()]))?;
        fs::remove_dir_all(&target).map_err(Error::io("removing", &target))?;
    }
    Ok(program)
}

/// Whether cargo-deny's advisory database is on this machine. Tests do not download it.
fn has_advisories() -> bool {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty()).map(Utf8PathBuf::from);
    let home = set("CARGO_HOME").or_else(|| set("HOME").map(|home| home.join(".cargo")));
    let entries = home.and_then(|home| home.join("advisory-dbs").read_dir_utf8().ok());
    entries.is_some_and(|mut entries| entries.next().is_some())
}
