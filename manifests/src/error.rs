//! Errors of the parameters of manifests.

use miette::Diagnostic;
use thiserror::Error;

/// A parameter is invalid.
#[derive(Debug, Clone, PartialEq, Eq, Error, Diagnostic)]
pub enum Error {
    /// There is no component with this name.
    #[error("there is no component {name:?}")]
    #[diagnostic(help("the components are manager, syncer and vn-agent"))]
    NoSuchComponent {
        /// The name.
        name: String,
    },

    /// An image reference has no digest: a tag could change between the push and the rollout.
    #[error("the image reference {reference:?} has no digest")]
    #[diagnostic(help("give NAME@sha256:DIGEST, as `vcdist push` and `ctr -n k8s.io images ls` print it"))]
    NoDigest {
        /// The reference.
        reference: String,
    },

    /// The part after `@` is not a SHA-256 digest.
    #[error("the image reference {reference:?} does not end in a SHA-256 digest")]
    #[diagnostic(help("a digest is sha256: followed by 64 lowercase hexadecimal digits"))]
    BadDigest {
        /// The reference.
        reference: String,
    },

    /// An image name has no registry, so that each runtime would complete it differently.
    #[error("the image name {name:?} does not begin with a registry")]
    #[diagnostic(help("write the name in full, for example docker.io/virtualcluster/manager-amd64"))]
    NotQualified {
        /// The name.
        name: String,
    },

    /// The text is not a valid namespace name (RFC 1123 label).
    #[error("{name:?} is not a valid namespace name")]
    #[diagnostic(help("use 1 to 63 lowercase letters, digits and dashes, with a letter or digit at both ends"))]
    BadNamespace {
        /// The text.
        name: String,
    },

    /// The text is not a valid toleration.
    #[error("{text:?} is not a toleration")]
    #[diagnostic(help(
        "write KEY, KEY:EFFECT, KEY=VALUE or KEY=VALUE:EFFECT; the effect is NoSchedule, PreferNoSchedule or NoExecute"
    ))]
    BadToleration {
        /// The text.
        text: String,
    },
}
