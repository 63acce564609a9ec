//! One connection to a build host: the system's ssh, with this program at the other end.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use vcremote::options;
use vcremote::script::line_before;
use vcstore::Blob;
use vcstore::path_variable;

use super::super::Mode;
use super::address::Address;
use super::error::Error;
use super::place::{Answer, program, script};
use super::protocol::{self, Hello, Open};

/// The time limit for establishing a connection, and the interval of keep-alive messages.
const CONNECT_SECONDS: u32 = 20;
const ALIVE_SECONDS: u32 = 15;

/// The maximum output of a login script, and the maximum size of the kept standard error of ssh.
const NOISE_LIMIT: u64 = 64 << 10;
const STDERR_LIMIT: usize = 4 << 10;

/// The time limit for ssh to end after its connection.
const PATIENCE: Duration = Duration::from_secs(5);

/// The buffer size for reading and writing, in bytes.
const PIECE: usize = 256 << 10;

/// A connection that is ready for a step.
#[derive(Debug)]
pub(crate) struct BuildHostSession {
    process: Child,
    pub(super) to: BufWriter<ChildStdin>,
    pub(super) from: BufReader<ChildStdout>,
    stderr: Arc<Mutex<Vec<u8>>>,
    /// Ends with ssh's standard error, which a shared connection may keep open.
    listener: JoinHandle<()>,
    /// The folder that serves as `/` for unconfined steps.
    place: String,
    address: Address,
}

impl BuildHostSession {
    /// Connects, sends this program if it is not present yet, and starts it.
    pub(super) fn begin(address: &Address, mode: Mode) -> Result<(Self, Hello), Error> {
        let (file, blob) = program()?;
        let start = |error: io::Error| connect(address, &format!("running ssh: {error}"));
        let script = script(address, blob);
        let mut process = command(address, &line_before(&script)).spawn().map_err(start)?;
        let (Some(to), Some(from), Some(said)) = (process.stdin.take(), process.stdout.take(), process.stderr.take())
        else {
            return Err(connect(address, "ssh has no standard input and output"));
        };
        let stderr = Arc::new(Mutex::new(Vec::new()));
        let listener = std::thread::spawn({
            let stderr = Arc::clone(&stderr);
            move || listen(said, &stderr)
        });
        let (to, from) = (BufWriter::with_capacity(PIECE, to), BufReader::with_capacity(PIECE, from));
        let mut session = Self { process, to, from, stderr, listener, place: String::new(), address: address.clone() };
        // If the connection is already broken, reading the answer reports it.
        let _ = session.to.write_all(script.as_bytes()).and_then(|()| session.to.flush());
        session.start(address, &file, blob)?;
        let hello = protocol::send(&mut session.to, &Open { mode }).and_then(|()| protocol::receive(&mut session.from));
        let hello: Hello = hello.map_err(|error| session.cannot_run(address, &error.to_string()))?;
        if let Some(why) = hello.refusal {
            return Err(Error::Sandbox { address: address.to_string(), why });
        }
        session.place.clone_from(&hello.place);
        Ok((session, hello))
    }

    /// The folder that serves as `/` for an unconfined step.
    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    /// The address of the build host.
    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// Starts this program on the build host.
    fn start(&mut self, address: &Address, file: &File, blob: Blob) -> Result<(), Error> {
        let mut sent = false;
        let mut seen = 0;
        while seen < NOISE_LIMIT {
            let mut line = Vec::new();
            let read = (&mut self.from).take(NOISE_LIMIT).read_until(b'\n', &mut line);
            if !matches!(read, Ok(count) if count > 0) {
                // If the program was sent, its failure ended the connection; otherwise, the connection itself failed.
                let why = self.ended("the connection ended");
                return Err(if sent { cannot_run(address, why) } else { connect(address, &why) });
            }
            seen += line.len() as u64;
            let address = || address.to_string();
            match Answer::parse(&String::from_utf8_lossy(&line)) {
                Some(Answer::Ready) => return Ok(()),
                Some(Answer::Need) if !sent => {
                    sent = true;
                    let copied = io::copy(&mut file.take(blob.size), &mut self.to);
                    if copied.and_then(|_| self.to.flush()).is_err() {
                        return Err(Error::CannotRun {
                            address: address(),
                            why: self.ended("the build host did not accept it"),
                        });
                    }
                }
                Some(Answer::Machine(machine)) => return Err(Error::Machine { address: address(), machine }),
                Some(Answer::Nowhere(why)) => return Err(Error::Folder { address: address(), why: self.ended(&why) }),
                Some(Answer::Need | Answer::Damaged) => {
                    return Err(Error::CannotRun { address: address(), why: self.ended("it arrived incomplete") });
                }
                None => {}
            }
        }
        Err(connect(address, "its login script prints too much output"))
    }

    /// Returns why a step failed, including ssh's output.
    pub(super) fn failed(&mut self, address: &Address, why: &str) -> String {
        format!("using build host {address}: {}", self.ended(why))
    }

    fn cannot_run(&mut self, address: &Address, why: &str) -> Error {
        cannot_run(address, self.ended(why))
    }

    /// Ends the connection. Returns the reason with the last output of the other side.
    fn ended(&mut self, why: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        while matches!(self.process.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        self.end();
        while !self.listener.is_finished() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        let stderr = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
        let stderr = String::from_utf8_lossy(&stderr);
        let stderr = stderr.trim().lines().collect::<Vec<_>>().join("; ");
        let stderr: String = stderr.chars().filter(|letter| !letter.is_control()).collect();
        if stderr.is_empty() { why.to_owned() } else { format!("{why}: {stderr}") }
    }

    fn end(&mut self) {
        // Killing a process that has ended fails, which does not matter.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for BuildHostSession {
    fn drop(&mut self) {
        self.end();
    }
}

fn command(address: &Address, line: &str) -> Command {
    let mut command = Command::new("ssh");
    command.args(options::arguments(options::must()));
    command.args(["-o", &format!("ConnectTimeout={CONNECT_SECONDS}")]);
    command.args(["-o", &format!("ServerAliveInterval={ALIVE_SECONDS}")]);
    if let Some(file) = path_variable("VCBUILD_SSH_CONFIG") {
        command.args(["-F", file.as_str()]);
    }
    if let Some(user) = &address.user {
        command.args(["-l", user]);
    }
    if let Some(port) = address.port {
        command.args(["-p", &port.to_string()]);
    }
    command.args(["--", &address.host, line]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Keeps the end of a stream.
fn listen(mut said: impl Read, stderr: &Mutex<Vec<u8>>) {
    let mut piece = [0; 1024];
    while let Ok(count @ 1..) = said.read(&mut piece) {
        let mut stderr = stderr.lock().unwrap_or_else(PoisonError::into_inner);
        stderr.extend_from_slice(&piece[..count]);
        let over = stderr.len().saturating_sub(STDERR_LIMIT);
        stderr.drain(..over);
    }
}

fn connect(address: &Address, why: &str) -> Error {
    Error::Connect { address: address.to_string(), host: address.host.clone(), why: why.to_owned() }
}

fn cannot_run(address: &Address, why: String) -> Error {
    Error::CannotRun { address: address.to_string(), why }
}
