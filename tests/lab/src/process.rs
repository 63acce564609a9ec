//! Processes: runs one to its end with a time limit, starts a daemon, and identifies a process so that only it is
//! killed.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use camino::Utf8Path;
use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};

use crate::error::{Error, file};

/// The interval at which a wait checks again.
pub(crate) const TICK: Duration = Duration::from_millis(20);

/// The maximum size of a log in an error, in bytes and in lines.
const TAIL_BYTES: u64 = 8 * 1024;
const TAIL_LINES: usize = 15;

/// A process, distinguishable from a later one with the same PID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Process {
    /// The PID in the machine's initial PID namespace.
    pub pid: i32,
    /// The start time, in clock ticks since boot (`/proc/PID/stat`, field 22).
    pub started: u64,
}

impl Process {
    /// Returns the process that now has this PID.
    pub(crate) fn of(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (state, started) = parse_stat(&stat)?;
        (state != 'Z' && state != 'X').then_some(Self { pid, started })
    }

    /// Whether it still runs. A zombie does not.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        Self::of(self.pid).as_ref() == Some(self)
    }

    /// Sends a signal, if the same process still runs.
    pub(crate) fn signal(&self, signal: Signal) {
        if self.is_alive()
            && let Some(pid) = Pid::from_raw(self.pid)
        {
            // It may end between the check and the signal: then there is nothing to do.
            let _ = rustix::process::kill_process(pid, signal);
        }
    }
}

/// Parses the state and start time in `/proc/PID/stat`, whose second field may contain spaces and parentheses.
fn parse_stat(stat: &str) -> Option<(char, u64)> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let started = fields.nth(18)?.parse().ok()?;
    Some((state, started))
}

/// The exit status and output of a program.
#[derive(Debug, Clone)]
pub struct Finished {
    /// Its exit status.
    pub status: ExitStatus,
    /// Its stdout, decoded as UTF-8.
    pub stdout: String,
    /// Its stderr, decoded as UTF-8.
    pub stderr: String,
}

impl Finished {
    /// Returns its stdout if it exited with 0.
    ///
    /// # Errors
    /// Returns [`Error::Command`] with `what` and the end of its stderr otherwise.
    pub fn success(self, what: impl Into<String>) -> Result<String, Error> {
        if self.status.success() {
            return Ok(self.stdout);
        }
        let said = if self.stderr.trim().is_empty() { &self.stdout } else { &self.stderr };
        Err(Error::Command { what: what.into(), detail: format!("{}: {}", self.status, last_lines(said)) })
    }
}

/// Runs a program to its end with `input` as its stdin; kills it after `limit`.
pub(crate) fn run(command: &mut Command, input: &[u8], limit: Duration) -> Result<Finished, Error> {
    let program = command.get_program().to_string_lossy().into_owned();
    let start = |source| Error::Start { program: program.clone(), source };
    // A separate process group, so that descendants end with the program and cannot hold the pipes open.
    command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(start)?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    thread::scope(|scope| {
        scope.spawn(move || {
            // A program that ends before it has read everything reports the reason itself.
            let _ = stdin.map(|mut pipe| pipe.write_all(input));
        });
        let stdout = scope.spawn(move || read_all(stdout));
        let stderr = scope.spawn(move || read_all(stderr));
        let status = wait(&mut child, limit).map_err(start)?;
        let stdout = stdout.join().unwrap_or_default();
        let mut stderr = stderr.join().unwrap_or_default();
        if status.1 {
            stderr += &format!("\nkilled after {} s", limit.as_secs());
        }
        Ok(Finished { status: status.0, stdout, stderr })
    })
}

/// Waits for a child. Returns its status, and whether it had to be killed.
fn wait(child: &mut Child, limit: Duration) -> std::io::Result<(ExitStatus, bool)> {
    let deadline = Instant::now() + limit;
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok((status, false));
        }
        if Instant::now() >= deadline {
            if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
                // The leader is not reaped yet, so the group id has not been reused.
                let _ = rustix::process::kill_process_group(group, Signal::KILL);
            }
            return Ok((child.wait()?, true));
        }
        thread::sleep(pause);
        pause = (pause * 2).min(TICK);
    }
}

fn read_all(pipe: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        // The bytes before a read error are still useful.
        let _ = pipe.read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Starts a daemon, with stdout and stderr appended to the file `log`.
pub(crate) fn start(command: &mut Command, log: &Utf8Path) -> Result<Child, Error> {
    let out = File::options().create(true).append(true).open(log).map_err(file("opening", log))?;
    let err = out.try_clone().map_err(file("opening", log))?;
    let program = command.get_program().to_string_lossy().into_owned();
    let started = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn();
    started.map_err(|source| Error::Start { program, source })
}

/// Returns the last lines of a log file for an error, or a message if there is none.
pub(crate) fn tail(log: &Utf8Path) -> String {
    let read = || -> std::io::Result<String> {
        use std::io::Seek;
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(std::io::SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    match read() {
        Ok(text) if text.trim().is_empty() => "(the log is empty)".to_owned(),
        Ok(text) => last_lines(&text),
        Err(error) => format!("(the log cannot be read: {error})"),
    }
}

/// Returns the last lines of a text.
pub(crate) fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.trim().lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

/// Returns a time limit of `seconds`, multiplied by `VCLAB_PATIENCE` for slow or busy machines.
pub(crate) fn patience(seconds: u64) -> Duration {
    let factor = std::env::var("VCLAB_PATIENCE").ok().and_then(|text| text.parse::<u64>().ok()).unwrap_or(1);
    Duration::from_secs(seconds.saturating_mul(factor.clamp(1, 100)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_does_not_shift_the_fields() {
        let stat = "42 (a) b (c)) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 123456 9 9";
        assert_eq!(parse_stat(stat), Some(('S', 123_456)));
        assert_eq!(parse_stat("42 (cut"), None);
    }

    #[test]
    fn a_reused_number_is_another_process() {
        let mut me = Process::of(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(me.is_alive());
        me.started += 1;
        assert!(!me.is_alive());
        me.signal(Signal::KILL); // would end this test if it were sent
    }

    #[test]
    fn a_program_is_fed_heard_and_killed_when_its_time_is_over() {
        let done = run(Command::new("cat").arg("-"), b"words", Duration::from_secs(10)).unwrap();
        assert_eq!(done.success("echoing").unwrap(), "words");
        let slow = run(Command::new("sleep").arg("60"), b"", Duration::from_millis(100)).unwrap();
        let error = slow.success("sleeping").unwrap_err().to_string();
        assert!(error.contains("signal: 9") && error.contains("killed after 0 s"), "{error}");
        let missing = run(&mut Command::new("/nonexistent"), b"", Duration::from_secs(1)).unwrap_err();
        assert_eq!(missing.to_string(), "starting /nonexistent");
    }

    #[test]
    fn a_tail_is_the_end_and_only_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let log = Utf8Path::from_path(folder.path()).unwrap().join("log");
        assert!(tail(&log).contains("cannot be read"));
        let lines: Vec<String> = (0..5000).map(|n| format!("line {n}")).collect();
        fs::write(&log, lines.join("\n")).unwrap();
        let shown = tail(&log);
        assert!(shown.ends_with("line 4999") && shown.starts_with("line 4985"), "{shown}");
    }
}
