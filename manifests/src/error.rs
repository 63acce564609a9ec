//! What can be wrong with the values that manifests are made from.

use miette::Diagnostic;
use thiserror::Error;

/// A parameter that no object can be made from.
#[derive(Debug, Clone, PartialEq, Eq, Error, Diagnostic)]
pub enum Error {
    /// The name is none of VirtualCluster's components.
    #[error("there is no component {name:?}")]
    #[diagnostic(help("the components are manager, syncer and vn-agent"))]
    NoSuchComponent {
        /// What was given.
        name: String,
    },

    /// An image reference without a digest: a tag could move between the push and the rollout.
    #[error("the image reference {reference:?} has no digest")]
    #[diagnostic(help("give NAME@sha256:DIGEST, as `vcdist push` and `ctr -n k8s.io images ls` print it"))]
    NoDigest {
        /// What was given.
        reference: String,
    },

    /// The part after `@` is not a SHA-256 digest.
    #[error("the image reference {reference:?} does not end in a SHA-256 digest")]
    #[diagnostic(help("a digest is sha256: followed by 64 lowercase hexadecimal digits"))]
    BadDigest {
        /// What was given.
        reference: String,
    },

    /// An image name without its registry, which each runtime would complete in its own way.
    #[error("the image name {name:?} does not begin with a registry")]
    #[diagnostic(help("write the name in full, for example docker.io/virtualcluster/manager-amd64"))]
    NotQualified {
        /// What was given.
        name: String,
    },

    /// Not a name that Kubernetes lets a namespace have (RFC 1123 label).
    #[error("{name:?} is not a valid namespace name")]
    #[diagnostic(help("use 1 to 63 lowercase letters, digits and dashes, with a letter or digit at both ends"))]
    BadNamespace {
        /// What was given.
        name: String,
    },

    /// Not a toleration as the command line writes it.
    #[error("{text:?} is not a toleration")]
    #[diagnostic(help(
        "write KEY, KEY:EFFECT, KEY=VALUE or KEY=VALUE:EFFECT; the effect is NoSchedule, PreferNoSchedule or NoExecute"
    ))]
    BadToleration {
        /// What was given.
        text: String,
    },
}
