//! A base from a registry, over the OCI distribution protocol. Pinned by the digest of its manifest; every byte is checked
//! against the digest that names it, so that no registry and no proxy on the way has to be believed.

use std::io::Write;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::errors::OciDistributionError;
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use oci_spec::image::{Descriptor, ImageIndex, ImageManifest, MediaType};
use vcstore::{Action, Blob, Digest, Outputs, Platform, Store};

use super::{Base, digest};
use crate::Error;
use crate::lock::Lock;
use crate::network::Network;
use crate::progress::Progress;

const CONNECT_LIMIT: Duration = Duration::from_secs(20);

/// The longest that a registry may be silent in the middle of an answer.
const SILENCE_LIMIT: Duration = Duration::from_secs(60);

/// How many layers are pulled at once.
const AT_ONCE: usize = 4;

/// The media types of manifests and indexes, in the OCI's and in Docker's words.
const MANIFESTS: [&str; 2] =
    ["application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"];
const INDEXES: [&str; 2] =
    ["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"];

/// Pulls the image into the store, unless the store has it: the one that is pinned, else the one the reference names now.
///
/// # Errors
/// When the registry cannot be reached, refuses, or has no such image.
pub(super) fn realise(
    reference: &Reference,
    platform: &Platform,
    store: &Store,
    lock: &Lock,
    progress: &Progress,
) -> Result<Base, Error> {
    let name = reference.whole();
    let manifest = resolve(reference, platform, lock)?;
    let action = Action::new("base", format!("{name} {platform}")).input("manifest", manifest)?;
    let outputs =
        progress.realise(store, &action, || Registry::connect(reference, lock.network())?.pull(&manifest, store))?;
    let (Some(blob), Some(media_type)) = (outputs.blob("manifest"), outputs.note("media type")) else {
        return Err(Error::Internal(format!("the base {name} was recorded without its manifest")));
    };
    let target = Descriptor::new(MediaType::from(media_type), blob.size, blob.digest);
    Base::open(store, &name, Some(name.clone()), &target, platform)
}

/// The manifest that is pinned, or that the reference names now and that `lock` then pins.
///
/// # Errors
/// When the registry cannot be reached, refuses, or has no such image.
pub(super) fn resolve(reference: &Reference, platform: &Platform, lock: &Lock) -> Result<Digest, Error> {
    let name = reference.whole();
    let manifest = match lock.manifest(&name, platform)? {
        Some(pinned) => pinned,
        None => Registry::connect(reference, lock.network())?.resolve(platform)?,
    };
    lock.pin_manifest(&name, platform, manifest);
    Ok(manifest)
}

/// A registry, and the image in it that is asked for.
struct Registry<'a> {
    reference: &'a Reference,
    client: Client,
    runtime: tokio::runtime::Runtime,
}

impl<'a> Registry<'a> {
    fn connect(reference: &'a Reference, network: Network) -> Result<Self, Error> {
        network.permit(format!("pulling base {}", reference.whole()))?;
        // Of several providers in one program the first one stays.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let protocol =
            if is_loopback(reference.resolve_registry()) { ClientProtocol::Http } else { ClientProtocol::Https };
        let config = ClientConfig {
            protocol,
            connect_timeout: Some(CONNECT_LIMIT),
            read_timeout: Some(SILENCE_LIMIT),
            user_agent: concat!("vcbuild/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        };
        let client = Client::try_from(config).map_err(failed(reference))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| failed(reference)(OciDistributionError::IoError(error)))?;
        Ok(Self { reference, client, runtime })
    }

    /// The digest of the manifest for `platform`.
    fn resolve(&self, platform: &Platform) -> Result<Digest, Error> {
        let (bytes, media_type) = self.document(self.reference)?;
        if !INDEXES.contains(&media_type.as_str()) {
            return Ok(Digest::of(&bytes));
        }
        let index: ImageIndex = serde_json::from_slice(&bytes).map_err(|why| self.bad(why.to_string()))?;
        let fits = |manifest: &&Descriptor| {
            manifest.platform().as_ref().is_some_and(|one| {
                (one.os().to_string(), one.architecture().to_string())
                    == (platform.os.clone(), platform.architecture.clone())
            })
        };
        let Some(found) = index.manifests().iter().find(fits) else {
            let has = index.manifests().iter().filter_map(|manifest| manifest.platform().as_ref());
            let has =
                has.map(|one| format!("{}/{}", one.os(), one.architecture())).filter(|one| !one.contains("unknown"));
            let (base, platform) = (self.reference.whole(), platform.clone());
            return Err(Error::NoPlatform { base, platform, has: has.collect() });
        };
        digest(&self.reference.whole(), found)
    }

    /// Pulls a manifest and everything it names.
    fn pull(&self, manifest: &Digest, store: &Store) -> Result<Outputs, Error> {
        let (bytes, media_type) = self.document(&self.reference.clone_with_digest(manifest.to_string()))?;
        if Digest::of(&bytes) != *manifest {
            return Err(self.bad(format!("the registry gave {} for {manifest}", Digest::of(&bytes))));
        }
        if !MANIFESTS.contains(&media_type.as_str()) {
            return Err(self.bad(format!("{manifest} is {media_type}, and no image")));
        }
        let parsed: ImageManifest = serde_json::from_slice(&bytes).map_err(|why| self.bad(why.to_string()))?;
        let blobs: Vec<&Descriptor> = parsed.layers().iter().chain([parsed.config()]).collect();
        let pulls = futures::stream::iter(&blobs).map(|blob| self.blob(blob, store)).buffered(AT_ONCE);
        let pulled: Vec<Blob> = self.runtime.block_on(pulls.try_collect())?;
        let mut outputs = Outputs::new().with_note("media type", media_type);
        for (number, blob) in pulled.into_iter().enumerate() {
            outputs = outputs.with_blob(&format!("blob {number}"), blob);
        }
        Ok(outputs.with_blob("manifest", store.put(&bytes)?))
    }

    /// A manifest or index as the registry has it, and its media type.
    fn document(&self, reference: &Reference) -> Result<(Vec<u8>, String), Error> {
        let accepted = [MANIFESTS, INDEXES].concat();
        let pulled = self.client.pull_manifest_raw(reference, &RegistryAuth::Anonymous, &accepted);
        let (bytes, _) = self.runtime.block_on(pulled).map_err(failed(self.reference))?;
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Kind {
            media_type: Option<String>,
            manifests: Option<Vec<serde_json::Value>>,
        }
        let kind: Kind = serde_json::from_slice(&bytes).map_err(|why| self.bad(why.to_string()))?;
        // The OCI specification lets a document leave out what it is; what it holds tells as well.
        let implied = if kind.manifests.is_some() { INDEXES[0] } else { MANIFESTS[0] };
        Ok((bytes.to_vec(), kind.media_type.unwrap_or_else(|| implied.to_owned())))
    }

    /// Pulls one blob, unless the store has it.
    async fn blob(&self, blob: &Descriptor, store: &Store) -> Result<Blob, Error> {
        let expected = Blob { digest: digest(&self.reference.whole(), blob)?, size: blob.size() };
        if store.size(&expected.digest) == Some(expected.size) {
            return Ok(expected);
        }
        let digest = expected.digest.to_string();
        let layer = oci_client::client::LayerDescriptor { digest: &digest, urls: &None };
        let mut stream = self.client.pull_blob_stream(self.reference, &layer).await.map_err(failed(self.reference))?;
        let mut writer = store.writer()?;
        while let Some(bytes) = stream.try_next().await.map_err(|error| failed(self.reference)(error.into()))? {
            if writer.size() + bytes.len() as u64 > expected.size {
                return Err(self.bad(format!("the registry sends more for {digest} than its {} bytes", expected.size)));
            }
            writer.write_all(&bytes).map_err(Error::io("writing", store.blob_path(&expected.digest)))?;
        }
        Ok(writer.commit_expecting(&expected.digest)?)
    }

    fn bad(&self, why: String) -> Error {
        Error::BaseImage { base: self.reference.whole(), why }
    }
}

/// Whether a registry's address is this machine's own, where no one can listen in: only there is plain HTTP spoken.
fn is_loopback(registry: &str) -> bool {
    let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn failed(reference: &Reference) -> impl Fn(OciDistributionError) -> Error {
    let (reference, registry) = (reference.whole(), reference.resolve_registry().to_owned());
    move |error| Error::Registry { reference: reference.clone(), registry: registry.clone(), source: Box::new(error) }
}

#[cfg(test)]
mod tests {
    use super::is_loopback;

    #[test]
    fn plain_http_is_spoken_to_this_machine_only() {
        for registry in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.1.2.3", "[::1]:5000"] {
            assert!(is_loopback(registry), "{registry}");
        }
        for registry in ["index.docker.io", "localhost.example:5000", "10.0.0.1:5000", "[2001:db8::1]:5000"] {
            assert!(!is_loopback(registry), "{registry}");
        }
    }
}
