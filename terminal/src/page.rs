//! The text output of a command: it consists of lines, so that no value in it can create a line.

use std::fmt::{self, Display};

use crate::Table;
use crate::escape::{visible, visible_lines};

/// Text for people, built line by line. Control and format characters in names, paths and responses are escaped, so
/// that a value stays within its line. Only the methods here end a line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Text(String);

impl Text {
    /// Creates a text with one line.
    pub fn of(line: impl Display) -> Self {
        let mut text = Self::default();
        text.line(line);
        text
    }

    /// Adds a line.
    pub fn line(&mut self, line: impl Display) -> &mut Self {
        self.0 += &visible(&line.to_string());
        self.0.push('\n');
        self
    }

    /// Adds a table.
    pub fn table(&mut self, table: &Table) -> &mut Self {
        self.0 += &table.to_string();
        self
    }

    /// Adds the output of a program, with its own lines.
    pub fn program(&mut self, said: &str) -> &mut Self {
        self.0 += &visible_lines(said);
        if !said.is_empty() && !said.ends_with('\n') {
            self.0.push('\n');
        }
        self
    }

    /// Adds the lines of another text.
    pub fn text(&mut self, other: &Self) -> &mut Self {
        self.indented("", other)
    }

    /// Adds the lines of another text, each after this indentation.
    pub fn indented(&mut self, spaces: &str, other: &Self) -> &mut Self {
        for line in other.0.lines() {
            self.0 += spaces;
            self.0 += line;
            self.0.push('\n');
        }
        self
    }

    /// Returns the text as it is printed.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&Table> for Text {
    fn from(table: &Table) -> Self {
        let mut text = Self::default();
        text.table(table);
        text
    }
}

/// Creates one line for each string.
impl FromIterator<String> for Text {
    fn from_iter<I: IntoIterator<Item = String>>(lines: I) -> Self {
        let mut text = Self::default();
        lines.into_iter().for_each(|line| {
            text.line(line);
        });
        text
    }
}

/// Concatenates the texts.
impl FromIterator<Text> for Text {
    fn from_iter<I: IntoIterator<Item = Text>>(texts: I) -> Self {
        let mut all = Self::default();
        texts.into_iter().for_each(|text| {
            all.text(&text);
        });
        all
    }
}

#[cfg(test)]
mod tests {
    use super::Text;
    use crate::Table;

    #[test]
    fn no_value_makes_a_line() {
        let name = "a\n+ /etc/passwd\u{202e}";
        let mut table = Table::new(["file"]);
        table.row([name]);
        let mut text = Text::of(format_args!("+ {name}"));
        text.table(&table).indented("  ", &Text::from(&table));
        let cell = "a\\n+ /etc/passwd\\u{202e}";
        assert_eq!(text.as_str(), format!("+ {cell}\nFILE\n{cell}\n  FILE\n  {cell}\n"));
        // Even a text of this type is escaped when it is used as a value.
        assert_eq!(Text::of(&text).as_str().lines().count(), 1);
    }

    #[test]
    fn a_program_keeps_its_lines() {
        let mut text = Text::default();
        text.program("").program("a\n\tb").program("c\u{1b}[2J\n");
        assert_eq!(text.as_str(), "a\n\tb\nc\\u{1b}[2J\n");
    }
}
