//! `cargo xtask dist`: the two commands as static binaries, with manual pages and shell completions.
//!
//! vcdist places itself on nodes with an unknown C library, so the released binaries depend on none.

use std::fs;
use std::process::Command;

use camino::{Utf8Path, Utf8PathBuf};

use crate::command::{self, cargo, target_dir};
use crate::error::Error;
use crate::packages;

/// Build vcbuild and vcdist as static binaries, with manual pages and completions.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {}

/// The folder of each shell's completions, relative to `share`; `{}` is the program.
const SHELLS: [(&str, &str); 3] = [
    ("bash", "bash-completion/completions/{}"),
    ("zsh", "zsh/site-functions/_{}"),
    ("fish", "fish/vendor_completions.d/{}.fish"),
];

/// The paths of the binaries.
#[derive(Debug)]
pub(crate) struct Binaries {
    pub(crate) vcbuild: Utf8PathBuf,
    pub(crate) vcdist: Utf8PathBuf,
}

/// Builds both as they are released. Returns their paths.
pub(crate) fn build() -> Result<Binaries, Error> {
    ::lab::packages::ensure(packages::BUILD)?;
    command::run(&mut build_command())?;
    Ok(Binaries::at(&target_dir().join(target()).join("release")))
}

/// Builds both for this machine only, in a third of the CPU time of [`build`].
pub(crate) fn build_for_this_machine() -> Result<Binaries, Error> {
    ::lab::packages::ensure(packages::BUILD)?;
    command::run(cargo().args(["build", "--profile", "demo", "--package", "vcbuild", "--package", "vcdist"]))?;
    Ok(Binaries::at(&target_dir().join("demo")))
}

impl Binaries {
    fn at(folder: &Utf8Path) -> Self {
        Self { vcbuild: folder.join("vcbuild"), vcdist: folder.join("vcdist") }
    }
}

/// Returns the command that builds both.
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

/// Runs the task: creates a folder that can be unpacked into a prefix.
pub(crate) fn run(_arguments: &Arguments) -> Result<Binaries, Error> {
    let binaries = build()?;
    let folder = target_dir().join("dist");
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(Error::io("removing", &folder))?;
    }
    let (programs, share) = (folder.join("bin"), folder.join("share"));
    for (name, program) in [("vcbuild", &binaries.vcbuild), ("vcdist", &binaries.vcdist)] {
        fs::create_dir_all(&programs).map_err(Error::io("making", &programs))?;
        fs::copy(program, programs.join(name)).map_err(Error::io("copying", program))?;
        command::run(Command::new(program).arg("manual").arg(share.join("man/man1")))?;
        for (shell, file) in SHELLS {
            let file = share.join(file.replace("{}", name));
            let script = command::capture(Command::new(program).args(["completions", shell]))?;
            fs::create_dir_all(file.parent().unwrap_or(&share)).map_err(Error::io("making", &share))?;
            fs::write(&file, script).map_err(Error::io("writing", &file))?;
        }
    }
    vcterminal::tell(&binaries.vcbuild);
    vcterminal::tell(&binaries.vcdist);
    vcterminal::tell(format_args!("{folder} (bin, share/man, completions)"));
    Ok(binaries)
}
