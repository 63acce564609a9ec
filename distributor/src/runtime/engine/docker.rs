//! Docker: `docker image inspect` lists images, and `docker load` imports them. Docker identifies images only by their
//! tags.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;

use super::inventory::{EngineImage, EngineInventory};
use super::{first, note, quoted};
use crate::agent::containers;
use crate::images::desired_image::DesiredImage;
use crate::images::image_name::{full_name, repository};
use crate::images::push_label::Time;
use crate::protocol::proto::Container;
use crate::runtime::script::{END, ScriptReply};

/// The first major version of Docker that reads layers compressed with zstd.
const READS_ZSTD: u32 = 23;

/// Defines the shell function `state`: a hash over the names of all images and the ids of all containers.
const STATE: &str = "state() { { $x image ls -a --no-trunc --format '{{.ID}} {{.Repository}} {{.Tag}} {{.Digest}}'; \
                     $x ps -aq --no-trunc; } | LC_ALL=C sort | sha256sum; }";

/// An image in the output of `docker image inspect`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ImageInfo {
    id: String,
    repo_tags: Option<Vec<String>>,
    repo_digests: Option<Vec<String>>,
    #[serde(rename = "RootFS")]
    root: RootFs,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RootFs {
    layers: Option<Vec<String>>,
}

/// A container in the output of `docker inspect`, in the format of the inventory script.
#[derive(Debug, Deserialize)]
struct ContainerInfo {
    id: String,
    image: String,
    running: bool,
    labels: Option<HashMap<String, String>>,
}

/// The script that queries Docker before a push.
pub(super) fn probe(desired: &[DesiredImage]) -> String {
    let mut lines = vec![
        find(),
        r#"say "version $v"; r=$($x info --format '{{.DockerRootDir}}')"#.to_owned(),
        r#"say disk; if [ -n "$r" ]; then echo "$r"; $as df -Pk "$r" | tail -n 1; $as df -Pi "$r" | tail -n 1; fi"#
            .to_owned(),
    ];
    lines.push(r#"say names; $x image ls --format '{{.Repository}}:{{.Tag}}' | grep "^vcdist.invalid/""#.to_owned());
    lines.extend(desired.iter().map(inspect));
    lines.join("\n")
}

/// The script that queries every image, every container, and the layer sizes of the pushed images.
pub(super) fn inventory_script() -> String {
    [
        find(),
        format!("{STATE}; say \"state $(state)\""),
        "i=$($x image ls -aq --no-trunc | sort -u); say images; [ -z \"$i\" ] || $x image inspect $i".to_owned(),
        r#"c=$($x ps -aq --no-trunc); say containers; [ -z "$c" ] || $x inspect --format '{"id": {{json .Id}}, "image": {{json .Image}}, "running": {{json .State.Running}}, "labels": {{json .Config.Labels}}}' $c"#
            .to_owned(),
        "for i in $($x image ls --no-trunc --format '{{.Repository}} {{.ID}}' | sed -n 's|^vcdist.invalid/[^ ]* ||p' | sort -u); \
         do say \"history $i\"; $x history --no-trunc --human=false --format '{{.Size}}' $i; done"
            .to_owned(),
    ]
    .join("\n")
}

/// Reads the answers; nothing when they are not understood.
pub(super) fn read_inventory(replies: &[ScriptReply]) -> Option<EngineInventory> {
    let word = |word: &str| replies.iter().find_map(|reply| reply.label.strip_prefix(word)).map(str::trim);
    let lines = |word: &str| replies.iter().find(|reply| reply.label == word).map_or(&[][..], |reply| &reply.lines);
    let text = lines("images").join("\n");
    let printed: Vec<ImageInfo> = if text.is_empty() { Vec::new() } else { serde_json::from_str(&text).ok()? };
    let sizes = |id: &str| lines(&format!("history {id}")).iter().filter_map(|line| line.trim().parse().ok()).collect();
    let images = printed.into_iter().map(|image| EngineImage {
        layers: layers(image.root.layers.unwrap_or_default(), sizes(&image.id)),
        names: names(&image.repo_tags.unwrap_or_default(), &image.repo_digests.unwrap_or_default()),
        id: image.id,
    });
    let made = |line: &String| {
        serde_json::from_str(line).ok().map(|made: ContainerInfo| Container {
            pod: made.labels.as_ref().map(containers::pod).unwrap_or_default(),
            id: made.id,
            config: made.image,
            running: made.running,
            ..Container::default()
        })
    };
    Some(EngineInventory {
        call: word("call ")?.to_owned(),
        images: images.collect(),
        containers: lines("containers").iter().map(made).collect::<Option<_>>()?,
        tells_what_runs: true,
        state: word("state ")?.to_owned(),
        state_script: STATE.to_owned(),
    })
}

/// Returns all full names of an image: Docker omits the registry if it is Docker's own. A digest reference is left out
/// if the same repository has a tag.
fn names(tags: &[String], digests: &[String]) -> Vec<String> {
    let tags: Vec<String> = tags.iter().map(|name| full_name(name)).collect();
    let alone = |name: &String| !tags.iter().any(|tag| repository(tag) == repository(name));
    let digests: Vec<String> = digests.iter().map(|name| full_name(name)).filter(alone).collect();
    [tags, digests].concat()
}

/// Maps each layer, identified together with all layers below it, to its size in bytes. Docker reports the sizes of the
/// build steps; a step that changed no file has no layer.
fn layers(layers: Vec<String>, steps: Vec<u64>) -> BTreeMap<String, u64> {
    let changes: Vec<u64> = steps.iter().rev().copied().filter(|size| *size > 0).collect();
    let sizes = match (steps.len() == layers.len(), changes.len() == layers.len()) {
        (true, _) => steps.into_iter().rev().collect(),
        (false, true) => changes,
        (false, false) => vec![0; layers.len()],
    };
    let mut chain = String::new();
    let chained = layers.into_iter().zip(sizes).map(|(layer, size)| {
        chain = format!("{chain} {layer}");
        (chain.clone(), size)
    });
    chained.collect()
}

/// The beginning of each script: finds the `docker` program and checks that Docker answers.
fn find() -> String {
    [
        first("docker /usr/bin/docker /usr/local/bin/docker /snap/bin/docker"),
        format!(r#"stop() {{ say "$1"; say {END}; exit 0; }}"#),
        r#"[ -n "$c" ] || stop "no-docker there is none in the login user's PATH""#.to_owned(),
        r#"x="$as $c"; say "call $c"; say "machine $(uname -m)""#.to_owned(),
        r#"v=$($x version --format '{{.Server.Version}}' 2>&1) || stop "no-docker $(echo "$v" | tail -n 1)""#
            .to_owned(),
    ]
    .join("\n")
}

/// The script that loads an archive of `length` bytes for a push that began at the time `at`.
pub(super) fn load(call: &str, length: u64, open: &[&DesiredImage], at: Time) -> String {
    let mut lines = vec![
        format!("x=\"$as {call}\""),
        format!(r#"head -c {length} | (e=$($x load --quiet 2>&1) || say "failed $(echo "$e" | tail -n 1)")"#),
    ];
    lines.extend(open.iter().map(|desired| inspect(desired)));
    lines.extend(open.iter().map(|desired| note(desired, at)));
    lines.join("\n")
}

/// The command that records on a present image a push that began at the time `at`.
pub(super) fn note(desired: &DesiredImage, at: Time) -> String {
    let (name, note) = (quoted(desired.name()), quoted(&note::of(&desired.pushed(at))));
    format!(r#"$x tag {name} {note} >/dev/null 2>&1 || say "unnoted "{name}"#)
}

/// Whether this version of Docker reads zstd.
pub(super) fn reads_zstd(version: &str) -> bool {
    version.split('.').next().and_then(|major| major.parse().ok()).is_some_and(|major: u32| major >= READS_ZSTD)
}

fn inspect(desired: &DesiredImage) -> String {
    let name = quoted(desired.name());
    format!(r#"i=$($x image inspect --format '{{{{.Id}}}}' {name} 2>/dev/null) && say "image "{name}" $i""#)
}

#[cfg(test)]
mod tests {
    use super::{layers, names, reads_zstd};

    #[test]
    fn an_image_has_the_names_that_others_can_take_it_by() {
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        let found = names(&words(&["vc/m:v1", "localhost:5000/m:v1"]), &words(&["vc/m@sha256:1", "other/m@sha256:1"]));
        assert_eq!(found, ["docker.io/vc/m:v1", "localhost:5000/m:v1", "docker.io/other/m@sha256:1"]);
    }

    #[test]
    fn layers_take_what_the_steps_say_that_changed_files() {
        let names = || vec!["a".to_owned(), "b".to_owned()];
        let sizes = |steps: &[u64]| layers(names(), steps.to_vec()).into_values().collect::<Vec<_>>();
        assert_eq!(sizes(&[7, 100]), [100, 7], "the last step comes first");
        assert_eq!(sizes(&[0, 7, 0, 100, 0]), [100, 7]);
        assert_eq!(sizes(&[0, 100]), [100, 0]);
        assert_eq!(sizes(&[1, 2, 3]), [0, 0], "not known");
        assert_eq!(layers(names(), vec![1, 2]).into_keys().collect::<Vec<_>>(), [" a", " a b"]);
    }

    #[test]
    fn docker_reads_zstd_from_some_version_on() {
        let read = ["20.10.24+dfsg1", "19.03", "", "dev", "23.0.1", "28.5.1-rc.1"].map(reads_zstd);
        assert_eq!(read, [false, false, false, false, true, true]);
    }
}
