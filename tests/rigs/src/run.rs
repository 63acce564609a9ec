//! Programs that are run to their ends.

use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// How a program ended, and what it wrote.
#[derive(Debug)]
pub struct Run {
    /// Its exit code; none where a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Run {
    /// Runs a program without standard input.
    ///
    /// # Panics
    /// When it cannot be started, or writes anything but UTF-8.
    #[track_caller]
    pub fn of(command: &mut Command) -> Self {
        Self::with_stdin(command.stdin(Stdio::null()))
    }

    /// Runs a program with the standard input that it was given.
    ///
    /// # Panics
    /// As [`Run::of`].
    #[track_caller]
    pub fn with_stdin(command: &mut Command) -> Self {
        let output = command.output();
        output.unwrap_or_else(|error| panic!("starting {command:?}: {error}")).into()
    }

    /// Checks that it succeeded.
    #[track_caller]
    pub fn succeeded(&self) -> &Self {
        self.ended(0)
    }

    /// Checks that it ended with this exit code.
    #[track_caller]
    pub fn ended(&self, code: i32) -> &Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// What it printed; it must have succeeded.
    #[track_caller]
    pub fn printed(self) -> String {
        self.succeeded();
        self.stdout
    }

    /// The JSON document that it printed; it must have succeeded.
    #[track_caller]
    pub fn json(&self) -> Value {
        self.json_and(0)
    }

    /// The JSON document that it printed; it must have ended with this exit code.
    #[track_caller]
    pub fn json_and(&self, code: i32) -> Value {
        self.ended(code);
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in:\n{}", self.stdout))
    }

    /// Checks that nothing on standard error is of a panic: neither of its own, nor of a program that it ran.
    #[track_caller]
    pub fn without_panic(&self) -> &Self {
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        self
    }

    /// Checks that it ended with this exit code, and wrote each of these to standard error.
    #[track_caller]
    pub fn refused(&self, code: i32, messages: &[&str]) {
        self.ended(code);
        for message in messages {
            assert!(self.stderr.contains(message), "{message:?} is not in\n{}", self.stderr);
        }
    }

    /// The same, and that it printed nothing.
    #[track_caller]
    pub fn failed(&self, code: i32, messages: &[&str]) {
        self.refused(code, messages);
        assert_eq!(self.stdout, "");
    }
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}
