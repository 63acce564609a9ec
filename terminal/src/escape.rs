//! Escapes untrusted text for a terminal: control characters and invisible characters are spelled out.

use std::borrow::Cow;

use crate::address::masked;

/// Characters that are invisible or change how others are displayed: Unicode's general categories Cc, Cf, Zl and Zp,
/// and the property `Default_Ignorable_Code_Point` (Unicode 16, `DerivedGeneralCategory.txt` and
/// `DerivedCoreProperties.txt`).
const HIDDEN: [(char, char); 27] = [
    ('\u{0}', '\u{1f}'),
    ('\u{7f}', '\u{9f}'),
    ('\u{ad}', '\u{ad}'),
    ('\u{34f}', '\u{34f}'),
    ('\u{600}', '\u{605}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{6dd}', '\u{6dd}'),
    ('\u{70f}', '\u{70f}'),
    ('\u{890}', '\u{891}'),
    ('\u{8e2}', '\u{8e2}'),
    ('\u{115f}', '\u{1160}'),
    ('\u{17b4}', '\u{17b5}'),
    ('\u{180b}', '\u{180f}'),
    ('\u{200b}', '\u{200f}'),
    ('\u{2028}', '\u{202e}'),
    ('\u{2060}', '\u{206f}'),
    ('\u{3164}', '\u{3164}'),
    ('\u{fe00}', '\u{fe0f}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{ffa0}', '\u{ffa0}'),
    ('\u{fff0}', '\u{fffb}'),
    ('\u{110bd}', '\u{110bd}'),
    ('\u{110cd}', '\u{110cd}'),
    ('\u{13430}', '\u{1343f}'),
    ('\u{1bca0}', '\u{1bca3}'),
    ('\u{1d173}', '\u{1d17a}'),
    ('\u{e0000}', '\u{e0fff}'),
];

/// Whether the character is invisible or changes how others are displayed.
pub(crate) fn is_hidden(c: char) -> bool {
    // A fast path for most text.
    !matches!(c, ' '..='~') && HIDDEN.iter().any(|(first, last)| (*first..=*last).contains(&c))
}

/// Escapes the text for use in one line: each hidden character is written as in Rust and many other languages (`\n`,
/// `\u{202e}`).
///
/// A name from an archive, a registry or a cluster can then not begin a line that looks like the program's own, move
/// the cursor, reorder or hide output, or send commands to the terminal. Secrets in URLs are masked; see [`masked`].
#[must_use]
pub fn visible(text: &str) -> Cow<'_, str> {
    match masked(text) {
        Cow::Borrowed(text) => spelt(text, is_hidden),
        Cow::Owned(text) => Cow::Owned(spelt(&text, is_hidden).into_owned()),
    }
}

/// Escapes the text of a program as separate lines: like [`visible`], but keeps newlines and tabs. Removes its colours.
pub(crate) fn visible_lines(text: &str) -> String {
    let plain = without_colours(&text.replace("\r\n", "\n"));
    spelt(&masked(&plain), |c| is_hidden(c) && !matches!(c, '\n' | '\t')).into_owned()
}

fn spelt(text: &str, hidden: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&hidden) {
        return Cow::Borrowed(text);
    }
    let mut spelt = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if hidden(c) { spelt.extend(c.escape_default()) } else { spelt.push(c) }
    }
    Cow::Owned(spelt)
}

/// Removes the sequences that change colours (ECMA-48, 8.3.117 SGR).
fn without_colours(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("\u{1b}[") {
        let (before, sequence) = rest.split_at(at);
        plain += before;
        let parameters = &sequence[2..];
        let end = parameters.find(|c: char| !matches!(c, '0'..='9' | ';' | ':')).unwrap_or(parameters.len());
        match parameters[end..].strip_prefix('m') {
            Some(after) => rest = after,
            None => {
                plain += &sequence[..2];
                rest = parameters;
            }
        }
    }
    plain + rest
}

#[cfg(test)]
mod tests {
    use super::{is_hidden, visible, visible_lines};

    #[test]
    fn a_value_stays_within_its_line() {
        assert_eq!(visible("bin/ç € 名前"), "bin/ç € 名前");
        assert_eq!(visible("a\n+ /etc/shadow\r\tb"), "a\\n+ /etc/shadow\\r\\tb");
        assert_eq!(visible("\u{1b}]52;c;ZXZpbA==\u{7}\u{9b}2J"), "\\u{1b}]52;c;ZXZpbA==\\u{7}\\u{9b}2J");
        assert_eq!(visible("user\u{202e}gpj.exe \u{2066}x\u{2069}"), "user\\u{202e}gpj.exe \\u{2066}x\\u{2069}");
        assert_eq!(
            visible("a\u{200b}b\u{feff}\u{2028}\u{e0041}\u{61c}"),
            "a\\u{200b}b\\u{feff}\\u{2028}\\u{e0041}\\u{61c}"
        );
    }

    #[test]
    fn a_programs_text_keeps_its_lines_and_nothing_else_that_steers() {
        assert_eq!(visible_lines("a.go:1:\tbad\r\n\u{1b}[1;31merror\u{1b}[0m\n"), "a.go:1:\tbad\nerror\n");
        assert_eq!(visible_lines("\u{1b}[2J\u{1b}[\u{1b}[1m1A\u{202e}10%\r"), "\\u{1b}[2J\\u{1b}[1A\\u{202e}10%\\r");
    }

    #[test]
    fn the_table_is_unicodes() {
        let unicode = regex::Regex::new(r"^[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]$").unwrap();
        let mut buffer = [0; 4];
        for c in (0..=u32::from(char::MAX)).filter_map(char::from_u32) {
            assert_eq!(is_hidden(c), unicode.is_match(c.encode_utf8(&mut buffer)), "{:x}", u32::from(c));
        }
    }
}
