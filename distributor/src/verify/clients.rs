//! Checks that vn-agent refuses clients that no tenant's CA has signed. Upstream's vn-agent takes the tenant from the
//! common name of any certificate: docs/explanation/trust.md.

use super::probe::{Answer, COMMON_NAME};
use super::{Check, Snapshot};

pub(super) fn check(snapshot: &Snapshot) -> Check {
    let (mut wrong, mut found) = (Vec::new(), Vec::new());
    for probe in &snapshot.probes {
        let what = format!("{}: vn-agent at {}", probe.node, probe.address);
        match &probe.answer {
            Answer::Accepted(status) => wrong.push(format!(
                "{what} accepts a self-signed client with the common name \"{COMMON_NAME}\" (HTTP {status}): whoever \
                 reaches it can run commands in pods of every namespace"
            )),
            Answer::Refused(why) => found.push(format!("{what} refuses a self-signed client: {why}")),
            Answer::Unreachable(why) => {
                found.push(format!("{what} was not asked, because it cannot be reached from here: {why}"));
            }
        }
    }
    if snapshot.probes.is_empty() {
        found.push("no vn-agent is ready".to_owned());
    }
    Check::of(
        "clients",
        wrong,
        found,
        "build vn-agent by vcbuild with its edit vn-agent-client-certificate, push and deploy it; until then, let only the \
         tenants' API servers reach port 10550 (firewall of the workers)",
    )
}
