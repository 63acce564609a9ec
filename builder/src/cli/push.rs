//! `vcbuild push`: pushes images to registries, or the outputs of their actions to a cache.

use std::collections::{BTreeMap, BTreeSet};

use camino::Utf8PathBuf;
use clap::Args;
use oci_spec::distribution::Reference;
use serde::Serialize;
use vcnetwork::Network;
use vcregistry::caches::{self, Pushed};
use vcregistry::{Patience, Repository, Tally, push_image};
use vcstore::reference;
use vcstore::{ActionKey, Digest, Image, Record, Store};
use vcterminal::{Exit, Table, Text};

use super::Common;
use super::caches::{parse, sign_key};
use crate::Error;
use crate::config::Config;

/// The annotation that names an image's base (image specification, annotations.md).
const BASE_NAME: &str = "org.opencontainers.image.base.name";

/// What the help shows of its use.
const EXAMPLES: &str = "\
Examples:
  vcbuild push manager                                 # to the registry in the image's name
  vcbuild push manager --as registry.example/team/manager:v1
  vcbuild push --to file:///srv/cache --sign-key NAME.key";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Images of the store, by full name or a part such as "manager"
    ///
    /// vcbuild pushes each to the registry and the tag in its name; with --to, it pushes the results of the image's
    /// actions to a cache.
    #[arg(value_name = "IMAGE", required_unless_present = "to", conflicts_with = "all")]
    images: Vec<String>,

    /// Push the image under this reference instead of its name
    #[arg(long = "as", value_name = "REFERENCE", conflicts_with_all = ["to", "all"])]
    reference: Option<String>,

    /// Push to a cache, such as file:///PATH
    ///
    /// Also https://HOST/PATH (a server that accepts PUT), ssh://USER@HOST/PATH and oci://HOST/REPOSITORY. Without an
    /// image, vcbuild pushes the results of all images of the store.
    #[arg(long, value_name = "URL")]
    to: Option<String>,

    /// Push every result in the store to the cache
    #[arg(long, requires = "to")]
    all: bool,

    /// Sign what goes to the cache with this secret key
    ///
    /// `vcbuild key generate` makes one [default: config.toml's]. Users of the cache reject what no trusted key signed.
    #[arg(long, value_name = "FILE", requires = "to")]
    sign_key: Option<Utf8PathBuf>,

    #[command(flatten)]
    common: Common,
}

/// What `--output json` prints of images.
#[derive(Serialize)]
struct ImagesDocument {
    images: Vec<ImageDocument>,
}

#[derive(Serialize)]
struct ImageDocument {
    name: String,
    reference: String,
    digest: Digest,
    blobs: Tally,
}

/// What `--output json` prints of a cache.
#[derive(Serialize)]
struct CacheDocument {
    cache: String,
    #[serde(flatten)]
    pushed: Pushed,
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit, Error> {
    let store = arguments.common.store()?;
    let config = Config::of_user()?;
    match &arguments.to {
        Some(to) => to_cache(arguments, to, &store, &config),
        None => to_registries(arguments, &store, &config),
    }
}

fn to_cache(arguments: &Arguments, to: &String, store: &Store, config: &Config) -> Result<Exit, Error> {
    let key = sign_key(arguments.sign_key.as_ref(), &config.caches)?;
    if key.is_none() {
        tracing::warn!(
            "no signing key (--sign-key): the cache's users will accept only records that are already signed"
        );
    }
    let actions = if arguments.all { complete(store)? } else { closures(&arguments.images, store)? };
    let address = parse([to])?.remove(0);
    let pushed = caches::push(&address, &actions, key.as_ref(), store, &config.registries)?;
    let document = CacheDocument { cache: address.to_string(), pushed };
    super::show(arguments.common.output, &document, cache_text)?;
    Ok(Exit::Done)
}

/// Every action whose record and outputs the store has.
fn complete(store: &Store) -> Result<BTreeSet<ActionKey>, Error> {
    let mut actions = BTreeSet::new();
    for key in store.recorded()? {
        if store.record(&key)?.is_some_and(|record| store.has_outputs(&record)) {
            actions.insert(key);
        }
    }
    Ok(actions)
}

/// The actions that these images were built by; those of all images that were built here, when none is named.
fn closures(names: &[String], store: &Store) -> Result<BTreeSet<ActionKey>, Error> {
    let images = if names.is_empty() {
        store.images()?.into_keys().collect()
    } else {
        names.iter().map(|name| Ok(store.image(name)?.name)).collect::<Result<Vec<_>, Error>>()?
    };
    let mut actions = BTreeSet::new();
    // Images that were built together were built by the same actions.
    let mut records: BTreeMap<ActionKey, Record> = BTreeMap::new();
    for image in images {
        match store.closure(&image)? {
            Some(closure) => {
                for key in &closure.actions {
                    if !records.contains_key(key) {
                        records.extend(store.record(key)?.map(|record| (*key, record)));
                    }
                }
                actions.extend(closure.of(&image, &records));
            }
            // Without a name all that can go goes: an image that was imported has nothing to give.
            None if names.is_empty() => {}
            None => return Err(caches::Error::NoClosure { image }.into()),
        }
    }
    Ok(actions)
}

fn to_registries(arguments: &Arguments, store: &Store, config: &Config) -> Result<Exit, Error> {
    if arguments.reference.is_some() && arguments.images.len() > 1 {
        return Err(Error::Usage("--as names one image: push each image with a separate command".to_owned()));
    }
    let images = arguments.images.iter().map(|name| Ok(store.image(name)?)).collect::<Result<Vec<_>, Error>>()?;
    let runtime = vcregistry::runtime()?;
    let mut done: Vec<ImageDocument> = Vec::new();
    let mut pushed: Vec<Reference> = Vec::new();
    for image in images {
        let reference = target(arguments.reference.as_ref().unwrap_or(&image.name))?;
        let bases = image_bases(&image, store)?;
        // What was pushed a moment ago shares most with it, and after that its base.
        let neighbour = pushed
            .iter()
            .rev()
            .chain(&bases)
            .find(|one| one.registry() == reference.registry() && one.repository() != reference.repository());
        let neighbour = neighbour.map(Reference::repository);
        let (registry, name) = (reference.registry(), reference.repository());
        let permit = Network::Open.permit(format!("pushing {}", image.name))?;
        let repository = Repository::to_write(registry, name, neighbour, &config.registries, Patience::MUCH, permit)?;
        let tag = reference.tag().unwrap_or("latest");
        let blobs = runtime.block_on(push_image(&repository, tag, &image, store))?;
        let digest = image.digest();
        done.push(ImageDocument { name: image.name, reference: reference.whole(), digest, blobs });
        pushed.push(reference);
    }
    super::show(arguments.common.output, &ImagesDocument { images: done }, |document| images_text(&document.images))?;
    Ok(Exit::Done)
}

/// The reference that something is pushed under.
fn target(text: &str) -> Result<Reference, Error> {
    let reference = reference::parse(text).map_err(Error::Usage)?;
    if reference.digest().is_some() {
        return Err(Error::Usage(format!(
            "{text:?} contains a digest, but the pushed image determines its digest: use a tag"
        )));
    }
    Ok(reference)
}

/// The references of the bases that the image's manifests name.
fn image_bases(image: &Image, store: &Store) -> Result<Vec<Reference>, Error> {
    #[derive(serde::Deserialize)]
    struct Manifest {
        #[serde(default)]
        annotations: BTreeMap<String, String>,
    }
    let mut bases = Vec::new();
    for one in &image.platforms {
        let manifest: Manifest = store.document(&one.manifest_digest())?;
        bases.extend(manifest.annotations.get(BASE_NAME).and_then(|name| reference::parse(name).ok()));
    }
    Ok(bases)
}

fn images_text(images: &[ImageDocument]) -> Text {
    let mut table = Table::new(["image", "digest", "sent", "mounted", "there"]);
    for one in images {
        let Tally { blobs, bytes, there, mounted } = one.blobs;
        let sent = format!("{blobs} blobs, {}", vcterminal::bytes(bytes));
        let digest = one.digest.to_string();
        table.row([one.reference.as_str(), &digest[..19], &sent, &mounted.to_string(), &there.to_string()]);
    }
    Text::from(&table)
}

fn cache_text(document: &CacheDocument) -> Text {
    let Pushed { records, records_there, blobs: Tally { blobs, bytes, there, .. } } = &document.pushed;
    Text::of(format_args!(
        "{}: sent {records} records and {blobs} blobs ({}); {records_there} records and {there} blobs already existed",
        document.cache,
        vcterminal::bytes(*bytes)
    ))
}
