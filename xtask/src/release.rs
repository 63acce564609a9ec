//! `cargo xtask release`: the local part of a release. It updates the version everywhere, and creates a commit and a
//! tag; the user publishes them.

use std::fs;
use std::process::Command;
use std::time::SystemTime;

use chrono::{DateTime, Utc};
use vcterminal::{Exit, tell};

use crate::command::{capture, cargo, root, run as run_command};
use crate::error::Error;

/// Prepare a release: version, changelog, commit and tag.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The version, as MAJOR.MINOR.PATCH (Semantic Versioning)
    #[arg(value_parser = parse_version)]
    version: String,
}

/// The line of the changelog above the new entries.
const UNRELEASED: &str = "## [Unreleased]\n";

/// Runs the task.
pub(crate) fn run(arguments: &Arguments) -> Result<Exit, Error> {
    let version = &arguments.version;
    let refused = |why: String| Error::Unexpected { step: "preparing a release", why };
    let changed = capture(git().args(["status", "--porcelain"]))?;
    if !changed.is_empty() {
        return Err(refused(format!("these files are not committed:\n{changed}")));
    }
    if !capture(git().args(["tag", "--list", &format!("v{version}")]))?.is_empty() {
        return Err(refused(format!("the tag v{version} exists")));
    }
    let date = DateTime::<Utc>::from(SystemTime::now()).format("%Y-%m-%d").to_string();
    for (file, edit) in [("CHANGELOG.md", &changelog as &Edit), ("Cargo.toml", &manifest)] {
        let path = root().join(file);
        let text = fs::read_to_string(&path).map_err(Error::io("reading", &path))?;
        let text = edit(&text, version, &date).map_err(|why| refused(format!("{file} {why}")))?;
        fs::write(&path, text).map_err(Error::io("writing", &path))?;
    }
    for folder in [root(), root().join("fuzz")] {
        run_command(cargo().current_dir(folder).args(["update", "--workspace", "--quiet"]))?;
    }
    run_command(git().args(["commit", "--quiet", "--all", "--message", &format!("Release {version}")]))?;
    run_command(git().args(["tag", "--annotate", &format!("v{version}"), "--message", &format!("Release {version}")]))?;
    tell(format_args!("committed and tagged v{version}"));
    tell("left to do: cargo xtask test; git push --follow-tags; cargo xtask dist, whose folder is what is published");
    Ok(Exit::Done)
}

/// Returns a file's text for the release of a version on a date, or the reason why that is not possible.
type Edit = dyn Fn(&str, &str, &str) -> Result<String, String>;

/// Moves the unreleased entries to a section for the version.
fn changelog(text: &str, version: &str, date: &str) -> Result<String, String> {
    let (before, after) = text.split_once(UNRELEASED).ok_or("has no section Unreleased")?;
    let entries = after.split("\n## ").next().unwrap_or_default();
    if entries.trim().is_empty() {
        return Err("has nothing under Unreleased".to_owned());
    }
    Ok(format!("{before}{UNRELEASED}\n## [{version}] - {date}\n{after}"))
}

/// Changes the common version of all crates.
fn manifest(text: &str, version: &str, _date: &str) -> Result<String, String> {
    let (before, after) =
        text.split_once("[workspace.package]\nversion = \"").ok_or("has no version of the workspace")?;
    let (old, after) = after.split_once('"').ok_or("has no version of the workspace")?;
    let numbers = |version: &str| version.split('.').map(str::parse::<u64>).collect::<Result<Vec<_>, _>>().ok();
    if numbers(old) >= numbers(version) {
        return Err(format!("has version {old}, which is not below {version}"));
    }
    Ok(format!("{before}[workspace.package]\nversion = \"{version}\"{after}"))
}

fn parse_version(text: &str) -> Result<String, String> {
    let is_number = |part: &str| part.parse::<u64>().is_ok_and(|number| number.to_string() == part);
    let is_version = text.split('.').count() == 3 && text.split('.').all(is_number);
    if is_version { Ok(text.to_owned()) } else { Err("a version is MAJOR.MINOR.PATCH, such as 0.2.0".to_owned()) }
}

fn git() -> Command {
    let mut command = Command::new("git");
    command.current_dir(root());
    command
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{changelog, manifest, parse_version};
    use crate::command::root;

    #[test]
    fn what_is_unreleased_gets_the_version_and_the_day() {
        let text = "# Changelog\n\n## [Unreleased]\n\n### Added\n- X.\n\n## [0.1.0] - 2026-01-01\n- Y.\n";
        let released = "# Changelog\n\n## [Unreleased]\n\n## [0.2.0] - 2026-02-02\n\n### Added\n- X.\n\n\
                        ## [0.1.0] - 2026-01-01\n- Y.\n";
        assert_eq!(changelog(text, "0.2.0", "2026-02-02").as_deref(), Ok(released));
        assert!(changelog("## [Unreleased]\n\n## [0.1.0]\n- Y.\n", "0.2.0", "").is_err());
        assert!(changelog("# Changelog\n", "0.2.0", "").is_err());
    }

    #[test]
    fn the_version_of_the_workspace_grows() {
        let text = fs::read_to_string(root().join("Cargo.toml")).unwrap();
        let changed = manifest(&text, "99.0.0", "").unwrap();
        assert!(changed.contains("[workspace.package]\nversion = \"99.0.0\"\n"), "{changed}");
        assert!(manifest(&changed, "99.0.0", "").is_err() && manifest(&changed, "98.9.9", "").is_err());
        assert!(manifest(&changed, "100.0.0", "").is_ok(), "numbers are compared, not letters");
    }

    #[test]
    fn versions_have_three_numbers() {
        assert!(parse_version("1.20.300").is_ok());
        for text in ["1.2", "v1.2.3", "1.2.3-rc.1", "1.02.3", "", "1.2.3.4"] {
            assert!(parse_version(text).is_err(), "{text}");
        }
    }
}
