//! Escapes text for HTML.

/// Escapes a text for an element or a quoted attribute. Replaces invisible and direction-changing characters by visible
/// escapes, because they could mislead readers, and some are invalid in HTML.
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
