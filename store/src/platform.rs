//! Platforms, and which images run on which machines (OCI image specification, "Image Index").

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An operating system and a processor, such as `linux/amd64` or `linux/arm/v7`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Platform {
    /// The operating system, a GOOS value.
    pub os: String,
    /// The architecture, a GOARCH value.
    pub architecture: String,
    /// The variant of the processor, such as `v7`.
    pub variant: Option<String>,
}

impl Platform {
    /// Returns Linux on this architecture (a GOARCH value).
    #[must_use]
    pub fn linux(architecture: &str) -> Self {
        Self { os: "linux".to_owned(), architecture: architecture.to_owned(), variant: None }
    }

    /// Returns whether an image for this platform runs on the platform `wanted`.
    #[must_use]
    pub fn serves(&self, wanted: &Self) -> bool {
        self.distance(wanted).is_some()
    }

    /// Returns how far an image for this platform is from the best match for `wanted`: 0 if none is better, `None` if
    /// it does not run there. Compares variants like containerd: the default variants are `v1` of `amd64`, `v8` of
    /// `arm64` and `v7` of `arm`, and a processor runs images for earlier variants of its architecture.
    #[must_use]
    pub fn distance(&self, wanted: &Self) -> Option<u32> {
        if (&self.os, &self.architecture) != (&wanted.os, &wanted.architecture) {
            return None;
        }
        let same = || (self.variant == wanted.variant).then_some(0);
        let (Some((major, minor)), Some((most, last))) = (self.level(), wanted.level()) else { return same() };
        match self.architecture.as_str() {
            // No platform falls back to variants before v5.
            "arm" if major < 5 => same(),
            "amd64" | "arm" => most.checked_sub(major),
            // v9.0 includes v8.5, v9.1 includes v8.6, and so on.
            _ if (major, most) == (8, 9) => Some(last + 1 + (last + 5).checked_sub(minor)?),
            _ if major == most => last.checked_sub(minor),
            _ => None,
        }
    }

    /// Returns the variant as numbers that increase with the processor's features; `None` for other kinds of variants.
    fn level(&self) -> Option<(u32, u32)> {
        let usual = match self.architecture.as_str() {
            "amd64" => "v1",
            "arm" => "v7",
            "arm64" => "v8",
            _ => return None,
        };
        let variant = self.variant.as_deref().filter(|variant| !variant.is_empty()).unwrap_or(usual);
        let variant = variant.strip_prefix('v').unwrap_or(variant);
        let (major, minor) = variant.split_once('.').unwrap_or((variant, "0"));
        let number = |text: &str| (text.len() == 1).then(|| text.parse().ok()).flatten();
        Some((number(major)?, number(minor)?))
    }
}

impl Default for Platform {
    /// Returns linux/amd64, the platform of VirtualCluster's own images.
    fn default() -> Self {
        Self::linux("amd64")
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let variant = self.variant.as_deref().map(|variant| format!("/{variant}")).unwrap_or_default();
        f.pad(&format!("{}/{}{variant}", self.os, self.architecture))
    }
}

impl FromStr for Platform {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts: Vec<&str> = text.split('/').collect();
        let word = |part: &&str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric());
        match parts.as_slice() {
            [os, architecture, variant @ ..] if variant.len() <= 1 && parts.iter().all(word) => Ok(Self {
                os: (*os).to_owned(),
                architecture: (*architecture).to_owned(),
                variant: variant.first().map(|variant| (*variant).to_owned()),
            }),
            _ => Err(format!("{text:?} is not a platform such as linux/amd64")),
        }
    }
}

impl Serialize for Platform {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Platform {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::Platform;

    #[test]
    fn a_platform_is_written_and_read() {
        for text in ["linux/amd64", "linux/arm/v7"] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), text);
        }
        for bad in ["", "linux", "linux/", "/amd64", "linux/arm/v7/x", "linux/am d64"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad:?} must be refused");
        }
    }

    #[test]
    fn variants_are_compared_as_containerd_compares_them() {
        let distance = |has: &str, wanted: &str| {
            let [has, wanted] = [has, wanted].map(|text| {
                text.parse::<Platform>().unwrap_or_else(|_| {
                    // Such a variant contains a dot, which the command line does not accept.
                    let (rest, variant) = text.rsplit_once('/').unwrap();
                    Platform { variant: Some(variant.to_owned()), ..rest.parse().unwrap() }
                })
            });
            has.distance(&wanted)
        };
        for (has, wanted, expected) in [
            ("linux/amd64", "linux/amd64", Some(0)),
            ("linux/amd64/v1", "linux/amd64", Some(0)),
            ("linux/amd64/v2", "linux/amd64", None),
            ("linux/amd64/v3", "linux/amd64/v1", None),
            ("linux/amd64", "linux/amd64/v3", Some(2)),
            ("linux/amd64/v2", "linux/amd64/v3", Some(1)),
            ("linux/386", "linux/amd64", None),
            ("linux/arm64/v8", "linux/arm64", Some(0)),
            ("linux/arm64", "linux/arm64/v8", Some(0)),
            ("linux/arm64/v8.0", "linux/arm64", Some(0)),
            ("linux/arm64/v8.2", "linux/arm64", None),
            ("linux/arm64/v9", "linux/arm64", None),
            ("linux/arm64", "linux/arm64/v8.2", Some(2)),
            ("linux/arm64/v8.5", "linux/arm64/v9", Some(1)),
            ("linux/arm64/v8.6", "linux/arm64/v9", None),
            ("linux/arm64/v9", "linux/arm64/v8.9", None),
            ("linux/arm64/v9.0", "linux/arm64/v9.1", Some(1)),
            ("linux/arm/v8", "linux/arm64", None),
            ("linux/arm/v7", "linux/arm", Some(0)),
            ("linux/arm", "linux/arm/v7", Some(0)),
            ("linux/arm/v6", "linux/arm/v7", Some(1)),
            ("linux/arm/v5", "linux/arm/v7", Some(2)),
            ("linux/arm/v4", "linux/arm/v7", None),
            ("linux/arm/v8", "linux/arm/v7", None),
            ("linux/arm/v7", "linux/arm/v6", None),
            ("linux/riscv64", "linux/riscv64", Some(0)),
            ("linux/riscv64/rva22", "linux/riscv64", None),
            ("linux/amd64/weird", "linux/amd64", None),
            ("linux/amd64/weird", "linux/amd64/weird", Some(0)),
            ("windows/amd64", "linux/amd64", None),
        ] {
            assert_eq!(distance(has, wanted), expected, "{has} for {wanted}");
        }
    }
}
