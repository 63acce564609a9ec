//! Processes: a guard that ends one with its test, and processes found by what the kernel says of them.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use crate::wait;

/// How long a process may take to end by itself when it is asked to.
const ENDS_WITHIN: Duration = Duration::from_secs(10);

/// A process that ends when this is dropped: asked first, killed after a bounded time.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    ends_within: Duration,
}

impl Daemon {
    /// Starts a program.
    ///
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    pub fn start(command: &mut Command) -> Self {
        let program = command.get_program().to_string_lossy().into_owned();
        command.spawn().map_or_else(|error| panic!("starting {program}: {error}"), Self::from)
    }

    /// Lets it take longer to end than others.
    #[must_use]
    pub fn ending_within(mut self, limit: Duration) -> Self {
        self.ends_within = limit;
        self
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Has it read its configuration again, and waits until its log has said so once more.
    pub fn reload(&self, log: impl AsRef<Path>, message: &str) {
        let count = || fs::read_to_string(&log).unwrap().matches(message).count();
        let before = count();
        send("HUP", &self.id().to_string());
        let limit = Duration::from_secs(20);
        wait::until_within(limit, || count() > before, || "it reads its configuration again".to_owned());
    }

    /// Kills it, and waits for its end.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// The same, and kills the processes that it started itself.
    pub fn kill_with_children(&mut self) {
        let children = children(self.id());
        self.kill();
        children.into_iter().for_each(|child| signal(child, "KILL"));
    }

    /// Asks it to end, and kills it if it does not.
    pub fn end(&mut self) {
        // A process that was waited for has no number any more.
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        signal(self.id(), "TERM");
        let deadline = Instant::now() + self.ends_within;
        while Instant::now() < deadline && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(20));
        }
        // It may have ended at the last moment.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl From<Child> for Daemon {
    fn from(child: Child) -> Self {
        Self { child, ends_within: ENDS_WITHIN }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.end();
    }
}

/// The children of a process, as of now.
#[must_use]
pub fn children(parent: u32) -> Vec<u32> {
    all().filter(|id| status(*id, "PPid:").is_some_and(|id| id == parent.to_string())).collect()
}

/// The processes whose program is below `folder`.
#[must_use]
pub fn of_programs_in(folder: impl AsRef<Path>) -> Vec<u32> {
    let is_below = |id: &u32| fs::read_link(format!("/proc/{id}/exe")).is_ok_and(|exe| exe.starts_with(&folder));
    all().filter(is_below).collect()
}

/// The processes that were started with this argument.
#[must_use]
pub fn with_argument(argument: &str) -> Vec<u32> {
    all().filter(|id| has_argument(*id, argument)).collect()
}

/// Whether a process was started with this argument.
#[must_use]
pub fn has_argument(id: u32, argument: &str) -> bool {
    let line = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0).any(|one| one == argument.as_bytes())
}

/// An amount of memory of a process, in bytes, by its name in `/proc/PID/status` (proc_pid_status(5)): `VmHWM`, `RssAnon`; nothing
/// when the process has ended.
#[must_use]
pub fn memory(id: u32, name: &str) -> Option<u64> {
    let amount = status(id, &format!("{name}:"))?;
    amount.trim_end_matches(" kB").parse::<u64>().ok().map(|kib| kib << 10)
}

/// Sends a process a signal, by its name without `SIG`. It may have ended by itself.
pub fn signal(id: u32, name: &str) {
    let _ = Command::new("kill").args(["-s", name, &id.to_string()]).output().unwrap();
}

/// Sends all processes of a group a signal, as a terminal does.
pub fn signal_group(id: u32, name: &str) {
    send(name, &format!("-{id}"));
}

fn send(name: &str, to: &str) {
    assert!(Command::new("kill").args(["-s", name, "--", to]).status().unwrap().success(), "{name} to {to}");
}

fn status(id: u32, name: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned())
}

fn all() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::time::Duration;

    use super::{Daemon, has_argument, memory, with_argument};
    use crate::wait;

    #[test]
    fn a_daemon_ends_with_its_guard_also_where_it_heeds_no_signal() {
        let mark = format!("{}.17", 7_000 + std::process::id());
        for script in ["exec sleep \"$1\"", "trap '' TERM; sleep \"$1\" & wait $!; wait $!"] {
            let mut command = Command::new("sh");
            command.args(["-c", script, "sh", &mark]).stdin(Stdio::null());
            let daemon = Daemon::start(&mut command).ending_within(Duration::from_millis(300));
            let id = daemon.id();
            wait::until("its sleep", || with_argument("sleep").into_iter().any(|id| has_argument(id, &mark)));
            drop(daemon);
            assert!(memory(id, "VmHWM").is_none(), "{script}");
            super::with_argument(&mark).into_iter().for_each(|left| super::signal(left, "KILL"));
        }
    }

    #[test]
    fn a_daemon_that_was_killed_is_sent_nothing_more() {
        let mut daemon = Daemon::start(Command::new("sleep").arg("600"));
        daemon.kill();
        assert!(daemon.ended().is_some());
    }
}
