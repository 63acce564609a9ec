//! The platforms that images are built for, and their names in Go, Debian and Rust.

use vcstore::Platform;

/// A processor architecture that images are built for.
struct Processor {
    /// The name in OCI and Go.
    name: &'static str,
    variant: Option<&'static str>,
    /// The variable and the value that fix Go's feature level, so that it does not depend on the machine's default.
    go: (&'static str, &'static str),
    /// The name in Debian.
    debian: &'static str,
    /// The Rust target for Debian's C library.
    rust: &'static str,
}

const PROCESSORS: [Processor; 3] = [
    Processor {
        name: "amd64",
        variant: None,
        go: ("GOAMD64", "v1"),
        debian: "amd64",
        rust: "x86_64-unknown-linux-gnu",
    },
    Processor {
        name: "arm64",
        variant: None,
        go: ("GOARM64", "v8.0"),
        debian: "arm64",
        rust: "aarch64-unknown-linux-gnu",
    },
    Processor {
        name: "arm",
        variant: Some("v7"),
        go: ("GOARM", "7"),
        debian: "armhf",
        rust: "armv7-unknown-linux-gnueabihf",
    },
];

impl Processor {
    fn platform(&self) -> Platform {
        Platform { variant: self.variant.map(str::to_owned), ..Platform::linux(self.name) }
    }

    fn of(platform: &Platform) -> Option<&'static Self> {
        PROCESSORS.iter().find(|known| known.name == platform.architecture)
    }
}

/// Parses a platform from the command line or a project file.
///
/// # Errors
/// When images cannot be built for it; the error is a message that lists the platforms.
pub(crate) fn parse(text: &str) -> Result<Platform, String> {
    PROCESSORS.iter().map(Processor::platform).find(|known| known.to_string() == text).ok_or_else(|| {
        let known: Vec<_> = PROCESSORS.iter().map(|known| known.platform().to_string()).collect();
        format!("{text:?} is not one of the platforms {}", known.join(", "))
    })
}

/// Returns the names of the supported architectures.
pub(crate) fn architectures() -> impl Iterator<Item = &'static str> {
    PROCESSORS.iter().map(|known| known.name)
}

/// Returns the Rust target for `platform`.
pub(crate) fn rust_target(platform: &Platform) -> Option<&'static str> {
    Processor::of(platform).map(|known| known.rust)
}

/// Returns the environment variables that make Go compile for `platform`.
pub(crate) fn go_environment(platform: &Platform) -> Vec<(&'static str, String)> {
    let level = Processor::of(platform).map(|known| (known.go.0, known.go.1.to_owned()));
    [("GOOS", platform.os.clone()), ("GOARCH", platform.architecture.clone())].into_iter().chain(level).collect()
}

/// Returns Debian's name of the architecture of `platform`.
pub(crate) fn debian_architecture(platform: &Platform) -> &str {
    Processor::of(platform).map_or(&platform.architecture, |known| known.debian)
}

#[cfg(test)]
mod tests {
    use super::{debian_architecture, go_environment, parse};

    #[test]
    fn a_platform_is_one_that_images_are_built_for() {
        let arm = parse("linux/arm64").unwrap();
        assert_eq!(arm.to_string(), "linux/arm64");
        let environment = |platform| {
            let variables = go_environment(platform).into_iter();
            variables.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>()
        };
        assert_eq!(environment(&arm), ["GOOS=linux", "GOARCH=arm64", "GOARM64=v8.0"]);
        let old = parse("linux/arm/v7").unwrap();
        assert_eq!(environment(&old), ["GOOS=linux", "GOARCH=arm", "GOARM=7"]);
        assert_eq!((debian_architecture(&arm), debian_architecture(&old)), ("arm64", "armhf"));
        assert_eq!(
            parse("plan9/mips").unwrap_err(),
            "\"plan9/mips\" is not one of the platforms linux/amd64, linux/arm64, linux/arm/v7"
        );
    }
}
