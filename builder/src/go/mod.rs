//! Go, as a compiler whose every input is known: the toolchain by its content, an environment that is the same
//! everywhere, modules by their checksums.

mod build;
mod compile;
mod module;
mod scan;
mod toolchain;

use std::process::Command;

use camino::{Utf8Path, Utf8PathBuf};
use vcstore::{Platform, Store};

pub(crate) use self::build::{build, pin};
use self::module::Module;
use self::scan::Closure;
use self::toolchain::Toolchain;
use crate::network::Network;
use crate::{Error, platform};

/// Go, ready to run.
#[derive(Debug)]
pub(crate) struct Go {
    toolchain: Toolchain,
    /// Modules, unpacked; only Go writes there, and it checks them against `go.sum`.
    modules: Utf8PathBuf,
    /// Go's own cache of compiled packages, by the content of everything that went into them.
    packages: Utf8PathBuf,
    /// Whether modules may be fetched.
    network: Network,
    /// How many compilers one Go command runs at once.
    jobs: usize,
}

impl Go {
    /// Finds the Go that is installed; its caches are in the store's care.
    ///
    /// # Errors
    /// When there is none, or it does not work.
    pub(crate) fn find(store: &Store, network: Network, jobs: usize) -> Result<Self, Error> {
        let toolchain = Toolchain::find(&store.cache_dir("toolchain")?)?;
        let (modules, packages) = (store.cache_dir("gomod")?, store.cache_dir("go-build")?);
        Ok(Self { toolchain, modules, packages, network, jobs })
    }

    /// A Go command that sees nothing of the user's environment and reaches no network. `home` is an empty folder.
    fn command(&self, home: &Utf8Path) -> Command {
        let mut command = self.toolchain.command();
        command
            .env_clear()
            .env("PATH", self.toolchain.root().join("bin"))
            .env("HOME", home)
            .env("TMPDIR", home)
            .env("GOPATH", home.join("go"))
            .env("GOMODCACHE", &self.modules)
            .env("GOCACHE", &self.packages)
            .env("GOPROXY", "off")
            .env("GOSUMDB", "off")
            .env("GOTOOLCHAIN", "local")
            .env("GOENV", "off")
            .env("GOWORK", "off")
            .env("GO111MODULE", "on")
            .env("CGO_ENABLED", "0")
            .env("LC_ALL", "C")
            .env("TZ", "UTC");
        command
    }

    /// The same for a platform.
    fn command_for(&self, home: &Utf8Path, platform: &Platform) -> Command {
        let mut command = self.command(home);
        command.envs(platform::go_environment(platform));
        command
    }

    /// A folder that stands for the user's home: it holds nothing but the wish not to count what Go does.
    fn home(&self, store: &Store) -> Result<Home, Error> {
        let folder = store.temp_dir()?;
        let path = utf8(folder.path())?;
        let telemetry = path.join(".config/go/telemetry");
        std::fs::create_dir_all(&telemetry).map_err(Error::io("making", &telemetry))?;
        std::fs::write(telemetry.join("mode"), "off").map_err(Error::io("writing", &telemetry))?;
        Ok(Home { path, _folder: folder })
    }
}

/// A folder that goes when it is dropped.
struct Home {
    path: Utf8PathBuf,
    _folder: tempfile::TempDir,
}

fn utf8(path: &std::path::Path) -> Result<Utf8PathBuf, Error> {
    Utf8PathBuf::try_from(path.to_owned()).map_err(|error| {
        let path = Utf8PathBuf::from(error.as_path().to_string_lossy().into_owned());
        Error::io("using", &path)(std::io::Error::other("its name is not UTF-8"))
    })
}
