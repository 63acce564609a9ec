//! The syntax of Go module paths, module versions and Go versions.

/// Returns whether a text is a valid module path, and cannot be mistaken for an option or a folder.
pub(crate) fn is_path(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~/".contains(c);
    text.chars().all(plain) && !text.starts_with('-') && text.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

/// Returns whether a text is a valid module version, branch or tag.
pub(crate) fn is_version(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~/+".contains(c);
    !text.is_empty() && text.chars().all(plain) && !text.starts_with('-')
}

/// Parses a requested Go version: `1.26.3`, `1.27rc1`, or `1.26.x` for the newest release of 1.26.
///
/// # Errors
/// When the text is not a Go version; the error is a message.
pub(crate) fn parse_version(text: &str) -> Result<String, String> {
    let number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let known = match text.split('.').collect::<Vec<_>>()[..] {
        ["1", minor, patch] => number(minor) && (number(patch) || patch == "x"),
        ["1", minor] => ["rc", "beta"]
            .iter()
            .any(|kind| minor.split_once(kind).is_some_and(|(minor, candidate)| number(minor) && number(candidate))),
        _ => false,
    };
    if known { Ok(text.to_owned()) } else { Err(format!("{text:?} is not a Go version such as 1.26.3 or 1.26.x")) }
}

#[cfg(test)]
mod tests {
    use super::parse_version;

    #[test]
    fn a_version_is_exact_or_the_newest_of_a_release() {
        for good in ["1.26.3", "1.26.x", "1.27rc1", "1.21.13", "1.22beta2"] {
            assert_eq!(parse_version(good).unwrap(), good);
        }
        for bad in ["", "1", "1.26", "2.0.0", "go1.26.3", "1.x", "1.26.3.1", "1.26.", "1.26.-1", "1.rc1"] {
            assert!(parse_version(bad).is_err(), "{bad:?}");
        }
    }
}
