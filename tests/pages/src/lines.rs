//! What of a line is the same in every run. Sizes, times and digests are not, and neither is how wide a column is. Lines about
//! work that goes on at the same time come in any order: those that end with a time, and those about a worker.

/// The units of times and sizes.
const UNITS: [(&[&str], &str); 2] =
    [(&["µs", "ms", "s", "min", "h"], "<time>"), (&["B", "kB", "MB", "GB", "KiB", "MiB", "GiB"], "<size>")];
/// The fewest digits of a digest that are shown.
const DIGITS: usize = 12;

/// The lines of a text, as they are in every run.
pub(crate) fn steady(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text.trim_end().lines().map(line).collect();
    for run in lines.chunk_by_mut(|one, other| is_concurrent(one) && is_concurrent(other)) {
        run.sort();
    }
    lines
}

/// Whether work that goes on beside other work prints this line.
fn is_concurrent(line: &str) -> bool {
    line.ends_with("<time>") || line.starts_with("worker")
}

fn line(line: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut rest = line.split_whitespace().peekable();
    while let Some(word) = rest.next() {
        let (open, number) = word.split_at(word.len() - word.trim_start_matches('(').len());
        let unit = rest.peek().and_then(|next| unit(next)).filter(|_| is_number(number));
        if let Some((name, after)) = unit {
            rest.next();
            // A time may have two parts, `1 min 3 s`.
            if words.last().is_some_and(|last| last == name && name == "<time>") {
                words.pop();
            }
            words.push(format!("{open}{name}{after}"));
        } else {
            words.push(without_digest(word));
        }
    }
    words.join(" ")
}

/// The name of a unit's kind, and the punctuation after it.
fn unit(word: &str) -> Option<(&'static str, &str)> {
    let plain = word.trim_end_matches([',', ';', '.', ')', ':']);
    let (_, name) = UNITS.iter().find(|(units, _)| units.contains(&plain))?;
    Some((name, &word[plain.len()..]))
}

fn is_number(word: &str) -> bool {
    word.bytes().any(|byte| byte.is_ascii_digit()) && word.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
}

/// A word with no digest in it: `<digest>` stands for each row of hexadecimal digits that is long enough.
fn without_digest(word: &str) -> String {
    let mut text = String::new();
    let is_digit = |letter: char| matches!(letter, '0'..='9' | 'a'..='f');
    let mut digits = String::new();
    for letter in word.chars().chain([' ']) {
        if is_digit(letter) {
            digits.push(letter);
        } else {
            text.push_str(if digits.len() >= DIGITS { "<digest>" } else { &digits });
            digits.clear();
            text.push(letter);
        }
    }
    text.truncate(text.len() - 1);
    text
}

/// Whether a line is as expected, where `…` is any text.
pub(crate) fn is_like(expected: &str, printed: &str) -> bool {
    let mut parts = expected.split('…');
    let Some(mut rest) = parts.next().and_then(|first| printed.strip_prefix(first)) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::{is_like, line, steady};

    #[test]
    fn sizes_times_digests_and_widths_are_left_out() {
        for (text, same) in [
            ("a      b", "a b"),
            ("compile  hello linux/amd64  1 min 3 s", "compile hello linux/amd64 <time>"),
            ("7 actions: 2 run, 5 reused, 808 ms", "7 actions: 2 run, 5 reused, <time>"),
            ("pushed  helper  3/3  2.44 MB  2.73 MB  950 ms", "pushed helper 3/3 <size> <size> <time>"),
            ("freed 2.44 MB of 3 blobs (8 kB)", "freed <size> of 3 blobs (<size>)"),
            ("sha256:fde37c0763d2 of layer", "sha256:<digest> of layer"),
            ("facade 0123456789a 20250419~deb12u2", "facade 0123456789a 20250419~deb12u2"),
            ("12 of 3 blobs, 4 B", "12 of 3 blobs, <size>"),
        ] {
            assert_eq!(line(text), same);
        }
    }

    #[test]
    fn work_at_the_same_time_is_reported_in_any_order() {
        let one = steady("worker1: done\nworker2: done\nNODE  TIME\nworker2 a\nb 1 s\na 2 s\n");
        let other = steady("worker2: done\nworker1: done\nNODE TIME\nworker2 a\na 1 s\nb 2 s\n");
        assert_eq!(one, other);
        assert_ne!(steady("b\na"), steady("a\nb"));
    }

    #[test]
    fn any_text_may_be_in_the_place_of_an_ellipsis_and_nowhere_else() {
        for (expected, printed) in [("took … s", "took 1.25 s"), ("… of … done", "1 of 2 done"), ("x…", "x"), ("…", "")]
        {
            assert!(is_like(expected, printed), "{expected:?} and {printed:?}");
        }
        for (expected, printed) in [("took … s", "took 1.25 ms"), ("x…y", "xz"), ("ab…ba", "aba"), ("a", "ab")] {
            assert!(!is_like(expected, printed), "{expected:?} and {printed:?}");
        }
    }
}
