//! Runs other programs with limits on their time and their captured output, and always waits for them.

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};
use std::{fmt, io};

use vcstore::{FULL_DISK, is_full_disk};

use crate::UndeclaredAccess;

/// The maximum size of the kept standard error, in bytes: enough for the messages of any compiler.
const STDERR_LIMIT: usize = 256 << 10;

/// The maximum size of a captured standard output, in bytes: more than any captured program writes.
pub const OUTPUT_LIMIT: usize = 256 << 20;

/// The standard output of a program that succeeded.
pub type Output = Vec<u8>;

/// Whether standard error reports a full disk, in the wording of the C library or Go.
fn says_full_disk(stderr: &str) -> bool {
    let stderr = stderr.to_ascii_lowercase();
    ["no space left on device", "disk quota exceeded"].iter().any(|known| stderr.contains(known))
}

/// Why a program failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The program does not exist or may not be executed.
    #[error("{program} cannot be run")]
    Start {
        /// The program.
        program: String,
        /// The cause.
        source: io::Error,
    },
    /// The program ended with an error.
    #[error("{}", said(program, *status, stderr))]
    Exit {
        /// The program.
        program: String,
        /// The exit status.
        status: ExitStatus,
        /// Its standard error.
        stderr: String,
        /// The undeclared resources that its standard error names.
        undeclared: Vec<UndeclaredAccess>,
    },
    /// The program exceeded a limit and was stopped.
    #[error("{program} was stopped: {limit}{}", after(stderr))]
    Limit {
        /// The program.
        program: String,
        /// The limit, as a sentence without its subject.
        limit: String,
        /// The option that sets the limit, without its dashes.
        option: &'static str,
        /// Its standard error.
        stderr: String,
    },
    /// The program exceeded its time limit and was stopped.
    #[error("{program} was stopped after {} s", limit.as_secs())]
    Timeout {
        /// The program.
        program: String,
        /// The time limit.
        limit: Duration,
    },
    /// The program wrote more than the maximum output.
    #[error("{program} wrote more than {} to standard output", vcterminal::bytes(*limit as u64))]
    Long {
        /// The program.
        program: String,
        /// The maximum output in bytes.
        limit: usize,
    },
    /// Another failure, with its message.
    #[error("{0}")]
    Other(String),
    /// Its output could not be read.
    #[error("reading the output of {program}")]
    Read {
        /// The program.
        program: String,
        /// The cause.
        source: io::Error,
    },
}

impl Failure {
    /// Whether the program is not installed.
    pub fn is_missing_program(&self) -> bool {
        matches!(self, Self::Start { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// The standard error of the program, if it ended with an error.
    pub fn stderr(&self) -> Option<&str> {
        match self {
            Self::Exit { stderr, .. } => Some(stderr),
            _ => None,
        }
    }

    /// Applies `change` to the standard error, if the program ended with an error.
    #[must_use]
    pub fn map_stderr(self, change: impl FnOnce(String) -> String) -> Self {
        match self {
            Self::Exit { program, status, stderr, undeclared } => {
                Self::Exit { program, status, stderr: change(stderr), undeclared }
            }
            other => other,
        }
    }

    /// Returns advice that applies regardless of the purpose of the program, if there is any.
    pub fn advice(&self) -> Option<String> {
        match self {
            Self::Exit { stderr, .. } if says_full_disk(stderr) => Some(FULL_DISK.to_owned()),
            Self::Read { source, .. } if is_full_disk(source) => Some(FULL_DISK.to_owned()),
            Self::Exit { undeclared, .. } if !undeclared.is_empty() => {
                let undeclared: Vec<_> = undeclared.iter().map(ToString::to_string).collect();
                Some(format!(
                    "the program runs in a sandbox that contains only declared inputs, and its standard error names {}: \
                     declare it as an input, or change the build so that it does not need it (--sandbox off shows whether \
                     this is the cause)",
                    undeclared.join(", ")
                ))
            }
            Self::Exit { status, stderr, .. } if made_foreign_call(*status, stderr) => Some(
                "the program, or one that it started, made a system call of another instruction set, as 32-bit programs \
                 do, which the sandbox forbids: change the build so that it does not need it, or build with --sandbox \
                 off, which is recorded"
                    .to_owned(),
            ),
            Self::Limit { option, .. } => Some(format!(
                "if the program needs more, raise the limit with --{option}, or `{option}` in [sandbox] of the user's settings"
            )),
            _ => None,
        }
    }
}

/// Whether the program, or one that its shell started and reported, was ended for a forbidden system call.
fn made_foreign_call(status: ExitStatus, stderr: &str) -> bool {
    status.signal() == Some(nix::libc::SIGSYS)
        || status.code() == Some(128 + nix::libc::SIGSYS)
        || stderr.contains("Bad system call")
}

/// A program that ended, with success or failure.
#[derive(Debug)]
pub struct Ended {
    /// The exit status.
    pub status: ExitStatus,
    /// Its standard output.
    pub output: Output,
    /// Its standard error, up to the maximum.
    pub stderr: String,
    /// Whether its standard output exceeded the maximum.
    cut: bool,
}

/// Runs `command` without standard input, for at most `limit`. Returns its standard output.
///
/// # Errors
/// Returns an error if the program cannot be run, exceeds its time limit, or ends with an exit status other than 0.
pub fn run(command: &mut Command, limit: Duration) -> Result<Output, Failure> {
    let program = command.get_program().to_string_lossy().into_owned();
    // Logs only the arguments, because the environment may contain secrets, such as in the address of a proxy.
    tracing::debug!(program, arguments = ?command.get_args(), "running");
    let command = command.stdin(Stdio::null());
    let Ended { status, output, stderr, .. } = run_to_end(command, &program, limit, Some(OUTPUT_LIMIT), || Ok(()))?;
    if status.success() { Ok(output) } else { Err(Failure::Exit { program, status, stderr, undeclared: Vec::new() }) }
}

/// Runs `command` to its end, with any exit status, for at most `limit`. `most` is the maximum size of its standard
/// output, which is discarded if `most` is `None`. Calls `started` once when the program runs.
///
/// # Errors
/// Returns an error if the program cannot be run, exceeds its time limit, or writes too much output.
pub fn run_to_end(
    command: &mut Command,
    program: &str,
    limit: Duration,
    most: Option<usize>,
    started: impl FnOnce() -> io::Result<()>,
) -> Result<Ended, Failure> {
    let program = program.to_owned();
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|source| Failure::Start { program: program.clone(), source })?;
    let deadline = Instant::now() + limit;
    let ended = started().and_then(|()| communicate(&mut child, deadline, most.unwrap_or_default()));
    if !matches!(ended, Ok(Some(_))) {
        // Killing a program that has just ended fails, which does not matter.
        let _ = child.kill();
        let _ = child.wait();
    }
    match ended {
        Ok(Some(ended)) => match most {
            Some(limit) if ended.cut => Err(Failure::Long { program, limit }),
            _ => Ok(ended),
        },
        Ok(None) => Err(Failure::Timeout { program, limit }),
        Err(source) => Err(Failure::Read { program, source }),
    }
}

/// Reads both streams to their ends and waits for the program. Returns `None` if the deadline passes first.
fn communicate(child: &mut Child, deadline: Instant, most: usize) -> io::Result<Option<Ended>> {
    let (sender, receiver) = mpsc::channel();
    let stdout = read(child.stdout.take(), most, sender.clone());
    let stderr = read(child.stderr.take(), STDERR_LIMIT, sender);
    for _ in 0..2 {
        if receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_err() {
            return Ok(None);
        }
    }
    let join = |reader: thread::JoinHandle<io::Result<(Vec<u8>, u64)>>| {
        reader.join().unwrap_or_else(|_| Err(io::Error::other("the reading thread failed")))
    };
    let ((output, dropped), (stderr, _)) = (join(stdout)?, join(stderr)?);
    let (stderr, cut) = (String::from_utf8_lossy(&stderr).into_owned(), dropped > 0);
    // Both streams are closed. The program is about to end, or closed them itself and may use the rest of its time.
    let mut pause = Duration::from_micros(200);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(Ended { status, output, stderr, cut }));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// Reads a stream to its end on a separate thread, keeps its first `limit` bytes, counts the others, and notifies
/// `done` at the end.
fn read(
    stream: Option<impl Read + Send + 'static>,
    limit: usize,
    done: mpsc::Sender<()>,
) -> thread::JoinHandle<io::Result<(Vec<u8>, u64)>> {
    thread::spawn(move || {
        let mut kept = Vec::new();
        let result = stream.map_or(Ok(0), |mut stream| {
            stream.by_ref().take(limit as u64).read_to_end(&mut kept)?;
            io::copy(&mut stream, &mut io::sink())
        });
        // After a timeout, the receiver is gone.
        let _ = done.send(());
        result.map(|dropped| (kept, dropped))
    })
}

/// Formats the standard error of a stopped program.
fn after(stderr: &str) -> String {
    match stderr.trim() {
        "" => String::new(),
        stderr => format!("; its standard error was:\n{stderr}"),
    }
}

fn said(program: &str, status: ExitStatus, stderr: &str) -> impl fmt::Display {
    match stderr.trim() {
        "" => format!("{program} ended with {status} and an empty standard error"),
        stderr => stderr.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::{Duration, Instant};

    use super::{Failure, run, run_to_end};

    fn sh(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn output_and_words_are_kept_apart() {
        assert_eq!(run(&mut sh("echo out; echo err >&2"), Duration::from_secs(10)).unwrap(), b"out\n");
        let failure = run(&mut sh("echo out; echo err >&2; exit 3"), Duration::from_secs(10)).unwrap_err();
        assert_eq!(failure.to_string(), "err");
        let silent = run(&mut sh("exit 3"), Duration::from_secs(10)).unwrap_err();
        assert_eq!(silent.to_string(), "sh ended with exit status: 3 and an empty standard error");
    }

    #[test]
    fn more_output_than_a_pipe_holds_is_read_and_too_many_words_are_cut() {
        let script = "head -c 1000000 /dev/zero; head -c 1000000 /dev/zero >&2; exit 1";
        let Err(Failure::Exit { stderr, .. }) = run(&mut sh(script), Duration::from_secs(10)) else {
            panic!("must fail");
        };
        assert_eq!(stderr.len(), super::STDERR_LIMIT);
    }

    #[test]
    fn output_is_kept_as_far_as_it_is_wanted_and_the_program_ends_by_itself() {
        let run = |most| {
            let ended = run_to_end(
                &mut sh("head -c 300000 /dev/zero; echo end >&2"),
                "head",
                Duration::from_secs(10),
                most,
                || Ok(()),
            );
            ended.map(|ended| (ended.output.len(), ended.status.success(), ended.stderr))
        };
        assert_eq!(run(Some(300_000)).unwrap(), (300_000, true, "end\n".to_owned()));
        assert_eq!(run(None).unwrap(), (0, true, "end\n".to_owned()));
        assert_eq!(run(Some(250_000)).unwrap_err().to_string(), "head wrote more than 250 kB to standard output");
    }

    #[test]
    fn what_takes_too_long_is_stopped_and_what_is_absent_is_said_so() {
        let start = Instant::now();
        let failure = run(&mut sh("exec sleep 60"), Duration::from_millis(100)).unwrap_err();
        assert!(matches!(failure, Failure::Timeout { .. }), "{failure}");
        assert!(start.elapsed() < Duration::from_secs(30));
        let failure = run(&mut Command::new("vcbuild-no-such-program"), Duration::from_secs(1)).unwrap_err();
        assert!(failure.is_missing_program());
    }
}
