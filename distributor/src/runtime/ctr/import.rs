//! The import through `ctr`: ingests blobs, imports an archive that names them, and protects all content from garbage
//! collection meanwhile.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::mpsc;
use vcstore::Digest;

use super::archive::Archive;
use super::{CtrNode, Error, IMPORT_WITHIN, PINNED, REFERENCE, ROOT};
use crate::images::plan::{ImagePlan, Plan, State};
use crate::images::push_label::Time;
use crate::runtime::{Event, Load, Loaded, script};

impl CtrNode<'_> {
    /// Imports what the plan sends.
    pub(super) async fn import(&self, load: &Load<'_>) -> Result<Loaded, Error> {
        let &Load { store, plan, at, sent, on_event } = load;
        load.begin();
        let open: Vec<&ImagePlan> = plan.images.iter().filter(|image| image.state != State::UpToDate).collect();
        let archive = Archive::of(plan, open.iter().map(|image| &image.desired));
        let script = self.script(plan, &open, at, &archive)?;
        let (chunks, input) = mpsc::channel(2);
        let (store, counted) = (store.clone(), Arc::clone(sent));
        let feeding = tokio::task::spawn_blocking(move || archive.send(&store, &chunks, &counted));
        let replies = script::run(self.transport, &script, Some(input), IMPORT_WITHIN).await;
        let fed = feeding.await.map_err(|error| script::Error::Store(std::io::Error::other(error)))?;
        match (replies, fed) {
            // What could not be read here is why the rest failed, unless the node stopped listening first.
            (Err(_), Err(error)) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                Err(script::Error::Store(error).into())
            }
            (Err(script::Error::Failed { replies, .. }), _) if replies.iter().any(|label| label == "gone") => {
                Ok(Loaded::NodeChanged)
            }
            (Err(error), _) => Err(error.into()),
            (Ok(replies), _) => {
                let word = |word: &str| -> Vec<String> {
                    replies.iter().filter_map(|reply| reply.label.strip_prefix(word)).map(str::to_owned).collect()
                };
                let names = word("incomplete ");
                if !names.is_empty() {
                    return Err(Error::Incomplete { names, message: word("failed ").join("; ") });
                }
                for image in open {
                    let unpacked =
                        image.desired.layers.iter().filter(|l| !self.inventory.snapshots.contains(&l.chain_id));
                    let unpacked = u32::try_from(unpacked.count()).unwrap_or(u32::MAX);
                    on_event(Event::Finished { image: image.desired.name(), unpacked });
                }
                Ok(Loaded::Whole)
            }
        }
    }

    /// The script that labels content as roots, ingests blobs, imports, checks and pins. It runs to its end even if its
    /// connection breaks, so that no name of an incomplete image remains; the blobs that arrived then stay rooted for
    /// the next push.
    fn script(&self, plan: &Plan, open: &[&ImagePlan], at: Time, archive: &Archive) -> Result<String, Error> {
        let words = |digests: &BTreeSet<Digest>| digests.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        let (kept, snapshots) = (words(&plan.kept), words(&plan.kept_snapshots));
        let (snapshotter, length) =
            (&self.inventory.snapshotter, archive.layout_length().map_err(script::Error::Store)?);
        let mut lines = vec![
            "trap : HUP INT TERM PIPE".to_owned(),
            format!("x=\"$as {}\"; kept=\"{kept}\"; snapshots=\"{snapshots}\"; ok=1; done=0; anchor=; came=; now=$(date +%s)", self.call),
            format!("label() {{ $x content label \"$1\" \"{ROOT}=$2\" >/dev/null; }}"),
            format!("label_snapshot() {{ $x snapshots --snapshotter {snapshotter} label \"$1\" \"{ROOT}=$2\" >/dev/null; }}"),
            "hold() { r=0; for d in $kept; do label $d \"$1\" || r=1; done; for s in $snapshots; do label_snapshot $s \"$1\" || r=1; \
             done; return $r; }"
                .to_owned(),
            // Runs also when another signal ends the script.
            "leave() { [ $done = 1 ] && left= || left=vcdist-$now; for d in $kept; do label $d $left; done; for s in $snapshots; do \
             label_snapshot $s; done; [ -z \"$anchor\" ] || [ -n \"$came\" ] || label $anchor; }; trap leave EXIT"
                .to_owned(),
            // The label contains the time: if the script is killed before it removes the label, a push a day later
            // removes it.
            "hold vcdist-$now || { say gone; exit 1; }".to_owned(),
            // `cat` discards what `ctr` does not read of a blob, so that it is not mistaken for the next blob.
            r#"take() { head -c $2 | (e=$($x content ingest --expected-size $2 --expected-digest $1 vcdist-$$-$1 2>&1); r=$?; cat >/dev/null; [ $r = 0 ] || say "failed $e"; exit $r) && came=1 || ok=0; }"#.to_owned(),
        ];
        let anchor = anchor(open, archive);
        lines.extend(anchor.as_ref().map(|(_, script)| script.clone()));
        lines.extend(archive.blobs().iter().map(|blob| format!("take {} {}", blob.digest, blob.size)));
        lines.extend([
            format!("[ $ok = 0 ] || head -c {length} | (e=$($x images import --snapshotter {snapshotter} - 2>&1) || say \"failed $e\")"),
            format!(r#"row() {{ $x images check --snapshotter {snapshotter} "name==\"$1\"" 2>/dev/null | tail -n 1; }}"#),
            r#"whole() { case $l in *" true"*) ;; *) return 1;; esac; n=${l#*"complete ("}; n=${n%%/*}; [ "$n" -ge "$1" ] 2>/dev/null; }"#.to_owned(),
            // Leaves a name that still refers to another image unchanged.
            format!(
                r#"name() {{ l=$(row "$1"); case $l in *"$2"*) ;; *) say "incomplete $1"; ok=0; return;; esac; if whole $3; then $x images label "$1" {PINNED} $4 >/dev/null 2>&1; else $x images rm "$1" >/dev/null 2>&1; say "incomplete $1"; ok=0; fi; }}"#
            ),
        ]);
        for image in open {
            // ctr counts the configuration and the layers, some of which may be absent permanently.
            let layers: Vec<_> = image.desired.layers.iter().collect();
            let least = 1 + layers.iter().filter(|layer| !image.absent.contains(&layer.digest)).count();
            let target = image.desired.target.blob.digest;
            let noted = image.desired.pushed(at).labels().map(|(key, value)| format!("{key}={value}")).join(" ");
            for name in image.desired.names.iter().collect::<BTreeSet<_>>() {
                let line = shlex::try_join(["name", name, &target.to_string(), &least.to_string(), &noted]);
                lines.push(line.unwrap_or_default());
            }
        }
        // From here, the images keep their content. Content that an earlier push left and no later push used is
        // released after a day.
        let let_go = anchor.map(|(digest, _)| format!("label {digest}; ")).unwrap_or_default();
        lines.push(format!("[ $ok = 0 ] || {{ done=1; {let_go}}}"));
        lines.push(format!(
            r"$x content ls | sed -n 's|^\(sha256:[0-9a-f]*\).*{ROOT}=vcdist-\([0-9]*\).*|\1 \2|p' | while read -r d t; do [ $((now - t)) -lt 86400 ] || label $d; done"
        ));
        Ok(lines.join("\n"))
    }
}

/// Protects blobs from garbage collection before they arrive. Between a blob's arrival and its own label, containerd
/// could collect it; so the script first creates a small rooted blob, the anchor, that refers to all of them. Returns
/// the digest of the anchor and the part of the script that creates it, or `None` if no blob is sent. A later push of
/// the same images has the same anchor and releases it.
fn anchor(open: &[&ImagePlan], archive: &Archive) -> Option<(Digest, String)> {
    let targets: BTreeSet<_> = open.iter().map(|image| image.desired.target.blob.digest.to_string()).collect();
    let text = format!("vcdist {}", targets.into_iter().collect::<Vec<_>>().join(" "));
    let (digest, size) = (Digest::of(text.as_bytes()), text.len());
    let refer = |digest: &Digest| format!(" {REFERENCE}.{}={digest}", &digest.hex()[..16]);
    let references: String = archive.blobs().iter().map(|blob| refer(&blob.digest)).collect();
    // containerd may collect the anchor before it is labelled; the script then creates it again.
    let script = format!(
        "anchor={digest}; anchor() {{ n=0; while [ $n -lt 50 ]; do printf %s '{text}' | $x content ingest --expected-size {size} \
         --expected-digest {digest} vcdist-$$-anchor >/dev/null 2>&1; $x content label {digest} \"{ROOT}=vcdist-$now\"{references} \
         >/dev/null 2>&1 && return; n=$((n + 1)); done; return 1; }}; anchor || {{ say gone; exit 1; }}"
    );
    (!archive.blobs().is_empty()).then_some((digest, script))
}
