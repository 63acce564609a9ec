//! JSON for a terminal: hidden characters in strings are escaped, which means the same to a program, and secrets in
//! URLs are masked.

use std::io::{self, Write};

use serde_json::ser::{Formatter, PrettyFormatter};

use crate::address::masked;
use crate::escape::is_hidden;

/// Formats indented JSON without hidden characters.
#[derive(Default)]
pub(crate) struct Escaped(PrettyFormatter<'static>);

impl Formatter for Escaped {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let fragment = masked(fragment);
        let mut rest = fragment.as_ref();
        while let Some((at, c)) = rest.char_indices().find(|(_, c)| is_hidden(*c)) {
            writer.write_all(&rest.as_bytes()[..at])?;
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
            rest = &rest[at + c.len_utf8()..];
        }
        writer.write_all(rest.as_bytes())
    }

    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_array(writer)
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array(writer)
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_array_value(writer, first)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array_value(writer)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object(writer)
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object(writer)
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(writer, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object_value(writer)
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object_value(writer)
    }
}

#[cfg(test)]
mod tests {
    use serde::Serialize;
    use serde_json::{Value, json};

    use super::Escaped;

    fn written(value: &Value) -> String {
        let mut bytes = Vec::new();
        value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, Escaped::default())).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_document_means_the_same_and_holds_nothing_hidden() {
        let value = json!({ "a\u{202e}": ["\u{9b}2J\u{7f}", "é\u{e0041}\n\u{1b}", {}, []], "b": { "c": 1 } });
        let text = written(&value);
        assert!(text.is_ascii() || !text.chars().any(|c| c != '\n' && crate::escape::is_hidden(c)), "{text}");
        assert!(
            text.contains(r#""a\u202e""#) && text.contains(r"\u009b2J\u007f") && text.contains(r"\udb40\udc41"),
            "{text}"
        );
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
        let plain = json!({ "name": "w1", "images": [1, 2, null] });
        assert_eq!(written(&plain), serde_json::to_string_pretty(&plain).unwrap());
    }
}
