//! YAML as Ansible reads it: PyYAML's YAML 1.1 with the tags `!vault` and `!unsafe`, and the line of every value.

mod reader;
mod scalars;

use std::ops::Range;
use std::sync::Arc;

use indexmap::IndexMap;

pub use reader::read;
pub use scalars::plain;

use crate::source::{Place, Source};
use crate::value::{Key, Value};

/// A value as it is written, with its templates not yet resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// What is written.
    pub content: Content,
    /// Where.
    pub place: Place,
    /// Which bytes of the file.
    pub bytes: Range<usize>,
}

/// What a node holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// A value without templates.
    Value(Value),
    /// A text with Jinja in it.
    Template(Arc<str>),
    /// A list.
    List(Arc<Vec<Node>>),
    /// A mapping.
    Map(Arc<IndexMap<Key, Node>>),
    /// A value with this tag, which cannot be read: `!vault`, or one that is not known.
    Tagged(String),
}

/// The one document of a file.
#[derive(Debug, Clone)]
pub struct Document {
    /// What is in it; an empty file holds null.
    pub root: Node,
    /// The values of the outermost mapping that a later one of the same key replaced, in order.
    pub replaced: Vec<(Key, Node)>,
}

impl Node {
    /// A node of a value that no file holds.
    #[must_use]
    pub fn of(value: Value, place: Place) -> Self {
        let content = match &value {
            Value::Str(text) if is_template(text) => Content::Template(Arc::clone(text)),
            Value::List(items) => {
                Content::List(Arc::new(items.iter().map(|item| Self::of(item.clone(), place.clone())).collect()))
            }
            Value::Map(map) => {
                let items = map.iter().map(|(key, item)| (key.clone(), Self::of(item.clone(), place.clone())));
                Content::Map(Arc::new(items.collect()))
            }
            _ => Content::Value(value),
        };
        Self { content, place, bytes: 0..0 }
    }

    /// The text as it is written in the file, without the space around it, and without the indentation that its lines share.
    #[must_use]
    pub fn text(&self) -> String {
        let source = &self.place.source.text;
        match source.get(self.bytes.clone()).map(str::trim).filter(|text| !text.is_empty()) {
            Some(text) => {
                let more = || text.lines().skip(1).filter(|line| !line.trim().is_empty());
                let shared = more().map(|line| line.len() - line.trim_start_matches(' ').len()).min().unwrap_or(0);
                let lines = text.lines().enumerate();
                let lines = lines.map(|(at, line)| if at == 0 { line } else { line.get(shared..).unwrap_or("") });
                lines.collect::<Vec<_>>().join("\n")
            }
            None => match &self.content {
                Content::Value(value) => value.to_string(),
                Content::Template(text) => (**text).to_owned(),
                Content::List(_) | Content::Map(_) | Content::Tagged(_) => String::new(),
            },
        }
    }

    /// The items of a mapping; an empty one for null.
    #[must_use]
    pub fn mapping(&self) -> Option<Arc<IndexMap<Key, Self>>> {
        match &self.content {
            Content::Map(map) => Some(Arc::clone(map)),
            Content::Value(Value::Null) => Some(Arc::default()),
            Content::Value(_) | Content::Template(_) | Content::List(_) | Content::Tagged(_) => None,
        }
    }
}

/// Whether Ansible would give a text to Jinja.
#[must_use]
pub fn is_template(text: &str) -> bool {
    ["{{", "{%", "{#"].iter().any(|mark| text.contains(mark))
}

/// Reads a text, for tests and for defaults.
///
/// # Errors
/// As [`read()`].
pub fn read_text(name: &str, text: &str) -> Result<Document, String> {
    read(&Source::new(name, text)).map_err(|(line, why)| format!("line {line}: {why}"))
}
