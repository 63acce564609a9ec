//! What a build tells while it runs, and the count of its actions: every action is realised through here.

use std::io::{self, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;
use vcstore::{Action, Outputs, Store};

use crate::Error;

/// Realises actions, says on standard error which ones ran and how long they took, and counts them.
#[derive(Debug)]
pub(crate) struct Progress {
    start: Instant,
    run: AtomicUsize,
    reused: AtomicUsize,
}

/// How many actions a build had, how many of them ran, and for how many the store had the outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Actions {
    pub(crate) total: usize,
    pub(crate) run: usize,
    pub(crate) reused: usize,
}

impl Progress {
    /// Begins to count and to measure.
    pub(crate) fn start() -> Self {
        Self { start: Instant::now(), run: AtomicUsize::new(0), reused: AtomicUsize::new(0) }
    }

    /// The outputs of `action`, by `run` when the store lacks them.
    ///
    /// # Errors
    /// Whatever `run` fails with, or when the store cannot be used.
    pub(crate) fn realise(
        &self,
        store: &Store,
        action: &Action,
        run: impl FnOnce() -> Result<Outputs, Error>,
    ) -> Result<Outputs, Error> {
        let start = Instant::now();
        let realised = store.realise(action, run)?;
        if realised.ran {
            self.ran(action.kind(), action.name(), start.elapsed());
        } else {
            self.reused(action.kind(), action.name());
        }
        Ok(realised.outputs)
    }

    /// Counts an action that ran.
    pub(crate) fn ran(&self, kind: &str, name: &str, took: Duration) {
        self.run.fetch_add(1, Ordering::Relaxed);
        self.say(&format!("{kind:<8}{name}  {}", vcterminal::seconds(took)));
    }

    /// Counts an action whose outputs were there.
    pub(crate) fn reused(&self, kind: &str, name: &str) {
        self.reused.fetch_add(1, Ordering::Relaxed);
        tracing::info!("{kind} {name}: reused");
    }

    /// Prints one line on standard error.
    pub(crate) fn say(&self, line: &str) {
        // Who closed standard error does not want to be told.
        let _ = writeln!(io::stderr(), "{line}");
    }

    /// The count so far.
    pub(crate) fn actions(&self) -> Actions {
        let (run, reused) = (self.run.load(Ordering::Relaxed), self.reused.load(Ordering::Relaxed));
        Actions { total: run + reused, run, reused }
    }

    /// The time since the start.
    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}
