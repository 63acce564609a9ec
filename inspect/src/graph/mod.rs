//! The graph of inputs, actions and images, from the records of a store.

mod chain;
mod debian;
mod draw;
mod provenance;
mod records;
mod why;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;
use vcstore::{ActionKey, Image, Record};

pub use self::draw::{dot, mermaid};
pub use self::provenance::{ProvenanceStep, made, provenance};
use self::records::is_content;
pub use self::records::{Records, digests};
pub use self::why::{Asker, IMPORTS, Imports, Reason, What};
use crate::Error;

/// A graph with edges from inputs to the actions and images that use them.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Graph {
    /// The nodes by ID; the ID of an item is the same in every graph.
    pub nodes: BTreeMap<String, Node>,
    /// The edges, from an input to its user.
    pub edges: BTreeSet<Edge>,
}

/// An input, action or image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Node {
    /// The type of the node.
    pub kind: NodeKind,
    /// The title: the kind of an action, the label of an input, or the name of an image.
    pub title: String,
    /// The detail that identifies the item.
    pub detail: String,
}

/// The type of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeKind {
    /// An input that no action produced.
    Input,
    /// An action.
    Action,
    /// An image.
    Image,
}

/// The use of one node as an input of another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Edge {
    /// The ID of the input's node.
    pub from: String,
    /// The ID of the user's node.
    pub to: String,
    /// The label of the input.
    pub label: String,
}

impl Graph {
    /// Creates the graph of these images.
    ///
    /// # Errors
    /// None at present: the digests of opened images are valid.
    pub fn of(images: &[Image], records: &Records) -> Result<Self, Error> {
        let mut graph = Self::default();
        for image in images {
            let id = format!("image_{}", id_of(image.name.as_bytes()));
            let detail = short(&image.digest().to_string());
            graph.nodes.insert(id.clone(), Node { kind: NodeKind::Image, title: image.name.clone(), detail });
            for one in &image.platforms {
                let manifest = one.manifest_digest();
                let from = match records.maker(&manifest) {
                    Some((key, _)) => action_id(key),
                    None => graph.input("manifest", &Value::from(manifest.to_string())),
                };
                for (key, record) in records.made(&manifest) {
                    graph.action(key, record, records);
                }
                graph.edge(from, id.clone(), &one.platform.to_string());
            }
        }
        Ok(graph)
    }

    fn action(&mut self, key: &ActionKey, record: &Record, records: &Records) {
        let id = action_id(key);
        let (title, detail) = (record.kind().to_owned(), record.name().to_owned());
        self.nodes.insert(id.clone(), Node { kind: NodeKind::Action, title, detail });
        let needs = records.needs(key);
        for (label, needed) in &needs {
            self.edge(action_id(needed), id.clone(), label);
        }
        let made = |label: &str| needs.iter().any(|(known, _)| *known == label);
        for (label, value) in record.inputs().iter().filter(|(label, value)| !made(label) && is_content(value)) {
            let from = self.input(label, value);
            self.edge(from, id.clone(), label);
        }
    }

    /// Adds the node of an input that no action of the store produced. Equal content with the same label has one node.
    fn input(&mut self, label: &str, value: &Value) -> String {
        let id = format!("input_{}", id_of(format!("{label} {value}").as_bytes()));
        let node = Node { kind: NodeKind::Input, title: label.to_owned(), detail: summary(value) };
        self.nodes.insert(id.clone(), node);
        id
    }

    fn edge(&mut self, from: String, to: String, label: &str) {
        self.edges.insert(Edge { from, to, label: label.to_owned() });
    }
}

/// Summarises an input in a few words.
pub fn summary(value: &Value) -> String {
    match value {
        Value::String(text) => short(text),
        Value::Array(list) if list.len() == 1 => named(&list[0]).unwrap_or_else(|| "1".to_owned()),
        Value::Array(list) => list.len().to_string(),
        Value::Object(fields) => match fields.get("digest").and_then(Value::as_str) {
            Some(digest) => short(digest),
            None => fields.len().to_string(),
        },
        other => other.to_string(),
    }
}

/// Returns the name and version of a value that has both.
fn named(value: &Value) -> Option<String> {
    let text = |name| value.get(name).and_then(Value::as_str);
    Some(format!("{} {}", text("name").or(text("path"))?, text("version")?))
}

/// Shortens a hash to its first 12 digits; returns other texts unchanged.
pub fn short(text: &str) -> String {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    let hash = hex.len() >= 40 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    if hash { hex[..12].to_owned() } else { text.to_owned() }
}

fn action_id(key: &ActionKey) -> String {
    format!("action_{}", &key.to_string()[..12])
}

fn id_of(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex()[..12].to_owned()
}
