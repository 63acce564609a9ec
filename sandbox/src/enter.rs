//! The process that becomes the program: it enters the file system of the sandbox, as the sandbox's user, without any
//! of vcbuild's open resources.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use nix::fcntl::{OFlag, openat};
use nix::sched::{CloneFlags, CpuSet, sched_getaffinity, sched_setaffinity, unshare};
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Pid, sethostname, setsid};

use super::Environment;
use super::mounts;
use super::spec::{Program, Report, SetupError, Spec, UnavailableLayer, receive};
use super::stage::RUNNING;

/// The UID and GID of programs in the sandbox.
const BUILDER: u32 = 1000;

/// Executes the program. Without a program, returns the layers that cannot be applied.
pub(super) fn enter(socket: &UnixStream) -> Result<Report, SetupError> {
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(SetupError::of("end with the supervisor"))?;
    let spec: Spec = receive(socket)
        .map_err(SetupError::on("read what to run"))?
        .ok_or_else(|| SetupError::on("read what to run")(std::io::Error::other("the supervisor is gone")))?;
    setsid().map_err(SetupError::of("leave the terminal"))?;
    if let Some(count) = spec.processors {
        limit_processors(count).map_err(SetupError::of(format!("use {count} processors")))?;
    }
    if spec.confined {
        sethostname(&spec.hostname).map_err(SetupError::of("set the host name"))?;
        // The modes of the sandbox's own files must not depend on the umask of vcbuild.
        umask(Mode::from_bits_truncate(Environment::FIXED.umask));
        mounts::open(&spec)?;
        give_up_rights()?;
    }
    // Core dumps are of no use in a build.
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(SetupError::of("turn off core dumps"))?;
    if let Some(largest) = spec.limits.disk {
        // A sparse file occupies little disk space here, but its full length where it is copied to.
        setrlimit(Resource::RLIMIT_FSIZE, largest, largest).map_err(SetupError::of("limit the size of files"))?;
    }
    if let Some(most) = spec.most_tasks {
        setrlimit(Resource::RLIMIT_NPROC, most, most).map_err(SetupError::of("limit processes"))?;
    }
    umask(Mode::from_bits_truncate(spec.umask));
    prctl::set_no_new_privs().map_err(SetupError::of("give up privileges"))?;
    let missing = spec.layers.iter().filter_map(|layer| {
        let obstacle = layer.apply(&spec.mounts).err()?;
        Some(UnavailableLayer { layer: *layer, obstacle })
    });
    let missing: Vec<_> = missing.collect();
    let Some(program) = &spec.program else { return Ok(Report::Tried(missing)) };
    // Each of these layers was available in the trial run: without it, the program would be confined less than is
    // recorded.
    Err(missing.into_iter().next().map_or_else(|| become_program(program), |missing| missing.obstacle))
}

/// Enters a second user namespace as an ordinary user, and thus loses all capabilities over the resources of the first.
fn give_up_rights() -> Result<(), SetupError> {
    // Disables further user namespaces in the sandbox. If /proc/sys is read-only, they stay enabled, which is as
    // harmless as elsewhere.
    let _ = fs::write(format!("{}/proc/sys/user/max_user_namespaces", mounts::HOST), "1");
    // The open folder stays usable after the machine's file system is unmounted.
    let process = File::open(format!("{}/proc/self", mounts::HOST)).map_err(SetupError::on("open /proc/self"))?;
    mounts::close()?;
    unshare(CloneFlags::CLONE_NEWUSER).map_err(SetupError::of("make a second user namespace"))?;
    let identity = format!("{BUILDER} 0 1");
    for (file, text) in [("setgroups", "deny"), ("uid_map", identity.as_str()), ("gid_map", identity.as_str())] {
        let opened = openat(process.as_fd(), file, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty());
        let opened = opened.map_err(SetupError::of(format!("open {file}")))?;
        File::from(opened).write_all(text.as_bytes()).map_err(SetupError::on(format!("set {file}")))?;
    }
    Ok(())
}

fn limit_processors(count: usize) -> nix::Result<()> {
    let now = sched_getaffinity(Pid::from_raw(0))?;
    let mut wanted = CpuSet::new();
    let ours = (0..CpuSet::count()).filter(|number| now.is_set(*number).unwrap_or(false));
    for number in ours.take(count) {
        wanted.set(number)?;
    }
    sched_setaffinity(Pid::from_raw(0), &wanted)
}

/// Executes the program. Returns only on failure.
fn become_program(program: &Program) -> SetupError {
    let mut command = Command::new(&program.path);
    command.args(&program.arguments).env_clear().envs(&program.environment).current_dir(&program.dir);
    let error = command.stdin(Stdio::null()).exec();
    SetupError::on(format!("{RUNNING}{}", program.path))(error)
}
