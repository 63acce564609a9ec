//! `vcbuild store`: lists, verifies and measures the store, and manages its roots.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};
use serde::Serialize;
use vcstore::{ActionKey, Amount, Cache, Digest, Image, Platform, Remembered, Store, Usage, Verified};
use vcterminal::{Exit, Table, Text};

use super::Common;
use crate::Error;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Hash all blobs again, and move damaged files aside.
    Verify(Arguments),
    /// List images and roots, with sizes and times of last use.
    List(ListArguments),
    /// Show the disk usage of images, kinds of blobs and caches.
    Du(Arguments),
    /// Print the path of the store, an OCI image layout.
    Path(Arguments),
    /// Remove names of images; `vcbuild gc` then frees their data.
    Untag(NamesArguments),
    /// Keep images whatever their names refer to later.
    #[command(subcommand)]
    Root(RootCommand),
}

#[derive(Debug, Subcommand)]
pub(super) enum RootCommand {
    /// Keep the current versions of these images.
    Add(RootArguments),
    /// Remove a root.
    Remove(RemoveArguments),
}

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub(super) struct ListArguments {
    /// Also list each action; JSON output always does
    #[arg(long)]
    actions: bool,

    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub(super) struct NamesArguments {
    /// Images, by their full names or a part such as "manager"
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,

    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub(super) struct RootArguments {
    /// The name of the root, such as "release-1.2"; an existing one is replaced
    #[arg(value_name = "NAME")]
    name: String,

    /// Images, by their full names or a part such as "manager"
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,

    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub(super) struct RemoveArguments {
    /// The root.
    #[arg(value_name = "NAME")]
    name: String,

    #[command(flatten)]
    common: Common,
}

pub(super) fn run(command: &Command) -> Result<Exit, Error> {
    match command {
        Command::Verify(arguments) => verify(&arguments.common),
        Command::List(arguments) => list(arguments),
        Command::Du(arguments) => du(&arguments.common),
        Command::Path(arguments) => path(&arguments.common),
        Command::Untag(arguments) => untag(arguments),
        Command::Root(RootCommand::Add(arguments)) => add_root(arguments),
        Command::Root(RootCommand::Remove(arguments)) => remove_root(arguments),
    }
}

#[derive(Serialize)]
struct VerifyDocument {
    passed: bool,
    #[serde(flatten)]
    verified: Verified,
}

fn verify(common: &Common) -> Result<Exit, Error> {
    let store = common.store_to_read()?;
    let aside = if store.is_writable() { ": put aside" } else { ", not removed: the store is read-only" };
    let verified = store.verify()?;
    let document = VerifyDocument { passed: verified.passed(), verified };
    super::show(common.output, &document, |document| {
        let Verified { blobs, actions, damaged_blobs, damaged_actions, broken_images } = &document.verified;
        let mut text = Text::default();
        for digest in damaged_blobs {
            text.line(format_args!("damaged blob {digest}{aside}"));
        }
        for key in damaged_actions {
            text.line(format_args!("damaged record of action {key}{aside}"));
        }
        for (name, why) in broken_images {
            text.line(format_args!("broken image {name}: {why}"));
        }
        if !document.passed && store.is_writable() {
            text.line(
                "files that were moved aside are treated as missing: build or import the images again to restore them",
            );
        }
        let (count, size) = (blobs.count, vcterminal::bytes(blobs.bytes));
        text.line(format_args!("{count} blobs, {size}, and {actions} actions are sound"));
        text
    })?;
    Ok(if document.passed { Exit::Done } else { Exit::Difference })
}

#[derive(Serialize)]
struct ListDocument {
    images: Vec<ImageDocument>,
    roots: Vec<RootDocument>,
    actions: Vec<ActionDocument>,
}

#[derive(Serialize)]
struct ImageDocument {
    name: String,
    digest: String,
    platforms: Vec<Platform>,
    /// Of all its blobs.
    size: u64,
    /// When the action that made it was last of use; none for one that came from elsewhere.
    used: Option<u64>,
    /// Why it cannot be used.
    error: Option<String>,
}

#[derive(Serialize)]
struct RootDocument {
    name: String,
    targets: Vec<String>,
}

#[derive(Serialize)]
struct ActionDocument {
    key: ActionKey,
    kind: String,
    name: String,
    /// Of its outputs.
    size: u64,
    used: u64,
}

fn list(arguments: &ListArguments) -> Result<Exit, Error> {
    let store = arguments.common.store_to_read()?;
    let actions = store.actions()?;
    let mut made: BTreeMap<Digest, u64> = BTreeMap::new();
    // Those used last come first, and stay.
    for action in &actions {
        for blob in action.outputs.values() {
            made.entry(blob.digest).or_insert_with(|| seconds(action.used));
        }
    }
    let images = store.images()?;
    let roots = store.roots()?.into_iter().map(|(name, targets)| RootDocument {
        name,
        targets: targets.iter().map(|target| target.digest().to_string()).collect(),
    });
    let document = ListDocument {
        images: images.iter().map(|(name, target)| image(&store, name, target, &made)).collect(),
        roots: roots.collect(),
        actions: actions.into_iter().map(action).collect(),
    };
    super::show(arguments.common.output, &document, |document| list_text(document, arguments.actions))?;
    Ok(Exit::Done)
}

fn image(
    store: &Store,
    name: &str,
    target: &oci_spec::image::Descriptor,
    made: &BTreeMap<Digest, u64>,
) -> ImageDocument {
    let opened = Image::open(store, name, target);
    let opened = opened.and_then(|image| image.check_complete(store).map(|()| image));
    let error = opened.as_ref().err().map(ToString::to_string);
    let image = opened.ok();
    let manifests = image.iter().flat_map(|image| &image.platforms).map(|one| &one.manifest);
    let used = manifests.chain([target]).filter_map(|part| made.get(&Digest::try_from(part.digest()).ok()?)).max();
    ImageDocument {
        name: name.to_owned(),
        digest: target.digest().to_string(),
        used: used.copied(),
        size: image.iter().flat_map(Image::blobs).map(|blob| blob.size()).sum(),
        platforms: image.iter().flat_map(|image| &image.platforms).map(|one| one.platform.clone()).collect(),
        error,
    }
}

fn action(action: Remembered) -> ActionDocument {
    let (size, used) = (action.outputs.values().map(|blob| blob.size).sum(), seconds(action.used));
    ActionDocument { key: action.key, kind: action.kind, name: action.name, size, used }
}

fn list_text(document: &ListDocument, every_action: bool) -> Text {
    let mut table = Table::new(["image", "digest", "platforms", "size", "used"]);
    for image in &document.images {
        let platforms: Vec<_> = image.platforms.iter().map(ToString::to_string).collect();
        let size = image.error.as_ref().map_or_else(|| vcterminal::bytes(image.size), |_| "broken".to_owned());
        let used = image.used.map(ago).unwrap_or_default();
        table.row([image.name.as_str(), short(&image.digest), &platforms.join(","), &size, &used]);
    }
    let mut text = Text::from(&table);
    for image in &document.images {
        if let Some(why) = &image.error {
            text.line(format_args!("{} is broken: {why}", image.name));
        }
    }
    if !document.roots.is_empty() {
        let mut table = Table::new(["root", "targets"]);
        for root in &document.roots {
            let targets: Vec<_> = root.targets.iter().map(|target| short(target)).collect();
            table.row([root.name.clone(), targets.join(",")]);
        }
        text.line("").table(&table);
    }
    if every_action {
        let mut table = Table::new(["action", "kind", "name", "size", "used"]);
        for action in &document.actions {
            let key = action.key.to_string();
            table.row([&key[..12], &action.kind, &action.name, &vcterminal::bytes(action.size), &ago(action.used)]);
        }
        text.line("").table(&table);
    } else {
        let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
        for action in &document.actions {
            *kinds.entry(&action.kind).or_default() += 1;
        }
        let kinds: Vec<_> = kinds.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        text.line("").line(format_args!("{} actions: {}", document.actions.len(), kinds.join(", ")));
    }
    text
}

#[derive(Serialize)]
struct DuDocument {
    /// Of everything.
    bytes: u64,
    blobs: Amount,
    images: Vec<ImageUsageDocument>,
    kinds: BTreeMap<String, Amount>,
    caches: Vec<CacheDocument>,
    records: Amount,
    temporary: Amount,
    quarantined: Amount,
}

#[derive(Serialize)]
struct ImageUsageDocument {
    name: String,
    total: u64,
    own: u64,
    shared: u64,
}

#[derive(Serialize)]
struct CacheDocument {
    name: String,
    count: u64,
    bytes: u64,
    used: u64,
}

fn du(common: &Common) -> Result<Exit, Error> {
    let usage = common.store_to_read()?.usage()?;
    let (bytes, blobs) = (usage.bytes(), usage.blobs());
    let Usage { images, kinds, caches, records, temporary, quarantined } = usage;
    let images = images.into_iter().map(|image| ImageUsageDocument {
        name: image.name,
        total: image.total.bytes,
        own: image.own.bytes,
        shared: image.total.bytes - image.own.bytes,
    });
    let cache = |cache: Cache| CacheDocument {
        name: cache.name,
        count: cache.amount.count,
        bytes: cache.amount.bytes,
        used: seconds(cache.used),
    };
    let (images, caches) = (images.collect(), caches.into_iter().map(cache).collect());
    let document = DuDocument { bytes, blobs, images, kinds, caches, records, temporary, quarantined };
    super::show(common.output, &document, du_text)?;
    Ok(Exit::Done)
}

fn du_text(document: &DuDocument) -> Text {
    let size = vcterminal::bytes;
    let mut images = Table::new(["image", "size", "own", "shared"]);
    for image in &document.images {
        images.row([image.name.clone(), size(image.total), size(image.own), size(image.shared)]);
    }
    let mut parts = Table::new(["part", "files", "size", "used"]);
    for (kind, amount) in &document.kinds {
        parts.row([format!("blobs: {kind}"), amount.count.to_string(), size(amount.bytes)]);
    }
    for cache in &document.caches {
        parts.row([format!("cache: {}", cache.name), cache.count.to_string(), size(cache.bytes), ago(cache.used)]);
    }
    let others =
        [("records", document.records), ("temporary", document.temporary), ("put aside", document.quarantined)];
    for (name, amount) in others {
        if amount.count > 0 {
            parts.row([name.to_owned(), amount.count.to_string(), size(amount.bytes)]);
        }
    }
    let mut text = Text::from(&images);
    text.line("").table(&parts).line("").line(format_args!("{} in all", size(document.bytes)));
    text
}

#[derive(Serialize)]
struct PathDocument {
    path: String,
}

fn path(common: &Common) -> Result<Exit, Error> {
    let document = PathDocument { path: common.store_to_read()?.path().to_string() };
    super::show(common.output, &document, |document| Text::of(&document.path))?;
    Ok(Exit::Done)
}

#[derive(Serialize)]
struct UntagDocument {
    untagged: Vec<String>,
}

fn untag(arguments: &NamesArguments) -> Result<Exit, Error> {
    let store = arguments.common.existing_store()?;
    // All are found before one goes: a name that fits none or several changes nothing.
    let mut untagged =
        arguments.images.iter().map(|name| store.full_name(name)).collect::<Result<Vec<_>, vcstore::Error>>()?;
    untagged.sort();
    untagged.dedup();
    for name in &untagged {
        store.untag(name)?;
    }
    super::show(arguments.common.output, &UntagDocument { untagged }, |document| {
        document.untagged.iter().map(|name| format!("untagged {name}")).collect()
    })?;
    Ok(Exit::Done)
}

fn add_root(arguments: &RootArguments) -> Result<Exit, Error> {
    let store = arguments.common.existing_store()?;
    let mut targets = Vec::new();
    for name in &arguments.images {
        let image = store.image(name)?;
        image.check_complete(&store)?;
        targets.push(image.target);
    }
    store.root(&arguments.name, &targets)?;
    let targets = targets.iter().map(|target| target.digest().to_string()).collect();
    super::show(arguments.common.output, &RootDocument { name: arguments.name.clone(), targets }, |root| {
        root.targets.iter().map(|target| format!("{} keeps {target}", root.name)).collect()
    })?;
    Ok(Exit::Done)
}

fn remove_root(arguments: &RemoveArguments) -> Result<Exit, Error> {
    let store = arguments.common.existing_store()?;
    if !store.unroot(&arguments.name)? {
        return Err(Error::NoRoot { name: arguments.name.clone(), known: store.roots()?.into_keys().collect() });
    }
    let root = RootDocument { name: arguments.name.clone(), targets: Vec::new() };
    super::show(arguments.common.output, &root, |root| Text::of(format_args!("removed root {}", root.name)))?;
    Ok(Exit::Done)
}

/// The algorithm and the first digits of a digest.
fn short(digest: &str) -> &str {
    digest.get(..19).unwrap_or(digest)
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// How long ago a time in seconds since 1970 was, for people.
fn ago(used: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(24 * 60 * 60, "d"), (60 * 60, "h"), (60, "min")];
    let passed = seconds(SystemTime::now()).saturating_sub(used);
    let unit = UNITS.iter().find(|(length, _)| passed >= *length);
    unit.map_or_else(|| "now".to_owned(), |(length, name)| format!("{} {name} ago", passed / length))
}
