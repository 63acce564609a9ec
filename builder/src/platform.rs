//! The platforms that images are built for, and what they are to Go.

use vcstore::Platform;

/// The processors that images are built for, by the name that OCI and Go share, with the variable and the value by which
/// Go's feature level is fixed, so that no machine's default decides it.
const PROCESSORS: [(&str, &str, &str); 2] = [("amd64", "GOAMD64", "v1"), ("arm64", "GOARM64", "v8.0")];

/// Reads a platform from the command line or a project file.
///
/// # Errors
/// When it is none that images are built for; the text says which there are.
pub(crate) fn parse(text: &str) -> Result<Platform, String> {
    PROCESSORS.iter().map(|(name, _, _)| Platform::linux(name)).find(|known| known.to_string() == text).ok_or_else(
        || {
            let known: Vec<_> = PROCESSORS.iter().map(|(name, _, _)| format!("linux/{name}")).collect();
            format!("{text:?} is none of the platforms {}", known.join(", "))
        },
    )
}

/// The variables that make Go compile for `platform`.
pub(crate) fn go_environment(platform: &Platform) -> Vec<(&'static str, String)> {
    let level = PROCESSORS.iter().find(|(name, _, _)| *name == platform.architecture);
    [("GOOS", platform.os.clone()), ("GOARCH", platform.architecture.clone())]
        .into_iter()
        .chain(level.map(|(_, variable, value)| (*variable, (*value).to_owned())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{go_environment, parse};

    #[test]
    fn a_platform_is_one_that_images_are_built_for() {
        let arm = parse("linux/arm64").unwrap();
        assert_eq!(arm.to_string(), "linux/arm64");
        let environment = go_environment(&arm).into_iter().map(|(name, value)| format!("{name}={value}"));
        assert_eq!(environment.collect::<Vec<_>>(), ["GOOS=linux", "GOARCH=arm64", "GOARM64=v8.0"]);
        assert_eq!(
            parse("plan9/mips").unwrap_err(),
            "\"plan9/mips\" is none of the platforms linux/amd64, linux/arm64"
        );
    }
}
