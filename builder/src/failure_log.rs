//! The output of failed programs: the whole output goes to a file in the store, and the error shows an excerpt.

use std::fs;

use vcsandbox::process;
use vcstore::{Action, Store};

use crate::Error;
use crate::error::OutputExcerpt;

/// The number of lines that an excerpt of a longer output shows from its start and its end.
const FIRST: usize = 40;
const LAST: usize = 20;

/// Writes the whole output of the failed program to a file, and returns the error with the path of that file; returns
/// the error unchanged if no program failed.
pub(crate) fn keep(store: &Store, action: &Action, error: Error) -> Error {
    let Some(output) = standard_error(&error) else { return error };
    let path = store.path().join("logs").join(format!("{}.log", file_stem(action)));
    let folder = path.parent().unwrap_or(store.path());
    let written = fs::create_dir_all(folder)
        .and_then(|()| vcstore::atomic::replace(&path, vcterminal::masked(&output).as_bytes()));
    match written {
        Ok(()) => {
            let shown = OutputExcerpt(shorten(output.trim_end()));
            Error::Action { error: Box::new(error), shown, log: path }
        }
        Err(why) => {
            // The output itself is more important than the file.
            tracing::warn!("writing {path}: {why}");
            error
        }
    }
}

/// Returns the whole standard error of the failed program among the causes.
fn standard_error(error: &Error) -> Option<String> {
    let mut cause = std::error::Error::source(error);
    while let Some(this) = cause {
        let boxed = this.downcast_ref::<Box<process::Failure>>().map(AsRef::as_ref);
        if let Some(failure) = boxed.or_else(|| this.downcast_ref::<process::Failure>()) {
            return failure.stderr().filter(|stderr| !stderr.trim().is_empty()).map(ToOwned::to_owned);
        }
        cause = this.source();
    }
    None
}

/// Returns a readable file name: the same for each run of an action, whatever its key, so that the newest failure
/// replaces an older one and the folder stays small.
fn file_stem(action: &Action) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '-' };
    format!("{} {}", action.kind(), action.name()).chars().map(plain).take(120).collect()
}

fn shorten(output: &str) -> String {
    let lines: Vec<&str> = output.lines().collect();
    if lines.len() <= FIRST + LAST {
        return output.to_owned();
    }
    let left_out = lines.len() - FIRST - LAST;
    format!("{}\n… {left_out} lines …\n{}", lines[..FIRST].join("\n"), lines[lines.len() - LAST..].join("\n"))
}

#[cfg(test)]
mod tests {
    use super::{file_stem, shorten};

    #[test]
    fn few_lines_are_shown_whole_and_of_many_the_ends() {
        let lines = |count: usize| (1..=count).map(|number| format!("line {number}")).collect::<Vec<_>>().join("\n");
        assert_eq!(shorten(&lines(60)), lines(60));
        let shown = shorten(&lines(1000));
        assert!(shown.starts_with("line 1\nline 2\n") && shown.ends_with("\nline 999\nline 1000"), "{shown}");
        assert!(shown.contains("\nline 40\n… 940 lines …\nline 981\n"), "{shown}");
    }

    #[test]
    fn a_log_is_named_for_its_action_and_stays_in_its_folder() {
        let action = vcstore::Action::new("compile", "../../etc/a b linux/amd64");
        assert_eq!(file_stem(&action), "compile-..-..-etc-a-b-linux-amd64");
    }
}
