//! Whether what messages advise can be followed: the options and commands that they name exist. Both tools' tests use it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The options of each command of a tool, by its path below the tool, as its help has them.
pub(crate) struct Tool {
    name: &'static str,
    commands: BTreeMap<String, BTreeSet<String>>,
}

impl Tool {
    /// Asks the program itself, and of commands that its help hides those named.
    pub(crate) fn of(name: &'static str, program: &str, hidden: &[&str]) -> Self {
        let mut tool = Self { name, commands: BTreeMap::new() };
        let mut ask: Vec<String> = vec![String::new()];
        ask.extend(hidden.iter().map(|one| (*one).to_owned()));
        while let Some(path) = ask.pop() {
            let output =
                Command::new(program).args(path.split_whitespace()).arg("--help").output().expect("the tool runs");
            assert!(output.status.success(), "{name} {path} --help");
            let help = String::from_utf8(output.stdout).expect("help is UTF-8");
            let commands =
                help.split("\nCommands:\n").nth(1).unwrap_or_default().split("\n\n").next().unwrap_or_default();
            let is_name = |line: &&str| line.starts_with("  ") && !line.starts_with("   ");
            for command in commands.lines().filter(is_name).filter_map(|line| line.split_whitespace().next()) {
                if command != "help" {
                    ask.push(format!("{path} {command}").trim().to_owned());
                }
            }
            tool.commands.insert(path, options(&help).collect());
        }
        tool
    }

    /// What messages in the sources below `folder` name that there is not. `foreign` are options of other programs.
    pub(crate) fn missing(&self, folder: &Path, foreign: &[&str]) -> Vec<String> {
        let mut missing = Vec::new();
        let all: BTreeSet<&String> = self.commands.values().flatten().collect();
        for path in sources(folder) {
            let text = fs::read_to_string(&path).expect("a source file");
            // What has spaces in it is for people, or for a shell.
            let is_message = |literal: &String| literal.trim().contains(' ') && !literal.contains('$');
            for message in literals(&text).filter(is_message) {
                let unknown =
                    options(&message).filter(|option| !all.contains(option) && !foreign.contains(&option.as_str()));
                missing.extend(unknown.map(|option| format!("{}: {option} in {message:?}", path.display())));
                for command in message.split('`').skip(1).step_by(2) {
                    missing.extend(self.wrong(command).map(|why| format!("{}: {why} in {message:?}", path.display())));
                }
            }
        }
        missing
    }

    /// What is wrong with a command of this tool, if it is one.
    fn wrong(&self, command: &str) -> Option<String> {
        let rest = command.strip_prefix(self.name)?.strip_prefix(' ')?;
        let words: Vec<&str> = rest.split_whitespace().collect();
        let (mut path, mut known) = (String::new(), &self.commands[""]);
        for word in &words {
            let next = format!("{path} {word}").trim().to_owned();
            let Some(options) = self.commands.get(&next) else { break };
            (path, known) = (next, options);
        }
        if path.is_empty() && words.first().is_some_and(|word| !word.starts_with('-') && *word != "help") {
            return Some(format!("`{command}` is no command"));
        }
        options(rest).find(|option| !known.contains(option)).map(|option| format!("`{command}` has no {option}"))
    }
}

/// The long options in a text.
fn options(text: &str) -> impl Iterator<Item = String> + '_ {
    text.match_indices("--").filter_map(|(at, _)| {
        let before = text[..at].chars().next_back();
        let rest = &text[at + 2..];
        let name = &rest[..rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '-').unwrap_or(rest.len())];
        let begins = before.is_none_or(|c| c.is_whitespace() || matches!(c, '(' | '`' | '"' | '[' | '/' | '|' | ','));
        (begins && name.starts_with(|c: char| c.is_ascii_lowercase())).then(|| format!("--{name}"))
    })
}

/// The source files below a folder, without those that are tests alone.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("a folder of sources").path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|kind| kind == "rs") && !path.ends_with("tests.rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The string literals of Rust source, as far as its tests at the end, with their escapes undone where they matter here.
fn literals(source: &str) -> impl Iterator<Item = String> + '_ {
    let source = source.split("#[cfg(test)]\nmod ").next().unwrap_or(source);
    let mut rest = source;
    std::iter::from_fn(move || {
        loop {
            let at = rest.find(['"', '/', '\''])?;
            let from = &rest[at..];
            if from.starts_with("//") {
                rest = from.split_once('\n')?.1;
            } else if from.starts_with("'\"'") || from.starts_with("'\\\"'") || from.starts_with("'/'") {
                rest = &from[3..];
            } else if let Some(text) = from.strip_prefix('"') {
                let hashes = rest[..at].len() - rest[..at].trim_end_matches('#').len();
                if rest[..at - hashes].ends_with('r') {
                    let (literal, after) = text.split_once(&format!("\"{}", "#".repeat(hashes)))?;
                    rest = after;
                    return Some(literal.to_owned());
                }
                let mut literal = String::new();
                let mut chars = text.char_indices();
                while let Some((at, c)) = chars.next() {
                    match c {
                        '"' => {
                            rest = &text[at + 1..];
                            return Some(literal);
                        }
                        '\\' => match chars.next()?.1 {
                            '\n' => {
                                while literal.ends_with(' ')
                                    && chars.as_str().starts_with(' ')
                                    && chars.next().is_some()
                                {}
                            }
                            'n' | 't' => literal.push(' '),
                            other => literal.push(other),
                        },
                        // A literal that goes on in the next line begins where that line does.
                        other => literal.push(other),
                    }
                }
                return None;
            } else {
                rest = &from[1..];
            }
        }
    })
}
