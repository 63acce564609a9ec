//! Runs the programs that create outputs in a sandbox, where they see only declared inputs.
//!
//! A [`Step`] declares the inputs of a program; [`Sandbox::run`] runs it in user, mount, pid, network, ipc and uts
//! namespaces of its own, under the further layers of `layers`. No code here runs between fork and exec. Instead, this
//! program executes itself three times: `supervisor` enforces the limits from outside and cleans up, `init` is the
//! first process inside and reaps orphans, and `enter` builds the file system and executes the program. If the machine
//! does not permit namespaces, the supervisor runs the program without them, which is recorded.

mod cgroup;
mod disk;
pub mod elf;
mod enter;
mod error;
mod execute;
mod explain;
mod folder;
mod init;
mod keyring;
mod landlock;
mod layers;
mod mountpoint;
mod mounts;
pub mod plain;
mod probe;
pub mod process;
pub mod remote;
mod run;
mod scope;
mod seccomp;
mod settings;
mod spec;
mod stage;
mod step;
mod supervisor;
mod syscalls;
mod usage;

use std::fs::{self, Permissions};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

pub use self::error::Error;
pub use self::explain::UndeclaredAccess;
pub use self::folder::Folder;
use self::layers::Layers;
pub use self::mounts::HOST;
use self::probe::Refusal;
pub use self::settings::{SandboxTable, Settings, parse_size, parse_time};
pub use self::spec::Limits;
use self::spec::{Layer, Report, SetupError};
pub use self::stage::Stage;
pub use self::step::{SYSTEM_FOLDERS, Step};

/// A folder on a tmpfs, which lists files in the order of their creation.
const MEMORY: &str = "/dev/shm";

/// The default limit on disk usage, in bytes.
const DISK: u64 = 64 << 30;

/// The beginning of an action's confinement record if its program was not confined.
const UNCONFINED: &str = "none";

/// The mode of the folder in which a step's files are staged, and of the folders around everything that a
/// program may write to, regardless of the umask: no other user can read them.
pub const PRIVATE_MODE: u32 = 0o700;

/// The mode of every folder that a step sees.
pub const FOLDER_MODE: u32 = 0o755;

/// Whether programs that make outputs are confined.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Confine programs; the build fails if the machine does not allow it.
    Required,
    /// Confine programs if the machine allows it; print a warning and record it if not.
    #[default]
    Auto,
    /// Do not confine programs.
    Off,
}

impl Mode {
    /// The name in settings and options.
    pub fn name(self) -> &'static str {
        match self {
            Self::Required => "required",
            Self::Auto => "auto",
            Self::Off => "off",
        }
    }

    /// A larger value permits less unconfined execution.
    fn strictness(self) -> u8 {
        match self {
            Self::Required => 2,
            Self::Auto => 1,
            Self::Off => 0,
        }
    }
}

impl Default for Limits {
    /// Two hours, unlimited memory, more processes than any compiler starts, and more disk space than any source needs.
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
        Self {
            time: Duration::from_secs(2 * 60 * 60),
            memory: None,
            processes: Some((512 * processors).max(4096)),
            disk: Some(DISK),
        }
    }
}

/// The environment of every program apart from its inputs. It is fixed, except where a check changes it on purpose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    /// The working directory.
    pub build: &'static str,
    /// The host name.
    pub hostname: &'static str,
    /// The variable `TZ`.
    pub timezone: &'static str,
    /// The variable `LC_ALL`.
    pub locale: &'static str,
    /// The umask.
    pub umask: u32,
    /// The number of processors that it may use; `None` for all.
    pub processors: Option<usize>,
    /// Whether files are staged in reverse order, which matters where a folder lists them in the order of their
    /// creation.
    pub reversed: bool,
}

impl Environment {
    /// The environment of every build.
    pub const FIXED: Self = Self {
        build: "/build",
        hostname: "vcbuild",
        timezone: "UTC",
        locale: "C",
        umask: 0o022,
        processors: None,
        reversed: false,
    };
}

/// A folder for staging a step's files; it is removed when dropped.
#[derive(Debug)]
pub struct Workplace {
    path: Utf8PathBuf,
    /// The folder around it.
    _around: tempfile::TempDir,
}

impl Workplace {
    /// Creates one in this folder, and makes the folder private.
    ///
    /// # Errors
    /// Returns an error if it cannot be created.
    pub fn within(around: tempfile::TempDir) -> Result<Self, crate::Error> {
        let outer = vcstore::utf8("using", around.path())?;
        make_private(&outer)?;
        let path = outer.join("work");
        fs::create_dir(&path).map_err(crate::Error::io("making", &path))?;
        make_private(&path)?;
        Ok(Self { path, _around: around })
    }

    /// Its path.
    pub fn path(&self) -> &Utf8Path {
        &self.path
    }
}

/// Makes a folder inaccessible to other users. The mode also clears a set-group-ID bit, so that new entries do not
/// inherit the folder's group.
fn make_private(folder: &Utf8Path) -> Result<(), crate::Error> {
    fs::set_permissions(folder, Permissions::from_mode(PRIVATE_MODE)).map_err(crate::Error::io("writing", folder))
}

/// Runs steps.
#[derive(Debug, Clone)]
pub struct Sandbox {
    mode: Mode,
    limits: Limits,
    environment: Environment,
    /// Whether namespaces are available, and which layers; set when it is first needed.
    ability: OnceLock<Result<Layers, probe::Refusal>>,
    /// The build host that runs the programs, if any.
    host: Option<Arc<remote::Host>>,
}

impl Sandbox {
    /// Creates a sandbox that confines programs according to `mode`. The machine's abilities are probed when a step
    /// first needs them.
    pub fn find(mode: Mode, limits: Limits) -> Self {
        Self { mode, limits, environment: Environment::FIXED, ability: OnceLock::new(), host: None }
    }

    /// Returns the same sandbox with another environment.
    pub fn elsewhere(&self, environment: Environment) -> Self {
        Self { environment, ..self.clone() }
    }

    /// The confinement mode.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Creates a step without declarations; `name` is for display.
    ///
    /// # Errors
    /// Returns an error if steps must be confined but cannot be.
    pub fn step(&self, name: &str) -> Result<Step, crate::Error> {
        let session = self.host.as_ref().map(|host| host.session()).transpose()?;
        Step::new(name, self.is_confined()?, &self.environment, session)
    }

    /// Whether programs are confined.
    ///
    /// # Errors
    /// Returns an error if they must be confined but cannot be.
    pub fn is_confined(&self) -> Result<bool, crate::Error> {
        if let Some(host) = &self.host {
            return Ok(host.is_confined());
        }
        if self.mode == Mode::Off {
            return Ok(false);
        }
        let ability = self.ability.get_or_init(|| {
            let ability = probe::probe();
            match (self.mode, &ability) {
                (Mode::Auto, Err(Refusal::Forbidden(obstacle))) => probe::warn(obstacle),
                (Mode::Auto, Ok(layers)) => layers.lacks().into_iter().for_each(probe::warn_unfiltered),
                _ => {}
            }
            ability
        });
        match ability {
            Ok(layers) => match layers.lacks().filter(|_| self.mode == Mode::Required) {
                None => Ok(true),
                Some(obstacle) => {
                    Err(Error::Unfiltered { attempt: obstacle.attempt.clone(), source: obstacle.error() })
                }
            },
            Err(Refusal::Forbidden(_)) if self.mode == Mode::Auto => Ok(false),
            Err(Refusal::Forbidden(obstacle)) => {
                Err(Error::Forbidden { attempt: obstacle.attempt.clone(), source: obstacle.error() })
            }
            // It is not certain that the machine lacks namespaces, so continuing without them would be a guess.
            Err(Refusal::Broken(why)) => Err(Error::Broken { why: why.clone() }),
        }
    }

    /// The maximum size of a file that is accepted from a program.
    pub fn largest(&self) -> u64 {
        self.limits.disk.unwrap_or(u64::MAX)
    }

    /// Describes the confinement of programs for an action's record.
    ///
    /// # Errors
    /// Returns an error if programs must be confined but cannot be.
    pub fn confinement(&self) -> Result<String, crate::Error> {
        if let Some(host) = &self.host {
            return Ok(host.confinement());
        }
        self.is_confined()?;
        Ok(match self.ability.get() {
            Some(Ok(layers)) => layers.describe(),
            Some(Err(Refusal::Forbidden(obstacle))) => {
                format!("{UNCONFINED}: cannot {}: {}", obstacle.attempt, obstacle.why)
            }
            _ => format!("{UNCONFINED}: turned off"),
        })
    }

    /// Returns the layers that confine programs in addition to namespaces. They are known once a step was created.
    fn layers(&self) -> Vec<Layer> {
        self.ability
            .get()
            .and_then(|ability| ability.as_ref().ok())
            .map_or_else(Vec::new, |found| found.present().collect())
    }

    /// Whether these outputs of an earlier program may be reused. Outputs of an unconfined program are not reused where
    /// programs are confined, because its inputs are unknown.
    pub fn takes(&self, outputs: &vcstore::Outputs) -> bool {
        let unconfined = outputs.note("sandbox").is_some_and(|confinement| confinement.starts_with(UNCONFINED));
        // If programs must be confined but cannot be, the step reports the error.
        !unconfined || matches!(self.is_confined(), Ok(false))
    }

    /// Returns the folder of a compiler's own cache with this name, which the store manages. Confined and unconfined
    /// programs have separate caches, because the inputs of the latter are unknown.
    ///
    /// # Errors
    /// Returns an error if the folder cannot be created.
    pub fn cache(&self, store: &vcstore::Store, name: &str) -> Result<Utf8PathBuf, crate::Error> {
        let confinement = if self.is_confined()? { "confined" } else { "unconfined" };
        let cache = store.cache_dir(&format!("{name}/{confinement}"))?;
        // Programs may change the mode of the cache, but not of the folder around it, which they never see.
        for folder in [&cache, cache.parent().unwrap_or(&cache)] {
            make_private(folder)?;
        }
        Ok(cache)
    }

    /// Creates a folder for staging a step's files; it is removed when dropped. The folder around it is private
    /// and never part of a sandbox, so that other users have no access, whatever modes a program sets on what it sees.
    ///
    /// # Errors
    /// Returns an error if it cannot be created.
    pub fn workplace(&self, store: &vcstore::Store) -> Result<Workplace, crate::Error> {
        // File systems on disks list a folder in an order of their own, which does not depend on the order of
        // staging.
        let memory = self.environment.reversed.then(|| tempfile::TempDir::new_in(MEMORY));
        Workplace::within(memory.and_then(Result::ok).map_or_else(|| store.temp_dir(), Ok)?)
    }

    /// Returns files in the order in which to stage them.
    pub fn ordered<T>(&self, files: impl IntoIterator<Item = T>) -> impl Iterator<Item = T> {
        let mut files: Vec<T> = files.into_iter().collect();
        if self.environment.reversed {
            files.reverse();
        }
        files.into_iter()
    }
}

/// Runs one stage of a sandbox, at the request of the process at the other end of standard input.
pub fn stage(stage: Stage) -> vcterminal::Exit {
    let asked = std::io::stdin().as_fd().try_clone_to_owned().map(UnixStream::from);
    let done = asked.map_err(SetupError::on("use standard input")).and_then(|socket| {
        let done = match stage {
            Stage::Supervisor => supervisor::supervise(&socket).map(Some),
            Stage::Init => init::init(&socket).map(Some),
            Stage::Enter => enter::enter(&socket).map(Some),
        };
        let report = done.unwrap_or_else(|obstacle| Some(Report::Failed(obstacle)));
        report.map_or(Ok(()), |report| spec::send(&socket, &report)).map_err(SetupError::on("answer"))
    });
    match done {
        Ok(()) => vcterminal::Exit::Done,
        Err(obstacle) => {
            vcterminal::say(format_args!(
                "a process of vcbuild's sandbox cannot {}: {}",
                obstacle.attempt, obstacle.why
            ));
            vcterminal::Exit::Failed
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use camino::{Utf8Path, Utf8PathBuf};

    use super::{Environment, Limits, Mode, Sandbox};

    #[test]
    fn what_programs_write_to_is_within_a_folder_of_its_users_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::try_from(folder.path().join("store")).unwrap();
        fs::create_dir(&path).unwrap();
        // A folder whose set-group-ID bit is inherited by everything in it.
        fs::set_permissions(&path, Permissions::from_mode(0o2755)).unwrap();
        let store = vcstore::Store::open(&path).unwrap();
        let sandbox = Sandbox::find(Mode::Off, Limits::default());
        let reversed = sandbox.elsewhere(Environment { reversed: true, ..Environment::FIXED });
        let mode = |path: &Utf8Path| fs::metadata(path).unwrap().mode() & 0o7777;
        let (cache, here, there) = (
            sandbox.cache(&store, "a/b").unwrap(),
            sandbox.workplace(&store).unwrap(),
            reversed.workplace(&store).unwrap(),
        );
        for place in [&cache, here.path(), there.path()] {
            assert_eq!((mode(place), mode(place.parent().unwrap())), (0o700, 0o700), "{place}");
        }
        let below = here.path().join("below");
        fs::create_dir(&below).unwrap();
        assert_eq!(mode(&below) & 0o7000, 0);
        // A folder that an earlier run left accessible is made private by the next.
        fs::set_permissions(cache.parent().unwrap(), Permissions::from_mode(0o755)).unwrap();
        assert_eq!(sandbox.cache(&store, "a/b").unwrap(), cache);
        assert_eq!(mode(cache.parent().unwrap()), 0o700);
    }
}
