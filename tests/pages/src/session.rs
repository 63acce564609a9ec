//! Blocks of the language `console`: commands after `$`, each followed by what it prints.
//!
//! `…` in a line stands for any text, and a line that is `…` alone for any lines. A command goes on in the next line after a
//! backslash. The exit code must be 0, unless the output ends with the line `(exit code N)`.

use crate::{Block, Page};

/// A command with what it prints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Where it is: `PAGE:LINE`.
    pub place: String,
    /// The command, for a shell.
    pub command: String,
    /// What it prints, as the page has it.
    pub output: String,
    /// How it ends.
    pub code: i32,
}

/// All commands of a page's `console` blocks.
#[must_use]
pub fn steps(page: &Page) -> Vec<Step> {
    page.blocks().iter().filter(|block| block.language == "console").flat_map(|block| of_block(page, block)).collect()
}

fn of_block(page: &Page, block: &Block<'_>) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut continues = false;
    for (number, line) in block.text().enumerate() {
        let place = format!("{}:{}", page.path, block.line + 1 + number);
        match (line.strip_prefix("$ "), steps.last_mut()) {
            (None, Some(step)) if continues => step.command += &format!("\n{line}"),
            (Some(command), _) => {
                steps.push(Step { place, command: command.to_owned(), output: String::new(), code: 0 });
            }
            (None, Some(step)) => {
                let code = line.strip_prefix("(exit code ").and_then(|rest| rest.strip_suffix(')'));
                match code.map(|code| code.parse().unwrap()) {
                    Some(code) => step.code = code,
                    None => step.output += &format!("{line}\n"),
                }
            }
            (None, None) => panic!("{place}: a console block begins with `$ `"),
        }
        continues = steps.last().is_some_and(|step| step.output.is_empty() && step.command.ends_with('\\'));
    }
    steps
}

/// Where printed text is not what a page expects; nothing where it is.
#[must_use]
pub fn differs(expected: &str, printed: &str) -> Option<String> {
    let expected: Vec<&str> = expected.trim_end().lines().map(str::trim_end).collect();
    let printed: Vec<&str> = printed.trim_end().lines().map(str::trim_end).collect();
    if matches_lines(&expected, &printed) {
        return None;
    }
    let same = expected.iter().zip(&printed).take_while(|(one, other)| matches_line(one, other)).count();
    Some(format!("from line {} of the output on; printed:\n{}\n", same + 1, printed.join("\n")))
}

fn matches_lines(expected: &[&str], printed: &[&str]) -> bool {
    match expected.split_first() {
        None => printed.is_empty(),
        Some((&"…", rest)) => (0..=printed.len()).any(|skipped| matches_lines(rest, &printed[skipped..])),
        Some((line, rest)) => match printed.split_first() {
            Some((other, others)) => matches_line(line, other) && matches_lines(rest, others),
            None => false,
        },
    }
}

/// Whether a line is as expected: `…` is any text, and any number of blanks in a row is one, for columns are as wide as what
/// is in them.
fn matches_line(expected: &str, printed: &str) -> bool {
    let narrow = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (expected, printed) = (narrow(expected), narrow(printed));
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
    use super::{Step, differs, steps};
    use crate::Page;

    #[test]
    fn commands_are_read_with_their_output_and_code() {
        let text =
            "```console\n$ one \\\n    --two\nprinted\n\n  more\n$ false\n(exit code 1)\n```\n```sh\nnot run\n```\n";
        let page = Page { path: "a.md".into(), text: text.to_owned() };
        let step = |place: &str, command: &str, output: &str, code| Step {
            place: place.to_owned(),
            command: command.to_owned(),
            output: output.to_owned(),
            code,
        };
        let expected = [step("a.md:2", "one \\\n    --two", "printed\n\n  more\n", 0), step("a.md:7", "false", "", 1)];
        assert_eq!(steps(&page), expected);
    }

    #[test]
    fn what_varies_may_be_left_out_and_nothing_else() {
        for (expected, printed) in [
            ("a\nb\n", "a\nb"),
            ("took … s", "took 1.25 s"),
            ("name  …  size", "name      12    size"),
            ("…", ""),
            ("…", "a\nb\nc"),
            ("a\n…\nz", "a\nz"),
            ("a\n…\nz", "a\nb\nc\nz"),
            ("… of … done", "1 of 2 done"),
            ("x…", "x"),
        ] {
            assert_eq!(differs(expected, printed), None, "{expected:?} and {printed:?}");
        }
        for (expected, printed) in [
            ("", "a"),
            ("a", ""),
            ("a\nb", "a\nc"),
            ("took … s", "took 1.25 ms"),
            ("a\n…\nz", "a\nb"),
            ("x…y", "xz"),
            ("sha…", "md5"),
            ("ab…ba", "aba"),
        ] {
            assert!(differs(expected, printed).is_some(), "{expected:?} and {printed:?}");
        }
    }
}
