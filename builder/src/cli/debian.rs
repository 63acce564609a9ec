//! The options of bases that are built from Debian packages.

use clap::Args;
use vcdebian::Options;

use crate::Error;

/// What the command line says in the place of `[debian]` in the project's file.
#[derive(Debug, Args)]
#[command(next_help_heading = "Debian packages (--base debian or static)")]
pub(super) struct DebianOptions {
    /// bookworm or trixie [default: the project's, else bookworm]
    #[arg(long, value_name = "SUITE")]
    debian_suite: Option<String>,

    /// More packages, such as ca-certificates [default: the project's]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    debian_packages: Vec<String>,

    /// The mirror, such as http://HOST/debian
    ///
    /// By default, vcbuild uses the project's, else $VCBUILD_DEBIAN_MIRROR, else the one in this machine's apt sources.
    #[arg(long, value_name = "URL")]
    debian_mirror: Option<String>,
}

impl DebianOptions {
    /// An option that says what is in the base, if any was given.
    pub(super) fn decisive(&self) -> Option<&'static str> {
        let given =
            [("--debian-suite", self.debian_suite.is_some()), ("--debian-packages", !self.debian_packages.is_empty())];
        given.into_iter().find_map(|(name, given)| given.then_some(name))
    }

    /// An option about packages, if any was given.
    pub(super) fn given(&self) -> Option<&'static str> {
        self.decisive().or(self.debian_mirror.as_ref().map(|_| "--debian-mirror"))
    }

    /// The project's options, and over them what the command line says.
    ///
    /// # Errors
    /// When something of it cannot be used.
    pub(super) fn over(&self, project: &Options) -> Result<Options, Error> {
        let mut options = project.clone();
        if let Some(suite) = &self.debian_suite {
            options.suite.clone_from(suite);
        }
        if !self.debian_packages.is_empty() {
            options.packages.clone_from(&self.debian_packages);
        }
        if self.debian_mirror.is_some() {
            options.mirror.clone_from(&self.debian_mirror);
        }
        options.check().map_err(Error::Usage)?;
        Ok(options)
    }
}
