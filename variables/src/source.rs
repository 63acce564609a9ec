//! Files of variables and places in them, for messages and for what a variable was before it was resolved.

use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};

/// The largest file that is read, in bytes.
const LARGEST: u64 = 16 << 20;

/// A file, read whole.
#[derive(PartialEq, Eq)]
pub struct Source {
    /// Where it is, or what stands for it: the table of defaults is no file.
    pub path: Utf8PathBuf,
    /// What is in it.
    pub text: String,
}

impl Source {
    /// A text that is already there.
    #[must_use]
    pub fn new(path: impl Into<Utf8PathBuf>, text: impl Into<String>) -> Arc<Self> {
        Arc::new(Self { path: path.into(), text: text.into() })
    }

    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, is not UTF-8, or has more than 16 MiB.
    pub fn read(path: &Utf8Path) -> io::Result<Arc<Self>> {
        let mut text = String::new();
        std::fs::File::open(path)?.take(LARGEST + 1).read_to_string(&mut text)?;
        if text.len() as u64 > LARGEST {
            return Err(io::Error::other(format!("it has more than {} MiB", LARGEST >> 20)));
        }
        Ok(Self::new(path, text))
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} bytes)", self.path, self.text.len())
    }
}

/// A line of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub source: Arc<Source>,
    /// The line, from 1.
    pub line: usize,
}

impl Place {
    /// The place of this line.
    #[must_use]
    pub fn new(source: &Arc<Source>, line: usize) -> Self {
        Self { source: Arc::clone(source), line }
    }

    /// The file; nothing for what no file holds, such as a role's default.
    #[must_use]
    pub fn file(&self) -> Option<&Utf8Path> {
        Some(self.source.path.as_path()).filter(|path| !path.as_str().starts_with('<'))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.file() {
            Some(path) => write!(f, "{path}:{}", self.line),
            None => f.write_str(self.source.path.as_str().trim_matches(['<', '>'])),
        }
    }
}
