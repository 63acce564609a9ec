//! Progress of a build: realises every action, reports it, and counts the actions.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;
use vcinspect::journal::{JournalStep, Outcome};
use vcstore::{Action, ActionKey, Origin, Outputs, Store};

use crate::display::{Display, Running};
use crate::{Error, failure_log};

/// Realises actions, reports running and completed ones with their duration on standard error, and counts them.
#[derive(Debug)]
pub(crate) struct Progress {
    start: Instant,
    began: SystemTime,
    display: Display,
    steps: Mutex<Vec<JournalStep>>,
}

/// The number of actions in a build: in total, run, reused from the store, and substituted from a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Actions {
    pub(crate) total: usize,
    pub(crate) run: usize,
    pub(crate) reused: usize,
    pub(crate) substituted: usize,
}

impl Progress {
    /// Starts counting and measuring.
    pub(crate) fn start() -> Self {
        Self {
            start: Instant::now(),
            began: SystemTime::now(),
            display: Display::on_stderr(),
            steps: Mutex::new(Vec::new()),
        }
    }

    /// Returns the outputs of `action`; calls `run` if neither the store nor its caches have them.
    ///
    /// # Errors
    /// When `run` fails: writes the whole output of its failed program to a file of the store. When the store cannot be
    /// used.
    pub(crate) fn realise(
        &self,
        store: &Store,
        action: &Action,
        run: impl FnOnce() -> Result<Outputs, Error>,
    ) -> Result<Outputs, Error> {
        self.realise_if(store, action, |_| true, run)
    }

    /// Realises as [`Progress::realise`], but reuses only outputs that meet the condition `suits`.
    ///
    /// # Errors
    /// As [`Progress::realise`].
    pub(crate) fn realise_if(
        &self,
        store: &Store,
        action: &Action,
        suits: impl Fn(&Outputs) -> bool,
        run: impl FnOnce() -> Result<Outputs, Error>,
    ) -> Result<Outputs, Error> {
        let start = Instant::now();
        let realised = store.realise_if(action, suits, || {
            let _line = self.display.running(action.kind(), action.name());
            run()
        });
        let (kind, name, took) = (action.kind(), action.name(), start.elapsed());
        match realised {
            Ok(realised) => {
                match realised.origin {
                    Origin::Ran => self.done(action, took),
                    Origin::Stored => self.reused(action),
                    Origin::Substituted => {
                        self.note(kind, name, Some(action), took, Outcome::Substituted);
                        self.say(&format!("fetched {kind} {name}"));
                    }
                }
                Ok(realised.outputs)
            }
            Err(error) => {
                self.note(kind, name, Some(action), took, Outcome::Failed);
                Err(failure_log::keep(store, action, error))
            }
        }
    }

    /// Counts a step that is not an action of the store and has just ended, with its duration.
    pub(crate) fn ran(&self, kind: &str, name: &str, took: Duration) {
        self.note(kind, name, None, took, Outcome::Run);
        self.say_ran(kind, name, took);
    }

    /// Counts an action that ran and has just ended, with its duration.
    pub(crate) fn done(&self, action: &Action, took: Duration) {
        self.note(action.kind(), action.name(), Some(action), took, Outcome::Run);
        self.say_ran(action.kind(), action.name(), took);
    }

    /// Counts an action whose outputs the store had.
    pub(crate) fn reused(&self, action: &Action) {
        let (kind, name) = (action.kind(), action.name());
        self.note(kind, name, Some(action), Duration::ZERO, Outcome::Reused);
        tracing::info!("{kind} {name}: reused");
    }

    /// Prints a line on standard error.
    pub(crate) fn say(&self, line: &str) {
        self.display.line(line);
    }

    /// Reports the start of a step that is not an action; a terminal shows it until the returned value is dropped.
    pub(crate) fn step(&self, line: &str) -> Running {
        self.display.step(line)
    }

    /// Returns the counts so far.
    pub(crate) fn actions(&self) -> Actions {
        let steps = self.steps();
        let count = |outcome| steps.iter().filter(|step| step.outcome == outcome).count();
        let [run, reused, substituted] = [Outcome::Run, Outcome::Reused, Outcome::Substituted].map(count);
        Actions { total: run + reused + substituted, run, reused, substituted }
    }

    /// Returns all steps so far, in the order of their ends.
    pub(crate) fn steps(&self) -> Vec<JournalStep> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the keys of the store's actions so far.
    pub(crate) fn used(&self) -> BTreeSet<ActionKey> {
        self.steps().iter().filter_map(|step| step.key.as_ref()?.parse().ok()).collect()
    }

    /// Returns the start time of the build.
    pub(crate) fn began(&self) -> SystemTime {
        self.began
    }

    /// Returns the time since the start.
    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    fn say_ran(&self, kind: &str, name: &str, took: Duration) {
        self.say(&format!("{kind:<9}{name}  {}", vcterminal::duration(took)));
    }

    fn note(&self, kind: &str, name: &str, action: Option<&Action>, took: Duration, outcome: Outcome) {
        let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let step = JournalStep {
            kind: kind.to_owned(),
            // The name may contain the address of a repository with credentials.
            name: vcterminal::masked(name).into_owned(),
            key: action.and_then(|action| action.key().ok()).map(|key| key.to_string()),
            start: milliseconds(self.elapsed().saturating_sub(took)),
            took: milliseconds(took),
            outcome,
        };
        self.steps.lock().unwrap_or_else(PoisonError::into_inner).push(step);
    }
}
