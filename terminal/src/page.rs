//! What a command prints for people: text that is made of lines, so that no value in it can make one.

use std::fmt::{self, Display};

use crate::Table;
use crate::escape::{visible, visible_lines};

/// Text for people, put together line by line. Whatever is in a line stays in it and is seen: control and format characters of
/// names, paths and answers are spelt out. Only the methods here end a line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Text(String);

impl Text {
    /// Text of this one line.
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

    /// Adds a program's output, with its own lines.
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

    /// Adds the lines of another text, each after these spaces.
    pub fn indented(&mut self, spaces: &str, other: &Self) -> &mut Self {
        for line in other.0.lines() {
            self.0 += spaces;
            self.0 += line;
            self.0.push('\n');
        }
        self
    }

    /// The text, as it is printed.
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

/// One line for each.
impl FromIterator<String> for Text {
    fn from_iter<I: IntoIterator<Item = String>>(lines: I) -> Self {
        let mut text = Self::default();
        lines.into_iter().for_each(|line| {
            text.line(line);
        });
        text
    }
}

/// One after the other.
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
        // Not even text that was made here, once it is a value.
        assert_eq!(Text::of(&text).as_str().lines().count(), 1);
    }

    #[test]
    fn a_program_keeps_its_lines() {
        let mut text = Text::default();
        text.program("").program("a\n\tb").program("c\u{1b}[2J\n");
        assert_eq!(text.as_str(), "a\n\tb\nc\\u{1b}[2J\n");
    }
}
