//! The process outside: makes the namespaces, starts the program, stops it at its limits, and leaves nothing behind.

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Child;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{Signal, kill};
use nix::sys::time::TimeValLike;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getegid, geteuid, setgroups};

use super::cgroup::Group;
use super::disk::Disk;
use super::spec::{ExceededLimit, Report, SetupError, Spec, receive, send};
use super::stage::{Stage, self_as};
use super::usage::{self, ProcessTree};

/// How often limits are looked at.
const TICK: Duration = Duration::from_millis(50);

/// Looking at what a program uses may take this part of a processor's time,
const SHARE: u32 = 20;

/// unless it would then be looked at less often than this: what a program takes between two looks is not seen.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// How many tasks above its limit a program can have before it is seen and stopped.
const MARGIN: u64 = 64;

/// For how long the machine may refuse to tell what a process uses. It does for each process of a sandbox between its change of
/// user and the start of its program, and on a busy machine that may take a while.
const REFUSAL: Duration = Duration::from_secs(5);

/// How long what was killed may take to be gone.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs the requested program and reports how it ended.
pub(super) fn supervise(asked: &UnixStream) -> Result<Report, SetupError> {
    close_inherited()?;
    let mut spec: Spec = receive(asked).map_err(SetupError::on("read what to run"))?.ok_or_else(gone)?;
    asked.set_nonblocking(true).map_err(SetupError::on("use standard input"))?;
    let group = Group::make(&spec.limits);
    if let Some(limit) = spec.limits.processes.filter(|_| !group.limits_processes()) {
        // Kernels before 5.14 count all that the user has on the machine, so that only a bomb may be kept from forking.
        let others = usage::tasks().map_err(SetupError::on("count processes"))?;
        spec.most_tasks = Some(limit.saturating_add(others).saturating_add(MARGIN));
    }
    if spec.confined {
        separate()?;
    } else {
        // What the program leaves behind becomes a child of this process, which ends it.
        prctl::set_child_subreaper(true).map_err(SetupError::of("adopt orphans"))?;
    }
    let (ours, theirs) = UnixStream::pair().map_err(SetupError::on("make a socket"))?;
    let stage = if spec.confined { Stage::Init } else { Stage::Enter };
    let child = self_as(stage).stdin(OwnedFd::from(theirs)).spawn().map_err(SetupError::on("start a process"))?;
    let (now, disk) = (Instant::now(), Disk::watch(&spec));
    let mut run = ProgramRun {
        spec: &spec,
        group,
        disk,
        child,
        asked,
        deadline: now + spec.limits.time,
        not_before: now,
        refusing: None,
    };
    let result = run.watch(&ours);
    let gone = run.end();
    result.and_then(|report| gone.map(|()| report))
}

/// A running program.
struct ProgramRun<'a> {
    spec: &'a Spec,
    group: Group,
    disk: Option<Disk>,
    /// The first process: init in a sandbox, the program itself without one.
    child: Child,
    asked: &'a UnixStream,
    deadline: Instant,
    /// When it is next looked at what the program uses.
    not_before: Instant,
    /// Since when the machine does not report what the program uses.
    refusing: Option<Instant>,
}

impl ProgramRun<'_> {
    /// Waits for the end of the program, until a limit is reached or vcbuild has ended.
    fn watch(&mut self, socket: &UnixStream) -> Result<Report, SetupError> {
        let pid = self.pid();
        self.group.add(pid).map_err(SetupError::on("put the program into its control group"))?;
        // Only now may it begin, at the blank: its children are in the group too.
        let mut writer = socket;
        let told = writer.write_all(b" ").and_then(|()| send(socket, self.spec));
        told.map_err(SetupError::on("tell the program's process what to do"))?;
        socket.set_read_timeout(Some(TICK)).map_err(SetupError::on("use a socket"))?;
        loop {
            match receive::<Report>(socket) {
                Ok(Some(Report::Ended { status, exceeded })) => {
                    return Ok(Report::Ended { status, exceeded: exceeded.or(self.group.exceeded()) });
                }
                Ok(Some(report)) => return Ok(report),
                // Without an init, its own end shows how the program ended.
                Ok(None) => return self.ended(),
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
                Err(error) => return Err(SetupError::on("hear of the program's end")(error)),
            }
            if let Some(exceeded) = self.exceeded()? {
                return Ok(Report::Ended { status: Signal::SIGKILL as i32, exceeded: Some(exceeded) });
            }
            if is_closed(self.asked) {
                return Err(gone());
            }
        }
    }

    /// The end of the first process, which closed its socket: it became the program, or died.
    fn ended(&mut self) -> Result<Report, SetupError> {
        loop {
            let status = match waitpid(self.pid(), Some(WaitPidFlag::WNOHANG)).map_err(SetupError::of("wait"))? {
                WaitStatus::Exited(_, code) => code << 8,
                WaitStatus::Signaled(_, signal, _) => signal as i32,
                _ => {
                    if let Some(exceeded) = self.exceeded()? {
                        return Ok(Report::Ended { status: Signal::SIGKILL as i32, exceeded: Some(exceeded) });
                    }
                    if is_closed(self.asked) {
                        return Err(gone());
                    }
                    std::thread::sleep(TICK / 10);
                    continue;
                }
            };
            return Ok(Report::Ended { status, exceeded: self.group.exceeded() });
        }
    }

    /// The limit that was met, if one was.
    fn exceeded(&mut self) -> Result<Option<ExceededLimit>, SetupError> {
        if Instant::now() >= self.deadline {
            return Ok(Some(ExceededLimit::Time));
        }
        if let Some(exceeded) = self.group.exceeded() {
            return Ok(Some(exceeded));
        }
        if Instant::now() < self.not_before {
            return Ok(None);
        }
        let begun = processor_time();
        let exceeded = self.counted()?;
        // With many processes a look takes long: it is not to take the program's own time. On a busy machine most of that is
        // waiting, which takes nobody's.
        let taken = processor_time().saturating_sub(begun);
        self.not_before = Instant::now() + (taken * SHARE).clamp(TICK / 2, LONGEST_PAUSE);
        Ok(exceeded)
    }

    /// The limit that was met, of those that no control group keeps.
    fn counted(&mut self) -> Result<Option<ExceededLimit>, SetupError> {
        let limits = &self.spec.limits;
        let memory = limits.memory.filter(|_| !self.group.limits_memory());
        let processes = limits.processes.filter(|_| !self.group.limits_processes());
        let tree = || ProcessTree::of(Pid::this());
        if memory.is_some() || processes.is_some() {
            let tree = tree().map_err(SetupError::on("count processes"))?;
            if processes.is_some_and(|limit| tree.tasks > limit) {
                return Ok(Some(ExceededLimit::Processes));
            }
            if let Some(limit) = memory {
                let used = tree.memory(limit, self.spec.confined.then(|| self.pid()));
                let used = unless_brief(used, &mut self.refusing, Instant::now());
                let used = used.map_err(SetupError::on("count the program's memory, which --max-memory limits"))?;
                if used.is_some_and(|used| used > limit) {
                    return Ok(Some(ExceededLimit::Memory));
                }
            }
        }
        let taken = self.disk.as_mut().map_or(Ok(false), |disk| disk.is_exceeded(|| tree().map(|tree| tree.pids)));
        let taken = taken.map_err(SetupError::on("measure what the program wrote, which --max-disk limits"))?;
        Ok(taken.then_some(ExceededLimit::Disk))
    }

    /// Ends everything that still runs, and removes the control group.
    fn end(&mut self) -> Result<(), SetupError> {
        let deadline = Instant::now() + PATIENCE;
        // Killing what has ended fails, and that is as good. The kernel ends all of a sandbox with its init.
        let _ = kill(self.pid(), Signal::SIGKILL);
        self.group.kill();
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Err(nix::Error::ECHILD) => break,
                Err(error) => return Err(SetupError::of("wait for the program's end")(error)),
                Ok(WaitStatus::StillAlive) => {
                    let left = ProcessTree::of(Pid::this()).map(|tree| tree.pids).unwrap_or_default();
                    for pid in left {
                        let _ = kill(pid, Signal::SIGKILL);
                    }
                    std::thread::sleep(TICK / 50);
                }
                Ok(_) => {}
            }
            if Instant::now() >= deadline {
                return Err(SetupError::on("end the program")(io::Error::from(io::ErrorKind::TimedOut)));
            }
        }
        self.group.remove(deadline).map_err(SetupError::on("remove the control group"))
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }
}

/// Goes into namespaces of its own. Of the pid namespace only children are members; the mount namespace comes later, since
/// this process still needs the machine's `/proc` and control groups.
fn separate() -> Result<(), SetupError> {
    let (user, group) = (geteuid(), getegid());
    if user.is_root() {
        // Of no use in there, and root of a container may not be allowed to.
        let _ = setgroups(&[]);
    }
    let flags = [
        CloneFlags::CLONE_NEWUSER,
        CloneFlags::CLONE_NEWPID,
        CloneFlags::CLONE_NEWNET,
        CloneFlags::CLONE_NEWIPC,
        CloneFlags::CLONE_NEWUTS,
    ];
    let flags = flags.into_iter().collect();
    unshare(flags).map_err(SetupError::of("make user, pid, network, ipc and uts namespaces"))?;
    map_user("/proc/self", (0, user.as_raw()), (0, group.as_raw())).map_err(SetupError::on("map the user"))
}

/// Says who this process is in its new user namespace: `(inside, outside)`. `process` is its folder in `/proc`.
pub(super) fn map_user(process: &str, user: (u32, u32), group: (u32, u32)) -> io::Result<()> {
    fs::write(format!("{process}/setgroups"), "deny")?;
    fs::write(format!("{process}/uid_map"), format!("{} {} 1", user.0, user.1))?;
    fs::write(format!("{process}/gid_map"), format!("{} {} 1", group.0, group.1))
}

/// Closes what whoever started vcbuild left open: through a folder's descriptor a program could leave the sandbox.
fn close_inherited() -> Result<(), SetupError> {
    let attempt = "list open files";
    let names = fs::read_dir("/proc/self/fd").map_err(SetupError::on(attempt))?;
    let numbers: Vec<i32> = names.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    // Of those above 2, the one of standard input's clone is ours and closed on exec; so are those of the listing.
    for number in numbers.into_iter().filter(|number| *number > 2) {
        let path = format!("/proc/self/fdinfo/{number}");
        let Ok(info) = fs::read_to_string(&path) else { continue };
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
        let kept_on_exec = flags.is_some_and(|flags| flags & nix::libc::O_CLOEXEC as u32 == 0);
        if kept_on_exec {
            nix::unistd::close(number).map_err(SetupError::of("close an open file"))?;
        }
    }
    Ok(())
}

/// Whether the other end is closed; nothing more is ever sent over it.
fn is_closed(mut socket: &UnixStream) -> bool {
    !matches!(socket.read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

fn gone() -> SetupError {
    SetupError::on("go on")(io::Error::other("vcbuild has ended"))
}

/// The processor time that this process has taken; none where the kernel does not report it.
fn processor_time() -> Duration {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else { return Duration::ZERO };
    let microseconds = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Duration::from_micros(u64::try_from(microseconds).unwrap_or_default())
}

/// What was counted; nothing while the machine refuses to tell, which it does `since` some time and not yet for too long.
fn unless_brief(counted: io::Result<u64>, since: &mut Option<Instant>, now: Instant) -> io::Result<Option<u64>> {
    match counted {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            if now.duration_since(*since.get_or_insert(now)) < REFUSAL { Ok(None) } else { Err(error) }
        }
        counted => {
            *since = None;
            counted.map(Some)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::time::Instant;

    use super::{REFUSAL, unless_brief};

    #[test]
    fn a_machine_may_refuse_to_tell_for_a_moment_and_no_longer() {
        let (begun, mut since) = (Instant::now(), None);
        let refused = || Err(io::Error::from(io::ErrorKind::PermissionDenied));
        assert_eq!(unless_brief(refused(), &mut since, begun).unwrap(), None);
        assert_eq!(unless_brief(Ok(7), &mut since, begun + REFUSAL).unwrap(), Some(7));
        assert_eq!(unless_brief(refused(), &mut since, begun + 2 * REFUSAL).unwrap(), None, "it begins anew");
        assert!(unless_brief(refused(), &mut since, begun + 3 * REFUSAL).is_err());
        assert!(unless_brief(Err(io::Error::other("x")), &mut since, begun).is_err());
    }
}
