//! The step "dependencies" of `cargo xtask test`: cargo-deny holds the dependency graph against `deny.toml`.
//!
//! The registry has no programs, only sources: cargo-deny is compiled once for its version, and kept beside the lab's programs.

use std::fs;
use std::process::Command;

use camino::Utf8PathBuf;

use crate::command::{root, run_beside, target_dir};
use crate::error::Error;

/// The version that runs. A newer one may refuse what this one allows.
const VERSION: &str = "0.20.2";

/// Checks licences, banned crates and sources; also advisories where their database was fetched before.
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

/// The program, compiled unless it was before.
fn installed() -> Result<Utf8PathBuf, Error> {
    let folder = ::lab::cache_folder().join(format!("cargo-deny-{VERSION}"));
    let program = folder.join("bin/cargo-deny");
    if !program.is_file() {
        let mut install = crate::command::cargo();
        // Unoptimised: it runs for seconds, and would be compiled for minutes.
        install.args(["install", "cargo-deny", "--version", VERSION, "--locked", "--debug", "--quiet"]);
        let target = target_dir().join("cargo-deny");
        run_beside(install.args(["--root", folder.as_str(), "--target-dir", target.as_str()]))?;
        fs::remove_dir_all(&target).map_err(Error::io("removing", &target))?;
    }
    Ok(program)
}

/// Whether cargo-deny's database of advisories is on this machine: nothing is fetched for a test.
fn has_advisories() -> bool {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty()).map(Utf8PathBuf::from);
    let home = set("CARGO_HOME").or_else(|| set("HOME").map(|home| home.join(".cargo")));
    let entries = home.and_then(|home| home.join("advisory-dbs").read_dir_utf8().ok());
    entries.is_some_and(|mut entries| entries.next().is_some())
}
