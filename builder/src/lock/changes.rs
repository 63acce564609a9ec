//! What differs between two locks, thing by thing.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};

use serde::Serialize;

use super::document::{Document, Pin};

/// One thing that a lock pins otherwise than another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Change {
    /// The input it is of, as "debian bookworm linux/amd64".
    input: String,
    /// What it is within the input: a package, a module, "commit".
    name: String,
    /// The version that was pinned; none when the thing is new.
    from: Option<String>,
    /// The version that is pinned now; none when the thing is gone.
    to: Option<String>,
    /// Whether the version is the same and its content is not.
    content: bool,
}

/// What differs, in the order of the lock.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(crate) struct Changes(Vec<Change>);

impl Changes {
    pub(super) fn between(old: &Document, new: &Document) -> Self {
        let (old, new) = (old.pins(), new.pins());
        let keys: BTreeSet<_> = old.keys().chain(new.keys()).collect();
        let change = |key: &(_, String)| {
            let (from, to) = (old.get(key), new.get(key));
            let content = matches!((from, to), (Some(from), Some(to)) if from.version == to.version);
            let version = |pin: Option<&Pin>| pin.map(|pin| pin.version.clone());
            let (input, name): &(super::document::Input, String) = key;
            let changed =
                Change { input: input.to_string(), name: name.clone(), from: version(from), to: version(to), content };
            (from != to).then_some(changed)
        };
        Self(keys.into_iter().filter_map(change).collect())
    }

    /// Whether nothing differs.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// For people: each input, and below it what was added (+), removed (-) or moved.
impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        let mut above = None;
        for change in &self.0 {
            if above != Some(&change.input) {
                writeln!(text, "{}", change.input)?;
                above = Some(&change.input);
            }
            match (&change.from, &change.to) {
                (None, to) => writeln!(text, "  + {} {}", change.name, to.as_deref().unwrap_or_default())?,
                (Some(from), None) => writeln!(text, "  - {} {from}", change.name)?,
                (Some(from), Some(_)) if change.content => {
                    writeln!(text, "  {} {from}, with other content", change.name)?;
                }
                (Some(from), Some(to)) => writeln!(text, "  {} {from} -> {to}", change.name)?,
            }
        }
        f.write_str(text.trim_end())
    }
}
