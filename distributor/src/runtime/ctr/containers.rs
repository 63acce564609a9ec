//! The node's containers and their images, queried through `ctr`.

use std::collections::{BTreeSet, HashMap};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;

use crate::agent::containers;
use crate::agent::gc_refs::GcRefs;
use crate::protocol::proto::Container;
use crate::runtime::script::ScriptReply;

/// The script that lists the running tasks, then each container as containerd stores it. It runs the `ctr` in `x`, and
/// omits a container that is removed meanwhile.
pub(super) const SCRIPT: &str = "say tasks; $x task ls || exit 1\n\
                                 l=$($x containers ls -q) || exit 1\n\
                                 for i in $l; do say container; $x containers info \"$i\" 2>/dev/null; done";

/// A container in the output of `ctr containers info`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ContainerInfo {
    #[serde(rename = "ID")]
    id: String,
    image: String,
    snapshot_key: String,
    labels: Option<HashMap<String, String>>,
    extensions: Option<HashMap<String, Extension>>,
}

#[derive(Debug, Deserialize)]
struct Extension {
    value: Option<String>,
}

/// Reads the answers; the sandboxes of pods are none. Nothing when one of them is not understood: then nothing is known of what
/// that container needs.
pub(super) fn read(replies: &[ScriptReply], refs: &GcRefs) -> Option<Vec<Container>> {
    let tasks = replies.iter().find(|reply| reply.label == "tasks")?;
    // `TASK PID STATUS`
    let runs = |line: &String| {
        let words: Vec<&str> = line.split_whitespace().collect();
        matches!(words.get(2), Some(status) if !matches!(*status, "STOPPED" | "UNKNOWN" | "STATUS"))
            .then(|| words[0].to_owned())
    };
    let running: BTreeSet<String> = tasks.lines.iter().filter_map(runs).collect();
    let listed = replies.iter().filter(|reply| reply.label == "container" && !reply.lines.is_empty());
    let made = listed
        .map(|reply| serde_json::from_str(&reply.lines.join("\n")).ok())
        .collect::<Option<Vec<ContainerInfo>>>()?;
    let is_sandbox = |made: &ContainerInfo| {
        made.labels
            .as_ref()
            .and_then(|labels| labels.get(containers::SANDBOX.0))
            .is_some_and(|kind| kind == containers::SANDBOX.1)
    };
    Some(made.into_iter().filter(|made| !is_sandbox(made)).map(|made| container(made, &running, refs)).collect())
}

fn container(made: ContainerInfo, running: &BTreeSet<String>, refs: &GcRefs) -> Container {
    let noted = made.extensions.as_ref().and_then(|all| all.get(containers::METADATA)?.value.as_deref());
    let noted = noted.and_then(|text| BASE64.decode(text).ok());
    Container {
        chain_id: refs.parent(&made.snapshot_key).unwrap_or_default().to_owned(),
        config: noted.map(|data| containers::config(&data)).unwrap_or_default(),
        pod: made.labels.as_ref().map(containers::pod).unwrap_or_default(),
        running: running.contains(&made.id),
        id: made.id,
        image: made.image,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(label: &str, lines: &[&str]) -> ScriptReply {
        ScriptReply { label: label.into(), lines: lines.iter().map(|&line| line.to_owned()).collect() }
    }

    fn made(id: &str, kind: &str) -> Vec<String> {
        let noted = BASE64.encode(r#"{"Version":"v1","Metadata":{"ImageRef":"sha256:c"}}"#);
        let text = serde_json::json!({
            "ID": id, "Image": "docker.io/a:v1", "SnapshotKey": id, "Snapshotter": "native",
            "Labels": {"io.cri-containerd.kind": kind, "io.kubernetes.pod.namespace": "vc", "io.kubernetes.pod.name": "m"},
            "Extensions": {"io.cri-containerd.container.metadata": {"type_url": "x", "value": noted}},
        });
        serde_json::to_string_pretty(&text).expect("JSON").lines().map(str::to_owned).collect()
    }

    #[test]
    fn containers_are_told_by_what_they_were_made_from() {
        let mut refs = GcRefs::default();
        refs.snapshot("one".into(), "sha256:top".into(), false, &HashMap::new());
        let tasks = reply("tasks", &["TASK    PID    STATUS    ", "one     12     RUNNING", "two    13   STOPPED"]);
        let container = |id, kind| ScriptReply { label: "container".into(), lines: made(id, kind) };
        let all = [tasks.clone(), container("one", "container"), container("two", "sandbox"), reply("container", &[])];
        let read_all = read(&all, &refs).expect("understood");
        let [one] = read_all.as_slice() else { panic!("{read_all:?}") };
        assert_eq!((one.chain_id.as_str(), one.config.as_str(), one.pod.as_str()), ("sha256:top", "sha256:c", "vc/m"));
        assert!(one.running);
        assert_eq!(read(&[tasks, reply("container", &["{"])], &refs), None, "what it needs is not known");
    }
}
