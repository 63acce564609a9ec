//! The process outside of the sandbox: it creates the namespaces, starts the program, stops it at its limits, and
//! cleans up.

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

/// The interval at which limits are checked.
const TICK: Duration = Duration::from_millis(50);

/// The minimum ratio of the pause between checks to the CPU time of a check,
const SHARE: u32 = 20;

/// bounded by this pause, because usage between two checks is not noticed.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// How many tasks above its limit a program may have before this is noticed.
const MARGIN: u64 = 64;

/// How long the kernel may refuse to report the usage of a process. It refuses for each process of a sandbox between
/// the change of its user and the start of its program, which may take a while on a busy machine.
const REFUSAL: Duration = Duration::from_secs(5);

/// The time limit for killed processes to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs the requested program and reports its end.
pub(super) fn supervise(asked: &UnixStream) -> Result<Report, SetupError> {
    close_inherited()?;
    let mut spec: Spec = receive(asked).map_err(SetupError::on("read what to run"))?.ok_or_else(gone)?;
    asked.set_nonblocking(true).map_err(SetupError::on("use standard input"))?;
    let group = Group::make(&spec.limits);
    if let Some(limit) = spec.limits.processes.filter(|_| !group.limits_processes()) {
        // Kernels before 5.14 count all processes of the user on the machine, so the limit is set high and stops only a
        // fork bomb.
        let others = usage::tasks().map_err(SetupError::on("count processes"))?;
        spec.most_tasks = Some(limit.saturating_add(others).saturating_add(MARGIN));
    }
    if spec.confined {
        separate()?;
    } else {
        // Orphans of the program become children of this process, which ends them.
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
    /// The time of the next check of the program's usage.
    not_before: Instant,
    /// Since when the kernel refuses to report the program's usage.
    refusing: Option<Instant>,
}

impl ProgramRun<'_> {
    /// Waits until the program ends, a limit is reached, or vcbuild has ended.
    fn watch(&mut self, socket: &UnixStream) -> Result<Report, SetupError> {
        let pid = self.pid();
        self.group.add(pid).map_err(SetupError::on("put the program into its control group"))?;
        // The blank lets the program begin, now that its children will be in the group too.
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
                // Without an init, the exit status of the process is the result.
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

    /// Waits for the first process, which closed its socket because it executed the program or died.
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

    /// Returns the limit that was reached, if any.
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
        // With many processes, a check takes long and must not use the program's CPU time. On a busy machine, most of
        // the elapsed time is waiting, so CPU time is measured.
        let taken = processor_time().saturating_sub(begun);
        self.not_before = Instant::now() + (taken * SHARE).clamp(TICK / 2, LONGEST_PAUSE);
        Ok(exceeded)
    }

    /// Returns the limit that was reached, of those that no control group enforces.
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

    /// Ends all remaining processes, and removes the control group.
    fn end(&mut self) -> Result<(), SetupError> {
        let deadline = Instant::now() + PATIENCE;
        // Killing a process that has ended fails, which does not matter. The kernel ends all processes of a sandbox
        // with its init.
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

/// Enters new namespaces. Only children become members of the pid namespace; the mount namespace is created later,
/// because this process still needs the machine's `/proc` and control groups.
fn separate() -> Result<(), SetupError> {
    let (user, group) = (geteuid(), getegid());
    if user.is_root() {
        // Supplementary groups are useless inside, and root in a container may not be permitted to drop them.
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

/// Maps the user and group of a process into its new user namespace: `(inside, outside)`. `process` is its folder in
/// `/proc`.
pub(super) fn map_user(process: &str, user: (u32, u32), group: (u32, u32)) -> io::Result<()> {
    fs::write(format!("{process}/setgroups"), "deny")?;
    fs::write(format!("{process}/uid_map"), format!("{} {} 1", user.0, user.1))?;
    fs::write(format!("{process}/gid_map"), format!("{} {} 1", group.0, group.1))
}

/// Closes inherited file descriptors: a program could leave the sandbox through the descriptor of a folder.
fn close_inherited() -> Result<(), SetupError> {
    let attempt = "list open files";
    let names = fs::read_dir("/proc/self/fd").map_err(SetupError::on(attempt))?;
    let numbers: Vec<i32> = names.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    // Above 2, the clone of standard input belongs to this process and is closed on exec; so are the descriptors of the
    // listing.
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

/// Whether the other end is closed; no further data is ever sent over it.
fn is_closed(mut socket: &UnixStream) -> bool {
    !matches!(socket.read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

fn gone() -> SetupError {
    SetupError::on("go on")(io::Error::other("vcbuild has ended"))
}

/// Returns the CPU time of this process, or zero if the kernel does not report it.
fn processor_time() -> Duration {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else { return Duration::ZERO };
    let microseconds = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Duration::from_micros(u64::try_from(microseconds).unwrap_or_default())
}

/// Returns the measured value, or `None` while the kernel has refused to report it since `since` and not yet for too
/// long.
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
