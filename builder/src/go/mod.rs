//! Go, as a compiler whose every input is known: the toolchain by its content, an environment that is the same
//! everywhere, modules by their checksums.

mod build;
mod cgo;
mod compile;
mod headers;
mod module;
mod module_source;
mod proxy;
mod release;
mod scan;
mod sumdb;
mod toolchain;
mod unpack;
mod work;

#[cfg(any(test, fuzzing))]
pub(crate) use unpack::unpack;

use std::process::Command;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use vcnetwork::Network;
use vcsandbox::process;
use vcsandbox::{Sandbox, Step, Workplace};
use vcstore::{Platform, Store};

pub(crate) use self::build::{build, pin};
use self::module::Module;
pub(crate) use self::module::folders_beside;
pub(crate) use self::module_source::module_source;
pub(crate) use self::release::copy_toolchain;
use self::scan::Closure;
use self::toolchain::Toolchain;
use crate::lock::Lock;
use crate::offline_inputs::InputsDir;
use crate::progress::Progress;
use crate::source::plain_temp_dir;
use crate::{Error, platform};

/// The longest that fetching modules may take.
const FETCH_LIMIT: Duration = Duration::from_secs(60 * 60);

/// Go, ready to run.
#[derive(Debug)]
pub(crate) struct Go {
    toolchain: Toolchain,
    /// Modules, unpacked; only Go writes there, and it checks them against `go.sum`.
    modules: Utf8PathBuf,
    /// The name of Go's own caches of compiled packages, which go by the content of everything that went into them.
    packages: String,
    /// The one for what Go does unconfined: it looks through packages there, and compiles none.
    looked_at: Utf8PathBuf,
    /// Whether modules may be fetched.
    network: Network,
    /// How many compilers one Go command runs at once.
    jobs: usize,
}

impl Go {
    /// Finds the Go of this version, which is fetched as `lock` pins it, or the one that is installed; its caches are in the
    /// store's care.
    ///
    /// # Errors
    /// When there is none, it does not work, or it is not what the lock says.
    pub(crate) fn find(
        version: Option<&str>,
        store: &Store,
        lock: &Lock,
        jobs: usize,
        progress: &Progress,
    ) -> Result<Self, Error> {
        let toolchain = match version {
            Some(version) => Toolchain::pinned(version, store, lock, progress)?,
            None => Toolchain::installed(&store.cache_dir("toolchain")?)?,
        };
        let network = lock.network().clone();
        // An identity may have characters that a path cannot.
        let packages = format!("go-build/{}", &blake3::hash(toolchain.identity().as_bytes()).to_hex()[..32]);
        let (modules, looked_at) = (store.cache_dir("gomod")?, store.cache_dir(&format!("{packages}/looked-at"))?);
        Ok(Self { toolchain, modules, packages, looked_at, network, jobs })
    }

    /// A Go command that sees nothing of the user's environment and reaches no network. `home` is an empty folder.
    ///
    /// It runs no code of the source, and needs to see the source where it is: it is not confined.
    fn command(&self, home: &Utf8Path) -> Command {
        let root = self.toolchain.root();
        let mut command = Command::new(root.join("bin/go"));
        let folders = GoFolders { root, home, modules: &self.modules, packages: &self.looked_at };
        command.env_clear().envs(folders.environment()).env("LC_ALL", "C").env("TZ", "UTC");
        command
    }

    /// The same for a platform.
    fn command_for(&self, home: &Utf8Path, platform: &Platform) -> Command {
        let mut command = self.command(home);
        command.envs(platform::go_environment(platform));
        command
    }

    /// Runs a command that may fetch modules from where they come from: the network as its user's own Go uses it, a folder of
    /// inputs, or what the user's Go fetched already where nothing else may be asked. `attempt` says what for; `newest` says
    /// whether it asks what there is, and not for a version that is known.
    fn fetch(&self, mut command: Command, attempt: &str, newest: bool) -> Result<process::Output, Error> {
        if let Some(folder) = InputsDir::of(&self.network) {
            command.env("GOPROXY", folder.go_proxy()?);
            return process::run(&mut command, FETCH_LIMIT).map_err(|failure| folder.modules_failed(failure));
        }
        match self.network.permit(attempt) {
            Ok(permit) if newest => self.toolchain.let_resolve(&mut command, permit),
            Ok(permit) => self.toolchain.let_fetch(&mut command, permit),
            Err(offline) => {
                self.toolchain.let_copy(&mut command);
                return process::run(&mut command, FETCH_LIMIT).map_err(|failure| {
                    tracing::debug!(%failure, "it is not among the local modules");
                    offline.into()
                });
            }
        }
        process::run(&mut command, FETCH_LIMIT).map_err(Error::fetch_modules)
    }

    /// A step that runs Go for a platform, in the sandbox, and what `home`, which it works in, is called there.
    fn step(
        &self,
        sandbox: &Sandbox,
        store: &Store,
        home: &Utf8Path,
        platform: &Platform,
    ) -> Result<(Step, Utf8PathBuf), Error> {
        let mut step = sandbox.step("go")?;
        let root = step.folder(self.toolchain.folder(), "/go")?;
        let modules = step.read_only(&self.modules, "/gomod")?;
        let packages = step.cache(sandbox, store, &self.packages, "/go-build")?;
        let home = step.writable(home, "/build")?;
        step.program(root.join("bin/go"));
        let folders = GoFolders { root: &root, home: &home, modules: &modules, packages: &packages };
        step.envs(folders.environment());
        step.envs(platform::go_environment(platform));
        Ok((step, home))
    }

    /// A folder that stands for the user's home.
    fn home(&self, store: &Store) -> Result<Home, Error> {
        Home::in_folder(Workplace::within(plain_temp_dir(store)?)?)
    }
}

/// What a Go command works with, as it is to call it.
struct GoFolders<'a> {
    root: &'a Utf8Path,
    home: &'a Utf8Path,
    modules: &'a Utf8Path,
    packages: &'a Utf8Path,
}

impl GoFolders<'_> {
    /// The variables that fix where Go finds everything, and that it fetches nothing.
    fn environment(&self) -> [(&'static str, String); 14] {
        let path = |path: &Utf8Path| path.as_str().to_owned();
        [
            ("GOROOT", path(self.root)),
            ("PATH", path(&self.root.join("bin"))),
            ("HOME", path(self.home)),
            ("TMPDIR", path(self.home)),
            ("GOPATH", path(&self.home.join("go"))),
            ("GOMODCACHE", path(self.modules)),
            ("GOCACHE", path(self.packages)),
            ("GOPROXY", "off".to_owned()),
            ("GOSUMDB", "off".to_owned()),
            ("GOTOOLCHAIN", "local".to_owned()),
            ("GOENV", "off".to_owned()),
            ("GOWORK", "off".to_owned()),
            ("GO111MODULE", "on".to_owned()),
            ("CGO_ENABLED", "0".to_owned()),
        ]
    }
}

/// A folder that stands for the user's home and goes when it is dropped.
struct Home {
    path: Utf8PathBuf,
    _folder: Workplace,
}

impl Home {
    /// Holds nothing but the wish not to count what Go does.
    fn in_folder(folder: Workplace) -> Result<Self, Error> {
        let path = folder.path().to_owned();
        let telemetry = path.join(".config/go/telemetry");
        std::fs::create_dir_all(&telemetry).map_err(Error::io("making", &telemetry))?;
        std::fs::write(telemetry.join("mode"), "off").map_err(Error::io("writing", &telemetry))?;
        Ok(Self { path, _folder: folder })
    }
}
