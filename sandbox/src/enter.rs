//! The process that becomes the program: in its file system, as its user, with nothing of ours left.

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

/// Who programs are within the sandbox.
const BUILDER: u32 = 1000;

/// Becomes the program; where there is none, reports which layers cannot be applied.
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
        // What is made for it to see is the same under every umask of vcbuild's own.
        umask(Mode::from_bits_truncate(Environment::FIXED.umask));
        mounts::open(&spec)?;
        give_up_rights()?;
    }
    // No program of ours is better understood by its dump.
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(SetupError::of("turn off core dumps"))?;
    if let Some(largest) = spec.limits.disk {
        // A file with holes takes no disk here, and all of its length where it is copied to.
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
    // Each of these was there when it was tried: without it, the program would run under less than is recorded.
    Err(missing.into_iter().next().map_or_else(|| become_program(program), |missing| missing.obstacle))
}

/// Becomes an ordinary user in a user namespace within the sandbox's, and so loses every right over what was made here.
fn give_up_rights() -> Result<(), SetupError> {
    // Nothing in the sandbox is to make further user namespaces. Where /proc/sys cannot be written to, they are as harmless
    // as elsewhere.
    let _ = fs::write(format!("{}/proc/sys/user/max_user_namespaces", mounts::HOST), "1");
    // The folder stays usable when the machine's files are gone.
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

/// Becomes the program; returns why it cannot.
fn become_program(program: &Program) -> SetupError {
    let mut command = Command::new(&program.path);
    command.args(&program.arguments).env_clear().envs(&program.environment).current_dir(&program.dir);
    let error = command.stdin(Stdio::null()).exec();
    SetupError::on(format!("{RUNNING}{}", program.path))(error)
}
