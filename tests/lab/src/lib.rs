//! A real Kubernetes cluster in network namespaces, for tests and the demo.
//!
//! A [`Lab`] is a control-plane node and several workers on one machine, each with its own namespaces, a real sshd, a
//! real containerd and a real kubelet; the control plane, kube-proxy and CoreDNS are the original programs. Nothing in
//! it has a route out of the machine. It needs root, a few Debian packages ([`packages`]) and a Go compiler: the
//! programs are compiled once from pinned modules ([`Binaries`]) into `VCLAB_CACHE`, by default `vcbuild/lab` in the
//! user's cache folder. On a slow or busy machine, `VCLAB_PATIENCE=3` triples all time limits.
//! `VCLAB_KUBERNETES=1.24` chooses the version of Kubernetes of the end-to-end tests' labs.
//!
//! ```no_run
//! let lab = lab::Lab::up(&lab::Options::default())?.scoped();
//! let nodes = lab.kubectl(&["get", "nodes"])?;
//! # Ok::<(), lab::Error>(())
//! ```

mod binaries;
mod bringup;
mod cgroups;
mod components;
mod error;
mod lab;
mod network;
mod node;
pub mod packages;
mod pause;
mod pki;
mod plan;
mod process;
mod ssh;
mod state;
mod teardown;

pub use binaries::{Binaries, Containerd, Kubernetes, cache_folder, helm};
pub use error::Error;
pub use lab::{Lab, ScopedLab};
pub use pause::IMAGE as PAUSE_IMAGE;
pub use plan::{CONTROL_PLANE, DNS_ADDRESS, MOST_WORKERS, Node, Options, POD_RANGE, SERVICE_RANGE};
pub use process::{Finished, Process};
pub use ssh::ORDINARY_USER;
pub use state::Daemon;
