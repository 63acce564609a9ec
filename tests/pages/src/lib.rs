//! The documents for people, as tests read them: the commands that they show, what these print, and where links lead.
//!
//! A test that cannot read a page panics with the reason.
#![expect(clippy::missing_panics_doc, clippy::unwrap_used, reason = "test code: a panic is a failed test")]

mod help;
mod line;
mod lines;
mod links;
mod session;

use std::fs;

use camino::{Utf8Path, Utf8PathBuf};

pub use help::wrapped;
pub use line::{Shown, wrong};
pub use links::dead;
pub use session::{Item, Step, differs, items};

/// A page.
#[derive(Debug, Clone)]
pub struct Page {
    /// Its path from the repository's root.
    pub path: Utf8PathBuf,
    /// Its text.
    pub text: String,
}

/// A fenced block of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block<'a> {
    /// The word after the fence.
    pub language: &'a str,
    /// The second word after the fence, which names the file that the block is the content of.
    pub file: Option<&'a str>,
    /// The number of the fence's line, from 1.
    pub line: usize,
    /// What is between the fences, without what all lines are indented by.
    pub lines: &'a str,
    /// How far the fence is indented.
    pub indent: usize,
}

/// The repository's root.
#[must_use]
pub fn repository() -> Utf8PathBuf {
    Utf8Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

/// All pages: those in the repository's root, and below `docs`.
#[must_use]
pub fn pages() -> Vec<Page> {
    let root = repository();
    let mut pages = Vec::new();
    let mut folders = vec![(root.clone(), false), (root.join("docs"), true)];
    while let Some((folder, deep)) = folders.pop() {
        for entry in folder.read_dir_utf8().unwrap() {
            let path = entry.unwrap().into_path();
            if path.is_dir() && deep {
                folders.push((path, true));
            } else if path.extension() == Some("md") {
                let text = fs::read_to_string(&path).unwrap();
                pages.push(Page { path: path.strip_prefix(&root).unwrap().to_owned(), text });
            }
        }
    }
    pages.sort_by(|one, other| one.path.cmp(&other.path));
    pages
}

/// The page of this path from the repository's root.
#[must_use]
pub fn page(path: &str) -> Page {
    pages().into_iter().find(|page| page.path == path).unwrap_or_else(|| panic!("there is no page {path}"))
}

impl Page {
    /// The fenced blocks, in order.
    #[must_use]
    pub fn blocks(&self) -> Vec<Block<'_>> {
        let mut blocks = Vec::new();
        let mut open: Option<(&str, usize, usize, usize)> = None;
        let mut at = 0;
        for (number, line) in self.text.split_inclusive('\n').enumerate() {
            let trimmed = line.trim();
            match open {
                None if trimmed.starts_with("```") => {
                    let indent = line.len() - line.trim_start().len();
                    open = Some((trimmed.trim_start_matches('`'), number + 1, at + line.len(), indent));
                }
                Some((language, line, start, indent)) if trimmed == "```" => {
                    let (language, file) =
                        language.split_once(' ').map_or((language, None), |(one, two)| (one, Some(two)));
                    blocks.push(Block { language, file, line, lines: &self.text[start..at], indent });
                    open = None;
                }
                _ => {}
            }
            at += line.len();
        }
        assert!(open.is_none(), "{}: the block of line {} has no end", self.path, open.unwrap().1);
        blocks
    }
}

impl Block<'_> {
    /// The lines, without the fence's indentation.
    pub fn text(&self) -> impl Iterator<Item = &str> {
        self.lines.lines().map(|line| {
            let blanks = line.len() - line.trim_start_matches(' ').len();
            &line[blanks.min(self.indent)..]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Block, Page};

    #[test]
    fn blocks_are_found_with_their_language_and_line() {
        let text = "# A\n\n```go main.go\none\n```\n\n1. x\n\n   ```console\n   $ two\n     three\n   ```\n".to_owned();
        let page = Page { path: "a.md".into(), text };
        let blocks = page.blocks();
        assert_eq!(blocks[0], Block { language: "go", file: Some("main.go"), line: 3, lines: "one\n", indent: 0 });
        assert_eq!((blocks[1].language, blocks[1].line), ("console", 9));
        assert_eq!(blocks[1].text().collect::<Vec<_>>(), ["$ two", "  three"]);
    }
}
