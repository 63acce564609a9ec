//! Errors of Cargo workspaces, each with advice.

use camino::Utf8PathBuf;
use vcstore::Platform;

use vcsandbox::process;

/// An error of a Cargo component.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub(crate) enum CargoError {
    #[error("looking for Rust: the rustc command is not installed")]
    #[diagnostic(help(
        "install Rust and add it to PATH: with rustup, or Debian's rustc and cargo if they are new enough"
    ))]
    NoRust,

    #[error("reading the version of the installed Rust")]
    #[diagnostic(help(
        "run `rustc -vV` in the source's folder: a rust-toolchain.toml there may require a toolchain that is not installed"
    ))]
    Rust { source: Box<process::Failure> },

    #[error("looking for the Rust toolchain of {dir}: it is not installed, and installing it requires network access")]
    #[diagnostic(help("install it while network access is available: `rustup toolchain install` in that folder"))]
    RustOffline { dir: Utf8PathBuf, source: Box<process::Failure> },

    #[error("looking for Rust: {file} names a toolchain by its folder")]
    #[diagnostic(help(
        "name it by a channel: a source must not choose which program of this machine runs. `rustup toolchain link NAME \
         FOLDER` names a toolchain of your own"
    ))]
    RustByFolder { file: Utf8PathBuf },

    #[error("looking for Cargo: the Rust toolchain in {sysroot} does not contain it")]
    #[diagnostic(help("install Cargo of the same toolchain (rustup component add cargo, or Debian's cargo)"))]
    NoCargo { sysroot: Utf8PathBuf },

    #[error("compiling for {platform}: the Rust in {sysroot} cannot compile for {target}")]
    #[diagnostic(help(
        "install its standard library (rustup target add {target}), and a C compiler to link with \
         (Debian: apt-get install gcc-{})",
        target.replace("unknown-linux-", "linux-").replace('_', "-")
    ))]
    NoTarget { platform: Platform, sysroot: Utf8PathBuf, target: String },

    #[error("compiling for {platform}: vcbuild knows no Rust target for it")]
    #[diagnostic(help("build Cargo programs for linux/amd64, linux/arm64 or linux/arm/v7"))]
    NoTriple { platform: Platform },

    #[error("reading the Cargo workspace {dir}")]
    #[diagnostic(help(
        "correct the manifest; a registry that it names must be in the config.toml of your Cargo home: the source's own \
         .cargo/config.toml can name programs to run, so vcbuild reads it only in the sandbox"
    ))]
    Metadata { dir: Utf8PathBuf, source: Box<process::Failure> },

    #[error("reading the Cargo workspace {dir}: it is a member of the workspace in {root}")]
    #[diagnostic(help("name the folder of the whole workspace as the source"))]
    InnerFolder { dir: Utf8PathBuf, root: Utf8PathBuf },

    #[error("reading the Cargo workspace {dir}: the crate {name} is in {folder}, outside the source")]
    #[diagnostic(help(
        "name the folder that contains both as the source (--source-dir), and the workspace as a folder within it \
         (--source-subdir), or set both in [source] of vcbuild.toml"
    ))]
    Outside { dir: Utf8PathBuf, name: String, folder: Utf8PathBuf },

    #[error("reading {path}")]
    #[diagnostic(help("recreate it (`cargo generate-lockfile`), or restore it from the source's history"))]
    Lock { path: Utf8PathBuf, source: Box<toml::de::Error> },

    #[error("compiling {component}: the workspace has no binary {bin}")]
    #[diagnostic(help("name a binary with `bin` in vcbuild.toml; the workspace has {}", known.join(", ")))]
    NoBinary { component: String, bin: String, known: Vec<String> },

    #[error("compiling {component}: several packages have a binary {bin}")]
    #[diagnostic(help("name one of them with `bin` in vcbuild.toml: {}", known.join(" or ")))]
    ManyBinaries { component: String, bin: String, known: Vec<String> },

    #[error("fetching the crates of {dir}")]
    #[diagnostic(help(
        "Cargo fetches crates as configured in the config.toml of its home (not in the source's .cargo/config.toml), and \
         they must match Cargo.lock; update an outdated Cargo.lock with `cargo generate-lockfile` or `cargo update --workspace`"
    ))]
    Fetch { dir: Utf8PathBuf, source: Box<process::Failure> },

    #[error("compiling {component} for {platform}")]
    #[diagnostic(help("{}", help(source)))]
    Compile { component: String, platform: Platform, source: Box<process::Failure> },

    #[error("compiling {component} for {platform}: Cargo built a program for {found}")]
    #[diagnostic(help("check `rustflags` in vcbuild.toml: vcbuild chooses the target"))]
    Machine { component: String, platform: Platform, found: String },
}

fn help(failure: &process::Failure) -> String {
    failure
        .advice()
        .unwrap_or_else(|| "correct the source and run the command again: completed compilations are kept".to_owned())
}
