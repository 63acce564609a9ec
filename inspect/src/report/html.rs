//! Text in HTML.

/// A text as it stands in an element or between the quotes of an attribute: what a reader would not see, or see others otherwise
/// for, is spelt out, and some of it no document may have.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in vcterminal::visible(text).chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&#39;",
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    #[test]
    fn nothing_in_a_text_is_markup() {
        assert_eq!(
            super::escape("<a href='x'>\"&\u{1}\u{202e}</a>"),
            "&lt;a href=&#39;x&#39;&gt;&quot;&amp;\\u{1}\\u{202e}&lt;/a&gt;"
        );
    }
}
