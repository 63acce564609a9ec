//! The platforms that images are built for, and what they are to Go and to Debian.

use vcstore::Platform;

/// A processor that images are built for.
struct Processor {
    /// Its name, which OCI and Go share.
    name: &'static str,
    variant: Option<&'static str>,
    /// The variable and the value by which Go's feature level is fixed, so that no machine's default decides it.
    go: (&'static str, &'static str),
    /// What Debian calls it.
    debian: &'static str,
    /// The Rust target with Debian's C library.
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

/// Reads a platform from the command line or a project file.
///
/// # Errors
/// When it is none that images are built for; the text says which there are.
pub(crate) fn parse(text: &str) -> Result<Platform, String> {
    PROCESSORS.iter().map(Processor::platform).find(|known| known.to_string() == text).ok_or_else(|| {
        let known: Vec<_> = PROCESSORS.iter().map(|known| known.platform().to_string()).collect();
        format!("{text:?} is not one of the platforms {}", known.join(", "))
    })
}

/// The processors that images are built for, by their names.
pub(crate) fn architectures() -> impl Iterator<Item = &'static str> {
    PROCESSORS.iter().map(|known| known.name)
}

/// The Rust target that compiles for `platform`.
pub(crate) fn rust_target(platform: &Platform) -> Option<&'static str> {
    Processor::of(platform).map(|known| known.rust)
}

/// The variables that make Go compile for `platform`.
pub(crate) fn go_environment(platform: &Platform) -> Vec<(&'static str, String)> {
    let level = Processor::of(platform).map(|known| (known.go.0, known.go.1.to_owned()));
    [("GOOS", platform.os.clone()), ("GOARCH", platform.architecture.clone())].into_iter().chain(level).collect()
}

/// What Debian calls the processor of `platform`.
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
