//! Running programs through `vcbuild sandbox`, as the programs of actions are run.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::RwLock;

use rigs::{Run, process};

/// Who runs vcbuild.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum User {
    /// Whoever runs the tests: root, on the machines that test everything.
    Same,
    /// An ordinary user without any rights.
    Nobody,
}

impl User {
    /// All that the tests can be: only root can become somebody else.
    pub(crate) fn all() -> Vec<Self> {
        if is_root() { vec![Self::Same, Self::Nobody] } else { vec![Self::Same] }
    }
}

pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|meta| std::os::unix::fs::MetadataExt::uid(&meta) == 0)
}

/// `vcbuild sandbox` with these options, as this user.
pub(crate) fn sandbox(user: User, options: &[&str]) -> Command {
    let vcbuild = env!("CARGO_BIN_EXE_vcbuild");
    let mut command = match user {
        User::Same => Command::new(vcbuild),
        User::Nobody => {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=65534", "--regid=65534", "--clear-groups", vcbuild]);
            command
        }
    };
    command.arg("sandbox").args(options).env_remove("RUST_LOG").current_dir("/");
    command
}

/// Runs a script in the sandbox, with the programs of this machine.
pub(crate) fn script(user: User, options: &[&str], script: &str) -> Run {
    Run::of(sandbox(user, options).args(["--sandbox", "required", "--system", "--", "bash", "-c", script]))
}

/// A folder that every user may write to.
pub(crate) fn shared_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    folder
}

/// Whether a process runs anywhere on the machine that has this among its arguments.
pub(crate) fn runs(argument: &str) -> bool {
    !process::with_argument(argument).is_empty()
}

/// Taken by the test that leaves a control group behind for a while, and shared by those that look for such groups.
pub(crate) static GROUPS: RwLock<()> = RwLock::new(());

/// The control groups of sandboxes of processes that are gone.
pub(crate) fn left_groups() -> Vec<String> {
    let named = |entry: walkdir::DirEntry| {
        let maker = entry.file_name().to_str()?.strip_prefix("vcbuild-")?;
        (!Path::new("/proc").join(maker).exists()).then(|| entry.path().display().to_string())
    };
    walkdir::WalkDir::new("/sys/fs/cgroup").into_iter().filter_map(Result::ok).filter_map(named).collect()
}
