//! Where programs run that make outputs: they see what was declared and nothing else of the machine.
//!
//! A [`Step`] declares what a program gets; [`Sandbox::run`] runs it in user, mount, pid, network, ipc and uts namespaces
//! of its own, under the further layers of `layers`. No code here runs between fork and exec. Instead this program starts itself again, three times over:
//! `supervisor` watches the limits from outside and cleans up, `init` is the first process within and reaps what others
//! leave, `enter` builds the file system and becomes the program. Where the machine has no namespaces for us, the
//! supervisor runs the program as it is, and that is recorded.

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

/// A folder in memory, which lists files by when they were made.
const MEMORY: &str = "/dev/shm";

/// How much a program may write to disk by default, in bytes.
const DISK: u64 = 64 << 30;

/// How an action's record begins to say that nothing confined its program.
const UNCONFINED: &str = "none";

/// The permissions of the folder that a step's files are staged in, and of those around whatever a program may write to,
/// whatever the umask is: nobody else reads them meanwhile.
pub const PRIVATE_MODE: u32 = 0o700;

/// The permissions of every folder that a step sees.
pub const FOLDER_MODE: u32 = 0o755;

/// Whether programs that make outputs are confined.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Confined, or the build fails.
    Required,
    /// Confined where the machine allows it; where not, that is reported and recorded.
    #[default]
    Auto,
    /// Not confined.
    Off,
}

impl Mode {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Required => "required",
            Self::Auto => "auto",
            Self::Off => "off",
        }
    }

    /// The larger, the less is run unconfined.
    fn strictness(self) -> u8 {
        match self {
            Self::Required => 2,
            Self::Auto => 1,
            Self::Off => 0,
        }
    }
}

impl Default for Limits {
    /// Two hours, all of the memory, more processes than any compiler starts, and more of the disk than any source needs.
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

/// What every program sees of the world beside its inputs. Fixed, except where a check changes it on purpose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    /// The folder that work is done in.
    pub build: &'static str,
    /// The name of the machine.
    pub hostname: &'static str,
    /// The variable `TZ`.
    pub timezone: &'static str,
    /// The variable `LC_ALL`.
    pub locale: &'static str,
    /// The mode bits that new files lack.
    pub umask: u32,
    /// How many processors it may run on; all where there is no number.
    pub processors: Option<usize>,
    /// Whether files are staged in the reverse of their order, where a folder lists them in the order they were made in.
    pub reversed: bool,
}

impl Environment {
    /// Those of every build.
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

/// A folder to stage a step's files in, which goes when dropped.
#[derive(Debug)]
pub struct Workplace {
    path: Utf8PathBuf,
    /// The folder around it.
    _around: tempfile::TempDir,
}

impl Workplace {
    /// One in this folder, which other users cannot enter from now on.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn within(around: tempfile::TempDir) -> Result<Self, crate::Error> {
        let outer = vcstore::utf8("using", around.path())?;
        make_private(&outer)?;
        let path = outer.join("work");
        fs::create_dir(&path).map_err(crate::Error::io("making", &path))?;
        make_private(&path)?;
        Ok(Self { path, _around: around })
    }

    /// Where it is.
    pub fn path(&self) -> &Utf8Path {
        &self.path
    }
}

/// Closes a folder to other users. What is made in it takes no group from it either, as it would with a set-group-ID bit.
fn make_private(folder: &Utf8Path) -> Result<(), crate::Error> {
    fs::set_permissions(folder, Permissions::from_mode(PRIVATE_MODE)).map_err(crate::Error::io("writing", folder))
}

/// Runs steps.
#[derive(Debug, Clone)]
pub struct Sandbox {
    mode: Mode,
    limits: Limits,
    environment: Environment,
    /// Whether namespaces can be had, and which layers with them, once it is known.
    ability: OnceLock<Result<Layers, probe::Refusal>>,
    /// Where programs run, when that is not here.
    host: Option<Arc<remote::Host>>,
}

impl Sandbox {
    /// A sandbox that confines as `mode` says. Whether the machine lets it is found out when a step first asks.
    pub fn find(mode: Mode, limits: Limits) -> Self {
        Self { mode, limits, environment: Environment::FIXED, ability: OnceLock::new(), host: None }
    }

    /// The same in other environment.
    pub fn elsewhere(&self, environment: Environment) -> Self {
        Self { environment, ..self.clone() }
    }

    /// Whether and how programs are to be confined.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// A step that declares nothing yet; `name` is for people.
    ///
    /// # Errors
    /// When steps must be confined and cannot be.
    pub fn step(&self, name: &str) -> Result<Step, crate::Error> {
        let session = self.host.as_ref().map(|host| host.session()).transpose()?;
        Step::new(name, self.is_confined()?, &self.environment, session)
    }

    /// Whether programs are confined here.
    ///
    /// # Errors
    /// When they must be and cannot be.
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
            // Nothing says that the machine has no namespaces for us: to go on without would be a guess.
            Err(Refusal::Broken(why)) => Err(Error::Broken { why: why.clone() }),
        }
    }

    /// The largest file that is taken of what a program made.
    pub fn largest(&self) -> u64 {
        self.limits.disk.unwrap_or(u64::MAX)
    }

    /// What confines programs here, for an action's record.
    ///
    /// # Errors
    /// When they must be confined and cannot be.
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

    /// What confines programs here beside namespaces, as far as that is known: it is once a step was made.
    fn layers(&self) -> Vec<Layer> {
        self.ability
            .get()
            .and_then(|ability| ability.as_ref().ok())
            .map_or_else(Vec::new, |found| found.present().collect())
    }

    /// Whether programs that ran before may have made these outputs for one that would run here: what was made unconfined is
    /// never used where programs are confined, since its inputs are not known.
    pub fn takes(&self, outputs: &vcstore::Outputs) -> bool {
        let unconfined = outputs.note("sandbox").is_some_and(|confinement| confinement.starts_with(UNCONFINED));
        // Where they must be confined and cannot be, the step says so.
        !unconfined || matches!(self.is_confined(), Ok(false))
    }

    /// Where a compiler's own cache of this name is, in the store's care. What was made unconfined is never used by a
    /// confined program: its inputs are not known.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn cache(&self, store: &vcstore::Store, name: &str) -> Result<Utf8PathBuf, crate::Error> {
        let confinement = if self.is_confined()? { "confined" } else { "unconfined" };
        let cache = store.cache_dir(&format!("{name}/{confinement}"))?;
        // Programs may change the mode of what they write to, but not of the folder around it, which they never see.
        for folder in [&cache, cache.parent().unwrap_or(&cache)] {
            make_private(folder)?;
        }
        Ok(cache)
    }

    /// A folder to stage a step's files in; it goes when dropped. The folder around it is nobody else's, and never part of a
    /// sandbox: whatever modes a program gives to what it sees, no other user of the machine comes to it.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn workplace(&self, store: &vcstore::Store) -> Result<Workplace, crate::Error> {
        // Disks list a folder in an order of their own, which staging in another order does not change.
        let memory = self.environment.reversed.then(|| tempfile::TempDir::new_in(MEMORY));
        Workplace::within(memory.and_then(Result::ok).map_or_else(|| store.temp_dir(), Ok)?)
    }

    /// Files in the order to stage them in.
    pub fn ordered<T>(&self, files: impl IntoIterator<Item = T>) -> impl Iterator<Item = T> {
        let mut files: Vec<T> = files.into_iter().collect();
        if self.environment.reversed {
            files.reverse();
        }
        files.into_iter()
    }
}

/// Does the work of one process of a sandbox, which the process with the other end of standard input asked for.
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
        // A folder whose set-group-ID bit goes to all that is made in it.
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
        // What an earlier run has left open is closed by the next.
        fs::set_permissions(cache.parent().unwrap(), Permissions::from_mode(0o755)).unwrap();
        assert_eq!(sandbox.cache(&store, "a/b").unwrap(), cache);
        assert_eq!(mode(cache.parent().unwrap()), 0o700);
    }
}
