//! The Debian packages that building and testing need, in addition to those that the lab installs.

use ::lab::packages::Package;

/// The packages for building the project, in addition to Rust and Go.
pub(crate) const BUILD: &[Package] = &[
    Package { name: "gcc", provides: "cc", reason: "zstd and xz are C" },
    Package { name: "protobuf-compiler", provides: "protoc", reason: "gRPC services are generated" },
    Package {
        name: "libprotobuf-dev",
        provides: "/usr/include/google/protobuf/any.proto",
        reason: "the types that containerd's services import",
    },
];

/// The packages for tests: tools that must be able to read the images, and tools for comparison.
pub(crate) const TEST: &[Package] = &[
    Package {
        name: "ansible-core",
        provides: "ansible-playbook",
        reason: "the measure of the values of variables; runs the role of this repository",
    },
    Package { name: "busybox-static", provides: "busybox", reason: "a shell and tools unlike dash and coreutils" },
    Package { name: "csh", provides: "/bin/csh", reason: "a login shell unlike sh" },
    Package { name: "diffoscope-minimal", provides: "diffoscope", reason: "says how outputs of a check differ" },
    Package { name: "docker-registry", provides: "docker-registry", reason: "a real registry to pull a base from" },
    Package { name: "docker.io", provides: "dockerd", reason: "reads archives by docker load" },
    Package { name: "faketime", provides: "faketime", reason: "a clock that is off by a year" },
    Package { name: "fish", provides: "/usr/bin/fish", reason: "a login shell unlike sh" },
    Package { name: "mmdebstrap", provides: "mmdebstrap", reason: "the measure of the debian base" },
    Package { name: "nix-bin", provides: "nix", reason: "builds images as derivations" },
    Package { name: "podman", provides: "/usr/bin/podman", reason: "fills CRI-O's storage where there is no skopeo" },
    Package {
        name: "python3-jsonschema",
        provides: "/usr/lib/python3/dist-packages/jsonschema/__init__.py",
        reason: "checks project files by the schema",
    },
    Package { name: "skopeo", provides: "skopeo", reason: "reads archives in both their forms" },
    Package { name: "socat", provides: "socat", reason: "a long, slow line to a node" },
    Package { name: "umoci", provides: "umoci", reason: "unpacks images" },
];
