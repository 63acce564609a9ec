//! Detects blobs whose files are damaged on the node, and deletes them so that they can be written again.

use containerd_client::services::v1::{CreateRequest, DeleteContentRequest, DeleteRequest, ReadContentRequest};
use tonic::{Code, Status};
use vcstore::{Digest, Hasher};

use super::containerd::{Containerd, found, refused};
use super::probe::Facts;
use crate::protocol::failure;

/// Deletes these blobs. containerd deletes only the metadata of a blob at first; the file remains until the next
/// garbage collection, and a new blob with this digest would use the same file. So this function runs garbage
/// collection at once.
pub(super) async fn drop(containerd: &Containerd, facts: &Facts, digests: &[String]) -> Result<(), Status> {
    if digests.is_empty() {
        return Ok(());
    }
    for digest in digests {
        tracing::warn!("dropping blob {digest}, which is damaged");
        let answer = containerd.content().delete(DeleteContentRequest { digest: digest.clone() }).await;
        found(answer).map_err(refused(format_args!("dropping blob {digest}")))?;
    }
    let id = format!("vcdist-repair-{}", std::process::id());
    let create = CreateRequest { id: id.clone(), ..Default::default() };
    containerd.leases().create(create).await.map_err(refused("collecting garbage"))?;
    containerd.leases().delete(DeleteRequest { id, sync: true }).await.map_err(refused("collecting garbage"))?;
    let files = facts.blob_files();
    let left = |digest: &&String| {
        let file = digest.parse::<Digest>().ok().zip(files.as_ref()).map(|(digest, files)| files.join(digest.hex()));
        file.is_some_and(|file| file.exists())
    };
    match digests.iter().find(left) {
        None => Ok(()),
        Some(digest) => Err(failure(
            Code::FailedPrecondition,
            format!("blob {digest} is damaged on the node, and its file does not go away"),
            format!(
                "another namespace of containerd uses it: find it with `ctr namespaces ls` and remove it there (`ctr -n \
                 NAMESPACE content rm {digest}`), then push again"
            ),
        )),
    }
}

/// Whether a blob's content matches its digest.
pub(super) async fn is_sound(containerd: &Containerd, digest: &str) -> Result<bool, Status> {
    let request = ReadContentRequest { digest: digest.into(), offset: 0, size: 0 };
    let reading = async {
        let mut parts = containerd.content().read(request).await?.into_inner();
        let mut hasher = Hasher::default();
        while let Some(part) = parts.message().await? {
            hasher.update(&part.data);
        }
        Ok::<_, Status>(hasher.finish().digest.to_string() == digest)
    };
    reading.await.map_err(refused(format_args!("reading blob {digest}")))
}
