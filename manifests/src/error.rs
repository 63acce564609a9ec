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

    /// An empty command.
    #[error("the command of the {component} is empty")]
    #[diagnostic(help("name the program, or leave the command out: the image then runs {component}"))]
    NoCommand {
        /// The component.
        component: &'static str,
    },

    /// An argument that an option gives, or that contradicts the pods.
    #[error("the argument {argument} of the {component} cannot be given")]
    #[diagnostic(help("{instead}"))]
    BadArgument {
        /// The component.
        component: &'static str,
        /// The argument.
        argument: String,
        /// What to do.
        instead: &'static str,
    },

    /// A folder that no volume can be mounted at.
    #[error("{path:?} is not a folder that vn-agent's certificates can be in")]
    #[diagnostic(help(
        "give an absolute path without a colon: vn-agent writes its serving certificate into a volume there"
    ))]
    BadFolder {
        /// The path.
        path: String,
    },

    /// One folder for what vn-agent writes and for the Secret.
    #[error("vn-agent's certificates and its Secret cannot both be in {path}")]
    #[diagnostic(help("the Secret's folder cannot be written to: give two folders, such as {path} and {path}/pki"))]
    SameFolder {
        /// The path.
        path: String,
    },

    /// A volume without an absolute path.
    #[error("the path {path:?} of the PersistentVolume {name} is not absolute")]
    #[diagnostic(help("give the path of the folder on its node, from the root"))]
    BadVolume {
        /// The volume.
        name: String,
        /// The path.
        path: String,
    },

    /// More than one vc-manager.
    #[error("{replicas} replicas of vc-manager cannot run")]
    #[diagnostic(help(
        "leave manager.replicas out: each vc-manager replaces the webhook's certificate in the cluster when it starts, so one more          would disable the first. Deployments replace a lost one within seconds"
    ))]
    Replicas {
        /// How many were asked for.
        replicas: u16,
    },

    /// Values that cannot be read.
    #[error("reading the values of {origin}: {why}")]
    #[diagnostic(help("`vcdist render --show-values` prints every value with its default"))]
    Values {
        /// The file or option.
        origin: String,
        /// Why.
        why: String,
    },

    /// A manifest that cannot be read.
    #[error("reading the manifest {origin}: {why}")]
    #[diagnostic(help("give Kubernetes objects as YAML or JSON, as `kubectl apply` takes them"))]
    Manifest {
        /// The file, and which of its documents.
        origin: String,
        /// Why.
        why: String,
    },

    /// An object whose name the server would make up.
    #[error("the object of {origin} has a generateName and no name")]
    #[diagnostic(help(
        "give it a metadata.name: with a name of the server's, each deployment would make one more object, and none could be \
         compared or removed"
    ))]
    GeneratedName {
        /// The file, and which of its documents.
        origin: String,
    },

    /// One object in two places.
    #[error("{title} is there twice: in {first} and in {second}")]
    #[diagnostic(help("remove one of the two"))]
    TwoObjects {
        /// `deployment/NAME`.
        title: String,
        /// The first place.
        first: String,
        /// The second.
        second: String,
    },

    /// A kind that neither the cluster nor a definition among the manifests has.
    #[error("the cluster has no kind {kind} in {api_version}, which {origin} is of")]
    #[diagnostic(help(
        "give the CustomResourceDefinition of the kind with the manifests or install it first; `kubectl api-resources` lists the kinds"
    ))]
    UnknownKind {
        /// The kind.
        kind: String,
        /// Its `apiVersion`.
        api_version: String,
        /// The file, and which of its documents.
        origin: String,
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
