//! A push where no helper can run: through the `ctr` that the node has, with what that allows of the same guarantees. What
//! is there is asked first; an archive of what is missing goes in one stream; what counts on being kept is rooted meanwhile;
//! a name whose image is not whole is taken away again. What was pushed is removed by it as well.

mod archive;
mod containers;
mod probe;
mod removal;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use miette::Diagnostic;
use thiserror::Error;
use tokio::sync::mpsc;
use vcstore::{Digest, Image, Store};

use crate::agent::gc_refs::GcRefs;
use crate::agent::removal_plan::Named;
use crate::images::desired_image::DesiredImage;
use crate::images::inventory::Inventory;
use crate::images::plan::{ImagePlan, Plan, State};
use crate::images::push_label::{PushedImage, Time};
use crate::push::Event;
use crate::runtime::script;
use crate::runtime::transfer::Sent;
use crate::session::{self, Settings};
use crate::transport::{self, Transport};
use archive::Archive;
use probe::Probed;

pub(crate) use archive::{Length, Pieces};
pub(crate) use probe::{architecture, disk};

/// The label that keeps an image from kubelet's garbage collection, as `ctr` takes it.
const PINNED: &str = "io.cri-containerd.pinned=pinned";

/// The label that keeps a blob from containerd's garbage collection by itself.
const ROOT: &str = "containerd.io/gc.root";

/// The label by which a blob keeps another.
const REFERENCE: &str = "containerd.io/gc.ref.content";

/// How long a node may take to say what it has.
const ANSWER_WITHIN: Duration = Duration::from_secs(120);

/// How long an import may take in all.
const IMPORT_WITHIN: Duration = Duration::from_secs(6 * 3600);

/// Why a push without a helper failed.
#[derive(Debug, Error, Diagnostic)]
#[non_exhaustive]
pub enum Error {
    /// The connection failed.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Transport(#[from] transport::Error),
    /// The login user cannot become root.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Session(#[from] session::Error),
    /// The script ended with a failure.
    #[error("working through the node's own programs: {error}")]
    #[diagnostic(help(
        "`ctr version` must work on the node, or `docker version` or `skopeo --version` where it has no containerd, for \
         root or by `sudo -n`; name containerd's socket with --containerd-address if it is elsewhere"
    ))]
    Script {
        /// What it said before.
        said: Vec<String>,
        /// How it ended.
        error: transport::Error,
    },
    /// The script ended early, without a word.
    #[error("the shell of {destination} ended before its work was done")]
    #[diagnostic(help("try again; what a push has sent is kept and not sent twice"))]
    Cut {
        /// Where.
        destination: String,
    },
    /// The script does not end.
    #[error("{destination} does not answer in time")]
    #[diagnostic(help(
        "see on the node whether its runtime answers (`ctr version`, `docker version`), then push again"
    ))]
    Slow {
        /// Where.
        destination: String,
    },
    /// The answers are none.
    #[error("the node's programs answer in a way that is not understood")]
    #[diagnostic(help(
        "push with the helper (--helper auto) where the node has containerd, or report what `ctr content ls`, `docker image \
         ls` or `podman image ls` prints there"
    ))]
    Answers,
    /// An image is not whole after the import.
    #[error("{} not whole on the node after the import, and got no name: {said}", list(names))]
    #[diagnostic(help("see containerd's log on the node (`journalctl -u containerd`), then push again"))]
    Incomplete {
        /// Their names.
        names: Vec<String>,
        /// ctr's words.
        said: String,
    },
    /// The node changes as fast as it is asked.
    #[error("what runs on the node, or its images, changed between question and removal, {times} times over")]
    #[diagnostic(help("prune again when the node has come to rest: nothing was removed"))]
    Changing {
        /// How often it was asked.
        times: usize,
    },
    /// A name is still there that was removed.
    #[error("{} still on the node after the removal: {said}", list(names))]
    #[diagnostic(help("see containerd's log on the node (`journalctl -u containerd`), then prune again"))]
    Left {
        /// Their names.
        names: Vec<String>,
        /// ctr's words.
        said: String,
    },
    /// A blob of the store cannot be read.
    #[error("reading the images from the store")]
    #[diagnostic(help("build or import the image again (`vcbuild images`), then push"))]
    Store(#[source] std::io::Error),
}

/// What a node without a helper has, and how its `ctr` is called.
#[derive(Debug)]
pub(crate) struct Ctr<'a> {
    transport: &'a dyn Transport,
    call: String,
    /// Every image record, whoever made it.
    images: Vec<Named>,
    /// Everything there is, and what of it keeps what.
    graph: GcRefs,
    snapshotter: String,
    pushes: Vec<PushedImage>,
}

impl<'a> Ctr<'a> {
    /// Asks the node what it has of `images`.
    pub(crate) async fn probe(
        transport: &'a dyn Transport,
        images: &[Image],
        settings: &Settings,
    ) -> Result<(Self, Inventory), Error> {
        let said = script::run(transport, &probe::script(settings), None, ANSWER_WITHIN).await?;
        let wanted = DesiredImage::on_any_platform(images);
        let Probed { ctr, inventory, images, graph, pushes } = probe::read(&said, &wanted).ok_or(Error::Answers)?;
        let snapshotter = inventory.snapshotter.clone();
        Ok((Self { transport, call: ctr, images, graph, snapshotter, pushes }, inventory))
    }

    /// The images that were pushed to the node.
    pub(crate) fn pushes(&self) -> &[PushedImage] {
        &self.pushes
    }

    /// Imports what the plan sends; false when something it counts on went away since it was made.
    pub(crate) async fn import(
        &self,
        store: &Store,
        plan: &Plan,
        inventory: &Inventory,
        at: Time,
        sent: &Arc<Sent>,
        on_event: &(dyn Fn(Event<'_>) + Sync),
    ) -> Result<bool, Error> {
        let open: Vec<&ImagePlan> = plan.images.iter().filter(|image| image.state != State::UpToDate).collect();
        let archive = Archive::of(plan, open.iter().map(|image| &image.wanted));
        let script = self.script(plan, &open, inventory, at, &archive)?;
        let (pieces, input) = mpsc::channel(2);
        let (store, counted) = (store.clone(), Arc::clone(sent));
        let feeding = tokio::task::spawn_blocking(move || archive.send(&store, &pieces, &counted));
        let said = script::run(self.transport, &script, Some(input), IMPORT_WITHIN).await;
        let fed = feeding.await.map_err(|error| Error::Store(std::io::Error::other(error)))?;
        match (said, fed) {
            // What could not be read here is why the rest failed, unless the node stopped listening first.
            (Err(_), Err(error)) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Error::Store(error)),
            (Err(Error::Script { said, .. }), _) if said.iter().any(|words| words == "gone") => Ok(false),
            (Err(error), _) => Err(error),
            (Ok(said), _) => {
                let word = |word: &str| -> Vec<String> {
                    said.iter().filter_map(|said| said.words.strip_prefix(word)).map(str::to_owned).collect()
                };
                let names = word("incomplete ");
                if !names.is_empty() {
                    return Err(Error::Incomplete { names, said: word("failed ").join("; ") });
                }
                for image in open {
                    let unpacked = image.wanted.layers.iter().filter(|l| !inventory.snapshots.contains(&l.chain_id));
                    let unpacked = u32::try_from(unpacked.count()).unwrap_or(u32::MAX);
                    on_event(Event::Finished { image: image.wanted.name(), unpacked });
                }
                Ok(true)
            }
        }
    }

    /// The script that roots, takes blobs in, imports, checks and pins. It goes on when its connection breaks, so that no name
    /// is left whose image is not whole; blobs that came stay rooted for the next push then.
    fn script(
        &self,
        plan: &Plan,
        open: &[&ImagePlan],
        inventory: &Inventory,
        at: Time,
        archive: &Archive,
    ) -> Result<String, Error> {
        let words = |digests: &BTreeSet<Digest>| digests.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        let (kept, snapshots) = (words(&plan.kept), words(&plan.kept_snapshots));
        let (snapshotter, length) = (&inventory.snapshotter, archive.layout_length().map_err(Error::Store)?);
        let mut lines = vec![
            "trap : HUP INT TERM PIPE".to_owned(),
            format!("x=\"$as {}\"; kept=\"{kept}\"; snapshots=\"{snapshots}\"; ok=1; done=0; anchor=; came=; now=$(date +%s)", self.call),
            format!("label() {{ $x content label \"$1\" \"{ROOT}=$2\" >/dev/null; }}"),
            format!("label_snapshot() {{ $x snapshots --snapshotter {snapshotter} label \"$1\" \"{ROOT}=$2\" >/dev/null; }}"),
            "hold() { r=0; for d in $kept; do label $d \"$1\" || r=1; done; for s in $snapshots; do label_snapshot $s \"$1\" || r=1; \
             done; return $r; }"
                .to_owned(),
            // Also when another signal ends it.
            "leave() { [ $done = 1 ] && left= || left=vcdist-$now; for d in $kept; do label $d $left; done; for s in $snapshots; do \
             label_snapshot $s; done; [ -z \"$anchor\" ] || [ -n \"$came\" ] || label $anchor; }; trap leave EXIT"
                .to_owned(),
            "hold vcdist || { say gone; exit 1; }".to_owned(),
            // What ctr does not read of a blob must not be taken for the next one.
            r#"take() { head -c $2 | (e=$($x content ingest --expected-size $2 --expected-digest $1 vcdist-$$-$1 2>&1); r=$?; cat >/dev/null; [ $r = 0 ] || say "failed $e"; exit $r) && came=1 || ok=0; }"#.to_owned(),
        ];
        let anchor = anchor(open, archive);
        lines.extend(anchor.as_ref().map(|(_, script)| script.clone()));
        lines.extend(archive.blobs().iter().map(|blob| format!("take {} {}", blob.digest, blob.size)));
        lines.extend([
            format!("[ $ok = 0 ] || head -c {length} | (e=$($x images import --snapshotter {snapshotter} - 2>&1) || say \"failed $e\")"),
            format!(r#"row() {{ $x images check --snapshotter {snapshotter} "name==\"$1\"" 2>/dev/null | tail -n 1; }}"#),
            r#"whole() { case $l in *" true"*) ;; *) return 1;; esac; n=${l#*"complete ("}; n=${n%%/*}; [ "$n" -ge "$1" ] 2>/dev/null; }"#.to_owned(),
            // A name that still stands for another image is left as it is.
            format!(
                r#"name() {{ l=$(row "$1"); case $l in *"$2"*) ;; *) say "incomplete $1"; ok=0; return;; esac; if whole $3; then $x images label "$1" {PINNED} $4 >/dev/null 2>&1; else $x images rm "$1" >/dev/null 2>&1; say "incomplete $1"; ok=0; fi; }}"#
            ),
        ]);
        for image in open {
            // ctr counts the configuration and the layers, of which some may be dropped for good.
            let layers: Vec<_> = image.wanted.layers.iter().collect();
            let least = 1 + layers.iter().filter(|layer| !image.absent.contains(&layer.digest)).count();
            let target = image.wanted.target.blob.digest;
            let noted = image.wanted.pushed(at).labels().map(|(key, value)| format!("{key}={value}")).join(" ");
            for name in image.wanted.names.iter().collect::<BTreeSet<_>>() {
                let line = shlex::try_join(["name", name, &target.to_string(), &least.to_string(), &noted]);
                lines.push(line.unwrap_or_default());
            }
        }
        // The images keep it now. What an earlier push left and none came for is let go after a day.
        let let_go = anchor.map(|(digest, _)| format!("label {digest}; ")).unwrap_or_default();
        lines.push(format!("[ $ok = 0 ] || {{ done=1; {let_go}}}"));
        lines.push(format!(
            r"$x content ls | sed -n 's|^\(sha256:[0-9a-f]*\).*{ROOT}=vcdist-\([0-9]*\).*|\1 \2|p' | while read -r d t; do [ $((now - t)) -lt 86400 ] || label $d; done"
        ));
        Ok(lines.join("\n"))
    }
}

/// What keeps blobs from the moment they come: a blob of a few bytes that is rooted and refers to all of them before any is
/// there, for between a blob's arrival and a label of its own it could be collected. Its digest, and the part of the script that
/// makes it; nothing where no blob goes. A later push of the same images has the same one, and lets go of it.
fn anchor(open: &[&ImagePlan], archive: &Archive) -> Option<(Digest, String)> {
    let targets: BTreeSet<_> = open.iter().map(|image| image.wanted.target.blob.digest.to_string()).collect();
    let text = format!("vcdist {}", targets.into_iter().collect::<Vec<_>>().join(" "));
    let (digest, size) = (Digest::of(text.as_bytes()), text.len());
    let refer = |digest: &Digest| format!(" {REFERENCE}.{}={digest}", &digest.hex()[..16]);
    let references: String = archive.blobs().iter().map(|blob| refer(&blob.digest)).collect();
    // It may itself be collected before it is labelled: then it is made again.
    let script = format!(
        "anchor={digest}; anchor() {{ n=0; while [ $n -lt 50 ]; do printf %s '{text}' | $x content ingest --expected-size {size} \
         --expected-digest {digest} vcdist-$$-anchor >/dev/null 2>&1; $x content label {digest} \"{ROOT}=vcdist-$now\"{references} \
         >/dev/null 2>&1 && return; n=$((n + 1)); done; return 1; }}; anchor || {{ say gone; exit 1; }}"
    );
    (!archive.blobs().is_empty()).then_some((digest, script))
}

fn list(names: &[String]) -> String {
    let are = if names.len() == 1 { "is" } else { "are" };
    format!("{} {are}", names.join(", "))
}

/// Reads what a node answers through `ctr`.
#[cfg(any(test, fuzzing))]
pub fn hostile(bytes: &[u8]) {
    let _ = probe::read(&script::said(bytes), []);
}
