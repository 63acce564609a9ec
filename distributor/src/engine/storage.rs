//! containers/storage, where CRI-O keeps its images: filled by skopeo from a layout that lacks the layers which are there, or
//! else by podman from a whole one. The layout is unpacked to a folder of the node's first, which goes again.

use std::collections::BTreeMap;

use vcstore::Digest;

use super::{first, quoted};
use crate::fallback::END;
use crate::inventory::Present;
use crate::wanted::Wanted;

/// Where the storage is unless its configuration says otherwise.
const ROOT: &str = "/var/lib/containers/storage";

/// The script that asks.
pub(super) fn probe(wanted: &[Wanted]) -> String {
    let mut lines = vec![
        first("skopeo /usr/bin/skopeo podman /usr/bin/podman"),
        format!(r#"[ -n "$c" ] || {{ say no-tool; say {END}; exit 0; }}"#),
        r#"x="$as $c"; say "call $c"; say "machine $(uname -m)""#.to_owned(),
        // As its configuration has it; the first that says so is the one that counts.
        format!(
            r#"r=$($as sed -n 's/^ *graphroot *= *"\(.*\)"/\1/p' "${{CONTAINERS_STORAGE_CONF:-/etc/containers/storage.conf}}" /usr/share/containers/storage.conf 2>/dev/null | head -n 1); r=${{r:-{ROOT}}}"#
        ),
        r#"d=$r; while ! $as test -e "$d"; do d=${d%/*}; d=${d:-/}; done"#.to_owned(),
        r#"say disk; echo "$d"; $as df -Pk "$d" | tail -n 1; $as df -Pi "$d" | tail -n 1"#.to_owned(),
        r#"say layers; $as sh -c 'cat "$1"/*-layers/layers.json' - "$r" 2>/dev/null | tr ',{' '\n\n' | sed -n 's/^ *"compressed-diff-digest": *"\(.*\)".*/\1/p'"#.to_owned(),
    ];
    lines.extend(wanted.iter().map(inspect));
    lines.join("\n")
}

/// The layers of `wanted` that the storage has, of those it lists.
pub(super) fn layers(lines: &[String], wanted: &[Wanted]) -> BTreeMap<Digest, Present> {
    let listed: Vec<Digest> = lines.iter().filter_map(|line| line.trim().parse().ok()).collect();
    let layers = wanted.iter().flat_map(|image| {
        let is_layer = |digest| image.layers.iter().any(|layer| layer.digest == digest);
        image.blobs.iter().map(|part| part.blob).filter(move |blob| is_layer(blob.digest))
    });
    layers
        .filter(|blob| listed.contains(&blob.digest))
        .map(|blob| (blob.digest, Present { size: blob.size, ..Present::default() }))
        .collect()
}

/// The script by which skopeo takes a layout of `length` bytes in.
pub(super) fn copy(call: &str, length: u64, open: &[&Wanted]) -> String {
    let mut lines = unpack(call, length);
    for (number, wanted) in open.iter().enumerate() {
        for name in &wanted.names {
            let name = quoted(name);
            lines.push(format!(
                r#"e=$($x copy --insecure-policy --quiet oci:"$d":{number} containers-storage:{name} 2>&1) || say "failed $(echo "$e" | tail -n 1)""#
            ));
        }
    }
    lines.extend(open.iter().map(|wanted| inspect(wanted)));
    lines.join("\n")
}

/// The script by which podman takes a layout of `length` bytes in.
pub(super) fn pull(call: &str, length: u64, open: &[&Wanted]) -> String {
    let mut lines = unpack(call, length);
    for (number, wanted) in open.iter().enumerate() {
        let name = quoted(wanted.name());
        lines.push(format!(
            r#"if e=$($x pull --quiet oci:"$d":{number} 2>&1); then $x tag "$(echo "$e" | tail -n 1)" {name}; else say "failed $(echo "$e" | tail -n 1)"; fi"#
        ));
    }
    lines.extend(open.iter().map(|wanted| inspect(wanted)));
    lines.join("\n")
}

fn unpack(call: &str, length: u64) -> Vec<String> {
    vec![
        format!("x=\"$as {call}\""),
        // podman makes a name of the path, which may have no capitals.
        r#"d=/var/tmp/vcdist-$$-$(date +%s); $as mkdir -m 700 "$d" || exit 1; trap '$as rm -rf "$d"' EXIT"#.to_owned(),
        // Nothing is taken in of a layout that did not come whole.
        format!(r#"head -c {length} | $as tar -xf - -C "$d" || exit 1"#),
    ]
}

/// What stands for the names of an image: the digest of its configuration.
fn inspect(wanted: &Wanted) -> String {
    let names: Vec<String> = wanted.names.iter().map(|name| quoted(name)).collect();
    let names = names.join(" ");
    format!(
        "for n in {names}; do case $c$x in *podman) i=$($x image inspect --format 'sha256:{{{{.Id}}}}' $n 2>/dev/null);; *) \
         i=$($x inspect --config --raw containers-storage:$n 2>/dev/null | sha256sum); i=sha256:${{i%% *}};; esac; \
         say \"image $n $i\"; done"
    )
}
