//! Whether the API server answers, of which version it is, and whether its clock is this machine's.

use k8s_openapi::jiff::Timestamp;

use super::{Check, Finding, clock};
use crate::cluster::Cluster;
use crate::push::report::one_line;

/// The oldest minor version of Kubernetes 1 that vcdist works with: server-side apply, and no v1beta1 definitions.
const OLDEST: u32 = 22;

/// The checks, and whether the API server answers.
pub(super) async fn check(cluster: &Cluster) -> (Vec<Check>, bool) {
    let server = cluster.server();
    let version = match cluster.client().apiserver_version().await {
        Ok(version) => version,
        Err(error) => {
            let finding = Finding::error(
                server,
                one_line(&cluster.failed("asking for the version", error)),
                "nothing can be deployed",
                "start the API server or correct the kubeconfig; --api-timeout TIME waits longer for it",
            );
            let why = "the API server does not answer";
            let skipped = ["version", "clock"].map(|name| Check::skipped(name, why));
            return ([Check::of("api", server, vec![finding])].into_iter().chain(skipped).collect(), false);
        }
    };
    let mut old = Vec::new();
    if !is_supported(&version.major, &version.minor) {
        old.push(Finding::error(
            server,
            format!("its version is {}", version.git_version),
            "the objects need server-side apply and apiextensions.k8s.io/v1, which older versions lack in part",
            format!("upgrade the cluster to Kubernetes 1.{OLDEST} or newer"),
        ));
    }
    let skew = cluster.clock().map(|theirs| theirs.duration_since(Timestamp::now()).as_secs());
    // The time in an answer is in whole seconds, and the answer was on its way.
    let skew = skew.map(|seconds| if seconds.abs() <= 2 { 0 } else { seconds });
    let clock = match skew {
        Some(seconds) => {
            Check::of("clock", clock::text(seconds), clock::finding("the API server", seconds).into_iter().collect())
        }
        None => Check::skipped("clock", "the API server's answers have no time"),
    };
    let checks = vec![
        Check::of("api", format!("{server} answers"), Vec::new()),
        Check::of("version", format!("Kubernetes {}", version.git_version), old),
        clock,
    ];
    (checks, true)
}

/// Whether a version is supported. Distributions append to the minor version: `22+`.
fn is_supported(major: &str, minor: &str) -> bool {
    let number = |text: &str| text.trim_end_matches(|c: char| !c.is_ascii_digit()).parse::<u32>().ok();
    match (number(major), number(minor)) {
        (Some(1), Some(minor)) => minor >= OLDEST,
        (Some(major), _) => major > 1,
        // A server that does not tell its version is judged by the other checks.
        (None, _) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::is_supported;

    #[test]
    fn versions_are_numbers_with_what_distributions_append() {
        for (major, minor, supported) in [
            ("1", "22", true),
            ("1", "21", false),
            ("1", "9", false),
            ("1", "34+", true),
            ("2", "0", true),
            ("", "", true),
        ] {
            assert_eq!(is_supported(major, minor), supported, "{major}.{minor}");
        }
    }
}
