//! Patterns in ssh's configuration and `known_hosts`: `*`, `?`, and a leading `!` for exclusion (ssh_config(5),
//! "PATTERNS").

/// Whether `text` matches at least one of `patterns`, and none that excludes it.
pub(super) fn any<'a>(patterns: impl IntoIterator<Item = &'a str>, text: &str) -> bool {
    let mut meant = false;
    for pattern in patterns {
        match pattern.strip_prefix('!') {
            Some(excluded) if fits(excluded, text) => return false,
            Some(_) => {}
            None => meant |= fits(pattern, text),
        }
    }
    meant
}

/// Whether one pattern matches, regardless of case.
fn fits(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.to_lowercase(), text.to_lowercase());
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut at, mut read) = (0, 0);
    // The position of the last `*`, and how much of the text it matches so far.
    let mut star = None;
    while read < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, read));
                at += 1;
            }
            Some(&byte) if byte == b'?' || byte == text[read] => {
                at += 1;
                read += 1;
            }
            _ => {
                let Some((position, taken)) = star else { return false };
                star = Some((position, taken + 1));
                at = position + 1;
                read = taken + 1;
            }
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{any, fits};

    #[test]
    fn one_must_mean_it_and_none_exclude_it() {
        assert!(any(["*.example.org", "w?"], "W1"));
        assert!(any(["*.example.org"], "a.b.example.org"));
        assert!(!any(["*.example.org", "!a.*"], "a.example.org"));
        assert!(!any(["!a.*", "*.example.org"], "a.example.org"));
        assert!(!any(["!a"], "b"), "nothing is meant by exclusions alone");
        assert!(any(["[10.0.0.*]:2222"], "[10.0.0.5]:2222"));
        assert!(!fits("w?", "w") && !fits("w", "w1") && fits("*", ""));
    }

    proptest! {
        #[test]
        fn a_text_fits_itself_and_what_a_star_replaces(text in "[a-z.0-9]{1,12}", from in 0usize..12, to in 0usize..12) {
            prop_assert!(fits(&text, &text));
            let (from, to) = (from.min(text.len()), to.min(text.len()));
            let (from, to) = (from.min(to), from.max(to));
            let pattern = format!("{}*{}", &text[..from], &text[to..]);
            prop_assert!(fits(&pattern, &text), "{} {}", pattern, text);
            let longer = format!("{text}x");
            prop_assert!(!fits(&text, &longer));
        }
    }
}
