//! Values of INI inventories: Ansible takes what Python would read as a literal for one, and anything else for text.

use std::iter::Peekable;
use std::str::CharIndices;

use crate::value::{Map, Value};

/// Deeper nesting than any value of an inventory has.
const DEEPEST: usize = 32;

/// The value that a text stands for. A comment behind a literal does not count.
pub(super) fn value_of(text: &str) -> Value {
    let mut reader = Reader { text, chars: text.char_indices().peekable() };
    let literal = reader.value(0);
    reader.space();
    let is_whole = matches!(reader.chars.peek(), None | Some((_, '#')));
    literal.filter(|_| is_whole).unwrap_or_else(|| Value::text(text))
}

struct Reader<'a> {
    text: &'a str,
    chars: Peekable<CharIndices<'a>>,
}

impl Reader<'_> {
    fn space(&mut self) {
        while self.chars.next_if(|(_, c)| c.is_whitespace()).is_some() {}
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        if depth > DEEPEST {
            return None;
        }
        self.space();
        match self.chars.peek()?.1 {
            quote @ ('"' | '\'') => self.string(quote),
            '[' => Some(Value::list(self.items(']', depth)?)),
            // A tuple; one value in parentheses is that value.
            '(' => {
                let (begin, _) = *self.chars.peek()?;
                let items = self.items(')', depth)?;
                let end = self.chars.peek().map_or(self.text.len(), |(at, _)| *at);
                let is_tuple =
                    items.len() != 1 || self.text[begin..end].trim_end_matches(')').trim_end().ends_with(',');
                if is_tuple { Some(Value::list(items)) } else { items.into_iter().next() }
            }
            '{' => self.map(depth),
            _ => self.word(),
        }
    }

    fn items(&mut self, end: char, depth: usize) -> Option<Vec<Value>> {
        self.chars.next();
        let mut items = Vec::new();
        loop {
            self.space();
            if self.chars.next_if(|(_, c)| *c == end).is_some() {
                return Some(items);
            }
            items.push(self.value(depth + 1)?);
            self.space();
            if self.chars.next_if(|(_, c)| *c == ',').is_none() {
                self.chars.next_if(|(_, c)| *c == end)?;
                return Some(items);
            }
        }
    }

    fn map(&mut self, depth: usize) -> Option<Value> {
        self.chars.next();
        let mut map = Map::new();
        loop {
            self.space();
            if self.chars.next_if(|(_, c)| *c == '}').is_some() {
                return Some(Value::map(map));
            }
            let key = self.value(depth + 1)?.key()?;
            self.space();
            self.chars.next_if(|(_, c)| *c == ':')?;
            map.insert(key, self.value(depth + 1)?);
            self.space();
            if self.chars.next_if(|(_, c)| *c == ',').is_none() {
                self.chars.next_if(|(_, c)| *c == '}')?;
                return Some(Value::map(map));
            }
        }
    }

    fn string(&mut self, quote: char) -> Option<Value> {
        self.chars.next();
        let mut text = String::new();
        loop {
            match self.chars.next()?.1 {
                c if c == quote => return Some(Value::text(text)),
                '\\' => match self.chars.next()?.1 {
                    'n' => text.push('\n'),
                    't' => text.push('\t'),
                    'r' => text.push('\r'),
                    c @ ('\\' | '\'' | '"') => text.push(c),
                    c => text.extend(['\\', c]),
                },
                c => text.push(c),
            }
        }
    }

    fn word(&mut self) -> Option<Value> {
        let mut word = String::new();
        while let Some((_, c)) = self.chars.next_if(|(_, c)| c.is_ascii_alphanumeric() || "+-._".contains(*c)) {
            word.push(c);
        }
        match word.as_str() {
            "True" => return Some(Value::Bool(true)),
            "False" => return Some(Value::Bool(false)),
            "None" => return Some(Value::Null),
            _ => {}
        }
        let digits = word.trim_start_matches(['+', '-']);
        let plain = word.replace('_', "");
        let radix = |prefix: &str, radix| i64::from_str_radix(plain.strip_prefix(prefix)?, radix).ok();
        // A leading zero is no literal of Python's, so a mode such as 0755 stays text.
        let is_decimal = digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_')
            && (!digits.starts_with('0') || digits.bytes().all(|byte| byte == b'0'));
        let integer = if digits.is_empty() || digits.ends_with('_') || digits.starts_with('_') {
            None
        } else if is_decimal {
            plain.parse().ok()
        } else {
            radix("0x", 16).or_else(|| radix("0o", 8)).or_else(|| radix("0b", 2))
        };
        let is_float = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
            && digits.contains(['.', 'e', 'E'])
            && digits.bytes().any(|byte| byte.is_ascii_digit())
            && digits.bytes().all(|byte| byte.is_ascii_digit() || b".eE+-_".contains(&byte));
        integer.map(Value::Int).or_else(|| {
            let float = if is_float && !is_decimal { plain.parse().ok() } else { None };
            float.map(Value::Float)
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::value_of;
    use crate::value::Value;

    #[test]
    fn literals_of_python_are_values_and_the_rest_is_text() {
        let cases = [
            ("22", Value::Int(22)),
            ("22 # the usual one", Value::Int(22)),
            ("-1", Value::Int(-1)),
            ("0755", Value::text("0755")),
            ("0", Value::Int(0)),
            ("0x1f", Value::Int(31)),
            ("1.5", Value::Float(1.5)),
            ("1e3", Value::Float(1000.0)),
            ("1.31.0", Value::text("1.31.0")),
            ("True", Value::Bool(true)),
            ("true", Value::text("true")),
            ("None", Value::Null),
            ("'a b'", Value::text("a b")),
            ("'a' b", Value::text("'a' b")),
            ("a # b", Value::text("a # b")),
            (
                "[1, 'x', [True]]",
                Value::list(vec![Value::Int(1), Value::text("x"), Value::list(vec![Value::Bool(true)])]),
            ),
            ("(1)", Value::Int(1)),
            ("(1,)", Value::list(vec![Value::Int(1)])),
            ("[a]", Value::text("[a]")),
            ("", Value::text("")),
        ];
        for (text, value) in cases {
            assert_eq!(value_of(text), value, "{text}");
        }
        assert_eq!(value_of("{'a': 1, 'b': [2]}").to_string(), "{'a': 1, 'b': [2]}");
    }

    proptest! {
        #[test]
        fn what_is_written_as_a_list_is_read_as_it(items in proptest::collection::vec("[a-z' \\\\\n]{0,6}", 0..5)) {
            let list = Value::list(items.iter().map(Value::text).collect());
            prop_assert_eq!(value_of(&list.to_string()), list);
        }

        #[test]
        fn nothing_makes_it_panic(text in "[\\[\\](){}'\",:0-9a-e_.x# \\\\+-]{0,40}") {
            let _ = value_of(&text);
        }
    }
}
