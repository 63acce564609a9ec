//! The differences between two lock files, input by input.

use std::collections::BTreeSet;

use serde::Serialize;
use vcterminal::Text;

use super::document::{Document, Pin};

/// A difference between two locks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Change {
    /// The input, such as "debian bookworm linux/amd64".
    input: String,
    /// The name within the input: a package, a module, "commit".
    name: String,
    /// The old version; `None` if the pin was added.
    from: Option<String>,
    /// The new version; `None` if the pin was removed.
    to: Option<String>,
    /// Whether the content changed, but not the version.
    content: bool,
}

/// The differences, in the order of the lock.
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

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// Returns a text for users: each input with the pins that were added (+), removed (-) or changed.
    pub(crate) fn text(&self) -> Text {
        let mut text = Text::default();
        let mut above = None;
        for change in &self.0 {
            if above != Some(&change.input) {
                text.line(&change.input);
                above = Some(&change.input);
            }
            match (&change.from, &change.to) {
                (None, to) => text.line(format_args!("  + {} {}", change.name, to.as_deref().unwrap_or_default())),
                (Some(from), None) => text.line(format_args!("  - {} {from}", change.name)),
                (Some(from), Some(_)) if change.content => {
                    text.line(format_args!("  {} {from}, with other content", change.name))
                }
                (Some(from), Some(to)) => text.line(format_args!("  {} {from} -> {to}", change.name)),
            };
        }
        text
    }
}
