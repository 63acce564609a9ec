//! Probes whether this machine permits the sandbox, and advises what to do if not.

use std::fs;
use std::time::Duration;

use super::layers::Layers;
use super::run;
use super::spec::{Layer, Limits, Report, SetupError, Spec};

/// The time limit of a trial: it takes milliseconds, but may take long on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// The requirements of a system call filter.
pub(super) const FILTER_ADVICE: &str = "this requires a kernel with CONFIG_SECCOMP_FILTER and, in a container, a seccomp profile that allows programs to install filters";

/// Why there is no sandbox.
#[derive(Debug, Clone)]
pub(super) enum Refusal {
    /// The machine does not permit it.
    Forbidden(SetupError),
    /// The trial failed in another way.
    Broken(String),
}

/// Creates an empty sandbox. Returns the available layers.
pub(super) fn probe() -> Result<Layers, Refusal> {
    let limits = Limits { time: LIMIT, memory: None, processes: None, disk: None };
    let spec = Spec { limits, layers: Layer::ALL.to_vec(), ..Spec::empty(true) };
    match run::run(&spec, "vcbuild sandbox") {
        Err(failure) => Err(Refusal::Broken(failure.to_string())),
        Ok((Report::Failed(obstacle), _)) => Err(Refusal::Forbidden(obstacle)),
        Ok((Report::Tried(missing), _)) => Ok(Layers::without(missing)),
        Ok((Report::Ended { status, .. }, ended)) => {
            Err(Refusal::Broken(format!("it ended with status {status}: {}", ended.stderr)))
        }
    }
}

/// Warns that programs run in namespaces only.
pub(super) fn warn_unfiltered(obstacle: &SetupError) {
    tracing::warn!(
        "running programs in a sandbox without a system call filter: cannot {}: {} (recorded with each action; \
         {FILTER_ADVICE})",
        obstacle.attempt,
        obstacle.why,
    );
}

/// Warns that programs run unconfined.
pub(super) fn warn(obstacle: &SetupError) {
    tracing::warn!(
        "running programs without a sandbox: cannot {}: {} (recorded with each action; {})",
        obstacle.attempt,
        obstacle.why,
        advice()
    );
}

/// Returns how to permit namespaces, according to the machine's settings.
pub(super) fn advice() -> String {
    let setting = |name: &str| fs::read_to_string(format!("/proc/sys/{name}")).ok().map(|text| text.trim().to_owned());
    let is = |name: &str, value: &str| setting(name).as_deref() == Some(value);
    if is("user/max_user_namespaces", "0") {
        "allow user namespaces: sysctl user.max_user_namespaces=15000".to_owned()
    } else if is("kernel/unprivileged_userns_clone", "0") {
        "allow user namespaces: sysctl kernel.unprivileged_userns_clone=1".to_owned()
    } else if is("kernel/apparmor_restrict_unprivileged_userns", "1") {
        "allow user namespaces: sysctl kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile for vcbuild \
         with the rule `userns,`"
            .to_owned()
    } else {
        "in a container, the seccomp or AppArmor profile forbids it: run the container with `--security-opt \
         seccomp=unconfined --security-opt apparmor=unconfined`, or build outside the container"
            .to_owned()
    }
}
