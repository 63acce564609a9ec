//! Command lines of the two tools, as pages show them: whole in blocks, and in part between backticks.

use clap::Command;

use crate::Page;

/// A command line that a page shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Where it is: `PAGE:LINE`, the line of a block's fence or of the text.
    pub place: String,
    /// Its words, the first of them the tool.
    pub words: Vec<String>,
}

/// The languages of blocks with commands.
const LANGUAGES: [&str; 2] = ["console", "sh"];

impl Page {
    /// The command lines of `tool` in the page's blocks.
    #[must_use]
    pub fn shown(&self, tool: &str) -> Vec<Shown> {
        let mut shown = Vec::new();
        for block in self.blocks().iter().filter(|block| LANGUAGES.contains(&block.language)) {
            let is_session = block.language == "console";
            let text = block.text().collect::<Vec<_>>().join("\n").replace("\\\n", " ");
            for line in text.lines() {
                let line = if is_session { line.strip_prefix("$ ").unwrap_or_default() } else { line };
                shown.extend(of_line(line, tool).map(|words| Shown { place: self.at(block.line), words }));
            }
        }
        shown
    }

    /// The words of what the page has between backticks and begins with `tool`.
    fn mentioned(&self, tool: &str) -> Vec<Vec<String>> {
        let mut text = self.text.clone();
        for block in self.blocks() {
            text = text.replace(block.lines, "");
        }
        let spans = text.split('`').skip(1).step_by(2).filter(|span| !span.is_empty());
        let spans = spans.filter(|span| span.split_whitespace().next() == Some(tool));
        spans.map(|span| span.split_whitespace().map(str::to_owned).collect()).collect()
    }

    fn at(&self, line: usize) -> String {
        format!("{}:{line}", self.path)
    }
}

/// The words of a command line, if its program is `tool`; what follows it in a pipe or a list is left out.
fn of_line(line: &str, tool: &str) -> Option<Vec<String>> {
    let words = shlex::split(line.trim())?;
    let is_setting = |word: &&String| word.split_once('=').is_some_and(|(name, _)| !name.starts_with('-'));
    let words = words.into_iter().skip_while(|word| is_setting(&word));
    let ends = |word: &str| matches!(word, "|" | "||" | "&&" | ";" | ">" | "&" | "2>");
    let words: Vec<String> = words.take_while(|word| !ends(word)).collect();
    words.first().is_some_and(|first| first == tool).then_some(words)
}

/// All that pages show of `tool` and this is not its command line: what a block has is to be taken as it stands, values too;
/// what is between backticks is to name subcommands and options that are there.
#[must_use]
pub fn wrong(tool: &Command, pages: &[Page]) -> Vec<String> {
    let name = tool.get_name();
    let mut wrong = Vec::new();
    for page in pages {
        for Shown { place, words } in page.shown(name) {
            wrong.extend(refused(tool, &words).map(|why| format!("{place}: {}: {why}", words.join(" "))));
        }
        for words in page.mentioned(name) {
            wrong.extend(unknown(tool, &words).map(|word| format!("{}: `{}`: no {word}", page.path, words.join(" "))));
        }
    }
    wrong
}

/// The first word of a part of a command line that the tool does not know: a subcommand or a long option.
fn unknown(tool: &Command, words: &[String]) -> Option<String> {
    let mut command = tool;
    for word in &words[1..] {
        if let Some(option) = word.trim_start_matches('[').strip_prefix("--") {
            let option = option.split(['=', '[', ']']).next().unwrap_or_default();
            let mut known = command.get_arguments().chain(tool.get_arguments()).filter_map(|arg| arg.get_long());
            if !option.is_empty() && !matches!(option, "help" | "version") && !known.any(|known| known == option) {
                return Some(word.clone());
            }
        } else if command.has_subcommands() {
            let is_name = word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
            match command.find_subcommand(word) {
                Some(found) => command = found,
                None if is_name && !word.starts_with('-') => return Some(word.clone()),
                None => {}
            }
        }
    }
    None
}

/// Why a tool with this command line does not take the words; nothing where it does.
fn refused(command: &Command, words: &[String]) -> Option<String> {
    use clap::error::ErrorKind::{DisplayHelp, DisplayVersion};
    let error = command.clone().try_get_matches_from(words).err()?;
    let is_help = matches!(error.kind(), DisplayHelp | DisplayVersion);
    (!is_help).then(|| error.to_string())
}

#[cfg(test)]
mod tests {
    use clap::{Arg, Command};

    use super::{of_line, refused, wrong};
    use crate::Page;

    fn words(line: &str) -> Option<String> {
        of_line(line, "tool").map(|words| words.join(" "))
    }

    #[test]
    fn the_words_of_a_command_line_are_read_as_a_shell_does() {
        assert_eq!(words("tool push 'a b' # why").as_deref(), Some("tool push a b"));
        assert_eq!(words("A=1 tool push | head -1 || true").as_deref(), Some("tool push"));
        assert_eq!(words("tool graph > graph.svg").as_deref(), Some("tool graph"));
        assert_eq!(words("other push"), None);
        assert_eq!(words("# tool push"), None);
    }

    #[test]
    fn command_lines_are_found_in_blocks_of_commands_alone() {
        let text =
            "```console\n$ tool a \\\n    --b\ntool printed this\n```\n```sh\ntool c\n```\n```text\ntool d\n```\n";
        let page = Page { path: "a.md".into(), text: text.to_owned() };
        let shown: Vec<_> = page.shown("tool").into_iter().map(|shown| (shown.place, shown.words.join(" "))).collect();
        assert_eq!(shown, [("a.md:1".to_owned(), "tool a --b".to_owned()), ("a.md:6".to_owned(), "tool c".to_owned())]);
    }

    #[test]
    fn an_option_that_is_not_there_is_refused() {
        let tool = Command::new("tool").subcommand(Command::new("push").arg(Arg::new("to").long("to")));
        let refused = |line: &str| refused(&tool, &shlex::split(line).unwrap());
        assert_eq!(refused("tool push --to x"), None);
        assert_eq!(refused("tool push --help"), None);
        assert!(refused("tool push --too x").unwrap().contains("--too"));
        assert!(refused("tool pull").unwrap().contains("pull"));
    }

    #[test]
    fn a_page_that_names_what_is_not_there_is_found() {
        let tool = Command::new("tool").subcommand(Command::new("push").arg(Arg::new("to").long("to").required(true)));
        let text = "Of `tool`, `tool push`, `tool push --to URL`, `tool push [--to=URL]`, `tool pull`, `tool push --from URL` \
                    and `other --none`.\n\n```sh\ntool push\n```\n";
        let page = Page { path: "a.md".into(), text: text.to_owned() };
        let wrong = wrong(&tool, &[page]);
        assert_eq!(wrong.len(), 3, "{wrong:#?}");
        assert!(wrong[0].starts_with("a.md:3: tool push: error: "));
        assert_eq!(wrong[1..], ["a.md: `tool pull`: no pull", "a.md: `tool push --from URL`: no --from"]);
    }
}
