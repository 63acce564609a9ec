//! libpam-runtime: the authentication of users (`/etc/pam.d/common-*`), from the package's templates and the profiles
//! that are enabled by default, as pam-auth-update generates it.

use std::collections::BTreeMap;

use super::Error;
use super::system::System;

/// A profile of authentication modules (`/usr/share/pam-configs`): fields, and blocks of lines.
type Profile = BTreeMap<String, String>;

/// Writes the common files, and the state from which pam-auth-update can later see that they are unmodified.
pub(crate) fn set_up(system: &mut System<'_>) -> Result<(), Error> {
    let names = system.names("usr/share/pam-configs");
    let mut profiles = Vec::new();
    for name in &names {
        let text = system.text(&format!("usr/share/pam-configs/{name}"))?.unwrap_or_default();
        profiles.push((name.as_str(), profile(&text)));
    }
    profiles.sort_by_key(|(name, profile)| {
        let priority = profile.get("Priority").and_then(|value| value.parse::<i64>().ok()).unwrap_or(0);
        (std::cmp::Reverse(priority), *name)
    });
    let seen = profiles.iter().fold(String::new(), |text, (name, _)| format!("{text}{name}\n"));
    profiles.retain(|(_, profile)| profile.get("Default").is_some_and(|value| value == "yes"));
    for file in ["auth", "account", "password", "session", "session-noninteractive"] {
        let Some(template) = system.text(&format!("usr/share/pam/common-{file}"))? else { continue };
        let (kind, interactive) = match file.strip_suffix("-noninteractive") {
            Some(kind) => (kind, false),
            None => (file, true),
        };
        let wanted = |profile: &&(&str, Profile)| interactive || !profile.1.contains_key("Session-Interactive-Only");
        let enabled: Vec<_> = profiles.iter().filter(wanted).collect();
        let primary = modules(&enabled, kind, "Primary");
        let additional = modules(&enabled, kind, "Additional");
        let text = fill(&template, [&stack(kind, &primary, true), &stack(kind, &additional, false)]);
        system.file(&format!("etc/pam.d/common-{file}"), 0o644, 0, text)?;
        let mut state = String::new();
        if primary.is_empty() {
            state += &format!("Module: null\n{NO_MODULE}\n");
        }
        for (name, lines) in primary.iter().chain(&additional) {
            state += &format!("Module: {name}\n{lines}\n");
        }
        system.file(&format!("var/lib/pam/{file}"), 0o644, 0, state)?;
        system.file("var/lib/pam/seen", 0o644, 0, seen.as_str())?;
    }
    Ok(())
}

/// The lines of a template between which pam-auth-update writes the modules: the first and last line of each block.
const BLOCKS: [[&str; 2]; 2] = [
    ["# here are the per-package modules (the \"Primary\" block)", "# here's the fallback if no module succeeds"],
    ["# and here are more per-package modules (the \"Additional\" block)", "# end of pam-auth-update config"],
];

/// The module for a block without modules of profiles; it lets the stack continue.
const NO_MODULE: &str = "[default=1]\t\t\tpam_permit.so";

fn profile(text: &str) -> Profile {
    let mut profile = Profile::new();
    let mut field = String::new();
    for line in text.lines() {
        if line.starts_with([' ', '\t']) {
            let block: &mut String = profile.entry(field.clone()).or_default();
            if !block.is_empty() {
                block.push('\n');
            }
            block.push_str(line.trim());
        } else if let Some((name, value)) = line.split_once(':') {
            field = name.to_owned();
            profile.insert(field.clone(), value.trim().to_owned());
        }
    }
    profile
}

/// Fills in the blocks of a template. Replaces their former content, the name of a variable.
fn fill(template: &str, blocks: [&str; 2]) -> String {
    let mut text = String::new();
    let mut inside: Option<&str> = None;
    for line in template.lines() {
        if inside.is_some_and(|end| line.starts_with(end)) {
            inside = None;
        }
        if inside.is_none() {
            text.push_str(line);
            text.push('\n');
        }
        for ([start, end], modules) in BLOCKS.into_iter().zip(blocks) {
            if line.starts_with(start) {
                text.push_str(modules);
                inside = Some(end);
            }
        }
    }
    text
}

/// Returns the modules of a kind in a block, each with its profile's name.
fn modules<'a>(profiles: &[&'a (&str, Profile)], kind: &str, block: &str) -> Vec<(&'a str, &'a str)> {
    let field = format!("{}{}", kind[..1].to_uppercase(), &kind[1..]);
    let inside = profiles
        .iter()
        .filter(|(_, profile)| profile.get(&format!("{field}-Type")).is_some_and(|value| value == block));
    let lines = inside.enumerate().filter_map(|(position, (name, profile))| {
        // The first module of a stack may have other options, because no module before it has asked for a password.
        let initial = (position == 0).then(|| profile.get(&format!("{field}-Initial"))).flatten();
        Some((*name, initial.or_else(|| profile.get(&field))?.as_str()))
    });
    lines.collect()
}

/// Formats the lines of a block. A jump to the end becomes the number of lines to skip.
fn stack(kind: &str, modules: &[(&str, &str)], primary: bool) -> String {
    let lines: Vec<_> = modules.iter().flat_map(|(_, lines)| lines.lines()).collect();
    if lines.is_empty() && primary {
        return format!("{kind}\t{NO_MODULE}\n");
    }
    let mut left = if primary { lines.len() } else { lines.len().saturating_sub(1) };
    lines.iter().fold(String::new(), |text, line| {
        let line = line.replace("=end", &format!("={left}"));
        left = left.saturating_sub(1);
        // pam-auth-update writes a space before the options, even if there are none.
        let blank = if line.ends_with(".so") { " " } else { "" };
        format!("{text}{kind}\t{line}{blank}\n")
    })
}

#[cfg(test)]
mod tests {
    use super::{BLOCKS, set_up};
    use crate::system::tests::{system, text, tree};

    const UNIX: &str = "Name: Unix\nDefault: yes\nPriority: 256\nAuth-Type: Primary\nAuth:\n\
        \t[success=end default=ignore]\tpam_unix.so try_first_pass\nAuth-Initial:\n\
        \t[success=end default=ignore]\tpam_unix.so nullok\nSession-Type: Additional\nSession:\n\trequired\tpam_unix.so\n";
    const OTHER: &str = "Name: Other\nDefault: yes\nPriority: 0\nAuth-Type: Primary\nAuth:\n\t[success=end]\tpam_other.so x\n\
        Session-Type: Additional\nSession-Interactive-Only: yes\nSession:\n\toptional\tpam_other.so\n";
    const OFF: &str = "Name: Off\nDefault: no\nPriority: 999\nAuth-Type: Primary\nAuth:\n\trequired\tpam_off.so\n";

    #[test]
    fn profiles_that_are_on_are_stacked_by_priority() {
        let template = |kind: &str| {
            let [[primary, fallback], [additional, end]] = BLOCKS;
            format!("# top\n{primary}\n${kind}_primary\n{fallback}\n{additional}\n${kind}_additional\n{end}\n")
        };
        let mut tree = tree(&[
            ("usr/share/pam-configs/unix", UNIX),
            ("usr/share/pam-configs/other", OTHER),
            ("usr/share/pam-configs/off", OFF),
            ("usr/share/pam/common-auth", &template("auth")),
            ("usr/share/pam/common-session", &template("session")),
            ("usr/share/pam/common-session-noninteractive", &template("session_nonint")),
        ]);
        set_up(&mut system(&mut tree)).unwrap();
        // The lines that are not comments.
        let modules = |file: &str| {
            let text = text(&tree, &format!("etc/pam.d/common-{file}"));
            assert_eq!(text.lines().filter(|line| line.starts_with('#')).count(), 5, "{text}");
            text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>()
        };
        let auth = ["auth\t[success=2 default=ignore]\tpam_unix.so nullok", "auth\t[success=1]\tpam_other.so x"];
        assert_eq!(modules("auth"), auth);
        let session = [
            "session\t[default=1]\t\t\tpam_permit.so",
            "session\trequired\tpam_unix.so ",
            "session\toptional\tpam_other.so ",
        ];
        assert_eq!(modules("session"), session);
        assert_eq!(modules("session-noninteractive"), session[..2]);
        assert_eq!(text(&tree, "var/lib/pam/seen"), "off\nunix\nother\n");
        assert!(
            text(&tree, "var/lib/pam/session")
                .starts_with("Module: null\n[default=1]\t\t\tpam_permit.so\nModule: unix\n")
        );
    }
}
