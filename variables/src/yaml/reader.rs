//! From YAML's events to nodes, within limits: an alias shares what it stands for, nesting and the number of nodes are bounded.

use std::collections::HashMap;
use std::sync::Arc;

use granit_parser::{Event, Options, Parser, ScalarStyle, Span, StrInput, StructureStyle, Tag};
use indexmap::IndexMap;

use super::{Content, Document, Node, is_template, plain};
use crate::source::{Place, Source};
use crate::value::{Key, Value};

/// Deeper nesting than any file of variables has.
const DEEPEST: usize = 64;

/// More nodes than any file of variables has, each merged one counted again.
const MOST: usize = 1_000_000;

/// The namespace of YAML's own tags.
const CORE: &str = "tag:yaml.org,2002:";

/// Why a file is not YAML that can be read: the line, from 1, and what is wrong there.
type Wrong = (usize, String);

/// Reads the one document of a file.
///
/// # Errors
/// When it is not YAML, has several documents, or is larger than any file of variables; with the line.
pub fn read(source: &Arc<Source>) -> Result<Document, Wrong> {
    let mut options = Options::default();
    (options.emit_comments, options.flow_nesting_limit, options.block_nesting_limit) = (false, DEEPEST, DEEPEST);
    let parser = Parser::new_from_str_with_options(&source.text, options);
    let mut reader = Reader { source, parser, anchors: HashMap::new(), count: 0, replaced: Vec::new() };
    let mut root = None;
    loop {
        let (event, span) = reader.next()?;
        match event {
            Event::StreamEnd => break,
            Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd => {}
            _ if root.is_some() => return Err((span.start.line(), "a file of variables has one document".to_owned())),
            event => root = Some(reader.node(event, &span, 0, false)?),
        }
    }
    let empty = || Node { content: Content::Value(Value::Null), place: Place::new(source, 1), bytes: 0..0 };
    Ok(Document { root: root.unwrap_or_else(empty), replaced: reader.replaced })
}

/// The items of a mapping, the event of its end, and the last byte of its last value.
type Mapping = (IndexMap<Key, Node>, Span, Option<usize>);

struct Reader<'a> {
    source: &'a Arc<Source>,
    parser: Parser<'a, StrInput<'a>>,
    anchors: HashMap<usize, Node>,
    count: usize,
    replaced: Vec<(Key, Node)>,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), Wrong> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err((error.marker().line(), error.kind().to_string())),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn count(&mut self, more: usize, line: usize) -> Result<(), Wrong> {
        self.count += more;
        if self.count > MOST { Err((line, format!("it has more than {MOST} values"))) } else { Ok(()) }
    }

    /// The node that begins with an event. `literal` says that a tag around it forbids templates.
    fn node(&mut self, event: Event<'a>, span: &Span, depth: usize, literal: bool) -> Result<Node, Wrong> {
        let line = span.start.line();
        self.count(1, line)?;
        if depth > DEEPEST {
            return Err((line, format!("its values are nested more than {DEEPEST} deep")));
        }
        let begin = span.byte_range().map_or(0, |bytes| bytes.start);
        let (anchor, content, end) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let end = span.byte_range().map_or(begin, |bytes| bytes.end);
                (anchor, scalar(&text, style, tag.as_deref(), literal), end)
            }
            Event::SequenceStart(style, anchor, tag) => {
                let unsafe_tag = literal || is_unsafe(tag.as_deref());
                let (mut items, mut last) = (Vec::new(), None);
                let end = loop {
                    let (event, span) = self.next()?;
                    if matches!(event, Event::SequenceEnd) {
                        break span;
                    }
                    let is_alias = matches!(event, Event::Alias(_));
                    let item = self.node(event, &span, depth + 1, unsafe_tag)?;
                    last = last_of(&item, is_alias, &span);
                    items.push(item);
                };
                let content = tagged(tag.as_deref(), "seq").unwrap_or_else(|| Content::List(Arc::new(items)));
                (anchor, content, last_byte(style, &end, last, begin))
            }
            Event::MappingStart(style, anchor, tag) => {
                let unsafe_tag = literal || is_unsafe(tag.as_deref());
                let (map, end, last) = self.mapping(depth, unsafe_tag)?;
                let content = tagged(tag.as_deref(), "map").unwrap_or_else(|| Content::Map(Arc::new(map)));
                (anchor, content, last_byte(style, &end, last, begin))
            }
            Event::Alias(id) => {
                let known = self.anchors.get(&id).cloned();
                return known.ok_or_else(|| (line, "an alias stands for a value that it is part of".to_owned()));
            }
            _ => return Err((line, "a value is missing".to_owned())),
        };
        let node = Node { content, place: Place::new(self.source, line), bytes: begin..end.max(begin) };
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    /// The items of a mapping up to its end: those merged into it (`<<`) first, then its own, of which the last of a key counts.
    fn mapping(&mut self, depth: usize, literal: bool) -> Result<Mapping, Wrong> {
        let mut last = None;
        let (mut merged, mut own) = (Vec::new(), IndexMap::<Key, Node>::new());
        let end = loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                break span;
            }
            let line = span.start.line();
            let is_merge = matches!(&event, Event::Scalar(text, ScalarStyle::Plain, _, None) if text == "<<");
            let key = self.node(event, &span, depth + 1, true)?;
            let (event, span) = self.next()?;
            let is_alias = matches!(event, Event::Alias(_));
            let mut node = self.node(event, &span, depth + 1, literal)?;
            last = last_of(&node, is_alias, &span);
            if is_merge {
                merged.extend(self.merge(&node, line)?);
                continue;
            }
            let Content::Value(value) = key.content else {
                return Err((line, "a key must be text or a number".to_owned()));
            };
            let key = value.key().ok_or_else(|| (line, "a key must be text or a number".to_owned()))?;
            // What is said of a key is found at the key.
            node.place.line = line;
            if let Some(before) = own.insert(key.clone(), node)
                && depth == 0
            {
                self.replaced.push((key, before));
            }
        };
        let mut map: IndexMap<Key, Node> = IndexMap::new();
        for (key, node) in merged.into_iter().chain(own) {
            map.insert(key, node);
        }
        Ok((map, end, last))
    }

    /// What a merge key brings, the weakest first.
    fn merge(&mut self, node: &Node, line: usize) -> Result<Vec<(Key, Node)>, Wrong> {
        let from = match &node.content {
            Content::Map(map) => vec![Arc::clone(map)],
            Content::List(items) => items.iter().rev().filter_map(Node::mapping).collect(),
            Content::Value(_) | Content::Template(_) | Content::Tagged(_) => {
                return Err((line, "a merge key (<<) needs a mapping, or a list of them".to_owned()));
            }
        };
        let mut merged = Vec::new();
        for map in from {
            self.count(map.len(), line)?;
            merged.extend(map.iter().map(|(key, node)| (key.clone(), node.clone())));
        }
        Ok(merged)
    }
}

/// The last byte of a value. What an alias stands for is elsewhere.
fn last_of(node: &Node, is_alias: bool, span: &Span) -> Option<usize> {
    if is_alias { span.byte_range().map(|bytes| bytes.end) } else { Some(node.bytes.end) }
}

/// The last byte of a list or mapping. A block ends with its last value: the event of its end is behind comments that follow.
fn last_byte(style: StructureStyle, end: &Span, last: Option<usize>, begin: usize) -> usize {
    match (style, last) {
        (StructureStyle::Block, Some(last)) => last,
        _ => end.byte_range().map_or(begin, |bytes| bytes.end),
    }
}

/// What a scalar means, by its style and tag.
fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>, literal: bool) -> Content {
    let string = |literal: bool| {
        if literal || !is_template(text) { Content::Value(Value::text(text)) } else { Content::Template(text.into()) }
    };
    let name = tag.map(Tag::parts).map(|(handle, suffix)| format!("{handle}{suffix}"));
    let Some(name) = name else {
        return match style {
            ScalarStyle::Plain => match plain(text) {
                Value::Str(_) => string(literal),
                value => Content::Value(value),
            },
            _ => string(literal),
        };
    };
    match name.strip_prefix(CORE) {
        Some("str") => string(literal),
        Some("int" | "float" | "bool" | "null") => Content::Value(plain(text)),
        _ if name == "!" => string(literal),
        _ if is_unsafe(tag) => string(true),
        _ => Content::Tagged(original(tag)),
    }
}

/// The content of a list or mapping whose tag is not known.
fn tagged(tag: Option<&Tag>, own: &str) -> Option<Content> {
    let (handle, suffix) = tag?.parts();
    let is_known = is_unsafe(tag) || format!("{handle}{suffix}") == format!("{CORE}{own}");
    (!is_known).then(|| Content::Tagged(original(tag)))
}

fn is_unsafe(tag: Option<&Tag>) -> bool {
    tag.is_some_and(|tag| tag.parts() == ("!", "unsafe"))
}

fn original(tag: Option<&Tag>) -> String {
    tag.map(Tag::original).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use crate::value::{Key, Value};
    use crate::yaml::{Content, Node, read_text};

    fn get<'a>(node: &'a Node, key: &str) -> &'a Node {
        match &node.content {
            Content::Map(map) => &map[&Key::of(key)],
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn values_have_their_lines_and_texts() {
        let text = "# a comment\na: 1\nb:\n  - x   # why\n  - {y: z}\n# of c\n\nc: >-\n  one\n  two\nd: '{{ a }}'\n";
        let root = read_text("f", text).expect("YAML").root;
        let of = |key: &str| (get(&root, key).place.line, get(&root, key).text());
        assert_eq!(of("a"), (2, "1".to_owned()));
        assert_eq!(of("b").0, 3);
        assert_eq!(of("b").1, "- x   # why\n- {y: z}");
        assert_eq!(get(&root, "c").content, Content::Value(Value::text("one two")));
        assert_eq!(of("d"), (11, "'{{ a }}'".to_owned()));
        assert_eq!(get(&root, "d").content, Content::Template("{{ a }}".into()));
    }

    #[test]
    fn the_text_of_a_list_ends_with_its_alias() {
        let root = read_text("f", "a: &a [x]\nb:\n  - *a\n  - *a\n# end\nc: {<<: {}}\n").expect("YAML").root;
        assert_eq!(get(&root, "b").text(), "- *a\n- *a");
    }

    #[test]
    fn the_last_of_two_keys_counts_and_the_first_is_kept_aside() {
        let document = read_text("f", "a: 1\nb: {c: 1, c: 2}\na: 2\n").expect("YAML");
        assert_eq!(get(&document.root, "a").content, Content::Value(Value::Int(2)));
        assert_eq!(get(get(&document.root, "b"), "c").content, Content::Value(Value::Int(2)));
        assert_eq!(document.replaced.len(), 1);
        assert_eq!((document.replaced[0].1.place.line, document.replaced[0].1.text()), (1, "1".to_owned()));
    }

    #[test]
    fn merge_keys_are_weaker_than_own_keys() {
        let text = "base: &base {a: 1, b: 1}\nmore: &more {b: 2, c: 2}\nall: {c: 3, <<: [*base, *more]}\n";
        let root = read_text("f", text).expect("YAML").root;
        let number = |key: &str| get(get(&root, "all"), key).content.clone();
        assert_eq!(["a", "b", "c"].map(number), [1, 1, 3].map(|int| Content::Value(Value::Int(int))));
        assert!(read_text("f", "a: {<<: 1}").is_err());
    }

    #[test]
    fn tags_are_known_or_kept_for_when_the_value_is_asked_for() {
        let text = "a: !vault |\n  $ANSIBLE_VAULT;1.1;AES256\n  6162\nb: !unsafe '{{ x }}'\nc: !!str 5\nd: !other x\n\
                    e: !unsafe ['{{ x }}']\nf: !!int '5'\n";
        let root = read_text("f", text).expect("YAML").root;
        assert_eq!(get(&root, "a").content, Content::Tagged("!vault".into()));
        assert_eq!(get(&root, "b").content, Content::Value(Value::text("{{ x }}")));
        assert_eq!(get(&root, "c").content, Content::Value(Value::text("5")));
        assert_eq!(get(&root, "d").content, Content::Tagged("!other".into()));
        assert!(
            matches!(&get(&root, "e").content, Content::List(items) if matches!(items[0].content, Content::Value(_)))
        );
        assert_eq!(get(&root, "f").content, Content::Value(Value::Int(5)));
    }

    #[test]
    fn what_cannot_be_read_names_its_line() {
        for (text, line) in [("a: [\nb\n", 1), ("a: 1\n---\nb: 2\n", 3), ("a: 1\n? [x]\n: 2\n", 2), ("a: *none\n", 1)] {
            let error = read_text("f", text).expect_err(text);
            assert!(error.starts_with(&format!("line {line}: ")), "{text:?}: {error}");
        }
        let deep = format!("a: {}", "[".repeat(100));
        assert!(read_text("f", &deep).is_err());
    }

    #[test]
    fn a_thousand_laughs_take_no_room() {
        let mut text = "a0: &a0 [ha, ha]\n".to_owned();
        for level in 1..60 {
            let before = level - 1;
            text += &format!("a{level}: &a{level} [*a{before}, *a{before}]\n");
        }
        assert!(read_text("f", &text).is_ok());
    }
}
