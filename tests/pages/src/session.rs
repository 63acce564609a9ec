//! Blocks of the language `console`: commands after `$`, each followed by what it prints.
//!
//! A command goes on in the next line after a backslash. The exit code must be 0, unless the output ends with the line
//! `(exit code N)`. A block whose fence has a second word is the content of the file of that name.

use crate::lines::{is_like, steady};
use crate::{Block, Page};

/// What a reader of a page does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// Writes a file, with this name and content.
    File(String, String),
    /// Runs a command.
    Command(Step),
}

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

/// All that a reader does, in order.
#[must_use]
pub fn items(page: &Page) -> Vec<Item> {
    let mut items = Vec::new();
    for block in page.blocks() {
        if let Some(name) = block.file {
            let content = block.text().map(|line| format!("{line}\n")).collect();
            items.push(Item::File(name.to_owned(), content));
        } else if block.language == "console" {
            items.extend(steps(page, &block).into_iter().map(Item::Command));
        }
    }
    items
}

fn steps(page: &Page, block: &Block<'_>) -> Vec<Step> {
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

/// Where printed text is not what a page has; nothing where it is.
#[must_use]
pub fn differs(expected: &str, printed: &str) -> Option<String> {
    let (steady_expected, steady_printed) = (steady(expected), steady(printed));
    if are_like(&steady_expected, &steady_printed) {
        return None;
    }
    let same = steady_expected.iter().zip(&steady_printed).take_while(|(one, other)| is_like(one, other)).count();
    let wanted = steady_expected.get(same).map_or("nothing more", String::as_str);
    Some(format!("expected: {wanted}\nall that was printed:\n{}\n", printed.trim_end()))
}

fn are_like(expected: &[String], printed: &[String]) -> bool {
    match expected.split_first() {
        None => printed.is_empty(),
        Some((any, rest)) if any == "…" => (0..=printed.len()).any(|skipped| are_like(rest, &printed[skipped..])),
        Some((line, rest)) => {
            printed.split_first().is_some_and(|(other, others)| is_like(line, other) && are_like(rest, others))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Item, Step, differs, items};
    use crate::Page;

    #[test]
    fn commands_are_read_with_their_output_and_code() {
        let text = "```console\n$ one \\\n    --two\nprinted\n\n  more\n$ false\n(exit code 1)\n```\n\
                    ```sh\nnot run\n```\n```toml a.toml\nkey = 1\n```\n";
        let page = Page { path: "a.md".into(), text: text.to_owned() };
        let step = |place: &str, command: &str, output: &str, code| {
            let [place, command, output] = [place, command, output].map(str::to_owned);
            Item::Command(Step { place, command, output, code })
        };
        let expected = [
            step("a.md:2", "one \\\n    --two", "printed\n\n  more\n", 0),
            step("a.md:7", "false", "", 1),
            Item::File("a.toml".to_owned(), "key = 1\n".to_owned()),
        ];
        assert_eq!(items(&page), expected);
    }

    #[test]
    fn lines_may_be_left_out_where_the_page_says_so() {
        for (expected, printed) in
            [("a\nb\n", "a\nb"), ("…", ""), ("…", "a\nb"), ("a\n…\nz", "a\nz"), ("a\n…\nz", "a\nb\nz")]
        {
            assert_eq!(differs(expected, printed), None, "{expected:?} and {printed:?}");
        }
        for (expected, printed) in [("", "a"), ("a", ""), ("a\nb", "a\nc"), ("a\n…\nz", "a\nb")] {
            assert!(differs(expected, printed).is_some(), "{expected:?} and {printed:?}");
        }
    }
}
