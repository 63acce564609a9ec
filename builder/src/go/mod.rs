//! Go as a compiler with known inputs: the toolchain by its content, a fixed environment, and modules by their
//! checksums.

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

/// The time limit for fetching modules.
const FETCH_LIMIT: Duration = Duration::from_secs(60 * 60);

/// A Go toolchain with its caches.
#[derive(Debug)]
pub(crate) struct Go {
    toolchain: Toolchain,
    /// The module cache. Only Go writes to it, and verifies the modules against `go.sum`.
    modules: Utf8PathBuf,
    /// The name of Go's build cache, which is keyed by the content of all inputs.
    packages: String,
    /// The build cache for commands outside the sandbox, which analyse packages and compile none.
    looked_at: Utf8PathBuf,
    /// Whether modules may be fetched.
    network: Network,
    /// The number of compilers that one Go command runs in parallel.
    jobs: usize,
}

impl Go {
    /// Finds the Go toolchain of this version, fetched as `lock` pins it, or the installed one. Its caches are in the
    /// store.
    ///
    /// # Errors
    /// When there is no Go, it does not work, or it differs from the lock.
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
        // An identity may contain characters that are invalid in a path.
        let packages = format!("go-build/{}", &blake3::hash(toolchain.identity().as_bytes()).to_hex()[..32]);
        let (modules, looked_at) = (store.cache_dir("gomod")?, store.cache_dir(&format!("{packages}/looked-at"))?);
        Ok(Self { toolchain, modules, packages, looked_at, network, jobs })
    }

    /// Returns a Go command without the user's environment and without network access. `home` is an empty folder.
    ///
    /// It is not confined: it runs no code of the source, and must see the source at its real path.
    fn command(&self, home: &Utf8Path) -> Command {
        let root = self.toolchain.root();
        let mut command = Command::new(root.join("bin/go"));
        let folders = GoFolders { root, home, modules: &self.modules, packages: &self.looked_at };
        command.env_clear().envs(folders.environment()).env("LC_ALL", "C").env("TZ", "UTC");
        command
    }

    /// Returns a command like [`Go::command`], for a platform.
    fn command_for(&self, home: &Utf8Path, platform: &Platform) -> Command {
        let mut command = self.command(home);
        command.envs(platform::go_environment(platform));
        command
    }

    /// Runs a command that may fetch modules: over the network with the user's Go settings, from a folder of offline
    /// inputs, or offline from the user's module cache. `attempt` describes the purpose; `newest` states whether the
    /// command looks up available versions rather than fetching a known one.
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

    /// Returns a step that runs Go for a platform in the sandbox, and the path of its working folder `home` there.
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

    /// Creates a temporary home folder for Go.
    fn home(&self, store: &Store) -> Result<Home, Error> {
        Home::in_folder(Workplace::within(plain_temp_dir(store)?)?)
    }
}

/// The folders of a Go command, at the paths that it sees.
struct GoFolders<'a> {
    root: &'a Utf8Path,
    home: &'a Utf8Path,
    modules: &'a Utf8Path,
    packages: &'a Utf8Path,
}

impl GoFolders<'_> {
    /// Returns the variables that fix the locations of everything that Go uses, and forbid fetching.
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

/// A temporary folder in place of the user's home, removed on drop.
struct Home {
    path: Utf8PathBuf,
    _folder: Workplace,
}

impl Home {
    /// Writes only the setting that disables telemetry.
    fn in_folder(folder: Workplace) -> Result<Self, Error> {
        let path = folder.path().to_owned();
        let telemetry = path.join(".config/go/telemetry");
        std::fs::create_dir_all(&telemetry).map_err(Error::io("making", &telemetry))?;
        std::fs::write(telemetry.join("mode"), "off").map_err(Error::io("writing", &telemetry))?;
        Ok(Self { path, _folder: folder })
    }
}
