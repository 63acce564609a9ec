//! `cargo xtask dist`: the two commands as static binaries.
//!
//! vcdist places itself on nodes whose C library nobody knows, so what is shipped depends on none.

use std::process::Command;

use camino::Utf8PathBuf;

use crate::command::{self, cargo, root};
use crate::error::Error;
use crate::packages;

/// Build vcbuild and vcdist as static binaries.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {}

/// Where the binaries are.
#[derive(Debug)]
pub(crate) struct Binaries {
    pub(crate) vcbuild: Utf8PathBuf,
    pub(crate) vcdist: Utf8PathBuf,
}

/// Builds both and says where they are.
pub(crate) fn build() -> Result<Binaries, Error> {
    ::lab::packages::ensure(packages::BUILD)?;
    command::run(&mut build_command())?;
    let target_dir = match std::env::var("CARGO_TARGET_DIR") {
        Ok(folder) => root().join(folder),
        Err(_) => root().join("target"),
    };
    let folder = target_dir.join(target()).join("release");
    Ok(Binaries { vcbuild: folder.join("vcbuild"), vcdist: folder.join("vcdist") })
}

/// What builds both.
pub(crate) fn build_command() -> Command {
    let target = target();
    let mut command = cargo();
    command
        .args(["build", "--release", "--package", "vcbuild", "--package", "vcdist", "--target", &target])
        .args(["--config".to_owned(), format!(r#"target.{target}.rustflags=["-C","target-feature=+crt-static"]"#)]);
    command
}

fn target() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}

/// The task.
pub(crate) fn run(_arguments: &Arguments) -> Result<Binaries, Error> {
    let binaries = build()?;
    vcterminal::tell(&binaries.vcbuild);
    vcterminal::tell(&binaries.vcdist);
    Ok(binaries)
}
