//! containers/storage, where CRI-O stores its images. skopeo writes to it from an OCI layout without the layers that
//! are already present; podman needs a complete layout. The script first unpacks the layout into a temporary folder
//! on the node, and removes the folder at its end.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use vcstore::Digest;

use super::inventory::{EngineImage, EngineInventory};
use super::{Tool, first, note, quoted};
use crate::images::desired_image::DesiredImage;
use crate::images::inventory::StoredBlob;
use crate::images::push_label::Time;
use crate::protocol::proto::Container;
use crate::runtime::script::{END, ScriptReply};

/// The default `graphroot`.
const ROOT: &str = "/var/lib/containers/storage";

/// The default `runroot`, which is cleared at each boot.
const RUN: &str = "/run/containers/storage";

/// An image in the list of the storage.
#[derive(Debug, Deserialize)]
struct ListedImage {
    id: String,
    names: Option<Vec<String>>,
    layer: Option<String>,
}

/// A layer in the list of the storage.
#[derive(Debug, Deserialize)]
struct ListedLayer {
    id: String,
    parent: Option<String>,
    #[serde(rename = "diff-size")]
    size: Option<i64>,
}

/// A container in the list of the storage.
#[derive(Debug, Deserialize)]
struct ListedContainer {
    id: String,
    image: Option<String>,
}

/// The script that queries the storage before a push.
pub(super) fn probe(desired: &[DesiredImage]) -> String {
    let mut lines = vec![
        first("skopeo /usr/bin/skopeo podman /usr/bin/podman"),
        format!(r#"[ -n "$c" ] || {{ say no-tool; say {END}; exit 0; }}"#),
        r#"x="$as $c"; say "call $c"; say "machine $(uname -m)""#.to_owned(),
        set("r", "graphroot", ROOT),
        r#"d=$r; while [ "$d" != / ] && ! $as test -e "$d"; do d=${d%/*}; d=${d:-/}; done"#.to_owned(),
        r#"say disk; echo "$d"; $as df -Pk "$d" | tail -n 1; $as df -Pi "$d" | tail -n 1"#.to_owned(),
        r#"say layers; $as sh -c 'cat "$1"/*-layers/layers.json' - "$r" 2>/dev/null | tr ',{' '\n\n' | sed -n 's/^ *"compressed-diff-digest": *"\(.*\)".*/\1/p'"#.to_owned(),
    ];
    lines.push(format!("say names; $as sh -c 'cat {IMAGES} 2>/dev/null' - \"$r\"; echo"));
    lines.extend(desired.iter().map(inspect));
    lines.join("\n")
}

/// The command that records on a present image a push that began at the time `at`.
pub(super) fn note(tool: Tool, desired: &DesiredImage, at: Time) -> String {
    let (name, note) = (quoted(desired.name()), quoted(&note::of(&desired.pushed(at))));
    let noting = match tool {
        Tool::Podman => format!("$x tag {name} {note}"),
        _ => format!("$x copy --insecure-policy --quiet containers-storage:{name} containers-storage:{note}"),
    };
    format!(r#"{noting} >/dev/null 2>&1 || say "unnoted "{name}"#)
}

/// The script that queries every image, layer and container from the storage's own lists. It prefers podman, because
/// skopeo removes an image with all its names.
pub(super) fn inventory_script() -> String {
    let state = state();
    let list =
        |name: &str, files: &str| format!("say {name}; $as sh -c 'cat {files} 2>/dev/null' - \"$r\" \"$u\"; echo");
    [
        first("podman /usr/bin/podman skopeo /usr/bin/skopeo"),
        format!(r#"[ -n "$c" ] || {{ say no-tool; say {END}; exit 0; }}"#),
        format!("say \"call $c\"; {state}; say \"state $(state)\""),
        list("images", IMAGES),
        list("layers", r#""$1"/*-layers/layers.json "$2"/*-layers/volatile-layers.json"#),
        list("containers", CONTAINERS),
    ]
    .join("\n")
}

/// The names of the temporary folders for layouts, and the age in minutes after which one is considered abandoned.
const FOLDERS: &str = "vcdist-[0-9]*-[0-9]*";
const LEFT: u32 = 24 * 60;

const IMAGES: &str = r#""$1"/*-images/images.json"#;
const CONTAINERS: &str = r#""$1"/*-containers/containers.json "$2"/*-containers/volatile-containers.json"#;

/// Defines the shell function `state`: a hash over the lists of images and containers.
fn state() -> String {
    let (root, run) = (set("r", "graphroot", ROOT), set("u", "runroot", RUN));
    format!(
        "{root}; {run}; state() {{ $as sh -c 'cat {IMAGES} {CONTAINERS} 2>/dev/null' - \"$r\" \"$u\" | sha256sum; }}"
    )
}

/// Reads the answers; nothing when they are not understood.
pub(super) fn read_inventory(replies: &[ScriptReply]) -> Option<EngineInventory> {
    let word = |word: &str| replies.iter().find_map(|reply| reply.label.strip_prefix(word)).map(str::trim);
    let lines = |word: &str| replies.iter().find(|reply| reply.label == word).map_or(&[][..], |reply| &reply.lines);
    let layers: Vec<ListedLayer> = listed(lines("layers"))?;
    let layers: BTreeMap<&str, &ListedLayer> = layers.iter().map(|layer| (layer.id.as_str(), layer)).collect();
    let of_image = |top: Option<&str>| {
        let mut found = BTreeMap::new();
        let mut next = top;
        while let Some(layer) = next.and_then(|id| layers.get(id)).filter(|layer| !found.contains_key(&layer.id)) {
            found.insert(layer.id.clone(), layer.size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0));
            next = layer.parent.as_deref();
        }
        found
    };
    let id = |hex: &str| format!("sha256:{hex}");
    let images = listed::<ListedImage>(lines("images"))?.into_iter().map(|image| EngineImage {
        id: id(&image.id),
        names: image.names.unwrap_or_default(),
        layers: of_image(image.layer.as_deref()),
    });
    let containers = listed::<ListedContainer>(lines("containers"))?;
    let made = |made: ListedContainer| {
        made.image.map(|image| Container { id: made.id, config: id(&image), ..Container::default() })
    };
    Some(EngineInventory {
        call: word("call ")?.to_owned(),
        images: images.collect(),
        containers: containers.into_iter().filter_map(made).collect(),
        tells_what_runs: false,
        state: word("state ")?.to_owned(),
        state_script: state(),
    })
}

/// Returns the current names of all images in the storage's list. The list stores former names in a separate field.
pub(super) fn names(lines: &[String]) -> Vec<String> {
    let images = listed::<ListedImage>(lines).unwrap_or_default();
    images.into_iter().filter_map(|image| image.names).flatten().collect()
}

/// Parses concatenated lists into their entries. Each storage driver has a list of its own.
fn listed<T: DeserializeOwned>(lines: &[String]) -> Option<Vec<T>> {
    let text = lines.join("\n");
    let lists = serde_json::Deserializer::from_str(&text).into_iter::<Vec<T>>().collect::<Result<Vec<_>, _>>();
    lists.ok().map(|lists| lists.into_iter().flatten().collect())
}

/// A shell command that sets a variable to the value of `key` in the storage's configuration. The first file with a
/// value wins.
fn set(variable: &str, key: &str, default: &str) -> String {
    format!(
        r#"{variable}=$($as sed -n 's/^ *{key} *= *"\(.*\)"/\1/p' "${{CONTAINERS_STORAGE_CONF:-/etc/containers/storage.conf}}" /usr/share/containers/storage.conf 2>/dev/null | head -n 1); {variable}=${{{variable}:-{default}}}"#
    )
}

/// Returns the layers of `desired` that the storage lists.
pub(super) fn layers(lines: &[String], desired: &[DesiredImage]) -> BTreeMap<Digest, StoredBlob> {
    let listed: Vec<Digest> = lines.iter().filter_map(|line| line.trim().parse().ok()).collect();
    let layers = desired.iter().flat_map(|image| {
        let is_layer = |digest| image.layers.iter().any(|layer| layer.digest == digest);
        image.blobs.iter().map(|part| part.blob).filter(move |blob| is_layer(blob.digest))
    });
    layers
        .filter(|blob| listed.contains(&blob.digest))
        .map(|blob| (blob.digest, StoredBlob { size: blob.size, ..StoredBlob::default() }))
        .collect()
}

/// The script that loads a layout of `length` bytes with skopeo, for a push that began at the time `at`.
pub(super) fn copy(call: &str, length: u64, open: &[&DesiredImage], at: Time) -> String {
    let mut lines = unpack(call, length);
    for (number, desired) in open.iter().enumerate() {
        let copy = |name: &String| {
            let name = quoted(name);
            format!(
                r#"e=$($x copy --insecure-policy --quiet oci:"$d":{number} containers-storage:{name} 2>&1) || say "failed $(echo "$e" | tail -n 1)""#
            )
        };
        lines.extend(desired.names.iter().map(copy));
        lines.push(note(Tool::Skopeo, desired, at));
    }
    lines.extend(open.iter().map(|desired| inspect(desired)));
    lines.join("\n")
}

/// The script that loads a layout of `length` bytes with podman, for a push that began at the time `at`.
pub(super) fn pull(call: &str, length: u64, open: &[&DesiredImage], at: Time) -> String {
    let mut lines = unpack(call, length);
    // podman names an image from a folder after that folder; `unnamed` removes this name.
    lines.push(
        r#"unnamed() { for t in $($x image inspect --format '{{range .RepoTags}}{{.}} {{end}}' "$i"); do case $t in localhost$d:*) $x untag "$i" "$t";; esac; done; }"#
            .to_owned(),
    );
    for (number, desired) in open.iter().enumerate() {
        let name = quoted(desired.name());
        let note = note(Tool::Podman, desired, at);
        lines.push(format!(
            r#"if e=$($x pull --quiet oci:"$d":{number} 2>&1); then i=$(echo "$e" | tail -n 1); $x tag "$i" {name}; {note}; unnamed; else say "failed $(echo "$e" | tail -n 1)"; fi"#
        ));
    }
    lines.extend(open.iter().map(|desired| inspect(desired)));
    lines.join("\n")
}

fn unpack(call: &str, length: u64) -> Vec<String> {
    vec![
        format!("x=\"$as {call}\""),
        // Ignores the signals, so that the script runs to its end if the connection breaks: a shell that dies of
        // SIGPIPE leaves its folder behind. The next command removes folders that earlier scripts left.
        "trap : HUP INT TERM PIPE".to_owned(),
        format!(
            r#"$as find /var/tmp -maxdepth 1 -type d -user root -name "{FOLDERS}" -mmin +{LEFT} -exec rm -rf {{}} +"#
        ),
        // podman derives a name from the path, and names may not contain capitals.
        r#"d=/var/tmp/vcdist-$$-$(date +%s); $as mkdir -m 700 "$d" || exit 1; trap '$as rm -rf "$d"' EXIT"#.to_owned(),
        // An incomplete layout is not loaded.
        format!(r#"head -c {length} | $as tar -xf - -C "$d" || exit 1"#),
    ]
}

/// The command that prints the configuration digest for each name of an image.
fn inspect(desired: &DesiredImage) -> String {
    let names: Vec<String> = desired.names.iter().map(|name| quoted(name)).collect();
    let names = names.join(" ");
    format!(
        "for n in {names}; do case $c$x in *podman) i=$($x image inspect --format 'sha256:{{{{.Id}}}}' $n 2>/dev/null);; *) \
         i=$($x inspect --config --raw containers-storage:$n 2>/dev/null | sha256sum); i=sha256:${{i%% *}};; esac; \
         say \"image $n $i\"; done"
    )
}
