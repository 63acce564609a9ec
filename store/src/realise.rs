//! Realises actions: records their outputs, so that the same step with the same inputs never runs twice.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;

use camino::Utf8PathBuf;

use crate::session::Use;
use crate::{Action, ActionKey, Error, Outputs, Record, Store};

/// The outputs of an action, and their origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Realised {
    /// The outputs.
    pub outputs: Outputs,
    /// The origin of the outputs.
    pub origin: Origin,
}

/// The origin of an action's outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The action ran.
    Ran,
    /// The store had the outputs.
    Stored,
    /// A substituter returned the outputs, now or earlier in this process.
    Substituted,
}

impl Store {
    /// Returns the outputs of `action`: from the store if it has all of them, or else from its substituter, or else
    /// from `run`, whose outputs are then recorded.
    ///
    /// Only one process at a time realises an action; others wait and use its outputs. A failed run records nothing.
    ///
    /// # Errors
    /// When `run` fails, or the store cannot be read or written.
    pub fn realise<E: From<Error>>(
        &self,
        action: &Action,
        run: impl FnOnce() -> Result<Outputs, E>,
    ) -> Result<Realised, E> {
        self.realise_if(action, |_| true, run)
    }

    /// Realises as [`Store::realise`], but reuses only outputs that meet the condition `suits`; a new run replaces
    /// others.
    ///
    /// # Errors
    /// As [`Store::realise`].
    pub fn realise_if<E: From<Error>>(
        &self,
        action: &Action,
        suits: impl Fn(&Outputs) -> bool,
        run: impl FnOnce() -> Result<Outputs, E>,
    ) -> Result<Realised, E> {
        let key = action.key()?;
        if let Some(realised) = self.stored(&key, &suits)? {
            return Ok(realised);
        }
        let _lock = ActionLock::take(self, &key)?;
        if let Some(realised) = self.stored(&key, &suits)? {
            return Ok(realised);
        }
        if let Some(realised) = self.substituted(&key, &suits)? {
            return Ok(realised);
        }
        tracing::debug!(kind = action.kind(), name = action.name(), %key, "running");
        let outputs = run()?;
        self.put_record(&Record::new(action, outputs.clone()))?;
        Ok(Realised { outputs, origin: Origin::Ran })
    }

    /// Returns the outputs of an action without running it: from the store if it has all of them, or else from its
    /// substituter. An unreadable record counts as missing.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub fn recall(&self, key: &ActionKey) -> Result<Option<Outputs>, Error> {
        self.recall_if(key, |_| true)
    }

    /// Recalls as [`Store::recall`], but only outputs that meet the condition `suits`.
    ///
    /// # Errors
    /// As [`Store::recall`].
    pub fn recall_if(&self, key: &ActionKey, suits: impl Fn(&Outputs) -> bool) -> Result<Option<Outputs>, Error> {
        self.hold([Use::Action(*key)])?;
        let mut found = self.stored(key, &suits)?;
        if found.is_none() && self.substituter().is_some() {
            let _lock = ActionLock::take(self, key)?;
            found = match self.stored(key, &suits)? {
                None => self.substituted(key, &suits)?,
                stored => stored,
            };
        }
        Ok(found.map(|realised| realised.outputs))
    }

    fn stored(&self, key: &ActionKey, suits: impl Fn(&Outputs) -> bool) -> Result<Option<Realised>, Error> {
        let usable = |record: &Record| self.has_outputs(record) && suits(record.outputs());
        let Some(record) = self.record(key)?.filter(usable) else { return Ok(None) };
        // Record the last use for garbage collection.
        let _ = File::open(self.action_path(key)).and_then(|file| file.set_modified(std::time::SystemTime::now()));
        let given = self.substituter().is_some_and(|substituter| substituter.gave(key));
        let origin = if given { Origin::Substituted } else { Origin::Stored };
        Ok(Some(Realised { outputs: record.outputs().clone(), origin }))
    }

    fn substituted(&self, key: &ActionKey, suits: impl Fn(&Outputs) -> bool) -> Result<Option<Realised>, Error> {
        let Some(record) = self.substituter().and_then(|substituter| substituter.substitute(key, self)) else {
            return Ok(None);
        };
        if record.key()? != *key || !self.has_outputs(&record) {
            tracing::warn!(%key, "a substituter returned a different action than requested: running the action");
            return Ok(None);
        }
        if !suits(record.outputs()) {
            return Ok(None);
        }
        self.put_record(&record)?;
        Ok(Some(Realised { outputs: record.outputs().clone(), origin: Origin::Substituted }))
    }
}

/// The exclusive right to run an action.
struct ActionLock {
    path: Utf8PathBuf,
    _file: File,
}

impl ActionLock {
    fn take(store: &Store, key: &ActionKey) -> Result<Self, Error> {
        let path = store.locks().join(format!("{key}.lock"));
        loop {
            let file = File::options().create(true).append(true).open(&path).map_err(Error::io("opening", &path))?;
            file.lock().map_err(Error::io("locking", &path))?;
            // The previous holder may have removed the file, which makes this lock ineffective: then lock a new file.
            let ours = file.metadata().map_err(Error::io("reading", &path))?;
            if fs::metadata(&path).is_ok_and(|now| (now.dev(), now.ino()) == (ours.dev(), ours.ino())) {
                return Ok(Self { path, _file: file });
            }
        }
    }
}

impl Drop for ActionLock {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::Origin;
    use crate::store::tests::scratch;
    use crate::{Action, ActionKey, Blob, Digest, Error, Outputs, Record, Store, Substituter};

    fn action(source: &str) -> Action {
        Action::new("compile", "manager").input("source", source).unwrap().input("flags", ["-s"]).unwrap()
    }

    #[test]
    fn the_key_is_of_kind_and_inputs_in_any_order_and_not_of_the_name() {
        let turned = Action::new("compile", "other").input("flags", ["-s"]).unwrap().input("source", "a").unwrap();
        assert_eq!(turned.key().unwrap(), action("a").key().unwrap());
        assert_ne!(action("b").key().unwrap(), action("a").key().unwrap());
        let kind = Action::new("layer", "manager").input("source", "a").unwrap().input("flags", ["-s"]).unwrap();
        assert_ne!(kind.key().unwrap(), action("a").key().unwrap());
    }

    #[test]
    fn an_action_runs_once_and_again_only_when_an_output_is_gone() {
        let (_folder, store) = scratch();
        let runs = AtomicU32::new(0);
        let realise = || {
            store
                .realise(&action("a"), || {
                    runs.fetch_add(1, Ordering::SeqCst);
                    Ok::<_, Error>(Outputs::new().with_blob("binary", store.put(b"binary")?).with_note("go", "1.26"))
                })
                .unwrap()
        };
        let first = realise();
        assert_eq!(first.origin, Origin::Ran);
        let second = realise();
        assert!(second.origin == Origin::Stored && second.outputs == first.outputs);
        assert_eq!(second.outputs.note("go"), Some("1.26"));
        std::fs::remove_file(store.blob_path(&first.outputs.blob("binary").unwrap().digest)).unwrap();
        assert_eq!(realise().origin, Origin::Ran);
        std::fs::write(store.action_path(&action("a").key().unwrap()), "{").unwrap();
        assert_eq!(realise().origin, Origin::Ran);
        assert_eq!(runs.load(Ordering::SeqCst), 3);
    }

    #[test]
    fn outputs_that_do_not_suit_are_made_again_and_replaced() {
        let (_folder, store) = scratch();
        let realise = |wanted: &'static str, made: &str| {
            let suits = move |outputs: &Outputs| outputs.note("sandbox") == Some(wanted);
            let run = || Ok::<_, Error>(Outputs::new().with_note("sandbox", made));
            store.realise_if(&action("a"), suits, run).unwrap().origin
        };
        let key = action("a").key().unwrap();
        let recall = |wanted: &str| store.recall_if(&key, |outputs| outputs.note("sandbox") == Some(wanted)).unwrap();
        assert_eq!(realise("none", "none"), Origin::Ran);
        assert!(recall("namespaces").is_none() && recall("none").is_some());
        assert_eq!(realise("namespaces", "namespaces"), Origin::Ran);
        assert_eq!(realise("namespaces", "none"), Origin::Stored);
        assert!(recall("namespaces").is_some() && recall("none").is_none());
    }

    #[test]
    fn a_failed_run_records_nothing() {
        let (_folder, store) = scratch();
        let failed = store.realise(&action("a"), || Err(Error::Missing { digest: crate::Digest::of(b"x") }));
        assert!(failed.is_err());
        assert_eq!(store.recall(&action("a").key().unwrap()).unwrap(), None);
        assert_eq!(std::fs::read_dir(store.locks()).unwrap().count(), 0);
    }

    #[test]
    fn many_that_want_one_action_run_it_once() {
        let (_folder, store) = scratch();
        let runs = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    store
                        .realise(&action("a"), || {
                            runs.fetch_add(1, Ordering::SeqCst);
                            std::thread::sleep(std::time::Duration::from_millis(20));
                            Ok::<_, Error>(Outputs::new().with_blob("binary", store.put(b"binary")?))
                        })
                        .unwrap()
                });
            }
        });
        assert_eq!(runs.load(Ordering::SeqCst), 1);
        assert_eq!(std::fs::read_dir(store.locks()).unwrap().count(), 0);
    }

    /// A substituter that returns one record, and writes its blob to the store.
    #[derive(Debug)]
    struct Gives(Record, &'static [u8], std::sync::Mutex<Vec<ActionKey>>);

    impl Substituter for Gives {
        fn substitute(&self, key: &ActionKey, store: &Store) -> Option<Record> {
            self.2.lock().unwrap().push(*key);
            store.put(self.1).unwrap();
            Some(self.0.clone())
        }

        fn gave(&self, key: &ActionKey) -> bool {
            self.2.lock().unwrap().contains(key)
        }
    }

    #[test]
    fn what_a_substituter_gives_is_not_run() {
        let binary = Blob { digest: Digest::of(b"binary"), size: 6 };
        let record = Record::new(&action("a"), Outputs::new().with_blob("binary", binary));
        let gives = |blob| std::sync::Arc::new(Gives(record.clone(), blob, std::sync::Mutex::default()));
        let run = || Err(Error::Missing { digest: Digest::of(b"it ran") });

        let (_folder, store) = scratch();
        let given = store.clone().with_substituter(gives(b"binary"));
        assert_eq!(given.realise(&action("a"), run).unwrap().origin, Origin::Substituted);
        assert_eq!(given.realise(&action("a"), run).unwrap().origin, Origin::Substituted, "earlier in this process");
        assert_eq!(store.realise(&action("a"), run).unwrap().origin, Origin::Stored);
        let (_folder, store) = scratch();
        let asked = store.with_substituter(gives(b"binary"));
        assert!(asked.recall(&action("a").key().unwrap()).unwrap().is_some());

        let (_folder, store) = scratch();
        let given = store.clone().with_substituter(gives(b"binary"));
        let suits = |_: &Outputs| false;
        assert!(given.realise_if(&action("a"), suits, run).is_err(), "what does not suit is not taken");
        assert_eq!(given.recall_if(&action("a").key().unwrap(), suits).unwrap(), None);
        assert!(store.recorded().unwrap().is_empty());

        let (_folder, store) = scratch();
        let liar = store.clone().with_substituter(gives(b"other"));
        assert!(liar.realise(&action("a"), run).is_err(), "without its blobs a record is worth nothing");
        assert!(liar.realise(&action("b"), run).is_err(), "nor is that of another action");
        assert!(store.recorded().unwrap().is_empty());
    }
}
