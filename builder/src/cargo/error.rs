//! What can go wrong between a Cargo workspace and its binaries.

use camino::Utf8PathBuf;
use vcstore::Platform;

use vcsandbox::process;

/// An error of Cargo components.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub(crate) enum Error {
    #[error("looking for Rust: there is no rustc command")]
    #[diagnostic(help(
        "install Rust and put it on PATH: with rustup, or Debian's rustc and cargo where they are new enough"
    ))]
    NoRust,

    #[error("asking the installed Rust what it is")]
    #[diagnostic(help(
        "run `rustc -vV` in the source's folder: a rust-toolchain.toml there may ask for a Rust to install"
    ))]
    Rust { source: Box<process::Failure> },

    #[error("looking for the Rust that {dir} is compiled with: none may be installed where nothing may be fetched")]
    #[diagnostic(help("install it while there is a network: `rustup toolchain install` in that folder"))]
    RustOffline { dir: Utf8PathBuf, source: Box<process::Failure> },

    #[error("looking for Rust: {file} names one by its folder")]
    #[diagnostic(help(
        "name it by a channel: a source may not say which program runs here. `rustup toolchain link NAME FOLDER` gives a Rust \
         of your own a name"
    ))]
    RustByFolder { file: Utf8PathBuf },

    #[error("looking for Cargo: the Rust in {sysroot} has none")]
    #[diagnostic(help("install the Cargo of the same Rust (rustup component add cargo, or Debian's cargo)"))]
    NoCargo { sysroot: Utf8PathBuf },

    #[error("compiling for {platform}: the Rust in {sysroot} cannot compile for {target}")]
    #[diagnostic(help(
        "install its standard library (rustup target add {target}), and a C compiler to link with \
         (Debian: apt-get install gcc-{})",
        target.replace("unknown-linux-", "linux-").replace('_', "-")
    ))]
    NoTarget { platform: Platform, sysroot: Utf8PathBuf, target: String },

    #[error("compiling for {platform}: no Rust target is known for it")]
    #[diagnostic(help("build Cargo programs for linux/amd64, linux/arm64 or linux/arm/v7"))]
    NoTriple { platform: Platform },

    #[error("reading the Cargo workspace {dir}")]
    #[diagnostic(help(
        "correct the manifest; a registry that it names must be in the config.toml of your Cargo home: the source's own \
         .cargo/config.toml can name programs to run, and is read in the sandbox alone"
    ))]
    Metadata { dir: Utf8PathBuf, source: Box<process::Failure> },

    #[error("reading the Cargo workspace {dir}: it is a part of the workspace in {root}")]
    #[diagnostic(help("name the folder of the whole workspace as the source"))]
    InnerFolder { dir: Utf8PathBuf, root: Utf8PathBuf },

    #[error("reading the Cargo workspace {dir}: the crate {name} is in {folder}, outside of the source")]
    #[diagnostic(help(
        "name the folder that holds both as the source (--source-dir), and the workspace as a folder within it \
         (--source-subdir), or have both in vcbuild.toml's [source]"
    ))]
    Outside { dir: Utf8PathBuf, name: String, folder: Utf8PathBuf },

    #[error("reading {path}")]
    #[diagnostic(help("have Cargo write it anew (`cargo generate-lockfile`), or take it from the source's history"))]
    Lock { path: Utf8PathBuf, source: Box<toml::de::Error> },

    #[error("compiling {component}: the workspace has no binary {bin}")]
    #[diagnostic(help("say with `bin` in vcbuild.toml which it is; the workspace has {}", known.join(", ")))]
    NoBinary { component: String, bin: String, known: Vec<String> },

    #[error("compiling {component}: several packages have a binary {bin}")]
    #[diagnostic(help("say with `bin` in vcbuild.toml which it is: {}", known.join(" or ")))]
    ManyBinaries { component: String, bin: String, known: Vec<String> },

    #[error("fetching the crates of {dir}")]
    #[diagnostic(help(
        "crates come from where your Cargo takes them (by the config.toml of its home, not by the source's .cargo/config.toml) \
         and must be what Cargo.lock says; a lock that is old is brought up to date with `cargo generate-lockfile` or `cargo \
         update --workspace`"
    ))]
    Fetch { dir: Utf8PathBuf, source: Box<process::Failure> },

    #[error("compiling {component} for {platform}")]
    #[diagnostic(help("{}", help(source)))]
    Compile { component: String, platform: Platform, source: Box<process::Failure> },

    #[error("compiling {component} for {platform}: what Cargo made is a program for {found}")]
    #[diagnostic(help("check `rustflags` in vcbuild.toml: the target is vcbuild's to choose"))]
    Machine { component: String, platform: Platform, found: String },
}

fn help(failure: &process::Failure) -> String {
    failure
        .advice()
        .unwrap_or_else(|| "correct the source and run the command again: what was compiled already is kept".to_owned())
}
