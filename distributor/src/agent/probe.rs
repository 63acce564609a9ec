//! The contents of the node: the responses to Hello and Inventory. Read-only.

use std::collections::HashMap;

use camino::{Utf8Path, Utf8PathBuf};
use containerd_client::services::v1::snapshots::{Kind, StatSnapshotRequest};
use containerd_client::services::v1::{GetImageRequest, Image};
use containerd_client::services::v1::{Info, InfoRequest, ListStatusesRequest, PluginsRequest};
use futures::{StreamExt, TryStreamExt, stream};
use tonic::Status;
use vcstore::Digest;

use super::containerd::{Containerd, found, refused};
use super::write::ingest_ref;
use crate::images::push_label::PushLabel;
use crate::protocol::cri;
use crate::protocol::proto::{
    Disk, HelloResponse, InventoryRequest, InventoryResponse, PartialBlob, PresentBlob, Record,
};

/// The label that keeps an image from the kubelet's garbage collection.
pub(super) const PINNED: (&str, &str) = ("io.cri-containerd.pinned", "pinned");

/// The prefix of labels that keep children.
const KEEPS: &str = "containerd.io/gc.ref.";

/// The maximum size of a manifest or configuration, in bytes. Blobs up to this size are verified by each inventory.
const DOCUMENT: u64 = 256 << 10;

/// The maximum number of concurrent queries.
pub(super) const AT_ONCE: usize = 16;

/// Facts about the node that a push needs repeatedly; they are queried once.
pub(super) struct Facts {
    /// The response to Hello.
    pub(super) hello: HelloResponse,
    /// The root folder of containerd's content store, as containerd reports it.
    content: Option<Utf8PathBuf>,
}

impl Facts {
    /// The snapshotter that the node's pods use.
    pub(super) fn snapshotter(&self) -> &str {
        &self.hello.snapshotter
    }

    /// Returns the folder of blob files, if this program can see it: containerd 2 creates it with the first blob.
    pub(super) fn blob_files(&self) -> Option<Utf8PathBuf> {
        let folder = self.content.as_ref().map(|root| root.join("blobs/sha256"));
        folder.filter(|folder| folder.is_dir())
    }
}

/// Queries the facts about the node.
pub(super) async fn facts(containerd: &Containerd) -> Result<Facts, Status> {
    let version = containerd.version().version(()).await.map_err(refused("asking containerd for its version"))?;
    let plugins = Plugins::ask(containerd).await?;
    let snapshotter = plugins.snapshotter(containerd).await;
    let content_disk = plugins.content.as_deref().and_then(disk);
    let unpacks_to =
        plugins.snapshotters.iter().find(|(id, _)| *id == snapshotter).and_then(|(_, root)| root.as_deref());
    let snapshot_disk = unpacks_to.and_then(disk);
    let hello = HelloResponse {
        architecture: architecture().into(),
        containerd_version: version.into_inner().version,
        containerd_address: containerd.address().to_string(),
        snapshotter,
        content_disk,
        snapshot_disk,
    };
    Ok(Facts { hello, content: plugins.content })
}

/// Returns which of the requested items are present.
pub(super) async fn inventory(
    containerd: &Containerd,
    facts: &Facts,
    asked: &InventoryRequest,
) -> Result<InventoryResponse, Status> {
    let (snapshotter, files) = (facts.snapshotter(), facts.blob_files());
    let files = files.as_deref();
    let blobs = stream::iter(asked.digests.clone())
        .map(|digest| async move { blob(containerd, &digest).await })
        .buffer_unordered(AT_ONCE)
        .try_filter_map(|info| async move { Ok(info) })
        .map_ok(|info| present(info, files))
        .try_collect();
    let snapshots = stream::iter(asked.chain_ids.clone())
        .map(|chain| async move { Ok(has_snapshot(containerd, snapshotter, &chain).await?.then_some(chain)) })
        .buffer_unordered(AT_ONCE)
        .try_filter_map(|chain| async move { Ok(chain) })
        .try_collect();
    let records = stream::iter(asked.names.clone())
        .map(|name| async move { image(containerd, &name).await })
        .buffer_unordered(AT_ONCE)
        .try_filter_map(|image| async move { Ok(image) })
        .map_ok(record)
        .try_collect();
    let (blobs, snapshots, records, partial) =
        futures::try_join!(blobs, snapshots, records, partial(containerd, &asked.digests))?;
    Ok(InventoryResponse { blobs, partial, snapshots, records })
}

/// Returns containerd's information about a blob, if the blob is present.
pub(super) async fn blob(containerd: &Containerd, digest: &str) -> Result<Option<Info>, Status> {
    let answer = containerd.content().info(InfoRequest { digest: digest.into() }).await;
    let answer = found(answer).map_err(refused(format_args!("looking for blob {digest}")))?;
    Ok(answer.and_then(|answer| answer.into_inner().info))
}

/// Whether a committed snapshot with this chain id is present.
pub(super) async fn has_snapshot(containerd: &Containerd, snapshotter: &str, chain: &str) -> Result<bool, Status> {
    let request = StatSnapshotRequest { snapshotter: snapshotter.into(), key: chain.into() };
    let answer = found(containerd.snapshots().stat(request).await);
    let answer = answer.map_err(refused(format_args!("looking for snapshot {chain} of {snapshotter}")))?;
    Ok(answer.and_then(|answer| answer.into_inner().info).is_some_and(|info| info.kind() == Kind::Committed))
}

/// Returns an image record, if it exists.
pub(super) async fn image(containerd: &Containerd, name: &str) -> Result<Option<Image>, Status> {
    let answer = found(containerd.images().get(GetImageRequest { name: name.into() }).await);
    let answer = answer.map_err(refused(format_args!("looking for image {name}")))?;
    Ok(answer.and_then(|answer| answer.into_inner().image))
}

/// Returns the digests and chain ids that a blob's labels keep.
pub(super) fn keeps(labels: &HashMap<String, String>) -> impl Iterator<Item = &String> {
    labels.iter().filter(|(key, _)| key.starts_with(KEEPS)).map(|(_, value)| value)
}

fn present(info: Info, files: Option<&Utf8Path>) -> PresentBlob {
    let damaged = files.is_some_and(|files| is_damaged(files, &info));
    let mut keeps: Vec<String> = keeps(&info.labels).cloned().collect();
    keeps.sort();
    PresentBlob { digest: info.digest, size: u64::try_from(info.size).unwrap_or(0), keeps, damaged }
}

/// Whether a blob's file is missing, has the wrong size, or (for manifests and configurations) has the wrong content.
/// The content of a layer is verified when it is unpacked.
fn is_damaged(files: &Utf8Path, info: &Info) -> bool {
    let Ok(digest) = info.digest.parse::<Digest>() else { return false };
    let path = files.join(digest.hex());
    let size = u64::try_from(info.size).unwrap_or(0);
    match path.metadata() {
        Ok(file) if file.len() != size => true,
        Ok(_) if size <= DOCUMENT => std::fs::read(&path).is_ok_and(|content| Digest::of(&content) != digest),
        Ok(_) => false,
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}

/// Converts an image record to the protocol's message.
pub(super) fn record(image: Image) -> Record {
    let pushed = PushLabel::of(|key| image.labels.get(key).map(String::as_str));
    Record {
        name: image.name,
        target: image.target.map(|target| target.digest).unwrap_or_default(),
        pinned: image.labels.get(PINNED.0).is_some_and(|value| value == PINNED.1),
        pushed: pushed.map(|pushed| pushed.wire()),
    }
}

/// Returns what an earlier push has already written of these blobs.
async fn partial(containerd: &Containerd, digests: &[String]) -> Result<Vec<PartialBlob>, Status> {
    let answer = containerd.content().list_statuses(ListStatusesRequest { filters: Vec::new() }).await;
    let statuses = answer.map_err(refused("listing unfinished blobs"))?.into_inner().statuses;
    let offsets: HashMap<String, i64> = statuses.into_iter().map(|status| (status.r#ref, status.offset)).collect();
    let offset = |digest: &String| offsets.get(&ingest_ref(digest)).and_then(|offset| u64::try_from(*offset).ok());
    Ok(digests
        .iter()
        .filter_map(|digest| Some(PartialBlob { digest: digest.clone(), offset: offset(digest)? }))
        .filter(|partial| partial.offset > 0)
        .collect())
}

/// The plugins that report containerd's folders.
struct Plugins {
    content: Option<Utf8PathBuf>,
    /// Usable snapshotters and their root folders.
    snapshotters: Vec<(String, Option<Utf8PathBuf>)>,
}

impl Plugins {
    async fn ask(containerd: &Containerd) -> Result<Self, Status> {
        let filters = ["io.containerd.content.v1", "io.containerd.snapshotter.v1"];
        let filters = filters.iter().map(|kind| format!("type=={kind}")).collect();
        let answer = containerd.introspection().plugins(PluginsRequest { filters }).await;
        let plugins = answer.map_err(refused("asking containerd for its plugins"))?.into_inner().plugins;
        let mut this = Self { content: None, snapshotters: Vec::new() };
        for mut plugin in plugins.into_iter().filter(|plugin| plugin.init_err.is_none()) {
            let root = plugin.exports.remove("root").map(Utf8PathBuf::from);
            if plugin.r#type == "io.containerd.content.v1" {
                this.content = root;
            } else {
                this.snapshotters.push((plugin.id, root));
            }
        }
        Ok(this)
    }

    /// Returns the snapshotter that the kubelet's pods use: the one whose folder the CRI reports, or containerd's
    /// default if no CRI answers.
    async fn snapshotter(&self, containerd: &Containerd) -> String {
        let answer = containerd.cri_images().image_fs_info(cri::ImageFsInfoRequest {}).await;
        let folders: Vec<String> = match answer {
            Ok(answer) => answer
                .into_inner()
                .image_filesystems
                .into_iter()
                .filter_map(|fs| fs.fs_id)
                .map(|id| id.mountpoint)
                .collect(),
            Err(status) => {
                tracing::debug!("the CRI does not say where images are: {}", status.message());
                Vec::new()
            }
        };
        let named = |folder: &String| {
            let of_plugin = self.snapshotters.iter().find(|(_, root)| root.as_deref() == Some(Utf8Path::new(folder)));
            let of_path = || {
                let name = Utf8Path::new(folder).file_name()?.strip_prefix("io.containerd.snapshotter.v1.")?;
                self.snapshotters.iter().find(|(id, _)| id == name)
            };
            of_plugin.or_else(of_path).map(|(id, _)| id.clone())
        };
        folders.iter().find_map(named).unwrap_or_else(|| "overlayfs".into())
    }
}

/// Returns the file system that contains `path`. containerd 2 creates this folder with the first blob, so the
/// nearest existing ancestor is used.
fn disk(path: &Utf8Path) -> Option<Disk> {
    let path = path.ancestors().find(|folder| folder.exists())?;
    let found = rustix::fs::statvfs(path.as_std_path());
    let stat = found.map_err(|error| tracing::debug!("no free space known for {path}: {error}")).ok()?;
    Some(Disk {
        path: path.to_string(),
        free_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
        total_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
        // File systems without a fixed number of inodes report 0 of 0.
        free_inodes: if stat.f_files == 0 { u64::MAX } else { stat.f_favail },
        device: std::os::unix::fs::MetadataExt::dev(&path.metadata().ok()?),
    })
}

/// Returns this program's architecture in the form of OCI (and Go).
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "loongarch64" => "loong64",
        "powerpc64" => "ppc64le",
        other => other,
    }
}
